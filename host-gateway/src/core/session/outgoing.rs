//! The way out of a connection: a bounded queue, and the one task that writes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use mooring_protocol::caps;
use mooring_protocol::frame::{Header, Kind, encode_into, write_frame};
use mooring_protocol::status::Status;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::OpenDoor;

/// Replies and notices that may wait to be written. Replies hold a permit of their session until they are written, so
/// there are at most [`caps::MAX_IN_FLIGHT`] of them on each of two connections; the rest is for notices.
const QUEUE: usize = 2 * caps::MAX_IN_FLIGHT + caps::MAX_QUEUED_NOTICES + 16;

/// Small frames gathered into one write, in bytes.
const GATHER: usize = 64 << 10;

/// One frame on its way out.
pub struct Outgoing {
    /// Encoded header and body.
    pub head: BytesMut,
    /// The payload, by reference.
    pub payload: Vec<Bytes>,
    /// What it came from: nothing of a closed door is delivered.
    pub door: Option<(Arc<OpenDoor>, Header)>,
    /// Counted among the notices.
    pub notice: bool,
    /// The sender's room in the gateway, free again when it is written.
    pub room: Room,
}

/// A request's share of its session's budget.
#[derive(Default)]
pub struct Room {
    /// One of the requests in flight.
    pub slot: Option<OwnedSemaphorePermit>,
    /// Bytes of its payload or of its answer's.
    pub bytes: Option<OwnedSemaphorePermit>,
}

/// The queue's end that session and volumes hold.
#[derive(Clone)]
pub struct Queue {
    tx: mpsc::Sender<Outgoing>,
    notices: Arc<AtomicUsize>,
}

/// The queue is full, or its connection is gone.
#[derive(Debug)]
pub struct Refused;

impl Queue {
    /// A queue and its other end, which gives a guest up that takes nothing for `stalled`.
    pub fn new(stalled: Duration) -> (Queue, Outlet) {
        let (tx, rx) = mpsc::channel(QUEUE);
        let notices = Arc::new(AtomicUsize::new(0));
        (Queue { tx, notices: notices.clone() }, Outlet { rx, notices, stalled })
    }

    /// Queues a reply. Never waits.
    pub fn reply(&self, frame: Outgoing) -> Result<(), Refused> {
        self.tx.try_send(frame).map_err(|_| Refused)
    }

    /// Queues a notice, as long as there are not too many. Never waits.
    pub fn notice(&self, head: BytesMut) -> Result<(), Refused> {
        if self.notices.fetch_add(1, Ordering::Relaxed) >= caps::MAX_QUEUED_NOTICES {
            self.notices.fetch_sub(1, Ordering::Relaxed);
            return Err(Refused);
        }
        let frame = Outgoing { head, payload: Vec::new(), door: None, notice: true, room: Room::default() };
        self.tx.try_send(frame).map_err(|_| Refused)
    }
}

/// The writing end.
pub struct Outlet {
    rx: mpsc::Receiver<Outgoing>,
    notices: Arc<AtomicUsize>,
    stalled: Duration,
}

/// Why writing ended.
#[derive(Debug, thiserror::Error)]
pub enum WriteEnd {
    /// The guest takes nothing.
    #[error("the guest has read nothing for {0:?}")]
    Stalled(Duration),
    /// The stream failed.
    #[error("the connection broke")]
    Io(#[from] std::io::Error),
}

impl Outlet {
    /// Writes frames until every [`Queue`] is dropped and what was queued is out.
    pub async fn run<W: AsyncWrite + Unpin>(mut self, stream: &mut W) -> Result<(), WriteEnd> {
        let stalled = self.stalled;
        let mut small = BytesMut::new();
        let mut held = Vec::new();
        while let Some(first) = self.rx.recv().await {
            let mut next = Some(first);
            small.clear();
            held.clear();
            let mut large = None;
            while let Some(mut frame) = next.take() {
                if frame.notice {
                    self.notices.fetch_sub(1, Ordering::Relaxed);
                }
                withhold(&mut frame);
                small.extend_from_slice(&frame.head);
                if frame.payload.is_empty() {
                    held.push(frame.room);
                    if small.len() < GATHER {
                        next = self.rx.try_recv().ok();
                    }
                } else {
                    large = Some(frame);
                }
            }
            let (payload, rest) = match &large {
                Some(frame) => (&frame.payload[0][..], &frame.payload[1..]),
                None => (&[][..], &[][..]),
            };
            patiently(stalled, write_frame(stream, &small, payload)).await?;
            for part in rest {
                patiently(stalled, stream.write_all(part)).await?;
            }
        }
        patiently(stalled, stream.flush()).await?;
        patiently(stalled, stream.shutdown()).await
    }
}

async fn patiently(
    stalled: Duration,
    what: impl Future<Output = std::io::Result<()>>,
) -> Result<(), WriteEnd> {
    match tokio::time::timeout(stalled, what).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(WriteEnd::Stalled(stalled)),
    }
}

/// The last look before delivery: what was read through a door that is closed by now does not leave.
fn withhold(frame: &mut Outgoing) {
    let Some((door, header)) = &frame.door else { return };
    if !door.is_closed() || header.status != Status::Ok {
        return;
    }
    let refused = Header { kind: Kind::Reply, status: Status::Revoked, ..*header };
    frame.head.clear();
    frame.payload.clear();
    if encode_into(&mut frame.head, &refused, &(), 0).is_err() {
        tracing::error!("a refusal could not be encoded");
    }
}
