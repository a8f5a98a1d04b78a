//! The core of the gateway: volumes kept coherent, sessions of agents, and the ways in.
//!
//! | part | what it is |
//! |---|---|
//! | [`coherent`] | one volume: leases settled before the store is asked, for sessions and for one-shot doors |
//! | [`session`], [`sessions`] | agents: connections, requests, handles, what survives a restart |
//! | [`fs`] | one request, carried out |
//! | [`listen`], [`identity`] | the ways in, and who came in |
//! | [`doors`], [`access`], [`registry`] | what somebody may mount, and what may be done there, at this moment |
//! | [`volumes`], [`removal`] | volumes opened on demand; what goes when a bucket or a tenant does |

pub mod access;
pub mod clones;
pub mod coherent;
pub mod doors;
mod elsewhere;
mod error;
pub mod external;
mod fs;
pub mod gate;
mod house;
pub mod identity;
pub mod limits;
pub mod listen;
mod places;
pub mod registry;
mod removal;
pub mod scrub;
pub mod session;
pub mod sessions;
mod snapshots;
mod space;
pub mod standing;
mod trash;
pub mod views;
pub mod volumes;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use mooring_policy::ids::{TenantId, VmId, VolumeId};
use mooring_policy::index::GrantIndex;
use mooring_policy::principal::Principal;
use mooring_policy::resource::Prefix;
use mooring_policy::rng::Random;
use mooring_policy::time::{Clock, Timestamp};
use mooring_policy::token;
use mooring_protocol::caps;
use mooring_protocol::message::Door;
use mooring_protocol::status::Status;
use mooring_protocol::types::{Ino, Time};
use mooring_store::api::Caller;
use mooring_store::realm::{Changes, Realm, RealmOptions};
use mooring_store::volume::{Damage, Volume};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use access::DoorAuthority;
use coherent::Coherent;
use doors::Doors;
pub use elsewhere::Elsewhere;
pub use error::CoreError;
use gate::{Gate, Passage};
use identity::Who;
use limits::Limits;
use listen::{HttpDoors, Listeners};
use registry::Registry;
use scrub::ScrubPolicy;
use sessions::{Closed, Found, Sessions};
use standing::Standing;
use volumes::{VolumeOptions, Volumes};

/// How often a volume that was closed is asked whether everybody has let go of it.
const LET_GO: Duration = Duration::from_millis(5);

/// How long a stop waits for what is under way.
const DRAIN: Duration = Duration::from_secs(10);

/// What the core is made of.
pub struct CoreDeps {
    /// The installation's directory, keys and sources of time and chance.
    pub store: RealmOptions,
    /// How volumes are opened.
    pub volumes: VolumeOptions,
    /// Who issues tokens and for whom.
    pub token_realm: token::Realm,
    /// What one guest may take.
    pub limits: Limits,
    /// Whether it may serve.
    pub standing: Arc<Standing>,
}

/// The core of a gateway.
pub struct Core {
    realm: Arc<Realm>,
    doors: Arc<Doors>,
    /// One reload at a time, so that an older snapshot never replaces a newer one; how many changes of the registry the
    /// last one knows.
    reloading: tokio::sync::Mutex<u64>,
    changes: watch::Receiver<Changes>,
    sessions: Arc<Sessions>,
    listeners: Arc<Listeners>,
    elsewhere: OnceLock<Arc<dyn Elsewhere>>,
    tasks: TaskTracker,
}

/// How a revocation went.
#[derive(Clone, Debug)]
pub struct RevokeReport {
    /// How long it took until every session had confirmed or was fenced off.
    pub took: Duration,
    /// Every session that had the door open.
    pub sessions: Vec<Closed>,
}

/// What a volume is doing.
#[derive(Clone, Debug)]
pub struct VolumeStatus {
    /// Which.
    pub volume: VolumeId,
    /// Sessions behind its doors.
    pub sessions: usize,
    /// Leases held.
    pub leases: usize,
    /// Leases granted since it was opened.
    pub leases_granted: u64,
    /// Where durability stands; what is above `stored` would be lost with the host now.
    pub watermarks: mooring_store::api::Watermarks,
}

/// What a session is doing.
#[derive(Clone, Debug)]
pub struct SessionStatus {
    /// Its id.
    pub id: mooring_protocol::session::SessionId,
    /// Whose it is.
    pub principal: Principal,
    /// Whether it has a connection.
    pub connected: bool,
    /// Doors it has open.
    pub doors: usize,
    /// Files it has open.
    pub open_files: usize,
    /// Requests under way.
    pub in_flight: usize,
    /// Requests so far.
    pub requests: u64,
}

/// What the core is doing.
#[derive(Clone, Debug)]
pub struct CoreStatus {
    /// Open volumes.
    pub volumes: Vec<VolumeStatus>,
    /// Sessions.
    pub sessions: Vec<SessionStatus>,
    /// Sessions of before the last start are still awaited.
    pub in_grace: bool,
    /// Where an object store holds the volumes: bytes of copies on the disk, and the most there may be.
    pub copies: Option<(u64, u64)>,
}

impl Core {
    /// Opens the registry and what sessions left behind; nothing is listened on yet.
    ///
    /// # Errors
    /// The registry cannot be opened (another gateway has it, a key is missing), or records cannot be kept.
    pub async fn open(deps: CoreDeps) -> Result<Arc<Core>, CoreError> {
        let CoreDeps { store, volumes, token_realm, limits, standing } = deps;
        let realm = match &volumes.store {
            None => Realm::open(store.clone()).await?,
            Some(there) => Realm::open_on(store.clone(), &there.backing, &there.owner).await?,
        };
        let changes = realm.changes();
        let known = changes.borrow().ended;
        let registry = Arc::new(ArcSwap::from_pointee(Registry::read(&realm).await?));
        let tasks = TaskTracker::new();
        let path = store.data.path().join("sessions");
        let found = Found::read(&path).map_err(|source| CoreError::Records { path, source })?;
        let doors = Arc::new(Doors {
            volumes: Volumes::new(
                (realm.clone(), registry.clone()),
                store.clone(),
                (volumes, limits),
                (tasks.clone(), standing),
            ),
            registry,
            grace: found.grace().clone(),
            token_realm,
            clock: store.clock,
            random: store.random,
        });
        let sessions = Sessions::new(found, doors.clone(), limits, tasks.clone());
        let listeners = Listeners::new(sessions.clone(), tasks.clone());
        let core = Arc::new(Core {
            realm,
            doors,
            reloading: tokio::sync::Mutex::new(known),
            changes,
            sessions,
            listeners,
            elsewhere: OnceLock::new(),
            tasks,
        });
        core.remove_doomed().await?;
        core.tasks.spawn(core.sessions.clone().watch());
        core.learn_budgets();
        core.tasks.spawn(house::follow_changes(core.clone()));
        core.tasks.spawn(house::keep(core.doors.clone(), core.sessions.clone()));
        core.tasks.spawn(house::keep_few_open(core.doors.clone(), core.sessions.clone()));
        core.tasks.spawn(house::keep_snapshots(core.clone()));
        core.tasks.spawn(house::watch_standing(core.clone()));
        Ok(core)
    }

    /// Whether it may serve.
    pub fn standing(&self) -> &Arc<Standing> {
        &self.doors.volumes.standing
    }

    /// The registry.
    pub fn realm(&self) -> &Arc<Realm> {
        &self.realm
    }

    /// The registry as one value, as of the last reload.
    pub fn registry(&self) -> Arc<Registry> {
        self.doors.registry.load_full()
    }

    /// All grants, as of the last reload.
    pub fn grants(&self) -> Arc<GrantIndex> {
        self.registry().grants.clone()
    }

    /// Sessions of agents.
    pub fn sessions(&self) -> &Arc<Sessions> {
        &self.sessions
    }

    /// Who issues tokens and for whom.
    pub fn token_realm(&self) -> &token::Realm {
        &self.doors.token_realm
    }

    /// Now.
    pub fn now(&self) -> Timestamp {
        self.doors.clock.now()
    }

    /// Time that only moves forward.
    pub fn monotonic(&self) -> Duration {
        self.doors.clock.monotonic()
    }

    /// Where random bytes come from.
    pub fn random(&self) -> &dyn Random {
        &*self.doors.random
    }

    /// Sees to it that decisions made after this know every change of the registry that had ended before. To be called
    /// after every change; several that come together are read once.
    ///
    /// # Errors
    /// The registry cannot be read. Decisions then go by what was read before, and the caller must not tell anybody
    /// that the change is in force.
    pub async fn reload(&self) -> Result<(), CoreError> {
        let wanted = self.changes.borrow().ended;
        let mut known = self.reloading.lock().await;
        if *known >= wanted {
            return Ok(());
        }
        let reading = self.changes.borrow().ended;
        let fresh = Registry::read(&self.realm).await?;
        self.doors.registry.store(Arc::new(fresh));
        *known = reading;
        Ok(())
    }

    /// A bucket's volume, opened when it is not.
    ///
    /// # Errors
    /// No bucket has it, or it cannot be opened.
    pub async fn volume(&self, id: VolumeId) -> Result<Arc<Coherent>, CoreError> {
        self.doors.volume(id).await
    }

    /// The engine of a bucket's volume, for work on all of it; it stays open as long as the first of the two is held.
    ///
    /// # Errors
    /// No bucket has it, or it cannot be opened.
    pub async fn engine(&self, id: VolumeId) -> Result<(Arc<Coherent>, Arc<Volume>), CoreError> {
        self.doors.engine(id).await
    }

    /// Runs `work` beside everything else; a stop ends it.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let stopping = self.sessions.stopping().clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = stopping.cancelled() => {}
                () = work => {}
            }
        });
    }

    /// Scrubs buckets in the background from now on.
    pub fn keep_scrubbed(&self, policy: ScrubPolicy) {
        self.tasks.spawn(scrub::keep_scrubbed(self.doors.clone(), self.sessions.clone(), policy));
    }

    /// Damage that is known of the volumes that are open.
    pub async fn damages(&self) -> Vec<(VolumeId, Vec<Damage>)> {
        let mut all = Vec::new();
        for (id, engine) in self.doors.volumes.engines().await {
            match engine.damages().await {
                Ok(found) if found.is_empty() => {}
                Ok(found) => all.push((id, found)),
                // It closes; who opens it again finds its damage again.
                Err(error) => tracing::debug!(volume = %id, %error, "cannot list damage"),
            }
        }
        all
    }

    /// The operator as the caller of an operation on a volume.
    ///
    /// # Errors
    /// No bucket has it.
    pub fn operator(&self, id: VolumeId) -> Result<Caller, CoreError> {
        let registry = self.registry();
        let bucket = registry.by_volume.get(&id).ok_or(CoreError::NoSuchVolume(id))?;
        let authority = DoorAuthority {
            who: Who::new(Principal::Admin),
            owner: bucket.owner.clone(),
            bucket: bucket.name.clone(),
            prefix: Prefix::WHOLE_BUCKET,
            registry: self.doors.registry.clone(),
            clock: self.doors.clock.clone(),
        };
        let now = Time::from_millis(self.now().as_millis());
        Ok(Caller { authority: Arc::new(authority), root: Ino::ROOT, confined: false, now, trace: 0 })
    }

    /// Whether a bucket has no file and no directory.
    ///
    /// # Errors
    /// The volume cannot be read.
    pub async fn is_empty(&self, id: VolumeId) -> Result<bool, CoreError> {
        let cx = self.operator(id)?;
        let volume = self.volume(id).await?;
        let listed = volume.store().readdir(&cx, Ino::ROOT, b"", 1, false).await;
        let (entries, _) = listed.map_err(|source| CoreError::Volume { volume: id, source })?;
        Ok(entries.is_empty())
    }

    /// Tells a tenant's agents what they can mount now.
    pub async fn doors_changed(&self, tenant: &TenantId) {
        self.sessions.doors_changed(tenant).await;
    }

    /// Closes a door whose grant has ended, in every session. Call it after [`Core::reload`], from where on nothing new
    /// is allowed; from here on nothing that was open goes on either.
    pub async fn revoke_door(&self, door: u64) -> RevokeReport {
        let start = self.doors.clock.monotonic();
        let sessions = self.sessions.close_door(door, caps::FOREIGN_RECALL_DEADLINE).await;
        RevokeReport { took: self.doors.clock.monotonic().saturating_sub(start), sessions }
    }

    /// Ends the sessions of a VM; returns how many there were.
    pub fn end_vm(&self, tenant: &TenantId, vm: &VmId) -> usize {
        self.sessions.end_vm(tenant, vm, "its VM was detached")
    }

    /// Sessions of a VM.
    pub fn sessions_of(&self, tenant: &TenantId, vm: &VmId) -> usize {
        let of = |s: &Arc<session::Session>| s.who().tenant() == Some(tenant) && s.who().vm() == Some(vm);
        self.sessions.list().iter().filter(|s| of(s)).count()
    }

    /// Says who answers HTTP on the ways in. Once, before anything is listened on.
    pub fn set_http(&self, doors: Arc<dyn HttpDoors>) {
        self.listeners.set_http(doors);
    }

    /// The ways in.
    pub fn listeners(&self) -> &Arc<Listeners> {
        &self.listeners
    }

    /// What it is doing.
    pub async fn status(&self) -> CoreStatus {
        let volumes = self.doors.volumes.list().await;
        let volumes = volumes.iter().map(|v| VolumeStatus {
            volume: v.id(),
            sessions: v.holders(),
            leases: v.leases(),
            leases_granted: v.leases_granted(),
            watermarks: v.store().watermarks(),
        });
        let sessions = self.sessions.list().into_iter().map(|s| SessionStatus {
            id: s.id(),
            principal: s.who().principal.clone(),
            connected: s.is_connected(),
            doors: s.open_doors().len(),
            open_files: s.open_files(),
            in_flight: s.in_flight(),
            requests: s.requests(),
        });
        CoreStatus {
            volumes: volumes.collect(),
            sessions: sessions.collect(),
            in_grace: !self.doors.grace.is_over(),
            copies: self.doors.volumes.copies(),
        }
    }

    /// Stops in good order: says goodbye, finishes what is under way, closes volumes. Sessions stay on record and go on
    /// after the next start.
    pub async fn shutdown(&self) {
        self.sessions.stop();
        self.tasks.close();
        if tokio::time::timeout(DRAIN, self.tasks.wait()).await.is_err() {
            tracing::warn!(
                left = self.tasks.len(),
                "some work did not end in time; its callers will ask again"
            );
        }
        self.doors.volumes.close_all().await;
        if let Err(error) = self.realm.close().await {
            tracing::error!(%error, "the registry did not close well; its journal has everything");
        }
    }
}

/// For doors that are no agent's (S3), which come through the core.
#[async_trait]
impl Gate for Core {
    async fn doors(&self, who: &Who) -> Vec<Door> {
        self.doors.doors(who).await
    }

    async fn open(&self, who: &Who, door: u64) -> Result<Passage, Status> {
        self.doors.open(who, door).await
    }

    fn verify(&self, token: &str) -> Result<Who, Status> {
        self.doors.verify(token)
    }

    fn token(&self, who: &Who) -> Result<(String, Timestamp), Status> {
        self.doors.token(who)
    }

    fn clock(&self) -> &Arc<dyn Clock> {
        &self.doors.clock
    }

    fn random(&self, bytes: &mut [u8]) {
        self.doors.random.fill(bytes);
    }
}

/// Does `work` to its end though who waits for it goes away.
pub async fn to_the_end<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    match tokio::spawn(work).await {
        Ok(done) => done,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // The runtime ends, and the waiter with it.
        Err(_) => std::future::pending().await,
    }
}
