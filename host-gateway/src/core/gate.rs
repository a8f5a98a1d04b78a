//! What sessions ask of the rest of the gateway: which doors there are, and what is behind one.

use std::sync::Arc;

use async_trait::async_trait;
use mooring_policy::time::{Clock, Timestamp};
use mooring_protocol::message::Door;
use mooring_protocol::status::Status;
use mooring_protocol::types::{Ino, Time};
use mooring_store::api::{Authority, Caller};

use super::coherent::Coherent;
use super::identity::Who;

/// An open door: a volume, and what may be done to it through here.
#[derive(Clone)]
pub struct Passage {
    /// The volume behind it.
    pub volume: Arc<Coherent>,
    /// Where the caller's world begins.
    pub root: Ino,
    /// It is a share: the caller is another tenant.
    pub confined: bool,
    /// Nothing can be changed through it.
    pub read_only: bool,
    /// Asked at every operation.
    pub authority: Arc<dyn Authority>,
}

impl Passage {
    /// The first argument of a store operation at `now`.
    pub fn caller(&self, now: Timestamp, trace: u64) -> Caller {
        self.caller_at(Time::from_millis(now.as_millis()), trace)
    }

    /// The same, at a moment between the clock's milliseconds.
    pub fn caller_at(&self, now: Time, trace: u64) -> Caller {
        Caller { authority: self.authority.clone(), root: self.root, confined: self.confined, now, trace }
    }
}

/// The rest of the gateway, as sessions see it.
#[async_trait]
pub trait Gate: Send + Sync {
    /// What `who` can mount now.
    async fn doors(&self, who: &Who) -> Vec<Door>;
    /// Opens a door; [`Status::NotFound`] for one that `who` may not know of.
    async fn open(&self, who: &Who, door: u64) -> Result<Passage, Status>;
    /// Whoever shows this token.
    fn verify(&self, token: &str) -> Result<Who, Status>;
    /// A token for the S3 and API doors, and when it ends.
    fn token(&self, who: &Who) -> Result<(String, Timestamp), Status>;
    /// Time.
    fn clock(&self) -> &Arc<dyn Clock>;
    /// Whether anything may be answered now.
    fn serves(&self) -> bool {
        true
    }
    /// Fills with random bytes.
    fn random(&self, bytes: &mut [u8]);
}
