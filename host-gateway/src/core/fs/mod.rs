//! From a request to the coherent volume and back, one file per family of operations.
//!
//! Every operation has the same four steps: settle leases (and wait), look once more whether it is still allowed, ask
//! the store, say which leases the answer may carry. A promise of a lease is never held while something else is waited
//! for: what holds promises waits for nobody, so nobody waits in a circle.

mod attrs;
mod data;
mod doubt;
mod leases;
mod names;
mod open;

use std::sync::Arc;

use mooring_protocol::message::Request;
use mooring_protocol::status::Status;
use mooring_protocol::types::{Attr, Ino, Name};
use mooring_store::api::{Caller, Objects};
use mooring_store::error::StoreError;

use crate::core::coherent::{Actor, Coherent, Pass};
use crate::core::session::request::{Ask, Done};

/// How often a name that moves while it is looked at is looked at again.
const MAX_LOOKS: usize = 8;

/// Result of an operation: what goes to the guest.
type Outcome<T = Done> = Result<T, Status>;

pub(super) use doubt::{differs_twice, is_done, leaves_its_moment, see};

/// Carries out one request.
pub(super) async fn perform(ask: &Ask<'_>, request: Request) -> Outcome {
    if ask.door.passage.read_only && writes(&request) {
        return Err(Status::ReadOnly);
    }
    match request {
        Request::Lookup { .. }
        | Request::Create { .. }
        | Request::Unlink { .. }
        | Request::RmDir { .. }
        | Request::Rename { .. }
        | Request::Link { .. }
        | Request::ReadDir { .. } => names::perform(ask, request).await,
        Request::GetAttr { .. }
        | Request::SetAttr { .. }
        | Request::ReadLink { .. }
        | Request::StatFs
        | Request::GetXattr { .. }
        | Request::ListXattr { .. }
        | Request::SetXattr { .. }
        | Request::RemoveXattr { .. } => attrs::perform(ask, request).await,
        Request::Open { .. } | Request::Release { .. } | Request::Reclaim { .. } => {
            open::perform(ask, request).await
        }
        Request::Read { .. }
        | Request::Write { .. }
        | Request::Fsync { .. }
        | Request::SyncFs
        | Request::Allocate { .. }
        | Request::Seek { .. }
        | Request::CopyRange { .. } => data::perform(ask, request).await,
        Request::LockGet { .. }
        | Request::LockSet { .. }
        | Request::Acquire { .. }
        | Request::Return { .. } => leases::perform(ask, request).await,
    }
}

/// Whether a read-only door refuses it.
fn writes(request: &Request) -> bool {
    match request {
        Request::SetAttr { .. }
        | Request::Create { .. }
        | Request::Unlink { .. }
        | Request::RmDir { .. }
        | Request::Rename { .. }
        | Request::Link { .. }
        | Request::Write { .. }
        | Request::SetXattr { .. }
        | Request::RemoveXattr { .. }
        | Request::Allocate { .. }
        | Request::CopyRange { .. } => true,
        Request::Open { mode, .. } => mode.write || mode.append || mode.truncate,
        Request::Acquire { mode, .. } => *mode == mooring_protocol::types::LeaseMode::Write,
        _ => false,
    }
}

impl Ask<'_> {
    fn volume(&self) -> &Arc<Coherent> {
        &self.door.passage.volume
    }

    fn store(&self) -> &Arc<dyn Objects> {
        self.door.passage.volume.store()
    }

    fn actor(&self) -> Actor {
        Some(self.door.holder)
    }

    /// Waits until one inode can be looked at.
    async fn look(&self, ino: Ino) -> Outcome<Pass> {
        let pass = self.volume().look(self.actor(), ino, &self.patience).await?;
        self.still_allowed()?;
        Ok(pass)
    }

    /// Waits until these inodes can be changed.
    async fn change(&self, inos: &[Ino]) -> Outcome<Pass> {
        let pass = self.volume().change(self.actor(), inos, &self.patience).await?;
        self.still_allowed()?;
        Ok(pass)
    }

    /// Directories as a change has just left them, for the answer to tell. What may not be looked at is left out.
    async fn left(&self, dirs: &[Ino]) -> Vec<Attr> {
        let cx = self.caller();
        let mut found: Vec<Attr> = Vec::with_capacity(dirs.len());
        for dir in dirs {
            if !found.iter().any(|attr| attr.ino == *dir) {
                found.extend(self.store().getattr(&cx, *dir).await.ok());
            }
        }
        found
    }

    /// Settles leases of inodes that turned out to be changed as well.
    async fn also_changed(&self, pass: &mut Pass, inos: &[Ino]) -> Outcome<()> {
        self.volume().also_changed(self.actor(), pass, inos, &self.patience).await
    }

    /// A name's inode as it is now, with whatever others had changed locally handed over.
    async fn find(&self, cx: &Caller, parent: Ino, name: &Name) -> Outcome<(Attr, Pass)> {
        let mut pass = self.look(parent).await?;
        for _ in 0..MAX_LOOKS {
            let attr = self.store().lookup(cx, parent, name).await.map_err(refuse)?;
            if !self.volume().written_elsewhere(self.actor(), attr.ino) {
                return Ok((attr, pass));
            }
            drop(pass);
            pass = self.look(attr.ino).await?;
        }
        Err(Status::Busy)
    }
}

/// The row of the table for a store's error. What only the operator can act on goes to the log with its sources.
fn refuse(error: StoreError) -> Status {
    let status = error.status();
    match &error {
        StoreError::Store(_) | StoreError::Damaged { .. } | StoreError::NoSpace(_) | StoreError::Fenced => {
            let chain: Vec<String> =
                std::iter::successors(Some(&error as &dyn std::error::Error), |e| e.source())
                    .map(ToString::to_string)
                    .collect();
            tracing::error!(error = chain.join(": "), "the store failed an operation");
        }
        StoreError::AccessDenied(rule) => tracing::debug!(%rule, "denied"),
        _ => {}
    }
    status
}
