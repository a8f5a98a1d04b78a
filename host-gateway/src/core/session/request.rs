//! One request: admitted, carried out in a task of its own, answered in one step with the leases it brings.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use mooring_protocol::caps;
use mooring_protocol::frame::{BodyError, Frame, HEADER_LEN, Header, Watermarks};
use mooring_protocol::message::{Ack, Notice, Reply, Request};
use mooring_protocol::session::Admit;
use mooring_protocol::status::Status;
use mooring_protocol::types::{Attr, LeaseGrant, Time};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::allowance::answer_bytes;
use super::outgoing::{Outgoing, Queue, Room};
use super::record::Begun;
use super::{Connection, OpenDoor, Running, Session};
use crate::core::coherent::{Pass, Patience, Wish};
use crate::core::fs;

/// What an operation brings back.
pub(crate) struct Done {
    /// The answer.
    pub reply: Reply,
    /// Its payload.
    pub payload: Vec<Bytes>,
    /// What it was let through with; ends when the reply is queued.
    pub pass: Option<Pass>,
    /// Leases to grant with it.
    pub wishes: Vec<Wish>,
    /// Leases put back after a restart.
    pub reclaim: Option<Vec<LeaseGrant>>,
    /// What it made of the directories it changed.
    pub also: Vec<Attr>,
}

impl Done {
    /// An answer without payload, justified by `pass`.
    pub fn new(reply: Reply, pass: Pass, wishes: Vec<Wish>) -> Done {
        Done { reply, payload: Vec::new(), pass: Some(pass), wishes, reclaim: None, also: Vec::new() }
    }

    /// An answer that leases have nothing to do with.
    pub fn plain(reply: Reply) -> Done {
        Done { reply, payload: Vec::new(), pass: None, wishes: Vec::new(), reclaim: None, also: Vec::new() }
    }
}

/// A request being carried out.
#[derive(Clone)]
pub(crate) struct Ask<'a> {
    /// Of this session.
    pub session: &'a Arc<Session>,
    /// Behind this door.
    pub door: &'a Arc<OpenDoor>,
    /// How long its caller waits.
    pub patience: Patience,
    /// Its payload.
    pub payload: Bytes,
    /// Done before a restart whose reply was lost: build the answer from what is there.
    pub again: bool,
    /// The moment it leaves at what it makes, when it is told by that.
    pub moment: Option<Time>,
    pub(in crate::core) trace: u64,
}

impl Ask<'_> {
    /// The first argument of a store operation, at this moment.
    pub fn caller(&self) -> mooring_store::api::Caller {
        let now = self.moment.unwrap_or_else(|| self.session.next_moment());
        self.door.passage.caller_at(now, self.trace)
    }

    /// The last check before something is done, after whatever was waited for.
    pub fn still_allowed(&self) -> Result<(), Status> {
        match (self.session.is_ended(), self.door.is_closed()) {
            (true, _) => Err(Status::Fenced),
            (_, true) => Err(Status::Revoked),
            _ => Ok(()),
        }
    }

    /// Open files of the session.
    pub fn handles(&self) -> parking_lot::MutexGuard<'_, super::Handles> {
        self.session.handles.lock()
    }
}

impl Session {
    /// Room for one more request; waits until there is, which is what slows a guest down that sends too fast.
    pub(super) async fn make_room(&self, bytes: usize) -> Option<Room> {
        let slot = self.slots.clone().acquire_owned().await.ok()?;
        Some(Room { slot: Some(slot), bytes: self.allowance.reserve(bytes).await })
    }

    /// Takes a request of the connection with `epoch`.
    pub(super) fn take(self: &Arc<Self>, epoch: u64, queue: &Queue, frame: Frame, room: Room) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let header = frame.header;
        let refuse = |status: Status, room: Room| {
            answer(queue, None, &header.reply(status, Watermarks::default()), &[], Vec::new(), room);
        };
        let request: Request = match frame.message() {
            Ok(request) => request,
            Err(error) => {
                tracing::debug!(session = %self.id, %error, "refused a request that is none");
                return refuse(BodyError::STATUS, room);
            }
        };
        let cancel = CancellationToken::new();
        let admit = {
            let mut state = self.state.lock();
            let admit = state.machine.admit(header.epoch, header.request, changes(&request));
            match admit {
                Admit::Run | Admit::Applied => {
                    state.running.insert(header.request, Running { epoch, cancel: cancel.clone() });
                }
                Admit::Running => {
                    if let Some(running) = state.running.get_mut(&header.request) {
                        running.epoch = epoch;
                    }
                }
                Admit::Replay(..) | Admit::Refuse(_) => {}
            }
            admit
        };
        if !matches!(request, Request::Reclaim { .. }) {
            self.end_reclaim();
        }
        let again = match admit {
            Admit::Run => false,
            Admit::Applied => true,
            Admit::Running => return,
            Admit::Refuse(status) => return refuse(status, room),
            Admit::Replay(status, body) => {
                answer(queue, None, &header.reply(status, Watermarks::default()), &body, Vec::new(), room);
                return;
            }
        };
        let span = tracing::debug_span!("request", session = %self.id, request = header.request, trace = header.trace, op = name(&request));
        let session = self.clone();
        let task = async move { session.run(header, request, frame.payload, cancel, again, room).await };
        self.around.tasks.spawn(task.instrument(span));
    }

    async fn run(
        self: Arc<Self>,
        header: Header,
        request: Request,
        payload: Bytes,
        cancel: CancellationToken,
        again: bool,
        mut room: Room,
    ) {
        let wait = match header.deadline_ms {
            0 => caps::MAX_REQUEST_DEADLINE,
            ms => Duration::from_millis(ms.into()).min(caps::MAX_REQUEST_DEADLINE),
        };
        let patience = Patience { until: Instant::now() + wait, cancel };
        // The answer's bytes count like a request's: a guest that does not read its answers stops here.
        let expected = answer_bytes(&request);
        if expected > 0 {
            room.bytes = self.allowance.reserve(expected).await;
        }
        let changes = changes(&request);
        let door = match self.door(header.volume).await {
            Ok(door) => door,
            Err(status) => return self.fail(&header, None, status, room),
        };
        let moment = fs::leaves_its_moment(&request).then(|| self.next_moment());
        let mut ask =
            Ask { session: &self, door: &door, patience, payload, again, moment, trace: header.trace };
        if let Err(status) = self.begin(&mut ask, header.request, &request).await {
            return self.fail(&header, Some(&door), status, room);
        }
        let is_last = matches!(request, Request::Reclaim { more: false, .. });
        match fs::perform(&ask, request).await {
            Ok(done) => {
                if changes && let Err(error) = self.applied.done(header.request) {
                    tracing::error!(session = %self.id, %error, "a finished request could not be noted: after a restart it may be done twice");
                }
                self.succeed(&header, &door, done, changes, room);
                if is_last {
                    self.door_reclaimed(door.id);
                }
            }
            Err(status) => self.fail(&header, Some(&door), status, room),
        }
    }

    /// Finds out whether a request was done before this gateway started, and notes one that begins now. In this order: a
    /// new note would hide the one that tells of the first time.
    async fn begin(&self, ask: &mut Ask<'_>, id: u64, request: &Request) -> Result<(), Status> {
        if ask.again || !fs::differs_twice(request) {
            return Ok(());
        }
        let earlier = self.doubtful.lock().remove(&id);
        if let Some(earlier) = earlier
            && fs::is_done(ask, request, earlier).await?
        {
            ask.again = true;
            return Ok(());
        }
        let begun =
            Begun { at: ask.moment.unwrap_or_else(|| self.next_moment()), seen: fs::see(ask, request).await };
        if let Err(error) = self.applied.begun(id, begun) {
            tracing::error!(session = %self.id, %error, "a request could not be noted: after a restart it may be done twice");
        }
        Ok(())
    }

    /// A moment that no other request has.
    pub(super) fn next_moment(&self) -> Time {
        self.around.moments.next(self.around.gate.clock().now())
    }

    fn succeed(&self, header: &Header, door: &Arc<OpenDoor>, done: Done, changes: bool, room: Room) {
        let Done { mut reply, payload, pass, wishes, reclaim, also } = done;
        let volume = &door.passage.volume;
        let at = volume.store().watermarks();
        let watermarks = Watermarks { received: at.received, journalled: at.journalled, stored: at.stored };
        let header = header.reply(Status::Ok, watermarks);
        let send = |reply: Encoded, leases: &[LeaseGrant]| {
            self.deliver(&header, door, (reply, leases, &also), payload, changes, room)
        };
        match (pass, reclaim) {
            (Some(pass), _) => {
                // Under the volume's lock only the leases are left to encode.
                let reply = Encoded::new(&reply);
                volume.finish(door.holder, pass, &wishes, |leases| send(reply, leases));
            }
            (None, Some(held)) => {
                volume.reclaim(door.holder, &held, |kept| {
                    if let Reply::Reclaimed { leases, .. } = &mut reply {
                        *leases = kept;
                    }
                    send(Encoded::new(&reply), &[])
                });
            }
            (None, None) => {
                send(Encoded::new(&reply), &[]);
            }
        }
    }

    /// Reports to the machine and queues the reply, in one step. False when nobody is there to read it.
    fn deliver(
        &self,
        header: &Header,
        door: &Arc<OpenDoor>,
        (reply, leases, also): (Encoded, &[LeaseGrant], &[Attr]),
        payload: Vec<Bytes>,
        keep: bool,
        room: Room,
    ) -> bool {
        let mut state = self.state.lock();
        let waits = state.running.remove(&header.request);
        let cached = if keep { reply.clone().with(&[], &[]) } else { Bytes::new() };
        state.machine.finish(header.request, Status::Ok, cached);
        let Some(connection) = waiting(state.connection.as_ref(), waits) else { return false };
        let header = &Header { epoch: connection.epoch, ..*header };
        if door.is_closed() {
            let refused = Header { status: Status::Revoked, ..*header };
            answer(&connection.queue, None, &refused, &[], Vec::new(), room);
            return false;
        }
        answer(&connection.queue, Some(door), header, &reply.with(leases, also), payload, room)
    }

    fn fail(&self, header: &Header, door: Option<&Arc<OpenDoor>>, status: Status, room: Room) {
        tracing::trace!(%status, "refused");
        let watermarks = Watermarks::default();
        let header = header.reply(status, watermarks);
        let mut state = self.state.lock();
        let waits = state.running.remove(&header.request);
        state.machine.finish(header.request, status, Bytes::new());
        if let Some(connection) = waiting(state.connection.as_ref(), waits) {
            let header = Header { epoch: connection.epoch, ..header };
            answer(&connection.queue, door, &header, &[], Vec::new(), room);
        }
    }

    /// The caller of a request no longer waits.
    pub(super) fn cancel(&self, request: u64) {
        if let Some(running) = self.state.lock().running.get(&request) {
            running.cancel.cancel();
        }
    }

    /// The agent has carried out a notice. What nobody asked for changes nothing.
    pub(super) fn acknowledge(&self, door: u64, ack: Ack) {
        if ack == Ack::Revoked {
            return self.confirm_revoked(door);
        }
        let Ok(Some(door)) = self.known_door(door) else { return };
        match ack {
            Ack::Recalled { ino, seq } => door.passage.volume.recalled(door.holder, ino, seq),
            Ack::Barrier { id } => door.passage.volume.barrier_done(door.holder, id),
            Ack::Revoked => {}
        }
    }

    /// Says again, on a new connection, what the volumes still wait for.
    pub(super) fn say_again(&self) {
        for door in self.open_doors() {
            door.passage.volume.say_again(door.holder);
        }
        let closed: Vec<u64> = {
            let state = self.state.lock();
            state
                .doors
                .values()
                .filter(|d| d.is_closed() && !d.revoked.is_cancelled())
                .map(|d| d.id)
                .collect()
        };
        for door in closed {
            let deadline_ms = caps::FOREIGN_RECALL_DEADLINE.as_millis() as u32;
            if self.notice(door, &Notice::Revoked { deadline_ms }).is_err() {
                return;
            }
        }
    }
}

/// The connection that waits for an answer, if it is still there.
fn waiting(connection: Option<&Connection>, running: Option<Running>) -> Option<&Connection> {
    connection.filter(|c| running.is_some_and(|r| r.epoch == c.epoch))
}

/// Queues an answer. False when nobody is there to read it.
fn answer(
    queue: &Queue,
    door: Option<&Arc<OpenDoor>>,
    header: &Header,
    body: &[u8],
    payload: Vec<Bytes>,
    room: Room,
) -> bool {
    let len: usize = payload.iter().map(Bytes::len).sum();
    let (header, body, payload, fits) = if body.len() <= caps::MAX_BODY && len <= caps::MAX_PAYLOAD {
        (*header, body, payload, true)
    } else {
        tracing::error!(body = body.len(), payload = len, "an answer is over its bound");
        (Header { status: Status::Io, ..*header }, &[][..], Vec::new(), false)
    };
    let len = if fits { len } else { 0 };
    let mut head = BytesMut::with_capacity(HEADER_LEN + body.len());
    // Both were just held against bounds that fit u32.
    head.extend_from_slice(&header.to_bytes(body.len() as u32, len as u32));
    head.extend_from_slice(body);
    let payload = payload.into_iter().filter(|part| !part.is_empty()).collect();
    let frame = Outgoing { head, payload, door: door.map(|d| (d.clone(), header)), notice: false, room };
    queue.reply(frame).is_ok() && fits
}

/// A reply in its wire form. An answer is the reply, then the leases, then attributes, so each is encoded when it is known.
#[derive(Clone)]
struct Encoded(Vec<u8>);

impl Encoded {
    fn new(reply: &Reply) -> Encoded {
        Encoded(postcard::to_stdvec(reply).unwrap_or_else(|error| {
            tracing::error!(%error, "a reply could not be encoded");
            Vec::new()
        }))
    }

    /// The body of an [`Answer`](mooring_protocol::message::Answer).
    fn with(self, leases: &[LeaseGrant], also: &[Attr]) -> Bytes {
        let whole = postcard::to_extend(leases, self.0).and_then(|body| postcard::to_extend(also, body));
        whole.map(Bytes::from).unwrap_or_else(|error| {
            tracing::error!(%error, "an answer could not be encoded");
            Bytes::new()
        })
    }
}

/// Whether carrying a request out twice would differ from once.
fn changes(request: &Request) -> bool {
    match request {
        Request::SetAttr { .. }
        | Request::Create { .. }
        | Request::Unlink { .. }
        | Request::RmDir { .. }
        | Request::Rename { .. }
        | Request::Link { .. }
        | Request::Open { .. }
        | Request::Write { .. }
        | Request::Release { .. }
        | Request::SetXattr { .. }
        | Request::RemoveXattr { .. }
        | Request::Allocate { .. }
        | Request::CopyRange { .. }
        | Request::LockSet { .. } => true,
        Request::Lookup { .. }
        | Request::GetAttr { .. }
        | Request::ReadLink { .. }
        | Request::Read { .. }
        | Request::Fsync { .. }
        | Request::ReadDir { .. }
        | Request::StatFs
        | Request::GetXattr { .. }
        | Request::ListXattr { .. }
        | Request::Seek { .. }
        | Request::LockGet { .. }
        | Request::Acquire { .. }
        | Request::Return { .. }
        | Request::Reclaim { .. }
        | Request::SyncFs => false,
    }
}

/// The operation's name, for traces.
fn name(request: &Request) -> &'static str {
    match request {
        Request::Lookup { .. } => "lookup",
        Request::GetAttr { .. } => "getattr",
        Request::SetAttr { .. } => "setattr",
        Request::ReadLink { .. } => "readlink",
        Request::Create { .. } => "create",
        Request::Unlink { .. } => "unlink",
        Request::RmDir { .. } => "rmdir",
        Request::Rename { .. } => "rename",
        Request::Link { .. } => "link",
        Request::Open { .. } => "open",
        Request::Read { .. } => "read",
        Request::Write { .. } => "write",
        Request::Release { .. } => "release",
        Request::Fsync { .. } => "fsync",
        Request::ReadDir { .. } => "readdir",
        Request::StatFs => "statfs",
        Request::GetXattr { .. } => "getxattr",
        Request::ListXattr { .. } => "listxattr",
        Request::SetXattr { .. } => "setxattr",
        Request::RemoveXattr { .. } => "removexattr",
        Request::Allocate { .. } => "allocate",
        Request::Seek { .. } => "seek",
        Request::CopyRange { .. } => "copy_range",
        Request::LockGet { .. } => "lock_get",
        Request::LockSet { .. } => "lock_set",
        Request::Acquire { .. } => "acquire",
        Request::Return { .. } => "return",
        Request::Reclaim { .. } => "reclaim",
        Request::SyncFs => "syncfs",
    }
}
