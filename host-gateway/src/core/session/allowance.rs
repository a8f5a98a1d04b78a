//! What one guest may hold of the gateway, over all its sessions: a guest that opens many gets no more for it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use mooring_protocol::caps;
use mooring_protocol::frame::Frame;
use mooring_protocol::message::Request;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::core::identity::Who;

/// Bytes counted by one permit. Permits are counted in 32 bits.
const UNIT: usize = 1024;

/// Bytes of a request's body that are not worth counting: with all slots of a session full they come to 1 MiB.
const SMALL_BODY: usize = 4 << 10;

/// See the [module](self).
#[derive(Debug)]
pub struct Allowance {
    /// Bytes of requests and of their answers, in units of [`UNIT`].
    bytes: Arc<Semaphore>,
    handles: AtomicUsize,
}

impl Default for Allowance {
    fn default() -> Allowance {
        let bytes = Arc::new(Semaphore::new(caps::MAX_IN_FLIGHT_BYTES / UNIT));
        Allowance { bytes, handles: AtomicUsize::new(0) }
    }
}

impl Allowance {
    /// Waits until there is room for so many bytes, which slows down who asks for more than it takes.
    pub(super) async fn reserve(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let units = u32::try_from(bytes.div_ceil(UNIT)).ok().filter(|units| *units > 0)?;
        self.bytes.clone().acquire_many_owned(units).await.ok()
    }

    /// Takes room for an open file. False when there is none.
    pub(super) fn take_handle(&self) -> bool {
        let more = |open: usize| (open < caps::MAX_HANDLES).then_some(open + 1);
        self.handles.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// Gives back room of files that are closed.
    pub(super) fn return_handles(&self, closed: usize) {
        self.handles.fetch_sub(closed, Ordering::Relaxed);
    }
}

/// The allowances of all guests that have a session.
#[derive(Debug, Default)]
pub struct Allowances(Mutex<HashMap<String, Weak<Allowance>>>);

impl Allowances {
    /// The one of this guest.
    pub(super) fn of(&self, who: &Who) -> Arc<Allowance> {
        let mut all = self.0.lock();
        all.retain(|_, allowance| allowance.strong_count() > 0);
        let name = who.principal.to_string();
        if let Some(known) = all.get(&name).and_then(Weak::upgrade) {
            return known;
        }
        let fresh = Arc::new(Allowance::default());
        all.insert(name, Arc::downgrade(&fresh));
        fresh
    }
}

/// Bytes of a request that are counted. An ordinary one has none, so it never waits behind large ones, and neither do the
/// acknowledgements that follow it on the stream.
pub(super) fn request_bytes(frame: &Frame) -> usize {
    let body = frame.body.len();
    frame.payload.len() + if body > SMALL_BODY { body } else { 0 }
}

/// Bytes that the answer to a request may have, where they are worth counting: they wait with it to be taken.
pub(super) fn answer_bytes(request: &Request) -> usize {
    match request {
        Request::Read { size, .. } => (*size as usize).min(caps::MAX_PAYLOAD),
        Request::ReadDir { .. } => caps::MAX_BODY,
        Request::GetXattr { .. } | Request::ListXattr { .. } => caps::MAX_XATTR_VALUE,
        _ => 0,
    }
}
