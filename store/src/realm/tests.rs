#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use mooring_policy::access::AccessKey;
use mooring_policy::action::{Action, ActionSet};
use mooring_policy::decide::decide;
use mooring_policy::grant::Grant;
use mooring_policy::ids::{BucketName, GrantId, TenantId, VmId};
use mooring_policy::principal::Principal;
use mooring_policy::resource::{Prefix, Resource};
use mooring_policy::rng::SeededRandom;
use mooring_policy::time::{Clock, ManualClock};
use mooring_protocol::api::Channel;

use super::{Realm, RealmError, RealmOptions, door_of};
use crate::backend::DataDir;
use crate::meta::BlockCache;
use crate::seal::MasterKey;

struct House {
    dir: tempfile::TempDir,
    clock: Arc<ManualClock>,
    random: Arc<SeededRandom>,
}

fn tenant(name: &str) -> TenantId {
    TenantId::try_from(name).unwrap()
}

fn bucket(name: &str) -> BucketName {
    BucketName::try_from(name).unwrap()
}

impl House {
    fn new() -> House {
        let clock = ManualClock::new("2026-11-21T12:00:00Z".parse().unwrap());
        House {
            dir: tempfile::tempdir().unwrap(),
            clock: Arc::new(clock),
            random: Arc::new(SeededRandom::new(7)),
        }
    }

    fn master(&self) -> MasterKey {
        let path = self.dir.path().join("master.key");
        MasterKey::load(&path).or_else(|_| MasterKey::create(&path, &*self.random)).unwrap()
    }

    async fn open_with(&self, master: MasterKey) -> Result<Arc<Realm>, RealmError> {
        let clock: Arc<dyn Clock> = Arc::clone(&self.clock) as _;
        Realm::open(RealmOptions {
            data: DataDir::open(self.dir.path().join("data")).unwrap(),
            master,
            cache: Arc::new(BlockCache::new(8 << 20)),
            clock,
            random: Arc::clone(&self.random) as _,
        })
        .await
    }

    async fn open(&self) -> Arc<Realm> {
        self.open_with(self.master()).await.unwrap()
    }

    fn grant(&self, name: &str) -> Grant {
        Grant {
            id: GrantId::random(&*self.random),
            owner: tenant("acme"),
            grantee: tenant("globex"),
            bucket: bucket("photos"),
            prefix: "2026/".parse::<Prefix>().unwrap(),
            actions: ActionSet::READ,
            not_before: self.clock.now(),
            until: None,
            depth: 0,
            parent: None,
            name: name.parse().unwrap(),
            note: String::new(),
        }
    }
}

async fn furnished(house: &House) -> Arc<Realm> {
    let realm = house.open().await;
    realm.tenant_create(&tenant("acme")).await.unwrap();
    realm.tenant_create(&tenant("globex")).await.unwrap();
    realm.bucket_create(&tenant("acme"), &bucket("photos")).await.unwrap();
    realm
}

#[tokio::test]
async fn everything_is_there_after_reopening() {
    let house = House::new();
    let realm = furnished(&house).await;
    let vm: VmId = "vm1".parse().unwrap();
    let vm_row = realm.vm_attach(&tenant("acme"), &vm, Channel::Cid(42)).await.unwrap();
    let grant = realm.grant_put(house.grant("trip")).await.unwrap();
    realm.grant_accept(grant.grant.id, true).await.unwrap();
    let key = AccessKey::generate(&*house.random, tenant("acme"), None, None);
    realm.access_key_put(key.clone()).await.unwrap();
    let (id, keys, data_key) =
        (realm.token_realm(), realm.keys().current(), realm.tenant_key(&tenant("acme")).unwrap());
    realm.close().await.unwrap();
    drop(realm);

    let realm = house.open().await;
    assert_eq!(realm.token_realm(), id);
    assert_eq!(realm.keys().current(), keys);
    assert_eq!(realm.tenants().len(), 2);
    assert_eq!(realm.vms(), vec![vm_row]);
    assert_eq!(realm.access_key(&key.id), Some(key));
    let again = realm.grant(grant.grant.id).unwrap();
    assert!(again.accepted);
    assert_eq!(again.grant, grant.grant);
    assert_eq!(again.door(), door_of(grant.grant.id));
    let hash = |k: &crate::seal::TenantKey| k.hash_key().hash(b"x");
    assert_eq!(hash(&realm.tenant_key(&tenant("acme")).unwrap()), hash(&data_key));
}

#[tokio::test]
async fn a_kill_without_close_loses_nothing_that_returned() {
    let house = House::new();
    let realm = furnished(&house).await;
    realm.grant_put(house.grant("trip")).await.unwrap();
    drop(realm);
    assert_eq!(house.open().await.grants().len(), 1);
}

#[tokio::test]
async fn names_used_again_outlive_what_was_issued_before() {
    let house = House::new();
    let realm = furnished(&house).await;
    let vm: VmId = "vm1".parse().unwrap();
    let first = realm.vm_attach(&tenant("acme"), &vm, Channel::Cid(42)).await.unwrap();
    realm.vm_detach(&tenant("acme"), &vm).await.unwrap();
    let second = realm.vm_attach(&tenant("acme"), &vm, Channel::Cid(42)).await.unwrap();
    assert!(second.generation > first.generation);

    let volume = realm.bucket(&tenant("acme"), &bucket("photos")).unwrap().volume;
    realm.bucket_rm(&tenant("acme"), &bucket("photos")).await.unwrap();
    let again = realm.bucket_create(&tenant("acme"), &bucket("photos")).await.unwrap();
    assert_ne!(again.volume, volume);
    assert_eq!(realm.bucket_of(volume), None);

    let epoch = realm.tenant(&tenant("globex")).unwrap().epoch;
    realm.tenant_rm(&tenant("globex")).await.unwrap();
    assert!(matches!(realm.tenant_key(&tenant("globex")), Err(RealmError::NoTenant(_))));
    assert!(realm.tenant_create(&tenant("globex")).await.unwrap().epoch > epoch);
}

#[tokio::test]
async fn what_stands_in_the_way_is_named() {
    let house = House::new();
    let realm = furnished(&house).await;
    let vm = |n: &str| n.parse::<VmId>().unwrap();
    let acme = tenant("acme");
    assert!(matches!(realm.tenant_create(&acme).await, Err(RealmError::TenantExists(_))));
    assert!(matches!(realm.tenant_create(&tenant("mooring-realm")).await, Err(RealmError::TenantExists(_))));
    assert!(matches!(realm.tenant_rm(&acme).await, Err(RealmError::TenantInUse { buckets: 1, vms: 0, .. })));
    assert!(matches!(
        realm.bucket_create(&acme, &bucket("photos")).await,
        Err(RealmError::BucketExists { .. })
    ));
    assert!(matches!(
        realm.bucket_create(&tenant("nobody"), &bucket("b-1")).await,
        Err(RealmError::NoTenant(_))
    ));
    realm.vm_attach(&acme, &vm("a"), Channel::Cid(42)).await.unwrap();
    let taken = realm.vm_attach(&tenant("globex"), &vm("b"), Channel::Cid(42)).await;
    assert!(matches!(taken, Err(RealmError::ChannelTaken { .. })));
    realm.grant_put(house.grant("trip")).await.unwrap();
    assert!(matches!(realm.grant_put(house.grant("trip")).await, Err(RealmError::ShareNameTaken { .. })));
    let mut foreign = house.grant("other");
    foreign.grantee = tenant("nobody");
    assert!(matches!(realm.grant_put(foreign).await, Err(RealmError::NoTenant(_))));
}

#[tokio::test]
async fn a_revoked_grant_no_longer_decides() {
    let house = House::new();
    let realm = furnished(&house).await;
    let grant = realm.grant_put(house.grant("trip")).await.unwrap();
    let who = Principal::Tenant { tenant: tenant("globex") };
    let what = Resource {
        owner: tenant("acme"),
        bucket: bucket("photos"),
        key: Some(b"2026/a.jpg".to_vec().into()),
    };
    let may = |realm: &Realm| {
        decide(&who, Action::Read, &what, &realm.grant_index(), None, house.clock.now()).is_allowed()
    };
    assert!(may(&realm));
    realm.grant_revoke(grant.grant.id).await.unwrap();
    assert!(!may(&realm));
    assert!(realm.grant_put(house.grant("trip")).await.is_ok(), "the name is free again");
}

#[tokio::test]
async fn rotated_keys_keep_stored_grants_good() {
    let house = House::new();
    let realm = furnished(&house).await;
    realm.grant_put(house.grant("trip")).await.unwrap();
    let before = realm.keys().current();
    realm.rotate_keys().await.unwrap();
    assert_ne!(realm.keys().current(), before);
    drop(realm);
    let realm = house.open().await;
    assert_eq!(realm.grants().len(), 1);
}

#[tokio::test]
async fn the_wrong_master_key_is_refused_and_named() {
    let house = House::new();
    drop(furnished(&house).await);
    let other = MasterKey::create(&house.dir.path().join("other.key"), &*house.random).unwrap();
    let name = other.fingerprint();
    let error = house.open_with(other).await.err().unwrap();
    assert!(error.to_string().contains(&name), "{error}");
}

#[tokio::test]
async fn a_second_gateway_on_the_directory_is_refused() {
    let house = House::new();
    let _first = house.open().await;
    assert!(house.open_with(house.master()).await.is_err());
}

#[tokio::test]
async fn nothing_secret_lies_in_clear_on_the_disk() {
    let house = House::new();
    let realm = furnished(&house).await;
    let key = AccessKey::generate(&*house.random, tenant("acme"), None, None);
    realm.access_key_put(key.clone()).await.unwrap();
    realm.close().await.unwrap();
    let secret = key.secret.expose().as_bytes().to_vec();
    let mut files = 0;
    let mut stack = vec![house.dir.path().join("data")];
    while let Some(dir) = stack.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                stack.push(path);
            } else {
                files += 1;
                let bytes = std::fs::read(&path).unwrap();
                assert!(!bytes.windows(secret.len()).any(|w| w == secret), "{}", path.display());
            }
        }
    }
    assert!(files > 3, "the registry was not where it was looked for");
}
