//! A gateway in this process: the real lease machine and the real frames over a toy tree.
//!
//! One lock around everything, and no I/O under it but putting frames into the queues of the sessions, so what it
//! shows is the order of events and nothing else.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use mooring_protocol::frame::{self, Frame, FrameReader, Header, Kind, Side, Watermarks};
use mooring_protocol::lease::{Effects, Go, LeaseTable, Ticket};
use mooring_protocol::message::{
    Ack, Answer, Door, DoorKind, Hello, Notice, Reply, Request, Resumed, Welcome,
};
use mooring_protocol::session::SessionId;
use mooring_protocol::status::Status;
use mooring_protocol::types::{Ino, LeaseGrant, LeaseMode, NewNode, Time};
use parking_lot::Mutex;
use tokio::io::AsyncWriteExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;

use super::tree::Tree;

/// How long a session may take to answer a recall; a session that is late fails the test.
const PATIENCE: Duration = Duration::from_secs(20);

type Out = mpsc::UnboundedSender<(Bytes, Bytes)>;
type OnRecalled = Box<dyn Fn(SessionId, Ino) + Send + Sync>;

struct Waiting {
    session: SessionId,
    header: Header,
    request: Request,
    payload: Bytes,
    changes: bool,
}

struct World {
    tree: Tree,
    leases: LeaseTable,
    waiting: HashMap<Ticket, Waiting>,
    sessions: HashMap<SessionId, Out>,
    /// Answers already given, without their grants: a request sent again is not done again.
    answered: HashMap<(SessionId, u64), (Bytes, Bytes)>,
    /// Sessions that were evicted and must not go on.
    evicted: HashSet<SessionId>,
    next: u64,
    recalls: u64,
}

pub struct Gateway {
    world: Mutex<World>,
    on_recalled: Mutex<Option<OnRecalled>>,
    began: Instant,
    read_only: Vec<bool>,
    cut: tokio::sync::broadcast::Sender<usize>,
    mute: AtomicBool,
}

impl Gateway {
    /// Serves one bucket on a socket for each entry of `read_only`; each socket is one guest.
    pub fn serve(dir: &Path, read_only: &[bool]) -> (Arc<Gateway>, Vec<PathBuf>) {
        let world = World {
            tree: Tree::new(),
            leases: LeaseTable::new(),
            waiting: HashMap::new(),
            sessions: HashMap::new(),
            answered: HashMap::new(),
            evicted: HashSet::new(),
            next: 1,
            recalls: 0,
        };
        let gateway = Arc::new(Gateway {
            world: Mutex::new(world),
            on_recalled: Mutex::new(None),
            began: Instant::now(),
            read_only: read_only.to_vec(),
            cut: tokio::sync::broadcast::Sender::new(16),
            mute: AtomicBool::new(false),
        });
        let mut paths = Vec::new();
        for guest in 0..read_only.len() {
            let path = dir.join(format!("guest-{guest}.sock"));
            let listener = UnixListener::bind(&path).expect("a socket in a new directory");
            paths.push(path);
            let gateway = gateway.clone();
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(gateway.clone().session(stream, guest));
                }
            });
        }
        (gateway, paths)
    }

    /// Called for every recall that was acknowledged, before anybody else may change the inode.
    pub fn on_recalled(&self, hook: impl Fn(SessionId, Ino) + Send + Sync + 'static) {
        *self.on_recalled.lock() = Some(Box::new(hook));
    }

    /// Breaks a guest's connection.
    pub fn cut(&self, guest: usize) {
        let _ = self.cut.send(guest);
    }

    /// Evicts a guest's session: everything it holds is gone.
    pub fn evict(&self, guest: usize) {
        let session = SessionId(guest as u64 + 1);
        let now = self.began.elapsed();
        let mut fx = Effects::default();
        let mut world = self.world.lock();
        world.evicted.insert(session);
        let header = Header::new(Kind::Notice);
        let notice = Notice::Fenced { reason: "the test says so".into() };
        world.send(session, encode(&header, &notice, 0), Bytes::new());
        world.sessions.remove(&session);
        world.waiting.retain(|_, w| w.session != session);
        world.leases.drop_session(session, now, &mut fx);
        world.carry_out(now, fx);
    }

    /// Reads on, and answers nothing.
    pub fn mute(&self, on: bool) {
        self.mute.store(on, Ordering::SeqCst);
    }

    /// What the gateway has of a file in the bucket's root.
    pub fn content(&self, name: &str) -> Option<Vec<u8>> {
        let world = self.world.lock();
        world.tree.content(&mooring_protocol::types::Name::new(name.as_bytes()).ok()?)
    }

    /// Recalls sent so far.
    pub fn recalls(&self) -> u64 {
        self.world.lock().recalls
    }

    async fn session(self: Arc<Gateway>, stream: UnixStream, guest: usize) {
        let (read, mut write) = stream.into_split();
        let mut reader = FrameReader::new(read, Side::Gateway);
        let Ok(Some(hello)) = reader.next().await else { return };
        let hello: Hello = hello.message().expect("a greeting");
        reader.open();
        let id = SessionId(guest as u64 + 1);
        let (out, mut queue) = mpsc::unbounded_channel::<(Bytes, Bytes)>();
        let mut cut = self.cut.subscribe();
        {
            let mut world = self.world.lock();
            let resumed = match hello.resume {
                _ if world.evicted.remove(&id) => {
                    world.answered.retain(|(session, _), _| *session != id);
                    if hello.resume.is_some() { Resumed::Lost } else { Resumed::Fresh }
                }
                Some(_) => Resumed::Kept,
                None => Resumed::Fresh,
            };
            let welcome = self.welcome(id, guest, resumed);
            out.send((encode(&Header::new(Kind::Welcome), &welcome, 0), Bytes::new())).expect("open");
            world.sessions.insert(id, out);
            world.leases.join(id, PATIENCE);
            for tell in world.leases.unanswered(id, self.began.elapsed()) {
                let header = Header { volume: 7, ..Header::new(Kind::Notice) };
                world.send(id, encode(&header, &Notice::from(tell), 0), Bytes::new());
            }
        }
        let writer = tokio::spawn(async move {
            while let Some((head, payload)) = queue.recv().await {
                if write.write_all(&head).await.is_err() || write.write_all(&payload).await.is_err() {
                    return;
                }
            }
        });
        loop {
            let frame = tokio::select! {
                frame = reader.next() => frame,
                Ok(which) = cut.recv() => if which == guest { break } else { continue },
            };
            let Ok(Some(frame)) = frame else { break };
            if !self.mute.load(Ordering::SeqCst) {
                self.frame(id, frame);
            }
        }
        writer.abort();
    }

    fn welcome(&self, id: SessionId, guest: usize, resumed: Resumed) -> Welcome {
        let kind = DoorKind::Bucket { name: "data".parse().expect("a bucket's name") };
        Welcome {
            version: 1,
            session: id.0,
            epoch: 1,
            resumed,
            tenant: "acme".parse().expect("a tenant's name"),
            vm: None,
            token: String::new(),
            token_until_ms: 0,
            now: Time { secs: 1_000_000, nanos: 0 },
            max_in_flight: 256,
            max_payload: 1 << 20,
            doors: vec![Door { id: 7, kind, root: Ino::ROOT, read_only: self.read_only[guest] }],
        }
    }

    fn frame(&self, session: SessionId, frame: Frame) {
        let now = self.began.elapsed();
        let mut fx = Effects::default();
        let mut world = self.world.lock();
        match frame.header.kind {
            Kind::Request => {
                let request: Request = frame.message().expect("an honest agent");
                world.request(session, frame.header, request, frame.payload, now, &mut fx);
            }
            Kind::Ack => match frame.message().expect("an honest agent") {
                Ack::Recalled { ino, seq } => {
                    if let Some(hook) = &*self.on_recalled.lock() {
                        hook(session, ino);
                    }
                    world.leases.recalled(session, ino, seq, now, &mut fx);
                }
                Ack::Barrier { id } => world.leases.barrier_done(session, id, now, &mut fx),
                Ack::Revoked => {}
            },
            Kind::Cancel => {
                let same = |w: &Waiting| w.session == session && w.header.request == frame.header.request;
                let ticket = world.waiting.iter().find(|(_, w)| same(w)).map(|(t, _)| *t);
                if let Some(ticket) = ticket {
                    world.waiting.remove(&ticket);
                    world.leases.cancel(ticket, now, &mut fx);
                }
            }
            _ => {}
        }
        world.carry_out(now, fx);
    }
}

impl World {
    fn request(
        &mut self,
        session: SessionId,
        header: Header,
        request: Request,
        payload: Bytes,
        now: Duration,
        fx: &mut Effects,
    ) {
        if let Some((head, payload)) = self.answered.get(&(session, header.request)).cloned() {
            return self.send(session, head, payload);
        }
        // Sent again while it waits: its answer will go to the new connection.
        if self.waiting.values().any(|w| w.session == session && w.header.request == header.request) {
            return;
        }
        let ticket = Ticket(self.next);
        self.next += 1;
        let changes = self.changed_by(&request);
        let waiting =
            Waiting { session, header, request: request.clone(), payload, changes: !changes.is_empty() };
        self.waiting.insert(ticket, waiting);
        let queued = match &request {
            Request::Return { leases } => {
                for grant in leases {
                    self.leases.returned(session, grant.ino, grant.seq, now, fx);
                }
                fx.ready.push((ticket, Go::Run));
                Ok(())
            }
            Request::Acquire { ino, mode } => self.leases.acquire(ticket, session, *ino, *mode, now, fx),
            Request::Open { ino, mode } if mode.write && !mode.append && !mode.truncate => {
                self.leases.acquire(ticket, session, *ino, LeaseMode::Write, now, fx)
            }
            _ if !changes.is_empty() => self.leases.write(ticket, Some(session), &changes, now, fx),
            _ => {
                self.leases.read(ticket, Some(session), self.looked_at(&request), now, fx);
                Ok(())
            }
        };
        queued.expect("no bound is reached");
    }

    fn changed_by(&self, request: &Request) -> Vec<Ino> {
        let child = |parent: &Ino, name| self.tree.child(*parent, name);
        match request {
            Request::SetAttr { ino, .. } | Request::Write { ino, .. } => vec![*ino],
            Request::Open { ino, mode } if mode.truncate => vec![*ino],
            Request::Create { parent, name, node: NewNode::File { open: Some(_) }, .. } => {
                [Some(*parent), child(parent, name)].into_iter().flatten().collect()
            }
            Request::Create { parent, .. } => vec![*parent],
            Request::Unlink { parent, name } | Request::RmDir { parent, name } => {
                [Some(*parent), child(parent, name)].into_iter().flatten().collect()
            }
            Request::Rename { parent, name, new_parent, new_name, .. } => {
                let both =
                    [Some(*parent), Some(*new_parent), child(parent, name), child(new_parent, new_name)];
                both.into_iter().flatten().collect()
            }
            Request::Link { ino, parent, .. } => vec![*ino, *parent],
            _ => Vec::new(),
        }
    }

    fn looked_at(&self, request: &Request) -> Option<Ino> {
        match request {
            Request::Lookup { parent, name } => self.tree.child(*parent, name).or(Some(*parent)),
            Request::GetAttr { ino } | Request::Read { ino, .. } | Request::ReadDir { ino, .. } => Some(*ino),
            Request::Release { handle, .. } => self.tree.ino_of(*handle),
            _ => Some(Ino::ROOT),
        }
    }

    /// What may ride on the answer without costing anybody anything.
    fn offers(&self, request: &Request) -> Vec<(Ino, LeaseMode)> {
        match request {
            Request::Lookup { parent, name } => {
                let child = self.tree.child(*parent, name);
                [Some(*parent), child].into_iter().flatten().map(|ino| (ino, LeaseMode::Read)).collect()
            }
            Request::GetAttr { ino } | Request::ReadDir { ino, .. } => vec![(*ino, LeaseMode::Read)],
            Request::Read { ino, want_lease: true, .. } => vec![(*ino, LeaseMode::Read)],
            _ => Vec::new(),
        }
    }

    fn carry_out(&mut self, now: Duration, mut fx: Effects) {
        loop {
            for (session, tell) in std::mem::take(&mut fx.tell) {
                let notice = Notice::from(tell);
                self.recalls += u64::from(matches!(notice, Notice::Recall { .. }));
                let header = Header { volume: 7, ..Header::new(Kind::Notice) };
                self.send(session, encode(&header, &notice, 0), Bytes::new());
            }
            if fx.ready.is_empty() {
                return;
            }
            for (ticket, go) in std::mem::take(&mut fx.ready) {
                self.go(ticket, go, now, &mut fx);
            }
        }
    }

    fn go(&mut self, ticket: Ticket, go: Go, now: Duration, fx: &mut Effects) {
        let Some(waiting) = self.waiting.remove(&ticket) else { return };
        let session = waiting.session;
        let grants: Vec<LeaseGrant> = match go {
            Go::Granted(grant) => vec![grant],
            Go::Run => self
                .offers(&waiting.request)
                .into_iter()
                .filter_map(|(ino, mode)| self.leases.offer(session, ino, mode))
                .collect(),
            Go::Retry => {
                let header = waiting.header.reply(Status::Stale, Watermarks::default());
                self.send(session, encode(&header, &(), 0), Bytes::new());
                return;
            }
        };
        let outcome = self.tree.apply(&waiting.request, &waiting.payload);
        let mut grants = grants;
        if let (Ok((Reply::Opened { attr, .. }, _)), Go::Run) = (&outcome, go) {
            // A file made open, or truncated at open, comes with the write lease when nobody else is at it.
            grants.extend(self.leases.offer(session, attr.ino, LeaseMode::Write));
        }
        match outcome {
            Ok((reply, data)) => {
                let header = waiting.header.reply(Status::Ok, Watermarks::default());
                let bare = Answer { reply: reply.clone(), leases: Vec::new(), also: Vec::new() };
                self.answered
                    .insert((session, header.request), (encode(&header, &bare, data.len()), data.clone()));
                let answer =
                    Answer { reply, leases: grants.clone(), also: self.tree.left_by(&waiting.request) };
                self.send(session, encode(&header, &answer, data.len()), data);
                for grant in grants {
                    self.leases.announced(session, grant, now, fx);
                }
            }
            Err(status) => {
                let header = waiting.header.reply(status, Watermarks::default());
                self.send(session, encode(&header, &(), 0), Bytes::new());
                for grant in grants {
                    self.leases.withdrawn(session, grant, now, fx);
                }
            }
        }
        if waiting.changes {
            self.leases.finish(ticket, now, fx);
        }
    }

    fn send(&self, session: SessionId, head: Bytes, payload: Bytes) {
        if let Some(out) = self.sessions.get(&session) {
            let _ = out.send((head, payload));
        }
    }
}

fn encode<B: serde::Serialize>(header: &Header, body: &B, payload: usize) -> Bytes {
    let mut out = BytesMut::new();
    frame::encode_into(&mut out, header, body, payload).expect("small messages");
    out.freeze()
}
