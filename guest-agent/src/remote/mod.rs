//! The gateway, as the agent sees it: calls that are answered in any order, whatever happens to the connection.
//!
//! A [`Remote`] keeps one session over as many connections as it takes. Every call has an id and stays in a table
//! until it is answered; after a reconnect what is in the table is sent again under the same ids, and the gateway
//! answers from its reply cache what it had already done. When the gateway does not know the session any more
//! (evicted, or we were away too long) all calls fail with [`Status::Fenced`] and the hooks are told, so that
//! unsent writes are refused and never merged.
//!
//! Replies and notices are handed to [`Hooks`] by the one task that reads the stream, in the stream's order,
//! before the caller is woken. A lease granted by a reply is therefore in the cache before a recall that follows it
//! on the stream is looked at.

mod conn;
mod stream;

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mooring_protocol::caps;
use mooring_protocol::frame::{Header, Kind, Watermarks};
use mooring_protocol::message::{Ack, Answer, Door, HeldHandle, HeldLock, Notice, Request, Welcome};
use mooring_protocol::status::Status;
use mooring_protocol::types::{Handle, LeaseGrant, Time};
use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot, watch};

use stream::Dialer;
pub use stream::{ConnectError, Duplex, Port, Target, TargetError};

/// What a call brings back: the reply with the leases it granted and its payload, or the status of its failure.
pub type Outcome = Result<(Answer, Bytes), Status>;

/// What the cache knew when a call was made; see `fs::absorb`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// Sequence of the lease held on the node asked about.
    pub seq: u64,
    /// How often this agent itself had changed that node.
    pub changes: u64,
}

/// What is still held behind a door, for a gateway that restarted.
#[derive(Debug, Default)]
pub struct Held {
    /// Open files.
    pub handles: Vec<HeldHandle>,
    /// Leases.
    pub leases: Vec<LeaseGrant>,
    /// fcntl locks.
    pub locks: Vec<HeldLock>,
}

/// Who is told what the gateway says. Called by the reading task: must not block.
pub trait Hooks: Send + Sync + 'static {
    /// A reply arrived. Grants in it hold from this moment.
    fn replied(&self, door: u64, request: &Request, mark: Mark, answer: Result<&Answer, Status>);
    /// The gateway says something about one door.
    fn notice(&self, door: u64, notice: Notice);
    /// What can be mounted now.
    fn doors(&self, doors: Vec<Door>);
    /// A session began or went on; `token` is for the S3 and API doors.
    fn welcome(&self, welcome: &Welcome);
    /// A fresh token.
    fn token(&self, token: String, until_ms: u64);
    /// The session is gone, with its leases, handles and locks.
    fn lost(&self);
    /// What is held behind each door.
    fn held(&self) -> Vec<(u64, Held)>;
    /// What of it the gateway gave back.
    fn reclaimed(&self, door: u64, handles: &[Handle], leases: &[LeaseGrant]);
}

struct Pending {
    door: u64,
    request: Arc<Request>,
    payload: Bytes,
    mark: Mark,
    done: oneshot::Sender<Outcome>,
    /// The connection it was last written to.
    sent_on: u64,
    _permit: Option<OwnedSemaphorePermit>,
}

/// Something to be written.
enum Out {
    Request(u64),
    Cancel(u64),
    Ack(u64, Ack),
}

#[derive(Default)]
struct Table {
    pending: BTreeMap<u64, Pending>,
    queue: VecDeque<Out>,
    /// Number of the connection, 0 while there is none.
    connection: u64,
    session: Option<Session>,
    closed: bool,
}

#[derive(Clone, Copy, Debug)]
struct Session {
    id: u64,
    epoch: u64,
}

/// Which gateway, and what to show it.
#[derive(Clone, Debug)]
pub struct Gateway {
    /// Where it is.
    pub target: Target,
    /// Over TLS: whose certificates are good, as PEM; else those that this system trusts.
    pub ca: Option<PathBuf>,
    /// The token to come in with where the channel does not say who this VM is.
    pub token: Option<String>,
}

/// The token that was given, and the one that has followed it: tokens live for minutes, a session for as long as the VM.
struct Tokens {
    given: String,
    current: Mutex<String>,
}

impl Tokens {
    fn new(given: String) -> Tokens {
        Tokens { current: Mutex::new(given.clone()), given }
    }

    fn get(&self) -> String {
        self.current.lock().clone()
    }

    fn renewed(&self, token: &str) {
        token.clone_into(&mut self.current.lock());
    }

    /// The gateway does not take it (we were away for longer than it lives): back to what was given.
    fn refused(&self) {
        self.renewed(&self.given);
    }
}

/// How the connection is, for `status`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkState {
    /// A session is open on a connection.
    pub connected: bool,
    /// Times a connection was made.
    pub connections: u64,
    /// Who the gateway takes us for.
    pub tenant: String,
    /// The session's id.
    pub session: u64,
    /// Why the last connection ended or could not be made.
    pub last_error: Option<String>,
}

/// The gateway. Cheap to clone.
#[derive(Clone)]
pub struct Remote {
    inner: Arc<Inner>,
}

struct Inner {
    dialer: Dialer,
    token: Option<Tokens>,
    table: Mutex<Table>,
    wake_writer: Notify,
    next_id: AtomicU64,
    /// Room for requests, of the gateway's [`caps::MAX_IN_FLIGHT`].
    room: Arc<Semaphore>,
    /// Room of their own for reads and writes of data: others may wait for a recall that cannot end before them.
    data_room: Arc<Semaphore>,
    hooks: Arc<dyn Hooks>,
    clock: Mutex<(Time, Instant)>,
    watermarks: Mutex<Watermarks>,
    state: watch::Sender<LinkState>,
}

impl Remote {
    /// Begins to connect, in the current runtime, and goes on until [`Remote::close`].
    #[must_use]
    pub fn start(gateway: Gateway, hooks: Arc<dyn Hooks>) -> Remote {
        let now = Time::from_millis(unix_millis());
        let inner = Arc::new(Inner {
            dialer: Dialer::new(gateway.target, gateway.ca),
            token: gateway.token.map(Tokens::new),
            table: Mutex::default(),
            wake_writer: Notify::new(),
            next_id: AtomicU64::new(1),
            room: Arc::new(Semaphore::new(caps::MAX_IN_FLIGHT / 2)),
            data_room: Arc::new(Semaphore::new(caps::MAX_IN_FLIGHT / 4)),
            hooks,
            clock: Mutex::new((now, Instant::now())),
            watermarks: Mutex::default(),
            state: watch::Sender::new(LinkState::default()),
        });
        tokio::spawn(conn::keep(inner.clone()));
        Remote { inner }
    }

    /// Where the gateway is.
    #[must_use]
    pub fn target(&self) -> &Target {
        self.inner.dialer.target()
    }

    /// The token for a channel that does not say who this VM is.
    #[must_use]
    pub fn token(&self) -> Option<String> {
        self.inner.token.as_ref().map(Tokens::get)
    }

    /// How the connection is; changes can be awaited.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<LinkState> {
        self.inner.state.subscribe()
    }

    /// How far the gateway says it has come with what was handed over.
    #[must_use]
    pub fn watermarks(&self) -> Watermarks {
        *self.inner.watermarks.lock()
    }

    /// Calls waiting for an answer.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.inner.table.lock().pending.len()
    }

    /// The gateway's clock, going on from its last greeting.
    #[must_use]
    pub fn now(&self) -> Time {
        let (base, at) = *self.inner.clock.lock();
        let nanos = u64::from(base.nanos) + u64::from(at.elapsed().subsec_nanos());
        let secs = at.elapsed().as_secs() + nanos / 1_000_000_000;
        // Below 10^9, so it fits.
        Time { secs: base.secs + secs as i64, nanos: (nanos % 1_000_000_000) as u32 }
    }

    /// Asks, and waits for the answer for as long as it takes. Refusals that pass by themselves (grace after a
    /// restart, overload) are asked again.
    ///
    /// # Errors
    /// The status that the gateway gave, or [`Status::Fenced`] when the session ended.
    pub async fn call(&self, door: u64, request: Request, payload: Bytes, mark: Mark) -> Outcome {
        let request = Arc::new(request);
        let mut pause = Duration::from_millis(10);
        loop {
            let outcome = self.once(door, request.clone(), payload.clone(), mark).await;
            match outcome {
                Err(Status::InGrace | Status::Overloaded | Status::TooManyRequests) => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_millis(500));
                }
                other => return other,
            }
        }
    }

    async fn once(&self, door: u64, request: Arc<Request>, payload: Bytes, mark: Mark) -> Outcome {
        // A lock that waits may wait for ever; it must not take the room that the unlock needs.
        let permit = match &*request {
            Request::LockSet { wait: true, .. } | Request::Acquire { .. } => None,
            Request::Read { .. }
            | Request::Write { .. }
            | Request::Release { .. }
            | Request::Return { .. } => {
                Some(self.inner.data_room.clone().acquire_owned().await.map_err(|_| Status::Unavailable)?)
            }
            _ => Some(self.inner.room.clone().acquire_owned().await.map_err(|_| Status::Unavailable)?),
        };
        let (done, answered) = oneshot::channel();
        let id = self.inner.next_id.fetch_add(1, Ordering::Relaxed);
        tracing::trace!(id, door, ?request, "asking");
        {
            let mut table = self.inner.table.lock();
            if table.closed {
                return Err(Status::Unavailable);
            }
            table
                .pending
                .insert(id, Pending { door, request, payload, mark, done, sent_on: 0, _permit: permit });
            table.queue.push_back(Out::Request(id));
        }
        self.inner.wake_writer.notify_one();
        let guard = CancelOnDrop { inner: &self.inner, id, armed: true };
        let outcome = answered.await.unwrap_or(Err(Status::Unavailable));
        guard.disarm();
        outcome
    }

    /// Says that a notice was carried out.
    pub fn ack(&self, door: u64, ack: Ack) {
        self.inner.table.lock().queue.push_back(Out::Ack(door, ack));
        self.inner.wake_writer.notify_one();
    }

    /// Opens another byte stream to the gateway, for S3 or the API.
    ///
    /// # Errors
    /// When the gateway cannot be reached.
    pub async fn dial(&self, port: Port) -> Result<Duplex, ConnectError> {
        self.inner.dialer.dial(port).await
    }

    /// Ends the session's connection for good; calls fail from now on.
    pub fn close(&self) {
        let failed = {
            let mut table = self.inner.table.lock();
            table.closed = true;
            table.queue.clear();
            std::mem::take(&mut table.pending)
        };
        for (_, call) in failed {
            let _ = call.done.send(Err(Status::Unavailable));
        }
        self.inner.wake_writer.notify_one();
    }
}

/// Tells the gateway that nobody waits any more, when a call is dropped half way.
struct CancelOnDrop<'a> {
    inner: &'a Inner,
    id: u64,
    armed: bool,
}

impl CancelOnDrop<'_> {
    fn disarm(mut self) {
        self.armed = false;
    }
}

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        let mut table = self.inner.table.lock();
        if let Some(call) = table.pending.remove(&self.id)
            && call.sent_on != 0
        {
            table.queue.push_back(Out::Cancel(self.id));
            drop(table);
            self.inner.wake_writer.notify_one();
        }
    }
}

impl Inner {
    /// All calls end with `status`.
    fn fail_all(&self, status: Status) {
        let failed = {
            let mut table = self.table.lock();
            table.queue.clear();
            std::mem::take(&mut table.pending)
        };
        for (_, call) in failed {
            let _ = call.done.send(Err(status));
        }
    }
}

fn header(kind: Kind, door: u64, session: Option<Session>, id: u64) -> Header {
    let epoch = session.map_or(0, |s| s.epoch);
    Header { volume: door, epoch, request: id, ..Header::new(kind) }
}

/// The guest's clock, only used until the gateway told its own.
fn unix_millis() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(0)
}
