//! One connection after the other: greeting, resumption, and the two tasks that read and write.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use mooring_protocol::caps;
use mooring_protocol::frame::{self, Frame, FrameReader, Header, Kind, Side};
use mooring_protocol::message::{
    Answer, Hello, Notice, Reply, Request, Resume, Resumed, Welcome, reclaim_in_parts,
};
use mooring_protocol::status::Status;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::{Inner, LinkState, Mark, Out, Pending, Port, Session, Tokens, header};

/// First pause after a failed attempt; doubles up to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_secs(2);
/// A connection that brings nothing for this long, twice, while the same call is owed an answer is given up.
///
/// Not every transport tells that the other end has died: vhost-device-vsock keeps a guest's connection open when the
/// gateway is killed with bytes unread, and drops what the guest sends. Trying anew costs little, because the gateway
/// knows the calls by their ids and answers those that still run on the connection that is there when they are done.
/// Twice this is less than the grace in which a restarted gateway waits for its sessions.
const SILENCE: Duration = Duration::from_secs(2);
/// Small frames are gathered up to this many bytes before a write.
const GATHER: usize = 64 << 10;

#[derive(Debug, Error)]
enum LinkError {
    #[error(transparent)]
    Connect(#[from] super::ConnectError),
    #[error("reading from the gateway failed")]
    Read(#[from] frame::ReadError),
    #[error("writing to the gateway failed")]
    Write(#[from] std::io::Error),
    #[error("the gateway sent something that cannot be read")]
    Body(#[from] frame::BodyError),
    #[error("a message could not be written")]
    Encode(#[from] frame::EncodeError),
    #[error("the gateway closed the connection")]
    Closed,
    #[error("the gateway has said nothing for {} s while an answer was due", 2 * SILENCE.as_secs())]
    Silent,
    #[error("the gateway did not answer the greeting within {} s", caps::HELLO_DEADLINE.as_secs())]
    NoWelcome,
    #[error("the gateway refused the greeting ({0})")]
    Refused(Status),
    #[error("the gateway refused the greeting: {0}")]
    TurnedAway(String),
    #[error("the session was evicted: {0}")]
    Fenced(String),
    #[error("the gateway did not give back what was held ({0})")]
    Reclaim(Status),
}

type Reader = FrameReader<Box<dyn AsyncRead + Send + Unpin>>;
type Writer = Box<dyn AsyncWrite + Send + Unpin>;

/// Keeps a connection until the remote is closed.
pub(super) async fn keep(inner: Arc<Inner>) {
    let mut pause = FIRST_PAUSE;
    loop {
        let before = inner.state.borrow().connections;
        let Err(error) = connect_and_run(&inner).await else { return };
        inner.table.lock().connection = 0;
        if inner.table.lock().closed {
            return;
        }
        let why = chain(&error);
        tracing::warn!(error = why, "no connection to the gateway");
        inner.state.send_modify(|s| {
            s.connected = false;
            s.last_error = Some(why);
        });
        if let LinkError::Fenced(_) | LinkError::TurnedAway(_) = error {
            forget_session(&inner);
        }
        if let (LinkError::Refused(_) | LinkError::TurnedAway(_), Some(token)) = (&error, &inner.token) {
            token.refused();
        }
        if inner.state.borrow().connections > before {
            pause = FIRST_PAUSE;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LAST_PAUSE);
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

fn forget_session(inner: &Inner) {
    inner.table.lock().session = None;
    inner.fail_all(Status::Fenced);
    inner.hooks.lost();
}

async fn connect_and_run(inner: &Arc<Inner>) -> Result<(), LinkError> {
    let duplex = inner.dialer.dial(Port::Files).await?;
    let (mut reader, mut writer) = (FrameReader::new(duplex.read, Side::Agent), duplex.write);
    let greeting = tokio::time::timeout(caps::HELLO_DEADLINE, greet(inner, &mut reader, &mut writer));
    let welcome = greeting.await.map_err(|_| LinkError::NoWelcome)??;
    reader.open();
    let session = Session { id: welcome.session, epoch: welcome.epoch };
    *inner.clock.lock() = (welcome.now, Instant::now());
    if let Some(token) = &inner.token {
        token.renewed(&welcome.token);
    }
    inner.hooks.welcome(&welcome);
    match welcome.resumed {
        Resumed::Fresh | Resumed::Kept => {}
        Resumed::Reclaim => reclaim(inner, &mut reader, &mut writer, session).await?,
        Resumed::Lost => forget_session(inner),
    }
    let connection = {
        let mut table = inner.table.lock();
        table.session = Some(session);
        inner.state.send_modify(|s| s.connections += 1);
        table.connection = inner.state.borrow().connections;
        // Everything unanswered goes out again, oldest first; acknowledgements not yet written stay in the queue.
        table.queue.retain(|out| matches!(out, Out::Ack(..)));
        let again: Vec<u64> = table.pending.keys().copied().collect();
        table.queue.extend(again.into_iter().map(Out::Request));
        table.connection
    };
    inner.hooks.doors(welcome.doors.clone());
    inner.state.send_modify(|s| {
        *s = LinkState {
            connected: true,
            connections: s.connections,
            tenant: welcome.tenant.to_string(),
            session: welcome.session,
            last_error: None,
        }
    });
    tracing::info!(tenant = %welcome.tenant, resumed = ?welcome.resumed, "connected to the gateway");
    tokio::select! {
        result = write_all(inner, writer, session, connection) => result,
        result = read_all(inner, reader) => result,
    }
}

async fn greet(inner: &Inner, reader: &mut Reader, writer: &mut Writer) -> Result<Welcome, LinkError> {
    let version = u8::try_from(frame::VERSION).unwrap_or(u8::MAX);
    let resume = inner.table.lock().session.map(|s| Resume { session: s.id, epoch: s.epoch });
    let hello = Hello {
        versions: (version, version),
        agent: env!("CARGO_PKG_VERSION").to_owned(),
        boot: boot_id(),
        enrolment: None,
        token: inner.token.as_ref().map(Tokens::get),
        resume,
    };
    let mut head = BytesMut::new();
    frame::encode_into(&mut head, &Header::new(Kind::Hello), &hello, 0)?;
    writer.write_all(&head).await?;
    writer.flush().await?;
    let frame = reader.next().await?.ok_or(LinkError::Closed)?;
    match frame.header.kind {
        Kind::Welcome if frame.header.status.is_ok() => Ok(frame.message()?),
        Kind::Welcome => Err(LinkError::Refused(frame.header.status)),
        _ => match frame.message()? {
            Notice::Fenced { reason } => Err(LinkError::TurnedAway(reason)),
            _ => Err(LinkError::Closed),
        },
    }
}

/// Random per boot of the guest, so that the gateway can tell a restart from a reconnect.
fn boot_id() -> [u8; 16] {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().parse::<uuid::Uuid>().map_or([0; 16], |id| *id.as_bytes())
}

/// Says what is still held, one door after the other, before anything else is sent.
async fn reclaim(
    inner: &Inner,
    reader: &mut Reader,
    writer: &mut Writer,
    session: Session,
) -> Result<(), LinkError> {
    for (door, held) in inner.hooks.held() {
        let (mut handles, mut leases) = (Vec::new(), Vec::new());
        for request in reclaim_in_parts(&held.handles, &held.leases, &held.locks) {
            if let Reply::Reclaimed { handles: more, leases: also } =
                ask_first(inner, reader, writer, session, door, &request).await?
            {
                handles.extend(more);
                leases.extend(also);
            }
        }
        inner.hooks.reclaimed(door, &handles, &leases);
    }
    Ok(())
}

/// Asks and waits for the answer, before anything else is sent on this connection.
async fn ask_first(
    inner: &Inner,
    reader: &mut Reader,
    writer: &mut Writer,
    session: Session,
    door: u64,
    request: &Request,
) -> Result<Reply, LinkError> {
    let id = inner.next_id.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let mut head = BytesMut::new();
    frame::encode_into(&mut head, &header(Kind::Request, door, Some(session), id), request, 0)?;
    writer.write_all(&head).await?;
    writer.flush().await?;
    loop {
        let frame = reader.next().await?.ok_or(LinkError::Closed)?;
        if frame.header.kind != Kind::Reply || frame.header.request != id {
            handle(inner, frame)?;
            continue;
        }
        if !frame.header.status.is_ok() {
            return Err(LinkError::Reclaim(frame.header.status));
        }
        return Ok(frame.message::<Answer>()?.reply);
    }
}

async fn read_all(inner: &Inner, mut reader: Reader) -> Result<(), LinkError> {
    loop {
        match next_frame(inner, &mut reader).await? {
            Some(frame) => handle(inner, frame)?,
            None => return Err(LinkError::Closed),
        }
    }
}

/// The next frame, or an error when none comes although one is due.
async fn next_frame(inner: &Inner, reader: &mut Reader) -> Result<Option<Frame>, LinkError> {
    // Reading goes on where it was after each look at the time: a frame half read must not be lost.
    let mut next = std::pin::pin!(reader.next());
    let mut owed = None;
    loop {
        if let Ok(frame) = tokio::time::timeout(SILENCE, &mut next).await {
            return Ok(frame?);
        }
        let oldest = oldest_owed(inner);
        if oldest.is_some() && oldest == owed {
            return Err(LinkError::Silent);
        }
        owed = oldest;
    }
}

/// The oldest call that should be answered soon: all but those that wait for other holders.
fn oldest_owed(inner: &Inner) -> Option<u64> {
    let table = inner.table.lock();
    let soon = |call: &Pending| {
        !matches!(&*call.request, Request::LockSet { wait: true, .. } | Request::Acquire { .. })
    };
    table.pending.iter().find(|(_, call)| soon(call)).map(|(id, _)| *id)
}

fn handle(inner: &Inner, frame: Frame) -> Result<(), LinkError> {
    match frame.header.kind {
        Kind::Reply => answered(inner, &frame),
        Kind::Notice => noticed(inner, &frame)?,
        // The decoder lets nothing else through.
        _ => {}
    }
    Ok(())
}

fn answered(inner: &Inner, frame: &Frame) {
    {
        let mut marks = inner.watermarks.lock();
        let new = frame.header.watermarks;
        if new.received >= marks.received {
            *marks = new;
        }
    }
    // A call that nobody waits for any more is not in the table; a grant in its answer is taken all the same, or
    // its recall would name a lease we do not know (which is acknowledged at once, so nothing is lost either way).
    let Some(call) = inner.table.lock().pending.remove(&frame.header.request) else { return };
    let answer = match frame.header.status {
        Status::Ok => frame.message::<Answer>().map_err(|error| {
            tracing::error!(%error, "an answer of the gateway cannot be read");
            Status::Malformed
        }),
        status => Err(status),
    };
    inner.hooks.replied(call.door, &call.request, call.mark, answer.as_ref().map_err(|s| *s));
    let _ = call.done.send(answer.map(|answer| (answer, frame.payload.clone())));
}

fn noticed(inner: &Inner, frame: &Frame) -> Result<(), LinkError> {
    match frame.message()? {
        Notice::Doors { doors } => inner.hooks.doors(doors),
        Notice::Token { token, until_ms } => {
            if let Some(ours) = &inner.token {
                ours.renewed(&token);
            }
            inner.hooks.token(token, until_ms);
        }
        Notice::Fenced { reason } => return Err(LinkError::Fenced(reason)),
        Notice::Goodbye => return Err(LinkError::Closed),
        notice => inner.hooks.notice(frame.header.volume, notice),
    }
    Ok(())
}

async fn write_all(
    inner: &Inner,
    mut writer: Writer,
    session: Session,
    connection: u64,
) -> Result<(), LinkError> {
    let mut head = BytesMut::with_capacity(GATHER);
    loop {
        while let Some((kind, door, id, payload, message)) = next_out(inner, connection) {
            let header = header(kind, door, Some(session), id);
            let encoded = match &message {
                Message::Request(request) => {
                    frame::encode_into(&mut head, &header, &**request, payload.len())
                }
                Message::Ack(ack) => frame::encode_into(&mut head, &header, ack, 0),
                Message::Nothing => frame::encode_into(&mut head, &header, &(), 0),
            };
            if let Err(error) = encoded {
                refuse(inner, id, &error);
                continue;
            }
            if !payload.is_empty() {
                frame::write_frame(&mut writer, &head, &payload).await?;
                head.clear();
            } else if head.len() >= GATHER {
                writer.write_all(&head).await?;
                head.clear();
            }
        }
        if !head.is_empty() {
            writer.write_all(&head).await?;
            head.clear();
        }
        writer.flush().await?;
        if inner.table.lock().closed {
            return Ok(());
        }
        inner.wake_writer.notified().await;
    }
}

enum Message {
    Request(Arc<Request>),
    Ack(mooring_protocol::message::Ack),
    Nothing,
}

fn next_out(inner: &Inner, connection: u64) -> Option<(Kind, u64, u64, Bytes, Message)> {
    let mut table = inner.table.lock();
    loop {
        match table.queue.pop_front()? {
            Out::Ack(door, ack) => return Some((Kind::Ack, door, 0, Bytes::new(), Message::Ack(ack))),
            Out::Cancel(id) => return Some((Kind::Cancel, 0, id, Bytes::new(), Message::Nothing)),
            Out::Request(id) => {
                let Some(call) = table.pending.get_mut(&id) else { continue };
                if call.sent_on == connection {
                    continue;
                }
                call.sent_on = connection;
                let Pending { door, request, payload, .. } = call;
                return Some((Kind::Request, *door, id, payload.clone(), Message::Request(request.clone())));
            }
        }
    }
}

/// A call that cannot be put in a frame fails by itself; the connection goes on.
fn refuse(inner: &Inner, id: u64, error: &frame::EncodeError) {
    tracing::error!(%error, "a request does not fit in a frame");
    let call = inner.table.lock().pending.remove(&id);
    if let Some(call) = call {
        inner.hooks.replied(call.door, &call.request, Mark::default(), Err(Status::ArgumentTooLarge));
        let _ = call.done.send(Err(Status::ArgumentTooLarge));
    }
}
