//! The running agent: one session, and a mount for every bucket and accepted share of its tenant.

mod mounts;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use mooring_protocol::message::{self, Answer, DoorKind, Notice, Request, Welcome};
use mooring_protocol::status::Status;
use mooring_protocol::types::{Handle, LeaseGrant};
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::fs::{Budget, Door, DoorOptions};
use crate::fuse::wait::WaitTable;
use crate::fuse::{Mount, MountOptions};
use crate::remote::{Gateway, Held, Hooks, Mark, Remote};

/// How the agent runs.
#[derive(Clone, Debug)]
pub struct AgentOptions {
    /// Where the gateway is, and what to show it.
    pub gateway: Gateway,
    /// Buckets are mounted below this directory.
    pub root: PathBuf,
    /// Memory for gathered writes, in bytes.
    pub write_budget: usize,
    /// Closing a file hands its writes over first.
    pub close_sync: bool,
    /// How each mount is made.
    pub mount: MountOptions,
}

/// A session token and when it ends, milliseconds since the Unix epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionToken {
    /// The token.
    pub token: String,
    /// Its end.
    pub until_ms: u64,
}

struct Mounted {
    door: Arc<Door>,
    what: message::Door,
    path: PathBuf,
    mount: Option<Mount>,
}

/// The agent. Lives in the runtime it was started in.
pub struct Agent {
    options: AgentOptions,
    remote: OnceLock<Remote>,
    doors: RwLock<HashMap<u64, Arc<Door>>>,
    wanted: watch::Sender<Vec<message::Door>>,
    token: watch::Sender<SessionToken>,
    mounts: Mutex<HashMap<u64, Mounted>>,
    changed: watch::Sender<u64>,
    budget: Arc<Budget>,
    waits: WaitTable,
    runtime: tokio::runtime::Handle,
}

/// What `status` shows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AgentStatus {
    /// Version of the program.
    pub version: String,
    /// Where the gateway is.
    pub gateway: String,
    /// A session is open.
    pub connected: bool,
    /// Everything that can be mounted is.
    pub ready: bool,
    /// Times a connection was made.
    pub connections: u64,
    /// Who the gateway takes this guest for.
    pub tenant: String,
    /// Why the last connection ended or could not be made.
    pub last_error: Option<String>,
    /// Requests to the gateway without an answer yet.
    pub in_flight: usize,
    /// Requests of programs that wait, and for how long the oldest has, in milliseconds.
    pub waiting: (usize, u64),
    /// Bytes written by programs that the gateway does not have yet: what killing this guest now would lose.
    pub unsent_bytes: usize,
    /// Operations handed over: in the gateway's memory, in its journal, in the store.
    pub watermarks: (u64, u64, u64),
    /// The mounts.
    pub mounts: Vec<MountStatus>,
}

/// One mount in [`AgentStatus`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MountStatus {
    /// `bucket` or `share`.
    pub kind: String,
    /// `bucket`, or `owner/name`.
    pub name: String,
    /// Where.
    pub path: PathBuf,
    /// The kernel has it.
    pub mounted: bool,
    /// Nothing can be changed in it.
    pub read_only: bool,
    /// Requests of the kernel so far.
    pub requests: u64,
    /// Inodes known.
    pub inodes: usize,
    /// Files open.
    pub open_files: usize,
    /// Bytes gathered.
    pub unsent_bytes: usize,
}

impl Agent {
    /// Begins to connect and to mount, in the current runtime.
    #[must_use]
    pub fn start(options: AgentOptions) -> Arc<Agent> {
        let agent = Arc::new(Agent {
            budget: Budget::new(options.write_budget),
            remote: OnceLock::new(),
            doors: RwLock::default(),
            wanted: watch::Sender::new(Vec::new()),
            token: watch::Sender::new(SessionToken::default()),
            mounts: Mutex::default(),
            changed: watch::Sender::new(0),
            waits: WaitTable::start(),
            runtime: tokio::runtime::Handle::current(),
            options,
        });
        let hooks: Arc<dyn Hooks> = Arc::new(Ears { agent: Arc::downgrade(&agent) });
        let remote = Remote::start(agent.options.gateway.clone(), hooks);
        let _ = agent.remote.set(remote);
        tokio::spawn(mounts::keep(Arc::downgrade(&agent), agent.wanted.subscribe()));
        agent
    }

    /// The gateway.
    ///
    /// # Panics
    /// Never: it is set before [`Agent::start`] returns.
    #[must_use]
    pub fn remote(&self) -> &Remote {
        #[allow(clippy::expect_used, reason = "set before anybody has the agent")]
        self.remote.get().expect("set in start")
    }

    /// The token for the S3 and API doors; changes can be awaited.
    #[must_use]
    pub fn token(&self) -> watch::Receiver<SessionToken> {
        self.token.subscribe()
    }

    /// Counts up when mounts were made or taken away.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// How everything is.
    #[must_use]
    pub fn status(&self) -> AgentStatus {
        let link = self.remote().state().borrow().clone();
        let mounts: Vec<MountStatus> = self.mounts.lock().values().map(Mounted::status).collect();
        let (waiting, oldest) = self.waits.waiting();
        let marks = self.remote().watermarks();
        AgentStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            gateway: self.remote().target().to_string(),
            connected: link.connected,
            ready: link.connected && self.all_mounted(),
            connections: link.connections,
            tenant: link.tenant,
            last_error: link.last_error,
            in_flight: self.remote().in_flight(),
            waiting: (waiting, u64::try_from(oldest.as_millis()).unwrap_or(u64::MAX)),
            unsent_bytes: self.budget.used(),
            watermarks: (marks.received, marks.journalled, marks.stored),
            mounts,
        }
    }

    fn all_mounted(&self) -> bool {
        let mounts = self.mounts.lock();
        let there = |door: &message::Door| {
            mounts.get(&door.id).is_some_and(|m| m.mount.as_ref().is_some_and(Mount::is_mounted))
        };
        self.wanted.borrow().iter().all(there)
    }

    fn door_options(&self) -> DoorOptions {
        DoorOptions { close_sync: self.options.close_sync, budget: self.budget.clone() }
    }

    fn path_of(&self, kind: &DoorKind) -> PathBuf {
        match kind {
            DoorKind::Bucket { name } => self.options.root.join(name.as_str()),
            DoorKind::Share { owner, name } => {
                self.options.root.join("shared").join(owner.as_str()).join(name.as_str())
            }
        }
    }

    /// Hands everything over, unmounts, and ends the session. What is still in use is taken out of the tree and goes
    /// when its last file is closed.
    pub async fn stop(&self) {
        self.unmount_all().await;
        // Replies to releases that came with the unmounting need a moment; nothing depends on them.
        let deadline = tokio::time::Instant::now() + Duration::from_secs(2);
        while self.remote().in_flight() > 0 && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.remote().close();
    }
}

impl Mounted {
    fn status(&self) -> MountStatus {
        let (inodes, open_files, unsent_bytes) = self.door.figures();
        let (kind, name) = match &self.what.kind {
            DoorKind::Bucket { name } => ("bucket", name.to_string()),
            DoorKind::Share { owner, name } => ("share", format!("{owner}/{name}")),
        };
        MountStatus {
            kind: kind.to_owned(),
            name,
            path: self.path.clone(),
            mounted: self.mount.as_ref().is_some_and(Mount::is_mounted),
            read_only: self.what.read_only,
            requests: self.mount.as_ref().map_or(0, |m| m.counters().total()),
            inodes,
            open_files,
            unsent_bytes,
        }
    }
}

/// What the connection tells the agent. Holds it weakly: the connection's task outlives nobody.
struct Ears {
    agent: std::sync::Weak<Agent>,
}

impl Ears {
    fn door(&self, id: u64) -> Option<Arc<Door>> {
        self.agent.upgrade()?.doors.read().get(&id).cloned()
    }

    fn doors_now(&self) -> Vec<Arc<Door>> {
        self.agent.upgrade().map(|a| a.doors.read().values().cloned().collect()).unwrap_or_default()
    }
}

impl Hooks for Ears {
    fn replied(&self, door: u64, request: &Request, mark: Mark, answer: Result<&Answer, Status>) {
        if let Some(door) = self.door(door) {
            door.replied(request, mark, answer);
        }
    }

    fn notice(&self, door: u64, notice: Notice) {
        match self.door(door) {
            Some(door) => door.notice(notice),
            None => {
                // Nothing of this door is held, so whatever is asked is done.
                let Some(agent) = self.agent.upgrade() else { return };
                let ack = match notice {
                    Notice::Recall { grant, .. } => message::Ack::Recalled { ino: grant.ino, seq: grant.seq },
                    Notice::Barrier { id, .. } => message::Ack::Barrier { id },
                    Notice::Revoked { .. } => message::Ack::Revoked,
                    _ => return,
                };
                agent.remote().ack(door, ack);
            }
        }
    }

    fn doors(&self, doors: Vec<message::Door>) {
        if let Some(agent) = self.agent.upgrade() {
            agent.wanted.send_replace(doors);
        }
    }

    fn welcome(&self, welcome: &Welcome) {
        self.token(welcome.token.clone(), welcome.token_until_ms);
    }

    fn token(&self, token: String, until_ms: u64) {
        if let Some(agent) = self.agent.upgrade() {
            agent.token.send_replace(SessionToken { token, until_ms });
        }
    }

    fn lost(&self) {
        tracing::error!(
            "the session is gone: writes that were not handed over are refused, open files are dead"
        );
        let Some(agent) = self.agent.upgrade() else { return };
        for door in self.doors_now() {
            agent.runtime.spawn(door.drop_all(Status::Fenced));
        }
    }

    fn held(&self) -> Vec<(u64, Held)> {
        self.doors_now().iter().map(|door| (door.id(), door.held())).collect()
    }

    fn reclaimed(&self, door: u64, handles: &[Handle], leases: &[LeaseGrant]) {
        if let Some(door) = self.door(door) {
            door.reclaimed(handles, leases);
        }
    }
}
