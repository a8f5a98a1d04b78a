//! One connection of an agent: greeting, reading, writing, and the session it belongs to.

use std::sync::Arc;

use bytes::BytesMut;
use mooring_protocol::caps;
use mooring_protocol::frame::{
    Frame, FrameReader, Header, Kind, ReadError, Side, VERSION, encode_into, write_frame,
};
use mooring_protocol::message::{Ack, Hello, Notice, Resumed, Welcome};
use mooring_protocol::status::Status;
use mooring_protocol::types::Time;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

use super::allowance::request_bytes;
use super::outgoing::{Outgoing, Queue, Room};
use super::{Connection, Session};
use crate::core::identity::{Peer, Who};
use crate::core::sessions::{Sessions, peer_of};

/// Serves frames on one connection until it ends.
pub async fn serve<S>(sessions: Arc<Sessions>, stream: S, peer: Peer)
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    if !sessions.gate().serves() {
        return tracing::debug!(%peer, "closed a connection: this gateway may not serve now");
    }
    let (read, mut write) = tokio::io::split(stream);
    let mut reader = FrameReader::new(read, Side::Gateway);
    let hello = tokio::select! {
        () = sessions.stopping().cancelled() => return,
        hello = tokio::time::timeout(caps::HELLO_DEADLINE, greeting(&mut reader)) => hello,
    };
    let refused = match hello {
        Err(_) => return tracing::info!(%peer, "closed a connection that did not say who it is"),
        Ok(Ok((hello, trace))) => match welcome(&sessions, &peer, hello, trace).await {
            Ok((session, connected)) => {
                reader.open();
                return converse(session, connected, reader, write, &peer).await;
            }
            Err(refused) => refused,
        },
        Ok(Err(refused)) => refused,
    };
    tracing::info!(%peer, status = %refused.0, reason = refused.1, "refused a connection");
    let header = Header { status: refused.0, ..Header::new(Kind::Notice) };
    let mut head = BytesMut::new();
    if encode_into(&mut head, &header, &Notice::Fenced { reason: refused.1 }, 0).is_ok() {
        // It is cut off in any case; whether it heard why changes nothing.
        let _ = tokio::time::timeout(caps::HELLO_DEADLINE, write_frame(&mut write, &head, &[])).await;
        let _ = write.shutdown().await;
    }
}

/// Why a connection is not served, for the table and for people.
struct Refusal(Status, String);

async fn greeting<R: AsyncRead + Unpin>(reader: &mut FrameReader<R>) -> Result<(Hello, u64), Refusal> {
    let frame = match reader.next().await {
        Ok(Some(frame)) => frame,
        Ok(None) => return Err(Refusal(Status::Malformed, "it ended before it said anything".into())),
        Err(error) => return Err(Refusal(tell(&error), error.to_string())),
    };
    let trace = frame.header.trace;
    match frame.message() {
        Ok(hello) => Ok((hello, trace)),
        Err(error) => Err(Refusal(mooring_protocol::frame::BodyError::STATUS, error.to_string())),
    }
}

fn tell(error: &ReadError) -> Status {
    match error {
        ReadError::Frame(error) => error.tell_peer().unwrap_or(Status::Malformed),
        ReadError::Io(_) => Status::Unavailable,
    }
}

/// What a connection was given.
struct Connected {
    epoch: u64,
    queue: Queue,
    outlet: super::outgoing::Outlet,
    stop: CancellationToken,
}

async fn welcome(
    sessions: &Arc<Sessions>,
    peer: &Peer,
    hello: Hello,
    trace: u64,
) -> Result<(Arc<Session>, Connected), Refusal> {
    let version = u8::try_from(VERSION).unwrap_or(u8::MAX);
    if hello.versions.0 > version || hello.versions.1 < version {
        let (low, high) = hello.versions;
        let why = format!(
            "the agent speaks versions {low} to {high}, this gateway {version}; upgrade the older side"
        );
        return Err(Refusal(Status::VersionMismatch, why));
    }
    // A VM is who its channel says, and every channel is one VM's: a unix socket that only its hypervisor can reach, or
    // a context id that the registry gives to one VM and takes away when it is detached. So no value is handed out that
    // a VM would have to show; one that is shown all the same was meant for another gateway, or for another VM.
    if hello.enrolment.is_some() {
        let why = "this gateway hands out no enrolment values; remove it from the agent's settings";
        return Err(Refusal(Status::Unauthenticated, why.into()));
    }
    let gate = sessions.gate();
    let who = identify(sessions, peer, hello.token.as_deref())?;
    let tenant = who
        .tenant()
        .cloned()
        .ok_or_else(|| Refusal(Status::AccessDenied, "the operator has no files of its own".into()))?;
    let (token, until) =
        gate.token(&who).map_err(|s| Refusal(s, "no session token could be issued".into()))?;
    let (session, resumed, epoch) = sessions
        .connect(&who, &hello)
        .map_err(|s| Refusal(s, "too many sessions; end some or wait for old ones to pass".into()))?;
    let doors = gate.doors(&who).await;
    let (queue, outlet) = Queue::new(session.around.limits.stalled);
    let stop = CancellationToken::new();
    let answer = Welcome {
        version,
        session: session.id().0,
        epoch,
        resumed,
        tenant,
        vm: who.vm().cloned(),
        token,
        token_until_ms: until.as_millis(),
        now: Time::from_millis(gate.clock().now().as_millis()),
        max_in_flight: caps::MAX_IN_FLIGHT as u32,
        max_payload: caps::MAX_PAYLOAD as u32,
        doors,
    };
    let header = Header { epoch, trace, ..Header::new(Kind::Welcome) };
    let mut head = BytesMut::new();
    encode_into(&mut head, &header, &answer, 0).map_err(|e| Refusal(Status::Io, e.to_string()))?;
    let first = Outgoing { head, payload: Vec::new(), door: None, notice: false, room: Room::default() };
    queue.reply(first).map_err(|_| Refusal(Status::Unavailable, "the connection is gone".into()))?;
    session.attach(epoch, &queue, &stop);
    if resumed == Resumed::Kept {
        session.say_again();
    }
    tracing::info!(session = %session.id(), %peer, agent = %hello.agent.escape_debug(), epoch, ?resumed, "session connected");
    Ok((session, Connected { epoch, queue, outlet, stop }))
}

fn identify(sessions: &Sessions, peer: &Peer, token: Option<&str>) -> Result<Who, Refusal> {
    if let Some(who) = &peer.who {
        return Ok(who.clone());
    }
    let token = token.ok_or_else(|| {
        Refusal(Status::Unauthenticated, "this channel does not say who you are: a token is needed".into())
    })?;
    sessions.gate().verify(token).map_err(|s| Refusal(s, "the token is not accepted".into()))
}

impl Session {
    /// A connection takes this session: the machine raises the epoch, and the connection before it ends. What is queued
    /// from now on waits for [`Session::attach`], so that the welcome goes out first.
    pub(in crate::core) fn connect(&self, who: &Who, known_epoch: u64) -> (Resumed, u64) {
        let (resumed, epoch, record, before) = {
            let mut state = self.state.lock();
            let resumed = state.machine.connect(&peer_of(who), known_epoch);
            let before = if resumed == Resumed::Lost { None } else { state.connection.take() };
            (resumed, state.machine.epoch(), self.record(&state), before)
        };
        if let Some(before) = before {
            before.stop.cancel();
        }
        if resumed != Resumed::Lost {
            self.persist(&record);
        }
        (resumed, epoch)
    }

    /// The gateway stops in good order.
    pub(in crate::core) fn goodbye(&self) {
        self.tell(&Notice::Goodbye);
        let mut state = self.state.lock();
        if let Some(connection) = state.connection.take() {
            connection.stop.cancel();
        }
        // Whoever waits for a lock or a lease asks again after the next start.
        for running in state.running.values() {
            running.cancel.cancel();
        }
    }

    /// From here on replies and notices go to this connection.
    fn attach(&self, epoch: u64, queue: &Queue, stop: &CancellationToken) {
        let mut state = self.state.lock();
        if state.machine.epoch() == epoch && !self.is_ended() {
            state.connection = Some(Connection { epoch, queue: queue.clone(), stop: stop.clone() });
        } else {
            stop.cancel();
        }
    }

    fn disconnect(&self, epoch: u64) {
        let now = self.around.gate.clock().monotonic();
        let mut state = self.state.lock();
        state.machine.disconnect(epoch, now);
        if state.connection.as_ref().is_some_and(|c| c.epoch == epoch) {
            state.connection = None;
        }
    }
}

async fn converse<R, W>(
    session: Arc<Session>,
    connected: Connected,
    mut reader: FrameReader<R>,
    mut write: W,
    peer: &Peer,
) where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin + Send + 'static,
{
    let Connected { epoch, queue, outlet, stop } = connected;
    let stopped = stop.clone();
    let writer = tokio::spawn(async move {
        let end = outlet.run(&mut write).await;
        stopped.cancel();
        end
    });
    let end = tokio::select! {
        () = stop.cancelled() => None,
        end = read_all(&session, epoch, &queue, &mut reader) => Some(end),
    };
    session.disconnect(epoch);
    stop.cancel();
    // With the last queue gone the writer sends what is left and ends.
    drop(queue);
    match end {
        Some(Ok(())) => tracing::info!(session = %session.id(), %peer, "connection closed by the guest"),
        Some(Err(error)) => tracing::warn!(session = %session.id(), %peer, %error, "connection cut off"),
        None => {}
    }
    match writer.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(session = %session.id(), %peer, %error, "connection cut off"),
        Err(error) => tracing::error!(session = %session.id(), %peer, %error, "the writing task failed"),
    }
}

async fn read_all<R: AsyncRead + Unpin>(
    session: &Arc<Session>,
    epoch: u64,
    queue: &Queue,
    reader: &mut FrameReader<R>,
) -> Result<(), ReadError> {
    while let Some(frame) = reader.next().await? {
        // What is cached here may be old: the guest asks again, here or where it is led to.
        if !session.around.gate.serves() {
            return Ok(());
        }
        match frame.header.kind {
            Kind::Request => {
                let Some(room) = session.make_room(request_bytes(&frame)).await else {
                    return Ok(());
                };
                session.take(epoch, queue, frame, room);
            }
            Kind::Cancel => session.cancel(frame.header.request),
            Kind::Ack => acknowledge(session, epoch, &frame),
            // The decoder lets nothing else through.
            Kind::Hello | Kind::Welcome | Kind::Reply | Kind::Notice => {}
        }
    }
    Ok(())
}

fn acknowledge(session: &Session, epoch: u64, frame: &Frame) {
    if frame.header.epoch != epoch {
        return;
    }
    match frame.message::<Ack>() {
        Ok(ack) => session.acknowledge(frame.header.volume, ack),
        Err(error) => {
            tracing::debug!(session = %session.id(), %error, "ignored an acknowledgement that is none")
        }
    }
}
