//! An agent that speaks the protocol and nothing else: what it does about recalls is its conduct.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use mooring_protocol::frame::{FrameReader, Header, Kind, Side, encode_into, write_frame};
use mooring_protocol::message::{Ack, Answer, Door, Hello, Notice, Reply, Request, Resume, Welcome};
use mooring_protocol::status::Status;
use mooring_protocol::types::{Attr, Handle, Ino, LeaseGrant, LeaseMode, Name, NewNode, OpenMode};
use parking_lot::Mutex;
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::{mpsc, oneshot};

use super::LIMIT;

/// What an agent does about recalls, barriers and revocations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conduct {
    /// Drops what it had and acknowledges at once.
    Honest,
    /// Never answers.
    Silent,
    /// Hands the notice to the test, which acknowledges.
    Manual,
}

/// Who waits for an answer; `None` once the connection is gone.
type Answers = Arc<Mutex<Option<HashMap<u64, oneshot::Sender<Result<(Answer, Bytes), Status>>>>>>;

pub struct Agent {
    pub welcome: Welcome,
    pub boot: [u8; 16],
    epoch: u64,
    out: Arc<tokio::sync::Mutex<OwnedWriteHalf>>,
    answers: Answers,
    next: AtomicU64,
    /// Leases it believes to hold.
    pub leases: Arc<Mutex<HashMap<Ino, LeaseGrant>>>,
    /// Every notice, in order.
    pub notices: tokio::sync::Mutex<mpsc::Receiver<(u64, Notice)>>,
    reader: tokio::task::JoinHandle<()>,
}

pub fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

pub const READ: OpenMode = OpenMode { read: true, write: false, append: false, truncate: false };
pub const WRITE: OpenMode = OpenMode { read: true, write: true, append: false, truncate: false };
pub const APPEND: OpenMode = OpenMode { read: true, write: true, append: true, truncate: false };

impl Agent {
    pub async fn connect(path: &Path, conduct: Conduct, resume: Option<(Resume, [u8; 16])>) -> Agent {
        let stream = UnixStream::connect(path).await.unwrap();
        Agent::greet(stream, conduct, resume).await.unwrap()
    }

    pub async fn greet(
        stream: UnixStream,
        conduct: Conduct,
        resume: Option<(Resume, [u8; 16])>,
    ) -> Result<Agent, Status> {
        static BOOTS: AtomicU64 = AtomicU64::new(1);
        let boot = resume.map_or_else(
            || (u128::from(BOOTS.fetch_add(1, Ordering::Relaxed)) << 64 | 7).to_le_bytes(),
            |(_, boot)| boot,
        );
        let hello = Hello {
            versions: (1, 1),
            agent: "test".into(),
            boot,
            enrolment: None,
            token: None,
            resume: resume.map(|(r, _)| r),
        };
        let (read, mut write) = stream.into_split();
        send(&mut write, &Header::new(Kind::Hello), &hello, &[]).await;
        let mut reader = FrameReader::new(read, Side::Agent);
        let first = tokio::time::timeout(LIMIT, reader.next()).await.unwrap().unwrap().unwrap();
        if first.header.kind != Kind::Welcome {
            return Err(first.header.status);
        }
        let welcome: Welcome = first.message().unwrap();
        reader.open();
        let out = Arc::new(tokio::sync::Mutex::new(write));
        let answers: Answers = Arc::new(Mutex::new(Some(HashMap::new())));
        let leases: Arc<Mutex<HashMap<Ino, LeaseGrant>>> = Arc::default();
        let (tx, rx) = mpsc::channel(10_000);
        let epoch = welcome.epoch;
        let reading = read_all(reader, out.clone(), answers.clone(), leases.clone(), tx, conduct, epoch);
        Ok(Agent {
            boot,
            epoch,
            welcome,
            out,
            answers,
            next: AtomicU64::new(1),
            leases,
            notices: tokio::sync::Mutex::new(rx),
            reader: tokio::spawn(reading),
        })
    }

    pub fn resume(&self) -> (Resume, [u8; 16]) {
        (Resume { session: self.welcome.session, epoch: self.epoch }, self.boot)
    }

    /// Where its numbers go on after a reconnect.
    pub fn continue_ids(&self, from: &Agent) {
        self.next.store(from.next.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    pub fn door(&self) -> &Door {
        &self.welcome.doors[0]
    }

    /// Sends a request and does not wait. Returns its id and where the answer comes.
    pub async fn ask(
        &self,
        door: u64,
        request: &Request,
        payload: &[u8],
    ) -> (u64, oneshot::Receiver<Result<(Answer, Bytes), Status>>) {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        (id, self.ask_as(id, door, request, payload).await)
    }

    pub async fn ask_as(
        &self,
        id: u64,
        door: u64,
        request: &Request,
        payload: &[u8],
    ) -> oneshot::Receiver<Result<(Answer, Bytes), Status>> {
        let (tx, rx) = oneshot::channel();
        if let Some(waiting) = &mut *self.answers.lock() {
            waiting.insert(id, tx);
        }
        let header = Header { volume: door, epoch: self.epoch, request: id, ..Header::new(Kind::Request) };
        send(&mut *self.out.lock().await, &header, request, payload).await;
        rx
    }

    /// Sends a body that may be no request at all.
    pub async fn ask_raw(
        &self,
        door: u64,
        body: &[u8],
    ) -> oneshot::Receiver<Result<(Answer, Bytes), Status>> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (tx, rx) = oneshot::channel();
        if let Some(waiting) = &mut *self.answers.lock() {
            waiting.insert(id, tx);
        }
        let header = Header { volume: door, epoch: self.epoch, request: id, ..Header::new(Kind::Request) };
        let head = header.to_bytes(u32::try_from(body.len()).unwrap(), 0);
        let _ = write_frame(&mut *self.out.lock().await, &head, body).await;
        rx
    }

    pub async fn cancel(&self, request: u64) {
        let header = Header { epoch: self.epoch, request, ..Header::new(Kind::Cancel) };
        send(&mut *self.out.lock().await, &header, &(), &[]).await;
    }

    pub async fn ack(&self, door: u64, ack: Ack) {
        let header = Header { volume: door, epoch: self.epoch, ..Header::new(Kind::Ack) };
        send(&mut *self.out.lock().await, &header, &ack, &[]).await;
    }

    pub async fn call_at(
        &self,
        door: u64,
        request: &Request,
        payload: &[u8],
    ) -> Result<(Answer, Bytes), Status> {
        let (_, answer) = self.ask(door, request, payload).await;
        tokio::time::timeout(LIMIT, answer)
            .await
            .expect("an answer in time")
            .unwrap_or(Err(Status::Unavailable))
    }

    pub async fn call(&self, request: Request) -> Result<Reply, Status> {
        self.call_at(self.door().id, &request, &[]).await.map(|(answer, _)| answer.reply)
    }

    /// Waits for the next notice.
    pub async fn notice(&self) -> (u64, Notice) {
        let mut notices = self.notices.lock().await;
        tokio::time::timeout(LIMIT, notices.recv()).await.expect("a notice in time").expect("a connection")
    }

    /// Drops the connection without a word.
    pub async fn hang_up(self) -> (Resume, [u8; 16]) {
        let resume = self.resume();
        self.reader.abort();
        let _ = self.reader.await;
        resume
    }

    /// Waits until the gateway has closed the connection.
    pub async fn closed(&mut self) {
        tokio::time::timeout(LIMIT, &mut self.reader).await.expect("closed in time").unwrap();
    }

    pub fn mode(&self, ino: Ino) -> LeaseMode {
        self.leases.lock().get(&ino).map_or(LeaseMode::None, |g| g.mode)
    }

    // Operations behind the first door.

    pub async fn create(&self, parent: Ino, file: &str, open: OpenMode) -> Result<(Handle, Attr), Status> {
        let node = NewNode::File { open: Some(open) };
        let request =
            Request::Create { parent, name: name(file), mode: 0o644, uid: 0, gid: 0, node, exclusive: true };
        match self.call(request).await? {
            Reply::Opened { handle, attr, .. } => Ok((handle, attr)),
            other => panic!("{other:?}"),
        }
    }

    pub async fn mkdir(&self, parent: Ino, dir: &str) -> Result<Attr, Status> {
        let request = Request::Create {
            parent,
            name: name(dir),
            mode: 0o755,
            uid: 0,
            gid: 0,
            node: NewNode::Dir,
            exclusive: true,
        };
        match self.call(request).await? {
            Reply::Entry { attr } => Ok(attr),
            other => panic!("{other:?}"),
        }
    }

    pub async fn open(&self, ino: Ino, mode: OpenMode) -> Result<(Handle, Attr), Status> {
        match self.call(Request::Open { ino, mode }).await? {
            Reply::Opened { handle, attr, .. } => Ok((handle, attr)),
            other => panic!("{other:?}"),
        }
    }

    pub async fn lookup(&self, parent: Ino, file: &str) -> Result<Attr, Status> {
        match self.call(Request::Lookup { parent, name: name(file) }).await? {
            Reply::Entry { attr } => Ok(attr),
            other => panic!("{other:?}"),
        }
    }

    pub async fn getattr(&self, ino: Ino) -> Result<Attr, Status> {
        match self.call(Request::GetAttr { ino }).await? {
            Reply::Attr { attr } => Ok(attr),
            other => panic!("{other:?}"),
        }
    }

    pub async fn write(&self, ino: Ino, handle: Handle, offset: u64, data: &[u8]) -> Result<Attr, Status> {
        let request =
            Request::Write { ino, handle, offset, append: false, stamp: None, clear_suid_sgid: false };
        match self.call_at(self.door().id, &request, data).await?.0.reply {
            Reply::Written { attr, count } => {
                assert_eq!(count, data.len() as u64);
                Ok(attr)
            }
            other => panic!("{other:?}"),
        }
    }

    pub async fn read(&self, ino: Ino, handle: Handle, offset: u64, size: u32) -> Result<Bytes, Status> {
        let request = Request::Read { ino, handle, offset, size, want_lease: true };
        let (answer, data) = self.call_at(self.door().id, &request, &[]).await?;
        assert!(matches!(answer.reply, Reply::Data { .. }));
        Ok(data)
    }

    pub async fn unlink(&self, parent: Ino, file: &str) -> Result<(), Status> {
        self.call(Request::Unlink { parent, name: name(file) }).await.map(|_| ())
    }

    pub async fn release(&self, handle: Handle) -> Result<(), Status> {
        self.call(Request::Release { handle, lock_owner: None }).await.map(|_| ())
    }
}

pub async fn send<B: serde::Serialize>(out: &mut OwnedWriteHalf, header: &Header, body: &B, payload: &[u8]) {
    let mut head = BytesMut::new();
    encode_into(&mut head, header, body, payload.len()).unwrap();
    // The gateway may have closed it already; what follows shows.
    let _ = write_frame(out, &head, payload).await;
}

async fn read_all(
    mut reader: FrameReader<tokio::net::unix::OwnedReadHalf>,
    out: Arc<tokio::sync::Mutex<OwnedWriteHalf>>,
    answers: Answers,
    leases: Arc<Mutex<HashMap<Ino, LeaseGrant>>>,
    notices: mpsc::Sender<(u64, Notice)>,
    conduct: Conduct,
    epoch: u64,
) {
    while let Ok(Some(frame)) = reader.next().await {
        let header = frame.header;
        if header.kind == Kind::Reply {
            let result = match header.status {
                Status::Ok => Ok((frame.message::<Answer>().unwrap(), frame.payload.clone())),
                status => Err(status),
            };
            if let Ok((answer, _)) = &result {
                let mut held = leases.lock();
                held.extend(answer.leases.iter().map(|g| (g.ino, *g)));
                if let Reply::Reclaimed { leases, .. } = &answer.reply {
                    held.extend(leases.iter().map(|g| (g.ino, *g)));
                }
            }
            let waiting = answers.lock().as_mut().and_then(|w| w.remove(&header.request));
            if let Some(waiting) = waiting {
                let _ = waiting.send(result);
            }
            continue;
        }
        let notice: Notice = frame.message().unwrap();
        if conduct == Conduct::Honest
            && let Some(ack) = obey(&notice, &leases)
        {
            let header = Header { volume: header.volume, epoch, ..Header::new(Kind::Ack) };
            send(&mut *out.lock().await, &header, &ack, &[]).await;
        }
        let _ = notices.try_send((header.volume, notice));
    }
    *answers.lock() = None;
}

/// Does what a notice says and gives what to acknowledge.
fn obey(notice: &Notice, leases: &Mutex<HashMap<Ino, LeaseGrant>>) -> Option<Ack> {
    match notice {
        Notice::Recall { grant, to, .. } => {
            let mut leases = leases.lock();
            if let Some(held) = leases.get_mut(&grant.ino) {
                assert!(held.seq <= grant.seq, "a recall never names a grant older than the one held");
                held.mode = held.mode.min(*to);
            }
            leases.retain(|_, held| held.mode != LeaseMode::None);
            Some(Ack::Recalled { ino: grant.ino, seq: grant.seq })
        }
        Notice::Barrier { id, .. } => Some(Ack::Barrier { id: *id }),
        Notice::Revoked { .. } => Some(Ack::Revoked),
        _ => None,
    }
}
