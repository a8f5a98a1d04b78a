//! All sessions of the gateway: made, resumed, ended.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mooring_policy::ids::{TenantId, VmId};
use mooring_policy::principal::Principal;
use mooring_protocol::caps;
use mooring_protocol::message::{Hello, Notice, Resumed};
use mooring_protocol::session as machine;
use mooring_protocol::session::SessionId;
use mooring_protocol::status::Status;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::coherent::grace::Grace;
use super::gate::Gate;
use super::identity::Who;
use super::limits::Limits;
use super::session::record::{Record, Records};
use super::session::{Session, Surroundings};

/// How often sessions without a connection are looked at.
const REAP_EVERY: Duration = Duration::from_secs(1);

/// Sessions one VM or token holder may have at once.
const MAX_SESSIONS_EACH: usize = 64;

/// All sessions.
pub struct Sessions {
    all: Mutex<HashMap<SessionId, Arc<Session>>>,
    around: Surroundings,
    stopping: CancellationToken,
}

/// How a revocation went in one session.
#[derive(Clone, Debug)]
pub struct Closed {
    /// Whose session.
    pub who: Who,
    /// The agent confirmed in time that it dropped everything.
    pub confirmed: bool,
}

/// What earlier sessions left behind.
pub struct Found {
    records: Arc<Records>,
    sessions: Vec<Record>,
    grace: Arc<Grace>,
}

impl Found {
    /// Reads the records in `dir`, making it when it is not there.
    pub fn read(dir: &Path) -> std::io::Result<Found> {
        let (records, sessions) = Records::open(dir)?;
        let volumes = |r: &Record| r.doors.iter().map(|(_, volume)| *volume).collect::<HashSet<_>>();
        let grace = Grace::new(sessions.iter().map(|r| (r.session.id.0, volumes(r))));
        Ok(Found { records: Arc::new(records), sessions, grace: Arc::new(grace) })
    }

    /// Who is awaited now.
    pub fn grace(&self) -> &Arc<Grace> {
        &self.grace
    }
}

impl Sessions {
    /// The sessions on record, which may now come back, and room for others.
    pub fn new(found: Found, gate: Arc<dyn Gate>, limits: Limits, tasks: TaskTracker) -> Arc<Sessions> {
        let Found { records, sessions, grace } = found;
        let around = Surroundings {
            gate,
            records,
            grace,
            tasks,
            limits,
            moments: Arc::default(),
            allowances: Arc::default(),
        };
        if !sessions.is_empty() {
            tracing::info!(sessions = sessions.len(), "sessions of before the start may come back");
        }
        let all =
            sessions.into_iter().map(|r| (r.session.id, Session::from_record(r, around.clone()))).collect();
        Arc::new(Sessions { all: Mutex::new(all), around, stopping: CancellationToken::new() })
    }

    /// The rest of the gateway.
    pub fn gate(&self) -> &Arc<dyn Gate> {
        &self.around.gate
    }

    /// Who is awaited after a start.
    pub fn grace(&self) -> &Arc<Grace> {
        &self.around.grace
    }

    /// Cancelled when the gateway stops.
    pub fn stopping(&self) -> &CancellationToken {
        &self.stopping
    }

    /// Every session.
    pub fn list(&self) -> Vec<Arc<Session>> {
        self.all.lock().values().cloned().collect()
    }

    /// Ends the grace period after a start, then sessions that stay away too long. Runs until the gateway stops.
    pub async fn watch(self: Arc<Self>) {
        let work = async {
            while let Some(late) = self.around.grace.overdue(caps::GRACE).await {
                for id in late {
                    let session = self.all.lock().get(&SessionId(id)).cloned();
                    match session {
                        // Back, with nothing to put back behind some of its doors.
                        Some(session) if session.is_connected() => session.end_reclaim(),
                        Some(session) => session.end("it did not come back after the gateway's restart"),
                        None => {}
                    }
                }
            }
            let mut tick = tokio::time::interval(REAP_EVERY);
            tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                tick.tick().await;
                let now = self.around.gate.clock().monotonic();
                for session in self.list().into_iter().filter(|s| s.is_overdue(now)) {
                    session.end("it was without a connection for too long");
                }
                self.forget_ended();
            }
        };
        tokio::select! {
            () = self.stopping.cancelled() => {}
            () = work => {}
        }
    }

    fn forget_ended(&self) {
        self.all.lock().retain(|_, session| !session.is_ended());
    }

    /// The session a greeting leads to, how the one it named goes on, and the epoch to speak in.
    pub(super) fn connect(&self, who: &Who, hello: &Hello) -> Result<(Arc<Session>, Resumed, u64), Status> {
        self.forget_ended();
        let mut fate = Resumed::Fresh;
        if let Some(resume) = hello.resume {
            let known = self.all.lock().get(&SessionId(resume.session)).cloned();
            let known = known.filter(|s| s.boot() == hello.boot);
            match known.map(|s| (s.connect(who, resume.epoch), s)) {
                Some(((resumed, epoch), session)) if resumed != Resumed::Lost => {
                    return Ok((session, resumed, epoch));
                }
                _ => fate = Resumed::Lost,
            }
        }
        self.end_predecessors(who, hello);
        let session = self.make(who, hello)?;
        let (_, epoch) = session.connect(who, 0);
        Ok((session, fate, epoch))
    }

    fn make(&self, who: &Who, hello: &Hello) -> Result<Arc<Session>, Status> {
        let mut id = [0; 8];
        self.around.gate.random(&mut id);
        let id = SessionId(u64::from_le_bytes(id).max(1));
        let machine = machine::Session::new(id, peer_of(who));
        let session = Session::new(machine, who.clone(), hello.boot, self.around.clone());
        let mut all = self.all.lock();
        let same = all.values().filter(|s| peer_of(s.who()) == peer_of(who)).count();
        if all.len() >= caps::MAX_SESSIONS || same >= MAX_SESSIONS_EACH || all.contains_key(&id) {
            return Err(Status::Overloaded);
        }
        all.insert(id, session.clone());
        Ok(session)
    }

    /// A VM that greets anew has no use for what it left behind: what an earlier boot held died with that boot, and an
    /// agent that lost its connection and does not resume has lost its memory.
    fn end_predecessors(&self, who: &Who, hello: &Hello) {
        if !matches!(who.principal, Principal::Vm { .. }) {
            return;
        }
        let peer = peer_of(who);
        for session in self.list().into_iter().filter(|s| peer_of(s.who()) == peer) {
            if session.boot() != hello.boot {
                session.end("its VM has started anew");
            } else if !session.is_connected() && hello.resume.is_none() {
                session.end("its agent has started anew");
            }
        }
    }

    /// Ends the sessions of a VM.
    pub fn end_vm(&self, tenant: &TenantId, vm: &VmId, why: &str) -> usize {
        let theirs =
            self.list().into_iter().filter(|s| s.who().tenant() == Some(tenant) && s.who().vm() == Some(vm));
        theirs.map(|s| s.end(why)).count()
    }

    /// Ends the sessions of a tenant.
    pub fn end_tenant(&self, tenant: &TenantId, why: &str) -> usize {
        let theirs = self.list().into_iter().filter(|s| s.who().tenant() == Some(tenant));
        theirs.map(|s| s.end(why)).count()
    }

    /// Closes a door in every session, all at once, and waits for their confirmations.
    pub async fn close_door(&self, door: u64, limit: Duration) -> Vec<Closed> {
        let closing = self.list().into_iter().map(|session| async move {
            let confirmed = session.close_door(door, limit).await?;
            Some(Closed { who: session.who().clone(), confirmed })
        });
        futures::future::join_all(closing).await.into_iter().flatten().collect()
    }

    /// Tells a tenant's sessions what can be mounted now.
    pub async fn doors_changed(&self, tenant: &TenantId) {
        for session in
            self.list().into_iter().filter(|s| s.who().tenant() == Some(tenant) && s.is_connected())
        {
            let doors = self.around.gate.doors(session.who()).await;
            session.tell(&Notice::Doors { doors });
        }
    }

    /// Gives every connected session a fresh token for the other doors.
    pub fn renew_tokens(&self) {
        for session in self.list().into_iter().filter(|s| s.is_connected()) {
            match self.around.gate.token(session.who()) {
                Ok((token, until)) => session.tell(&Notice::Token { token, until_ms: until.as_millis() }),
                Err(status) => {
                    tracing::error!(session = %session.id(), %status, "no fresh token for a session")
                }
            }
        }
    }

    /// Says goodbye and closes connections. Sessions stay on record, to be reclaimed at the next start.
    pub fn stop(&self) {
        for session in self.list() {
            session.goodbye();
        }
        self.stopping.cancel();
    }
}

/// The form in which a session remembers whose it is. The boot is compared apart from it.
pub(super) fn peer_of(who: &Who) -> Vec<u8> {
    who.principal.to_string().into_bytes()
}
