//! An installation with a tenant and a volume, and a look at what its files hold.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use crate::common;
use crate::volumes::{name, owner};
use bytes::Bytes;
use mooring_policy::ids::{BucketName, TenantId};
use mooring_policy::rng::{Random, SeededRandom};
use mooring_protocol::types::{Ino, NewNode};
use mooring_store::api::{Tree, WriteAt};
use mooring_store::backend::DataDir;
use mooring_store::memory::Memory;
use mooring_store::realm::{Attach, Durability, External, Realm, RealmError, RealmOptions, SealedSecret};
use mooring_store::seal::{MasterKey, MasterKeys};
use mooring_store::volume::{Config, LocalOptions, Volume};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub fn master(seed: u64) -> MasterKey {
    let mut key = [0; 32];
    SeededRandom::new(seed).fill(&mut key);
    MasterKey::parse(&hex(&key), Path::new("test")).unwrap()
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn masters(seeds: &[u64]) -> MasterKeys {
    let mut keys = MasterKeys::default();
    for seed in seeds {
        keys.found(master(*seed), format!("key {seed}"));
    }
    keys
}

pub fn options(dir: &Path, keys: MasterKeys) -> RealmOptions {
    RealmOptions {
        data: DataDir::open(dir.join("data")).unwrap(),
        master: Arc::new(keys),
        cache: Memory::new(64 << 20).blocks(),
        random: common::random(),
        clock: common::clock(),
    }
}

pub async fn open(dir: &Path, keys: MasterKeys) -> Result<Arc<Realm>, RealmError> {
    Realm::open(options(dir, keys)).await
}

pub fn acme() -> TenantId {
    "acme".parse().unwrap()
}

pub fn photos() -> BucketName {
    "photos".parse().unwrap()
}

/// A bucket of another service, entered with this secret.
pub fn elsewhere(secret: &str) -> Attach {
    let external = External {
        endpoint: None,
        region: "here".to_owned(),
        bucket: "shop".to_owned(),
        prefix: String::new(),
        path_style: false,
        access_key: "key".to_owned(),
        secret: SealedSecret::none(),
        read_only: false,
        refresh_ms: 5000,
        owner: (0, 0),
        modes: (0o644, 0o755),
        spool_bytes: 1 << 20,
    };
    Attach { external, secret: secret.to_owned().into() }
}

pub async fn volume(dir: &Path, realm: &Realm, tenant: &TenantId) -> Arc<Volume> {
    let id = realm.buckets(Some(tenant)).await.unwrap()[0].volume;
    let keys = realm.tenant_key(tenant).await.unwrap().volume(id);
    let options = LocalOptions {
        dir: DataDir::open(dir.join("data")).unwrap().volume(tenant, id),
        keys,
        memory: Memory::new(64 << 20),
        random: common::random(),
        clock: common::clock(),
        config: Config::default(),
    };
    Volume::open_local(options).await.unwrap()
}

/// Bytes that are long enough for a pack, and their own.
pub fn content(seed: u64) -> Bytes {
    let mut data = vec![0; 300_000];
    SeededRandom::new(seed).fill(&mut data);
    data.into()
}

pub async fn write(volume: &Volume, file: &str, data: Bytes) {
    let cx = owner();
    let node = NewNode::File { open: None };
    let file = volume.create(&cx, Ino::ROOT, &name(file), 0o644, (0, 0), &node).await.unwrap();
    volume.write(&cx, file.ino, WriteAt::Offset(0), data, None, false).await.unwrap();
}

pub async fn read(volume: &Volume, file: &str) -> Vec<u8> {
    let cx = owner();
    let file = volume.lookup(&cx, Ino::ROOT, &name(file)).await.unwrap();
    let mut back = Vec::new();
    while (back.len() as u64) < file.size {
        let (parts, _) = volume.read(&cx, file.ino, back.len() as u64, 1 << 20).await.unwrap();
        parts.iter().for_each(|part| back.extend_from_slice(part));
    }
    back
}

/// All files below `dir`.
pub fn files(dir: &Path) -> Vec<PathBuf> {
    let (mut found, mut dirs) = (Vec::new(), vec![dir.to_path_buf()]);
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { dirs.push(path) } else { found.push(path) }
        }
    }
    found
}

/// Files below `dir` that hold these bytes.
pub fn holders(dir: &Path, bytes: &[u8]) -> Vec<PathBuf> {
    let holds = |path: &PathBuf| std::fs::read(path).unwrap().windows(bytes.len()).any(|part| part == bytes);
    files(dir).into_iter().filter(holds).collect()
}

pub fn ring(dir: &Path) -> serde_json::Value {
    let text = std::fs::read(dir.join("data/realm/keyring")).unwrap();
    let end = text.iter().position(|byte| *byte == b'\n').unwrap();
    serde_json::from_slice(&text[end + 1..]).unwrap()
}

pub fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    std::fs::set_permissions(to, std::fs::Permissions::from_mode(0o700)).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_tree(&path, &target);
        } else {
            std::fs::copy(&path, &target).unwrap();
            std::fs::set_permissions(&target, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
    }
}

pub async fn with_volume(dir: &Path, keys: MasterKeys) -> (Arc<Realm>, Arc<Volume>) {
    let realm = open(dir, keys).await.unwrap();
    realm.tenant_create(&acme()).await.unwrap();
    realm.bucket_create(&acme(), &photos(), Durability::Store).await.unwrap();
    let volume = volume(dir, &realm, &acme()).await;
    (realm, volume)
}
