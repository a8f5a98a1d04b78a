//! A real core over a real volume in a temporary directory, and agents that speak the protocol to it over real unix
//! sockets.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "each test binary uses its part")]

pub mod agent;
pub mod process;
pub mod raw;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mooring_gateway::core::coherent::OneShot;
use mooring_gateway::core::gate::Gate;
use mooring_gateway::core::identity::Who;
use mooring_gateway::core::limits::Limits;
use mooring_gateway::core::standing::Standing;
use mooring_gateway::core::volumes::VolumeOptions;
use mooring_gateway::core::{Core, CoreDeps};
use mooring_policy::action::ActionSet;
use mooring_policy::grant::Grant;
use mooring_policy::ids::{BucketName, GrantId, TenantId, VmId};
use mooring_policy::principal::Principal;
use mooring_policy::resource::Prefix;
use mooring_policy::rng::SystemRandom;
use mooring_policy::time::{SystemClock, Timestamp};
use mooring_policy::token;
use mooring_store::api::Caller;
use mooring_store::backend::DataDir;
use mooring_store::memory::Memory;
use mooring_store::realm::{Channel, RealmOptions, Vm};
use mooring_store::seal::MasterKey;
use tempfile::TempDir;

pub use agent::{Agent, Conduct};

/// Longest wait for something that is to happen.
pub const LIMIT: Duration = Duration::from_secs(20);

pub struct World {
    pub core: Arc<Core>,
    pub dir: PathBuf,
    _temp: Option<Arc<TempDir>>,
}

pub fn tenant(name: &str) -> TenantId {
    name.parse().unwrap()
}

pub fn bucket(name: &str) -> BucketName {
    name.parse().unwrap()
}

impl World {
    /// Two tenants; acme has a bucket `photos` and VMs `one`, `two`, `three`, globex a VM `g`.
    pub async fn new() -> World {
        let temp = Arc::new(tempfile::tempdir().unwrap());
        World::furnish(temp.path(), Some(temp.clone()), Limits::default()).await
    }

    /// The same with other limits.
    pub async fn with_limits(limits: Limits) -> World {
        let temp = Arc::new(tempfile::tempdir().unwrap());
        World::furnish(temp.path(), Some(temp.clone()), limits).await
    }

    /// The same in a directory that somebody else keeps.
    pub async fn furnish(dir: &Path, temp: Option<Arc<TempDir>>, limits: Limits) -> World {
        let world = World::open(dir, temp, limits).await;
        let realm = world.core.realm();
        for name in ["acme", "globex"] {
            realm.tenant_create(&tenant(name)).await.unwrap();
        }
        realm.bucket_create(&tenant("acme"), &bucket("photos"), Default::default()).await.unwrap();
        world.core.reload().await.unwrap();
        for (owner, vm) in [("acme", "one"), ("acme", "two"), ("acme", "three"), ("globex", "g")] {
            world.attach(owner, vm).await;
        }
        world
    }

    async fn open(dir: &Path, temp: Option<Arc<TempDir>>, limits: Limits) -> World {
        let data = DataDir::open(dir.join("data")).unwrap();
        let master = data.master_key();
        let master = match MasterKey::load(&master) {
            Ok(key) => key,
            Err(_) => MasterKey::create(&master, &SystemRandom).unwrap(),
        };
        let memory = Memory::new(64 << 20);
        let store = RealmOptions {
            data,
            master: Arc::new(master.into()),
            cache: memory.blocks(),
            random: Arc::new(SystemRandom),
            clock: Arc::new(SystemClock::new()),
        };
        let volumes = VolumeOptions { config: Default::default(), max_open: 64, memory, store: None };
        let token_realm = token::Realm { issuer: "mooring".into(), audience: "mooring".into() };
        let standing = Standing::alone(store.clock.clone());
        let core = Core::open(CoreDeps { store, volumes, token_realm, limits, standing }).await.unwrap();
        World { core, dir: dir.to_owned(), _temp: temp }
    }

    /// Opens the same directory again.
    pub async fn again(dir: &Path, temp: Option<Arc<TempDir>>) -> World {
        let world = World::open(dir, temp, Limits::default()).await;
        world.core.listen_all().await.unwrap();
        world
    }

    pub fn temp(&self) -> Arc<TempDir> {
        self._temp.clone().unwrap()
    }

    pub async fn attach(&self, owner: &str, vm: &str) -> Vm {
        let channel = Channel::Unix(self.socket(owner, vm));
        let name: VmId = vm.parse().unwrap();
        let vm = self.core.realm().vm_attach(&tenant(owner), &name, channel).await.unwrap();
        self.core.listen(&vm).await.unwrap();
        vm
    }

    pub fn socket(&self, owner: &str, vm: &str) -> PathBuf {
        self.dir.join(format!("{owner}-{vm}.sock"))
    }

    /// An agent in acme's VM.
    pub async fn agent(&self, vm: &str) -> Agent {
        Agent::connect(&self.socket("acme", vm), Conduct::Honest, None).await
    }

    pub async fn agent_with(&self, owner: &str, vm: &str, conduct: Conduct) -> Agent {
        Agent::connect(&self.socket(owner, vm), conduct, None).await
    }

    /// The volume of acme's bucket as S3 sees it.
    pub async fn one_shot(&self) -> (Arc<OneShot>, Caller) {
        let who = Who::new(Principal::Tenant { tenant: tenant("acme") });
        let door = self.core.doors(&who).await[0].id;
        let passage = self.core.open(&who, door).await.unwrap();
        let caller = passage.caller(self.core.now(), 0);
        (OneShot::new(passage.volume), caller)
    }

    /// Shares a prefix of acme's bucket with globex, accepted; returns the grant's id and its door.
    pub async fn share(&self, prefix: &str, rights: ActionSet) -> (GrantId, u64) {
        self.share_until(prefix, rights, None).await
    }

    pub async fn share_until(
        &self,
        prefix: &str,
        rights: ActionSet,
        until: Option<Timestamp>,
    ) -> (GrantId, u64) {
        let grant = Grant {
            id: GrantId::random(&SystemRandom),
            owner: tenant("acme"),
            grantee: tenant("globex"),
            bucket: bucket("photos"),
            prefix: prefix.parse::<Prefix>().unwrap(),
            actions: rights,
            not_before: Timestamp::ZERO,
            until,
            depth: 0,
            parent: None,
            name: "shared".parse().unwrap(),
            note: String::new(),
        };
        let id = grant.id;
        let statement =
            token::sign_grant(&self.core.registry().keys, self.core.token_realm(), &grant).unwrap();
        self.core.realm().grant_put(grant, statement).await.unwrap();
        self.core.realm().grant_accept(id, Some("shared".parse().unwrap())).await.unwrap();
        self.core.reload().await.unwrap();
        (id, mooring_gateway::core::registry::door_of(id))
    }
}
