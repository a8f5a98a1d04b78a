//! One change of the registry at a time, and what becomes of it when the disk fails or its caller goes away.
//!
//! A change reads, decides and commits; nothing else may change the registry meanwhile, or the same number would be given
//! twice. So it takes a *turn*, and the turn ends with the change, not with its caller: a command that was interrupted,
//! or that a failing disk keeps waiting, may give up, while what it has begun is still to be made, and the next change
//! must not decide by what was before it.
//!
//! Who holds a copy of the registry in memory follows [`Realm::changes`]: it counts every change that has ended, and
//! apart those whose callers had left, because nobody else will act on these.

use super::{Realm, RealmError};
use crate::meta::Batch;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, OwnedMutexGuard, oneshot, watch};

/// How long a caller waits for a disk that fails: many faults pass sooner.
const PATIENCE: Duration = Duration::from_secs(1);

/// The right to change the registry, shared by a caller and what it has begun.
#[derive(Clone)]
pub(super) struct Turn {
    _one: Arc<OwnedMutexGuard<()>>,
}

/// Changes of the registry that have ended since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// All of them.
    pub ended: u64,
    /// Those whose callers had left.
    pub unattended: u64,
}

#[derive(Default)]
pub(super) struct Turns {
    one: Arc<Mutex<()>>,
    changes: watch::Sender<Changes>,
}

impl Realm {
    /// Waits for the change that is under way. While the disk fails nobody waits: it may take long.
    pub(super) async fn turn(&self) -> Result<Turn, RealmError> {
        let free = self.turns.one.clone().lock_owned();
        tokio::pin!(free);
        let one = tokio::select! {
            biased;
            one = &mut free => one,
            fault = self.meta.faulty() => {
                tokio::time::timeout(PATIENCE, free).await.map_err(|_| RealmError::Meta(fault))?
            }
        };
        Ok(Turn { _one: Arc::new(one) })
    }

    /// Commits and makes durable. The turn lasts until that has ended, whatever becomes of the caller.
    pub(super) async fn apply(&self, turn: &Turn, batch: Batch) -> Result<(), RealmError> {
        let (meta, turn, changes) = (self.meta.clone(), turn.clone(), self.turns.changes.clone());
        let (tell, told) = oneshot::channel();
        let task = tokio::spawn(async move {
            let made = match meta.commit(batch).await {
                Ok(_) => meta.sync().await.map(drop).map_err(RealmError::InDoubt),
                Err(error) => Err(RealmError::Meta(error)),
            };
            // Who is told may close the registry and open it again: nothing here keeps it open.
            drop(meta);
            // Counted before it is told: who hears of it and reads the registry anew has read this change. Who hears that
            // it is in doubt goes away as well.
            changes.send_modify(|changes| changes.ended += 1);
            let in_doubt = matches!(made, Err(RealmError::InDoubt(_)));
            if tell.send(made).is_err() || in_doubt {
                changes.send_modify(|changes| changes.unattended += 1);
            }
            drop(turn);
        });
        tokio::pin!(told);
        let made = tokio::select! {
            biased;
            made = &mut told => made,
            fault = self.meta.faulty() => tokio::time::timeout(PATIENCE, told)
                .await
                .map_err(|_| RealmError::InDoubt(fault))?,
        };
        match made {
            Ok(made) => made,
            Err(_) => match task.await {
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                // The runtime ends, and this caller with it.
                _ => std::future::pending().await,
            },
        }
    }

    /// Follows the changes of the registry.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<Changes> {
        self.turns.changes.subscribe()
    }
}
