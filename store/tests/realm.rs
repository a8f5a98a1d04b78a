//! The registry, over the engine that runs.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use mooring_policy::access::AccessKey;
use mooring_policy::action::{Action, ActionSet};
use mooring_policy::grant::Grant;
use mooring_policy::ids::{BucketName, Epoch, Generation, GrantId, TenantId, TokenId, VmId, VolumeId};
use mooring_policy::resource::Prefix;
use mooring_policy::rng::SystemRandom;
use mooring_policy::time::Timestamp;
use mooring_policy::token::{self, sign_grant, verify_grant};
use mooring_store::backend::DataDir;
use mooring_store::meta::BlockCache;
use mooring_store::realm::{Channel, Doomed, Durability, Realm, RealmError, RealmOptions};
use mooring_store::seal::{MasterKey, SealError};
use std::path::Path;
use std::sync::Arc;

fn options(dir: &Path, master: MasterKey) -> RealmOptions {
    RealmOptions {
        data: DataDir::open(dir.join("data")).unwrap(),
        master: Arc::new(master.into()),
        cache: Arc::new(BlockCache::new(4 << 20, 4 << 20)),
        random: common::random(),
        clock: common::clock(),
    }
}

async fn open(dir: &Path) -> Arc<Realm> {
    let path = dir.join("master.key");
    let master = if path.exists() { MasterKey::load(&path) } else { MasterKey::create(&path, &SystemRandom) };
    Realm::open(options(dir, master.unwrap())).await.unwrap()
}

fn tenant(name: &str) -> TenantId {
    name.parse().unwrap()
}

fn bucket(name: &str) -> BucketName {
    name.parse().unwrap()
}

fn vm(name: &str) -> VmId {
    name.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tenants_and_buckets_live_and_die() {
    let dir = tempfile::tempdir().unwrap();
    let realm = open(dir.path()).await;
    let (acme, globex) = (tenant("acme"), tenant("globex"));
    realm.tenant_create(&acme).await.unwrap();
    assert!(matches!(realm.tenant_create(&acme).await, Err(RealmError::TenantExists(_))));
    realm.tenant_create(&globex).await.unwrap();
    // A name that begins another's does not see its rows.
    realm.tenant_create(&tenant("acme-2")).await.unwrap();

    let photos = realm.bucket_create(&acme, &bucket("photos"), Durability::Store).await.unwrap();
    let same_name = realm.bucket_create(&globex, &bucket("photos"), Durability::Host).await.unwrap();
    realm.bucket_create(&tenant("acme-2"), &bucket("photos"), Durability::Store).await.unwrap();
    assert_eq!((photos.volume, same_name.volume), (VolumeId(1), VolumeId(2)));
    let again = realm.bucket_create(&acme, &bucket("photos"), Durability::Store).await;
    assert!(matches!(again, Err(RealmError::BucketExists(..))));
    assert!(matches!(
        realm.bucket_create(&tenant("nobody"), &bucket("photos"), Durability::Store).await,
        Err(RealmError::NoSuchTenant(_))
    ));
    assert_eq!(realm.buckets(Some(&acme)).await.unwrap(), std::slice::from_ref(&photos));
    assert_eq!(realm.buckets(None).await.unwrap().len(), 3);

    let before = realm.tenant_key(&acme).await.unwrap().hash_key().hash(b"x");
    assert_ne!(before, realm.tenant_key(&globex).await.unwrap().hash_key().hash(b"x"));
    assert!(matches!(
        realm.tenant_rm(&acme, false).await,
        Err(RealmError::TenantNotEmpty { what: "buckets", .. })
    ));
    realm.bucket_rm(&acme, &bucket("photos")).await.unwrap();
    assert!(matches!(realm.bucket(&acme, &bucket("photos")).await, Err(RealmError::NoSuchBucket(..))));
    assert_eq!(realm.doomed_volumes().await.unwrap(), [Doomed::of(&photos)]);
    realm.close().await.unwrap();
    drop(realm);

    let realm = open(dir.path()).await;
    assert_eq!(realm.doomed_volumes().await.unwrap().len(), 1);
    realm.volume_removed(photos.volume).await.unwrap();
    assert!(realm.doomed_volumes().await.unwrap().is_empty());
    assert_eq!(realm.tenant_key(&acme).await.unwrap().hash_key().hash(b"x"), before);
    let reborn = realm.bucket_create(&acme, &bucket("photos"), Durability::Store).await.unwrap();
    assert_eq!(reborn.volume, VolumeId(4), "ids are never used again");
    assert_eq!(realm.volume_id().await.unwrap(), VolumeId(5));
    assert_eq!((realm.view_id().await.unwrap(), realm.view_id().await.unwrap()), (1, 2));

    // A removed tenant's name begins anew with another key and a later epoch.
    realm.bucket_rm(&acme, &bucket("photos")).await.unwrap();
    realm.tenant_rm(&acme, false).await.unwrap();
    assert!(matches!(realm.tenant(&acme).await, Err(RealmError::NoSuchTenant(_))));
    assert_eq!(realm.tenants().await.unwrap().len(), 2);
    assert!(realm.tenant_create(&acme).await.unwrap().epoch > Epoch(1));
    assert_ne!(realm.tenant_key(&acme).await.unwrap().hash_key().hash(b"x"), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vms_have_one_channel_and_rising_generations() {
    let dir = tempfile::tempdir().unwrap();
    let realm = open(dir.path()).await;
    let acme = tenant("acme");
    realm.tenant_create(&acme).await.unwrap();
    let attached = realm.vm_attach(&acme, &vm("one"), Channel::Cid(42)).await.unwrap();
    assert_eq!(attached.generation, Generation(1));
    let taken = realm.vm_attach(&acme, &vm("two"), Channel::Cid(42)).await.unwrap_err();
    assert!(taken.to_string().contains("VM one of tenant acme"), "{taken}");
    for name in ["two", "three"] {
        realm.vm_attach(&acme, &vm(name), Channel::Tcp).await.unwrap();
    }
    let moved = realm.vm_attach(&acme, &vm("one"), Channel::Hybrid("/run/one.sock".into())).await.unwrap();
    assert_eq!(moved.generation, Generation(2));
    assert_eq!(realm.vms(Some(&acme)).await.unwrap().len(), 3);
    assert!(matches!(
        realm.tenant_rm(&acme, false).await,
        Err(RealmError::TenantNotEmpty { what: "VMs", .. })
    ));
    assert_eq!(realm.vm_detach(&acme, &vm("one")).await.unwrap().generation, Generation(3));
    assert!(matches!(realm.vm(&acme, &vm("one")).await, Err(RealmError::NoSuchVm(..))));
    assert!(matches!(realm.vm_detach(&acme, &vm("one")).await, Err(RealmError::NoSuchVm(..))));
    let back = realm.vm_attach(&acme, &vm("one"), Channel::Cid(42)).await.unwrap();
    assert_eq!(back.generation, Generation(4), "an old boot's number never comes again");
}

fn grant(owner: &str, grantee: &str, parent: Option<GrantId>) -> Grant {
    Grant {
        id: GrantId::random(&SystemRandom),
        owner: tenant(owner),
        grantee: tenant(grantee),
        bucket: bucket("photos"),
        prefix: Prefix::new(b"2026/").unwrap(),
        actions: [Action::Read].into_iter().collect::<ActionSet>(),
        not_before: Timestamp::ZERO,
        until: Some(Timestamp::from_secs(4_000_000_000)),
        depth: 1,
        parent,
        name: "photos".parse().unwrap(),
        note: "for the printer".to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grants_are_kept_found_and_revoked_with_what_hangs_on_them() {
    let dir = tempfile::tempdir().unwrap();
    let realm = open(dir.path()).await;
    for name in ["acme", "globex", "initech"] {
        realm.tenant_create(&tenant(name)).await.unwrap();
    }
    let keys = realm.signing_keys().await.unwrap();
    let named = token::Realm { issuer: "test".to_owned(), audience: "test".to_owned() };
    let first = grant("acme", "globex", None);
    let statement = sign_grant(&keys, &named, &first).unwrap();
    let early = realm.grant_put(first.clone(), statement.clone()).await;
    assert!(matches!(early, Err(RealmError::NoSuchBucket(..))));
    realm.bucket_create(&tenant("acme"), &bucket("photos"), Durability::Store).await.unwrap();
    realm.grant_put(first.clone(), statement.clone()).await.unwrap();
    assert!(matches!(realm.grant_put(first.clone(), statement).await, Err(RealmError::GrantExists(_))));
    let second = grant("acme", "initech", Some(first.id));
    realm.grant_put(second.clone(), sign_grant(&keys, &named, &second).unwrap()).await.unwrap();
    let other = grant("acme", "initech", None);
    realm.grant_put(other.clone(), sign_grant(&keys, &named, &other).unwrap()).await.unwrap();
    realm.grant_accept(first.id, Some("from-acme".parse().unwrap())).await.unwrap();
    drop(realm);

    // The keys that signed come back, and what they signed verifies.
    let realm = open(dir.path()).await;
    let keys = realm.signing_keys().await.unwrap();
    let now = Timestamp::from_secs(2_000_000_000);
    let row = realm.grant(first.id).await.unwrap();
    assert_eq!(verify_grant(keys.public(), &named, &row.statement).unwrap(), first);
    assert!(row.in_force(now) && row.accepted == Some("from-acme".parse().unwrap()));
    let rotated = realm.rotate_signing_keys().await.unwrap();
    assert_ne!(rotated.current(), keys.current());
    verify_grant(rotated.public(), &named, &row.statement).unwrap();

    let ids = |rows: Vec<mooring_store::realm::GrantRow>| {
        rows.into_iter().map(|row| row.grant.id).collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(ids(realm.grants_of_grantee(&tenant("globex")).await.unwrap()), [first.id].into());
    assert_eq!(ids(realm.grants_of_grantee(&tenant("initech")).await.unwrap()), [second.id, other.id].into());
    assert_eq!(realm.grants_of_owner(&tenant("acme")).await.unwrap().len(), 3);
    assert!(realm.grants_of_owner(&tenant("globex")).await.unwrap().is_empty());

    let revoked = realm.grant_revoke(first.id).await.unwrap();
    assert_eq!(ids(revoked), [first.id, second.id].into());
    assert!(realm.grant_revoke(first.id).await.unwrap().is_empty(), "revoked once");
    assert!(!realm.grant(second.id).await.unwrap().in_force(now));
    assert!(realm.grant(other.id).await.unwrap().in_force(now));

    realm.bucket_rm(&tenant("acme"), &bucket("photos")).await.unwrap();
    assert!(realm.grants().await.unwrap().is_empty());
    assert!(realm.grants_of_grantee(&tenant("initech")).await.unwrap().is_empty());
    assert!(matches!(realm.grant(other.id).await, Err(RealmError::NoSuchGrant(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn access_keys_and_revocations_survive() {
    let dir = tempfile::tempdir().unwrap();
    let realm = open(dir.path()).await;
    realm.tenant_create(&tenant("acme")).await.unwrap();
    let key = AccessKey::generate(&SystemRandom, tenant("acme"), None, None);
    realm.access_key_put(&key).await.unwrap();
    let credential = realm.credential_key().await.unwrap();
    realm.tenant_raise_epoch(&tenant("acme")).await.unwrap();
    realm.raise_realm_epoch().await.unwrap();
    let token = TokenId::random(&SystemRandom);
    realm.revoke_token(token, Timestamp::MAX).await.unwrap();
    drop(realm);

    let realm = open(dir.path()).await;
    assert_eq!(realm.access_key(&key.id).await.unwrap().secret.expose(), key.secret.expose());
    assert_eq!(realm.access_keys(&tenant("acme")).await.unwrap().len(), 1);
    let again = realm.credential_key().await.unwrap();
    assert_eq!(again.to_secret_bytes(), credential.to_secret_bytes());
    assert_eq!(realm.tenant(&tenant("acme")).await.unwrap().epoch, Epoch(2));
    assert_eq!(realm.realm_epoch().await.unwrap(), Epoch(2));
    assert_eq!(realm.revocations().await.unwrap().listed_tokens(), 1);
    realm.access_key_rm(&key.id).await.unwrap();
    assert!(matches!(realm.access_key(&key.id).await, Err(RealmError::NoSuchKey(_))));
    assert!(matches!(realm.access_key_rm(&key.id).await, Err(RealmError::NoSuchKey(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_master_key_or_a_second_gateway_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let realm = open(dir.path()).await;
    realm.tenant_create(&tenant("acme")).await.unwrap();
    let secret = realm.tenant_key(&tenant("acme")).await.unwrap();
    let master = || MasterKey::load(&dir.path().join("master.key")).unwrap();
    let second = Realm::open(options(dir.path(), master())).await.err().unwrap();
    assert!(second.to_string().contains(&std::process::id().to_string()), "{second}");
    realm.close().await.unwrap();
    drop((realm, secret));

    let other = MasterKey::create(&dir.path().join("other.key"), &SystemRandom).unwrap();
    match Realm::open(options(dir.path(), other)).await.err().unwrap() {
        RealmError::Seal(SealError::MasterNeeded { owner, .. }) => assert_eq!(owner, "realm"),
        error => panic!("{error}"),
    }
    Realm::open(options(dir.path(), master())).await.unwrap();
}

/// Looks through every byte on disk for what must not be readable there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_are_nowhere_in_clear() {
    let dir = tempfile::tempdir().unwrap();
    let realm = open(dir.path()).await;
    realm.tenant_create(&tenant("acme")).await.unwrap();
    let key = AccessKey::generate(&SystemRandom, tenant("acme"), None, None);
    realm.access_key_put(&key).await.unwrap();
    realm.close().await.unwrap();
    let (mut files, mut dirs) = (0, vec![dir.path().join("data")]);
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
                continue;
            }
            files += 1;
            let bytes = std::fs::read(&path).unwrap();
            let secret = key.secret.expose().as_bytes();
            assert!(!bytes.windows(secret.len()).any(|part| part == secret), "{}", path.display());
        }
    }
    assert!(files > 4);
}

/// Who asked goes away in the midst of it, again and again at other moments: no number comes twice, what was begun is whole,
/// and somebody hears of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_ends_though_who_asked_for_it_has_left() {
    let dir = tempfile::tempdir().unwrap();
    let realm = open(dir.path()).await;
    let acme = tenant("acme");
    realm.tenant_create(&acme).await.unwrap();
    let changes = realm.changes();
    let before = *changes.borrow();
    let (mut told, mut left) = (0, 0);
    for number in 0..400_u32 {
        let (asking, acme) = (realm.clone(), acme.clone());
        let name = bucket(&format!("bucket-{number}"));
        let asked = tokio::spawn(async move { asking.bucket_create(&acme, &name, Durability::Store).await });
        // After 0, 1, 2, ... steps of its way.
        for _ in 0..number % 40 {
            tokio::task::yield_now().await;
        }
        asked.abort();
        match asked.await {
            Ok(made) => {
                made.unwrap();
                told += 1;
            }
            Err(_) => left += 1,
        }
    }
    // One more takes its turn after all of them.
    realm.bucket_create(&acme, &bucket("last"), Durability::Store).await.unwrap();
    let made = realm.buckets(Some(&acme)).await.unwrap();
    let volumes: std::collections::HashSet<VolumeId> = made.iter().map(|bucket| bucket.volume).collect();
    assert_eq!(volumes.len(), made.len(), "two buckets have one volume");
    let now = *changes.borrow();
    assert!(told < made.len() && left > 0, "nobody left while it was under way: {told} told, {left} left");
    assert_eq!((now.ended - before.ended) as usize, made.len(), "a change is not counted");
    assert!((1..=left).contains(&(now.unattended as usize)), "{now:?}, {left} left");
}
