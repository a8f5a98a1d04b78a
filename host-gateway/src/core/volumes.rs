//! Open volumes, or heads of volumes that have several: one instance each, opened when first asked for, closed when idle.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use mooring_external::External;
use mooring_policy::ids::{TenantId, VolumeId};
use mooring_store::api::Objects;
use mooring_store::backend::{Backing, VolumeDir};
use mooring_store::error::StoreError;
use mooring_store::memory::Memory;
use mooring_store::realm::{Bucket, Realm, RealmOptions};
use mooring_store::volume::{Config, LocalOptions, StoreOptions, Volume};
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::coherent::Coherent;
use super::coherent::grace::Grace;
use super::error::CoreError;
use super::limits::Limits;
use super::places::Places;
use super::registry::Registry;
use super::space::Budgets;
use super::standing::Standing;
use super::views::Views;

/// A volume nobody has used for this long is closed.
const IDLE: Duration = Duration::from_secs(300);

/// With more volumes open than [`VolumeOptions::max_open`], those that nobody has used for this long are closed.
const CROWDED: Duration = Duration::from_secs(2);

/// How long a volume may take to close.
const CLOSE_LIMIT: Duration = Duration::from_secs(30);

/// How volumes are opened.
#[derive(Clone)]
pub struct VolumeOptions {
    /// Bounds and sizes of each.
    pub config: Config,
    /// Volumes that stay open though nobody uses them now. Each takes memory of its own: rows that are not in tables
    /// yet, files, tasks.
    pub max_open: usize,
    /// Memory that all of them share.
    pub memory: Arc<Memory>,
    /// The object store that holds them; `None` when the data directory does.
    pub store: Option<InStore>,
}

/// How volumes are opened in an object store.
#[derive(Clone, Debug)]
pub struct InStore {
    /// The store.
    pub backing: Backing,
    /// What this host is called, for who finds a volume taken.
    pub owner: String,
    /// Buckets (`tenant/bucket`) of durability `host` that are taken over though another host has changes of them that
    /// the store has not.
    pub accept_loss: Vec<String>,
}

struct Open {
    /// The volume it is a head of.
    place: VolumeId,
    coherent: Arc<Coherent>,
    engine: Engine,
    stop: CancellationToken,
    watch: tokio::task::JoinHandle<()>,
    used: Instant,
}

/// What is below the coherence.
enum Engine {
    Own(Arc<Volume>),
    External(Arc<External>),
}

impl Engine {
    /// The tree, with the snapshots of a volume of our own in it.
    fn tree(&self) -> (Arc<dyn Objects>, Option<Arc<Views>>) {
        match self {
            Engine::Own(volume) => {
                let views = Views::new(volume.clone());
                (views.clone(), Some(views))
            }
            Engine::External(external) => (external.clone(), None),
        }
    }

    fn own(&self) -> Option<Arc<Volume>> {
        match self {
            Engine::Own(volume) => Some(volume.clone()),
            Engine::External(_) => None,
        }
    }

    /// How long it may take to close: what waits for an external bucket is only here.
    fn close_limit(&self) -> Duration {
        match self {
            Engine::Own(_) => CLOSE_LIMIT,
            Engine::External(_) => 3 * CLOSE_LIMIT,
        }
    }

    /// What a close that fails leaves.
    fn kept(&self) -> &'static str {
        match self {
            Engine::Own(_) => "its journal has everything",
            Engine::External(_) => "what was not uploaded is lost",
        }
    }

    async fn close(&self) -> Result<(), StoreError> {
        match self {
            Engine::Own(volume) => volume.close().await,
            Engine::External(external) => external.close().await,
        }
    }
}

/// A place for a volume; its lock is held while it is opened or closed, so that there are never two.
type Slot = Arc<tokio::sync::Mutex<Option<Open>>>;

/// All volumes.
pub struct Volumes {
    slots: Mutex<HashMap<VolumeId, Slot>>,
    pub(super) places: Places,
    realm: Arc<Realm>,
    registry: Arc<ArcSwap<Registry>>,
    pub(super) budgets: Budgets,
    store: RealmOptions,
    options: VolumeOptions,
    limits: Limits,
    tasks: TaskTracker,
    /// Volumes that are open.
    open: AtomicUsize,
    pub(super) standing: Arc<Standing>,
}

impl Volumes {
    pub(super) fn new(
        (realm, registry): (Arc<Realm>, Arc<ArcSwap<Registry>>),
        store: RealmOptions,
        (options, limits): (VolumeOptions, Limits),
        (tasks, standing): (TaskTracker, Arc<Standing>),
    ) -> Volumes {
        Volumes {
            slots: Mutex::new(HashMap::new()),
            places: Places::default(),
            realm,
            registry,
            budgets: Budgets::default(),
            store,
            options,
            limits,
            tasks,
            open: 0.into(),
            standing,
        }
    }

    /// Where a volume lies.
    pub fn dir(&self, owner: &TenantId, id: VolumeId) -> VolumeDir {
        self.store.data.volume(owner, id)
    }

    fn slot(&self, id: VolumeId) -> Slot {
        self.slots.lock().entry(id).or_default().clone()
    }

    /// The volume of a bucket, opened when it is not.
    pub async fn get(&self, bucket: &Bucket, grace: &Arc<Grace>) -> Result<Arc<Coherent>, CoreError> {
        let slot = self.slot(bucket.volume);
        let mut slot = slot.lock().await;
        if let Some(open) = &mut *slot {
            open.used = Instant::now();
            return Ok(open.coherent.clone());
        }
        let open = self.open(bucket, grace).await?;
        let coherent = open.coherent.clone();
        self.open.fetch_add(1, Ordering::Relaxed);
        *slot = Some(open);
        Ok(coherent)
    }

    async fn open_engine(&self, bucket: &Bucket) -> Result<Engine, CoreError> {
        let (owner, id) = (&bucket.owner, bucket.volume);
        if self.standing.lost().is_some() {
            // Opening takes over: a gateway that was thrown out would throw out its successor.
            return Err(CoreError::Volume { volume: id, source: StoreError::Fenced });
        }
        let dir = self.dir(owner, bucket.place());
        if let Some(external) =
            super::external::open(&self.realm, bucket, dir.path(), &self.store.clock).await?
        {
            return Ok(Engine::External(external));
        }
        let keys = self.realm.tenant_key(owner).await?.volume(bucket.place());
        let options = LocalOptions {
            dir,
            keys,
            memory: self.options.memory.clone(),
            random: self.store.random.clone(),
            clock: self.store.clock.clone(),
            config: Config {
                head: bucket.head(),
                label: Some(format!("{owner}/{}", bucket.name)),
                ..self.config(owner, id)
            },
        };
        let config = options.config.clone();
        let place = self.places.of(bucket.place());
        let volume = place.open(&config, async || match &self.options.store {
            None => Volume::open_local(options).await,
            Some(store) => Volume::open_on(in_store(store, bucket, options)).await,
        });
        volume.await.map(Engine::Own).map_err(|source| CoreError::Volume { volume: id, source })
    }

    async fn open(&self, bucket: &Bucket, grace: &Arc<Grace>) -> Result<Open, CoreError> {
        let (owner, id) = (&bucket.owner, bucket.volume);
        let _opening = grace.opening(id);
        let engine = self.open_engine(bucket).await?;
        let recovering = grace.is_pending(id);
        let coherent =
            Coherent::new(id, engine.tree(), self.store.clock.clone(), self.limits.leases, recovering);
        let stop = CancellationToken::new();
        let watch = tokio::spawn(coherent.clone().watch(stop.clone()));
        if let Engine::External(external) = &engine {
            let fresh =
                super::external::keep_fresh(Arc::downgrade(&coherent), external.clone(), stop.clone());
            self.tasks.spawn(fresh);
        }
        if let Some(volume) = engine.own() {
            let (standing, stopped) = (self.standing.clone(), stop.clone());
            // Not among the tasks that a stop waits for before it closes volumes.
            tokio::spawn(async move {
                tokio::select! {
                    () = stopped.cancelled() => {}
                    () = volume.taken() => standing.lose("another gateway has taken a bucket over"),
                }
            });
        }
        let (grace, recovered, stopped) = (grace.clone(), coherent.clone(), stop.clone());
        self.tasks.spawn(async move {
            tokio::select! {
                () = stopped.cancelled() => {}
                () = grace.over(id) => recover(&recovered).await,
            }
        });
        tracing::info!(volume = %id, tenant = %owner, recovering, "volume opened");
        Ok(Open { place: bucket.place(), coherent, engine, stop, watch, used: Instant::now() })
    }

    /// The engine of a bucket of ours, opened when it is not. It stays open as long as the first of the two is held.
    pub async fn engine(
        &self,
        bucket: &Bucket,
        grace: &Arc<Grace>,
    ) -> Result<(Arc<Coherent>, Arc<Volume>), CoreError> {
        let coherent = self.get(bucket, grace).await?;
        let slot = self.slot(bucket.volume);
        let slot = slot.lock().await;
        let failed = |source| CoreError::Volume { volume: bucket.volume, source };
        let open = slot.as_ref().ok_or_else(|| failed(StoreError::Closed))?;
        let none = || failed(StoreError::Unsupported("the bucket is kept by another store"));
        Ok((coherent, open.engine.own().ok_or_else(none)?))
    }

    /// The engines of the volumes that are open.
    pub async fn engines(&self) -> Vec<(VolumeId, Arc<Volume>)> {
        let slots: Vec<(VolumeId, Slot)> =
            self.slots.lock().iter().map(|(id, slot)| (*id, slot.clone())).collect();
        let mut open = Vec::new();
        for (id, slot) in slots {
            // One that is being opened or closed is not waited for.
            open.extend(slot.try_lock().ok().and_then(|o| Some((id, o.as_ref()?.engine.own()?))));
        }
        open
    }

    /// Bounds of a volume, with the limits of its bucket and tenant.
    fn config(&self, owner: &TenantId, id: VolumeId) -> Config {
        let registry = self.registry.load();
        let bucket = registry.by_volume.get(&id);
        let quota = bucket.map(|bucket| bucket.quota).unwrap_or_default();
        let trash = bucket.is_some_and(|bucket| bucket.trash_seconds.is_some());
        let budget = Some(self.budgets.of(owner, &registry));
        Config { quota, budget, trash, ..self.options.config.clone() }
    }

    /// A volume of ours if it is open.
    pub async fn opened(&self, id: VolumeId) -> Option<Arc<Volume>> {
        let slot = self.slots.lock().get(&id).cloned()?;
        let slot = slot.lock().await;
        slot.as_ref().and_then(|open| open.engine.own())
    }

    /// The object store that holds the volumes, if one does.
    pub fn store(&self) -> Option<&InStore> {
        self.options.store.as_ref()
    }

    /// Where an object store holds the volumes: bytes of copies on the disk, and the most there may be.
    pub fn copies(&self) -> Option<(u64, u64)> {
        let copies = self.options.memory.copies();
        self.options.store.is_some().then(|| (copies.bytes(), copies.bound()))
    }

    /// The volumes that are open.
    pub async fn list(&self) -> Vec<Arc<Coherent>> {
        let slots: Vec<Slot> = self.slots.lock().values().cloned().collect();
        let mut open = Vec::new();
        for slot in slots {
            open.extend(slot.lock().await.as_ref().map(|o| o.coherent.clone()));
        }
        open
    }

    /// Closes what nobody has used for a while; when too many are open, those that were used longest ago.
    pub async fn close_idle(&self) {
        let slots: Vec<Slot> = self.slots.lock().values().cloned().collect();
        let mut open = Vec::new();
        for slot in slots {
            let used = slot.lock().await.as_ref().map(|open| open.used);
            open.extend(used.map(|used| (used, slot)));
        }
        open.sort_unstable_by_key(|(used, _)| *used);
        let mut over = open.len().saturating_sub(self.options.max_open);
        for (_, slot) in open {
            let mut slot = slot.lock().await;
            let bound = if over > 0 { CROWDED } else { IDLE };
            let idle = |open: &Open| {
                // Who works with it holds it: besides this slot only its watch does.
                open.used.elapsed() > bound
                    && open.coherent.holders() == 0
                    && Arc::strong_count(&open.coherent) <= 2
            };
            if slot.as_ref().is_some_and(idle)
                && let Some(open) = slot.take()
            {
                over = over.saturating_sub(1);
                self.close(open).await;
            }
        }
        // Places of volumes that nobody has asked for since. Whoever has one in hand keeps it, so there are never two.
        self.slots.lock().retain(|_, slot| {
            Arc::strong_count(slot) > 1 || slot.try_lock().is_ok_and(|open| open.is_some())
        });
        self.places.tidy();
    }

    /// Whether more volumes are open than should be.
    pub fn is_crowded(&self) -> bool {
        self.open.load(Ordering::Relaxed) > self.options.max_open
    }

    async fn close(&self, open: Open) {
        self.places.of(open.place).close(async || close(open).await).await;
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    /// Closes one volume, whoever has it open, and keeps it closed until `then` is done.
    pub async fn close_for<T>(&self, id: VolumeId, then: impl AsyncFnOnce() -> T) -> T {
        let slot = self.slot(id);
        let mut slot = slot.lock().await;
        if let Some(open) = slot.take() {
            self.close(open).await;
        }
        then().await
    }

    /// Closes every head of a volume that is open.
    pub(super) async fn close_place(&self, place: VolumeId) {
        let slots: Vec<Slot> = self.slots.lock().values().cloned().collect();
        for slot in slots {
            let open = slot.lock().await.take_if(|open| open.place == place);
            if let Some(open) = open {
                self.close(open).await;
            }
        }
    }

    /// Closes everything, all at once.
    pub async fn close_all(&self) {
        let slots: Vec<Slot> = self.slots.lock().values().cloned().collect();
        let closing = slots.into_iter().map(|slot| async move {
            if let Some(open) = slot.lock().await.take() {
                self.close(open).await;
            }
        });
        futures::future::join_all(closing).await;
    }
}

/// The grace period is over: what earlier sessions left unlinked and did not reclaim goes.
async fn recover(coherent: &Coherent) {
    coherent.end_grace();
    match coherent.store().purge_orphans().await {
        Ok(0) => {}
        Ok(freed) => {
            tracing::info!(volume = %coherent.id(), freed, "files that were unlinked and left open are gone")
        }
        Err(StoreError::Closed) => {}
        Err(error) => tracing::error!(volume = %coherent.id(), %error, "unlinked files could not be freed"),
    }
}

async fn close(open: Open) {
    let id = open.coherent.id();
    open.stop.cancel();
    if let Err(error) = open.watch.await {
        tracing::error!(volume = %id, %error, "the watch of a volume failed");
    }
    drop(open.coherent);
    let limit = open.engine.close_limit();
    match tokio::time::timeout(limit, open.engine.close()).await {
        Ok(Ok(())) => tracing::info!(volume = %id, "volume closed"),
        Ok(Err(error)) => {
            tracing::error!(volume = %id, %error, "a volume did not close well; {}", open.engine.kept())
        }
        Err(_) => {
            tracing::error!(volume = %id, ?limit, "a volume takes too long to close; {}", open.engine.kept())
        }
    }
}

fn in_store(store: &InStore, bucket: &Bucket, local: LocalOptions) -> StoreOptions {
    let named = format!("{}/{}", bucket.owner, bucket.name);
    StoreOptions {
        place: store.backing.volume(&bucket.owner, bucket.place()),
        local,
        class: bucket.durability,
        accept_loss: store.accept_loss.contains(&named),
        owner: store.owner.clone(),
    }
}
