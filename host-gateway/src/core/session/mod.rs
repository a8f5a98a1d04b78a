//! One agent's session: what outlives its connections, and what ends with it.
//!
//! The protocol's [`machine`](mooring_protocol::session) decides what resumes, what is answered from the cache and what
//! is refused. Here are the parts it decides about: the connection that is there now, the doors that are open, handles,
//! budgets, and the files on disk that let a session outlive this process.
//!
//! ```text
//!                 connection ──reads──► admit ──► task per request ──► coherent volume
//!                     ▲                                                       │
//!                     └──writes── bounded queue ◄── reply with its leases ◄───┘
//! ```
//!
//! Order of locks: a volume's lease table first, then a session's state. Nothing here calls a volume with its own
//! state locked.

pub mod allowance;
pub mod conn;
pub mod handles;
pub mod moments;
pub mod outgoing;
pub mod record;
pub(crate) mod request;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Weak;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use mooring_policy::ids::VolumeId;
use mooring_protocol::caps;
use mooring_protocol::frame::{Header, Kind, encode_into};
use mooring_protocol::message::Notice;
use mooring_protocol::session as machine;
use mooring_protocol::session::SessionId;
use mooring_protocol::status::Status;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::coherent::{HolderLink, NoticesFull};
use super::gate::{Gate, Passage};
use super::identity::Who;
use super::limits::Limits;
use allowance::{Allowance, Allowances};
use handles::{Handles, OpenFile};
use moments::Moments;
use outgoing::Queue;
use record::{AppliedLog, Begun, Record, Records};

/// A door that a session has open.
pub struct OpenDoor {
    /// Its id, as requests name it.
    pub id: u64,
    /// What is behind it.
    pub passage: Passage,
    /// The session, as the volume's lease table knows it.
    pub holder: SessionId,
    closed: AtomicBool,
    /// The agent confirmed that it dropped everything.
    revoked: CancellationToken,
}

impl OpenDoor {
    /// Whether the right behind it has ended.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }
}

/// The connection that a session has now.
struct Connection {
    epoch: u64,
    queue: Queue,
    /// Stops reading.
    stop: CancellationToken,
}

struct Running {
    /// The connection that waits for the answer.
    epoch: u64,
    cancel: CancellationToken,
}

struct State {
    machine: machine::Session,
    connection: Option<Connection>,
    running: HashMap<u64, Running>,
    doors: HashMap<u64, Arc<OpenDoor>>,
    /// Doors it had open before this gateway started and has not put back yet.
    to_reclaim: HashMap<u64, VolumeId>,
}

/// What a session needs of its surroundings.
#[derive(Clone)]
pub struct Surroundings {
    /// Doors, tokens, time.
    pub gate: Arc<dyn Gate>,
    /// Records on disk.
    pub records: Arc<Records>,
    /// Who is awaited after a restart.
    pub grace: Arc<super::coherent::grace::Grace>,
    /// Every task that a shutdown waits for.
    pub tasks: TaskTracker,
    /// What one guest may take.
    pub limits: Limits,
    /// Moments of requests.
    pub moments: Arc<Moments>,
    /// What guests may hold.
    pub allowances: Arc<Allowances>,
}

/// See the [module](self).
pub struct Session {
    id: SessionId,
    who: Who,
    boot: [u8; 16],
    around: Surroundings,
    state: Mutex<State>,
    handles: Mutex<Handles>,
    applied: AppliedLog,
    /// Requests that were begun before this gateway started: they may have been carried out.
    doubtful: Mutex<HashMap<u64, Begun>>,
    /// Requests in flight: from being read to being answered on the wire.
    slots: Arc<Semaphore>,
    /// What its guest may hold in all.
    allowance: Arc<Allowance>,
    /// One door is opened at a time, so that no two tasks open the same one.
    opening: tokio::sync::Mutex<()>,
    /// It comes from a record, and its agent has not asked for anything but to reclaim.
    reclaiming: AtomicBool,
    ending: AtomicBool,
    ended: CancellationToken,
    requests: AtomicU64,
}

impl Session {
    /// A session around a machine that is new or comes from a record.
    pub fn new(machine: machine::Session, who: Who, boot: [u8; 16], around: Surroundings) -> Arc<Session> {
        let id = machine.id();
        let allowance = around.allowances.of(&who);
        let handles = Handles::new(allowance.clone(), machine.epoch());
        let applied = around.records.log(id);
        Arc::new(Session {
            id,
            who,
            boot,
            applied,
            doubtful: Mutex::new(HashMap::new()),
            around,
            state: Mutex::new(State {
                machine,
                connection: None,
                running: HashMap::new(),
                doors: HashMap::new(),
                to_reclaim: HashMap::new(),
            }),
            handles: Mutex::new(handles),
            slots: Arc::new(Semaphore::new(caps::MAX_IN_FLIGHT)),
            allowance,
            opening: tokio::sync::Mutex::new(()),
            reclaiming: AtomicBool::new(false),
            ending: AtomicBool::new(false),
            ended: CancellationToken::new(),
            requests: AtomicU64::new(0),
        })
    }

    /// A session found on disk after a restart.
    pub fn from_record(record: Record, around: Surroundings) -> Arc<Session> {
        let now = around.gate.clock().monotonic();
        let machine = machine::Session::from_record(record.session, now);
        let session = Session::new(machine, Who::new(record.principal), record.boot, around);
        session.state.lock().to_reclaim = record.doors.into_iter().collect();
        *session.doubtful.lock() = record.doubtful;
        session.reclaiming.store(true, Ordering::Release);
        session
    }

    /// Its id.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// Whose it is.
    pub fn who(&self) -> &Who {
        &self.who
    }

    /// The boot of the guest it belongs to.
    pub fn boot(&self) -> [u8; 16] {
        self.boot
    }

    /// Whether it has a connection.
    pub fn is_connected(&self) -> bool {
        self.state.lock().connection.is_some()
    }

    /// Whether it has been without a connection for too long.
    pub fn is_overdue(&self, now: Duration) -> bool {
        self.state.lock().machine.is_overdue(now)
    }

    /// Whether it is over.
    pub fn is_ended(&self) -> bool {
        self.ended.is_cancelled()
    }

    /// Requests it has made.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Requests it waits for.
    pub fn in_flight(&self) -> usize {
        caps::MAX_IN_FLIGHT - self.slots.available_permits()
    }

    /// Files it has open.
    pub fn open_files(&self) -> usize {
        self.handles.lock().count()
    }

    /// Doors it has open.
    pub fn open_doors(&self) -> Vec<Arc<OpenDoor>> {
        self.state.lock().doors.values().filter(|d| !d.is_closed()).cloned().collect()
    }

    /// The door, opened when this is its first use.
    async fn door(self: &Arc<Self>, id: u64) -> Result<Arc<OpenDoor>, Status> {
        if let Some(door) = self.known_door(id)? {
            return Ok(door);
        }
        let _one_at_a_time = self.opening.lock().await;
        if let Some(door) = self.known_door(id)? {
            return Ok(door);
        }
        let passage = self.around.gate.open(&self.who, id).await?;
        let patience = if passage.confined { caps::FOREIGN_RECALL_DEADLINE } else { caps::RECALL_DEADLINE };
        let link = Arc::new(DoorLink { session: Arc::downgrade(self), door: id, patience });
        let holder = passage.volume.attach(link);
        let door = Arc::new(OpenDoor {
            id,
            passage,
            holder,
            closed: AtomicBool::new(false),
            revoked: CancellationToken::new(),
        });
        let record = {
            let mut state = self.state.lock();
            state.doors.insert(id, door.clone());
            self.record(&state)
        };
        if self.is_ended() {
            // It ended while the door was being opened, and did not see this one.
            door.passage.volume.detach(holder);
            return Err(Status::Fenced);
        }
        self.persist(&record);
        Ok(door)
    }

    fn known_door(&self, id: u64) -> Result<Option<Arc<OpenDoor>>, Status> {
        match self.state.lock().doors.get(&id) {
            Some(door) if door.is_closed() => Err(Status::Revoked),
            door => Ok(door.cloned()),
        }
    }

    fn record(&self, state: &State) -> Record {
        let open = state.doors.values().filter(|d| !d.is_closed()).map(|d| (d.id, d.passage.volume.id()));
        let earlier = state.to_reclaim.iter().map(|(door, volume)| (*door, *volume));
        Record {
            session: state.machine.record(),
            principal: self.who.principal.clone(),
            boot: self.boot,
            doubtful: HashMap::new(),
            doors: open.chain(earlier.filter(|(door, _)| !state.doors.contains_key(door))).collect(),
        }
    }

    /// Everything behind a door has been put back after a restart.
    pub(super) fn door_reclaimed(&self, door: u64) {
        let mut state = self.state.lock();
        let Some(volume) = state.to_reclaim.remove(&door) else { return };
        let more = state.to_reclaim.values().any(|v| *v == volume);
        if state.to_reclaim.is_empty() {
            state.machine.reclaimed();
        }
        drop(state);
        if !more {
            self.around.grace.reclaimed(self.id.0, volume);
        }
    }

    /// Whether it may still put back what it held before this gateway started.
    pub(super) fn may_reclaim(&self) -> bool {
        self.reclaiming.load(Ordering::Acquire)
    }

    /// It has nothing more to put back: its agent asks for something else already, or the time for it is over.
    pub(super) fn end_reclaim(&self) {
        if !self.reclaiming.swap(false, Ordering::AcqRel) {
            return;
        }
        let doors: Vec<u64> = self.state.lock().to_reclaim.keys().copied().collect();
        for door in doors {
            self.door_reclaimed(door);
        }
    }

    /// Writes a record. When that fails the session goes on, and does not survive a restart.
    fn persist(&self, record: &Record) {
        if let Err(error) = self.around.records.put(record) {
            tracing::error!(session = %self.id, %error, "the session's record cannot be written: it will not survive a restart");
        }
    }

    /// Queues a notice. Nothing happens while there is no connection: what is still true is said again on the next.
    fn notice(&self, door: u64, notice: &Notice) -> Result<(), NoticesFull> {
        let state = self.state.lock();
        let Some(connection) = &state.connection else { return Ok(()) };
        let header = Header { volume: door, epoch: connection.epoch, ..Header::new(Kind::Notice) };
        let mut head = BytesMut::new();
        if let Err(error) = encode_into(&mut head, &header, notice, 0) {
            tracing::error!(session = %self.id, %error, "a notice could not be encoded");
            return Err(NoticesFull);
        }
        match connection.queue.notice(head) {
            Ok(()) => Ok(()),
            // The connection is on its way out; the next one is told.
            Err(_) if connection.stop.is_cancelled() => Ok(()),
            Err(_) => Err(NoticesFull),
        }
    }

    /// Tells the agent something that concerns the whole session.
    pub fn tell(&self, notice: &Notice) {
        if self.notice(0, notice).is_err() {
            tracing::warn!(session = %self.id, who = %self.who.principal, "the guest does not read its notices");
        }
    }

    /// Ends the session for good. Persisted first: after this it can neither be resumed nor reclaim.
    pub fn end(self: &Arc<Self>, why: &str) {
        if self.ending.swap(true, Ordering::AcqRel) {
            return;
        }
        self.ended.cancel();
        if let Err(error) = self.around.records.remove(self.id) {
            tracing::error!(session = %self.id, %error, "the record of an ended session cannot be removed");
        }
        tracing::warn!(session = %self.id, who = %self.who.principal, why, "session evicted");
        self.tell(&Notice::Fenced { reason: why.to_owned() });
        let doors = {
            let mut state = self.state.lock();
            state.machine.evict();
            for running in state.running.values() {
                running.cancel.cancel();
            }
            if let Some(connection) = state.connection.take() {
                connection.stop.cancel();
            }
            std::mem::take(&mut state.doors)
        };
        self.around.grace.gone(self.id.0);
        for door in doors.into_values() {
            door.closed.store(true, Ordering::Release);
            door.passage.volume.detach(door.holder);
        }
        let files = self.handles.lock().drain();
        self.unpin(files);
    }

    /// Lets go of files whose handles are gone.
    fn unpin(&self, files: Vec<OpenFile>) {
        if files.is_empty() {
            return;
        }
        self.around.tasks.spawn(async move {
            for file in files {
                unpin(&file).await;
            }
        });
    }

    /// The right behind a door ended. From here on everything behind it is refused; true when the agent confirms in
    /// time that it dropped what it had.
    pub async fn close_door(self: &Arc<Self>, id: u64, limit: Duration) -> Option<bool> {
        let door = self.state.lock().doors.get(&id).cloned()?;
        if door.closed.swap(true, Ordering::AcqRel) {
            return None;
        }
        let deadline_ms = u32::try_from(limit.as_millis()).unwrap_or(u32::MAX);
        let told = self.notice(id, &Notice::Revoked { deadline_ms });
        door.passage.volume.detach(door.holder);
        let files = self.handles.lock().remove_door(&door);
        self.unpin(files);
        let record = self.record(&self.state.lock());
        self.persist(&record);
        let confirmed = told.is_ok() && tokio::time::timeout(limit, door.revoked.cancelled()).await.is_ok();
        if !confirmed {
            tracing::warn!(session = %self.id, who = %self.who.principal, door = id,
                "did not confirm that it dropped a revoked share: fenced off from it");
        }
        Some(confirmed)
    }

    /// The agent confirmed a revocation.
    fn confirm_revoked(&self, door: u64) {
        if let Some(door) = self.state.lock().doors.get(&door).filter(|d| d.is_closed()) {
            door.revoked.cancel();
        }
    }
}

/// Lets go of one file.
pub(super) async fn unpin(file: &OpenFile) {
    if let Err(error) = file.door.passage.volume.store().unpin(file.ino).await {
        tracing::warn!(ino = %file.ino, %error, "a closed file could not be let go of; it is freed when the volume is next opened");
    }
}

/// The way from a volume to a session.
struct DoorLink {
    session: Weak<Session>,
    door: u64,
    patience: Duration,
}

impl HolderLink for DoorLink {
    fn notify(&self, notice: Notice) -> Result<(), NoticesFull> {
        self.session.upgrade().map_or(Ok(()), |session| session.notice(self.door, &notice))
    }

    fn patience(&self) -> Duration {
        self.patience
    }

    fn evict(&self, why: &str) {
        if let Some(session) = self.session.upgrade() {
            session.end(why);
        }
    }
}
