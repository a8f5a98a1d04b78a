//! Keys that change and keys that go, while everything stays readable that should and nothing else.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;
#[path = "keys/installation.rs"]
mod installation;
mod volumes;

use bytes::Bytes;
use installation::*;
use mooring_protocol::types::Ino;
use mooring_store::api::Tree;
use mooring_store::backend::{Backing, DataDir, StoreConfig};
use mooring_store::checkpoint::verify;
use mooring_store::failpoints::{Point, Strike, arm, disarm};
use mooring_store::memory::Memory;
use mooring_store::realm::{Realm, RealmError};
use mooring_store::seal::{KeyGeneration, MasterKey, MasterKeys, SealError, TenantKeys};
use mooring_store::volume::{Config, LocalOptions, Volume};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use volumes::{name, owner};

/// Points strike at one process: tests of this binary that arm one take turns when they share it.
static STRIKES: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_master_key_is_replaced_while_a_volume_is_open() {
    let dir = tempfile::tempdir().unwrap();
    let (realm, volume) = with_volume(dir.path(), masters(&[1])).await;
    write(&volume, "before", content(1)).await;
    assert_eq!(realm.rotate_master(master(2), "key 2").await.unwrap(), 4);
    assert_eq!(realm.masters().0, master(2).fingerprint());
    assert!(realm.key_list().iter().all(|key| key.master == master(2).fingerprint()));
    write(&volume, "after", content(2)).await;
    realm.tenant_create(&"later".parse().unwrap()).await.unwrap();
    volume.close().await.unwrap();
    realm.close().await.unwrap();
    drop((volume, realm));
    assert_eq!(holders(dir.path(), master(1).fingerprint().as_bytes()), Vec::<PathBuf>::new());

    // The old key opens nothing, and what is needed is said.
    match open(dir.path(), masters(&[1])).await.err().unwrap() {
        RealmError::Seal(SealError::MasterNeeded { id, looked, .. }) => {
            assert_eq!(id, master(2).fingerprint());
            assert!(looked.contains("key 1") && looked.contains(&master(1).fingerprint()), "{looked}");
        }
        error => panic!("{error}"),
    }
    for keys in [&[2][..], &[1, 2]] {
        let realm = open(dir.path(), masters(keys)).await.unwrap();
        let volume = self::volume(dir.path(), &realm, &acme()).await;
        assert!(read(&volume, "before").await == content(1) && read(&volume, "after").await == content(2));
        volume.close().await.unwrap();
        realm.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_that_stops_anywhere_leaves_one_master_key_that_opens_everything() {
    let _one = STRIKES.lock().await;
    // Nothing is in force before the first rename, everything is after it.
    for (point, nth, opens) in [
        (Point::KeyRingBeforeRename, 1, 1),
        (Point::KeyRingBeforeCopy, 1, 2),
        (Point::KeyRingBeforeRename, 2, 2),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let realm = open(dir.path(), masters(&[1])).await.unwrap();
        realm.tenant_create(&acme()).await.unwrap();
        let hash = realm.tenant_key(&acme()).await.unwrap().hash_key().hash(b"x");
        arm(point, Strike::Broken, nth);
        assert!(realm.rotate_master(master(2), "key 2").await.is_err());
        disarm();
        drop(realm);
        let other = 3 - opens;
        let refused = open(dir.path(), masters(&[other])).await.err().unwrap();
        assert!(refused.to_string().contains(&master(opens).fingerprint()), "{point:?}: {refused}");
        let realm = open(dir.path(), masters(&[opens])).await.unwrap();
        assert_eq!(realm.tenant_key(&acme()).await.unwrap().hash_key().hash(b"x"), hash);
        let copies =
            ["keyring", "keyring.copy"].map(|file| std::fs::read(dir.path().join("data/realm").join(file)));
        assert_eq!(copies[0].as_ref().unwrap(), copies[1].as_ref().unwrap(), "{point:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_damaged_copy_of_the_ring_is_made_good_and_two_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let realm = open(dir.path(), masters(&[1])).await.unwrap();
    realm.tenant_create(&acme()).await.unwrap();
    realm.close().await.unwrap();
    drop(realm);
    let [first, copy] = ["keyring", "keyring.copy"].map(|file| dir.path().join("data/realm").join(file));
    let good = std::fs::read(&first).unwrap();
    let flip = |path: &Path, at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 4;
        std::fs::write(path, bytes).unwrap();
    };
    for at in (0..good.len()).step_by(97) {
        for path in [&first, &copy] {
            flip(path, at);
            let opened = open(dir.path(), masters(&[1])).await;
            let version = at == 16;
            assert!(opened.is_ok() || version, "byte {at} of {}: {:?}", path.display(), opened.err());
            drop(opened);
            std::fs::write(path, &good).unwrap();
        }
    }
    flip(&first, 200);
    std::fs::remove_file(&copy).unwrap();
    let lost = open(dir.path(), masters(&[1])).await.err().unwrap();
    assert!(matches!(lost, RealmError::Ring { .. }) && lost.to_string().contains("keyring"), "{lost}");
    std::fs::remove_file(&first).unwrap();
    let lost = open(dir.path(), masters(&[1])).await.err().unwrap();
    assert!(matches!(lost, RealmError::RingMissing { .. }), "{lost}");
    assert!(!first.exists(), "a new ring would hide the loss");
    std::fs::write(&copy, &good).unwrap();
    open(dir.path(), masters(&[1])).await.unwrap().tenant_key(&acme()).await.unwrap();
    assert_eq!(std::fs::read(&first).unwrap(), good);
}

#[tokio::test]
async fn no_new_keys_are_made_over_a_store_that_has_data() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    let url = format!("file://{}", store.display());
    let backing = Backing::open(&StoreConfig { url, ..StoreConfig::default() }).unwrap();
    assert!(!backing.has_data().await.unwrap());
    // What a release left that had no key ring.
    std::fs::create_dir_all(store.join("realm")).unwrap();
    std::fs::write(store.join("realm/key"), "{}").unwrap();
    assert!(backing.has_data().await.unwrap());
    let refused = Realm::open_on(options(dir.path(), masters(&[1])), &backing, "host").await.err().unwrap();
    assert!(matches!(refused, RealmError::RingMissing { .. }), "{refused}");
    assert!(!store.join("realm/keyring").exists());
}

/// Generations that journal files and packs of a volume say in clear.
fn sealed_by(dir: &Path) -> (Vec<u16>, Vec<u16>) {
    let (mut journals, mut packs) = (Vec::new(), Vec::new());
    for path in files(&dir.join("data/tenants")) {
        let file = path.file_name().unwrap().to_str().unwrap();
        if file.ends_with(".journal") {
            let head = std::fs::read(&path).unwrap();
            // A spare is all zeros.
            if head.starts_with(b"MOORJRNL") {
                journals.push(u16::from_le_bytes([head[12], head[13]]));
            }
        } else if let Some((_, id)) = file.split_once('-') {
            let id = id.split('.').next().unwrap();
            packs.push(if id.as_bytes()[14] == b'8' {
                u16::from_str_radix(&id[..4], 16).unwrap()
            } else {
                1
            });
        }
    }
    journals.sort_unstable();
    packs.sort_unstable();
    (journals, packs)
}

fn pack_bytes(dir: &Path) -> u64 {
    let packs =
        files(&dir.join("data/tenants")).into_iter().filter(|path| path.to_string_lossy().contains("packs"));
    packs.map(|path| path.metadata().unwrap().len()).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_data_key_reaches_an_open_volume_and_the_old_one_goes_on_reading() {
    let dir = tempfile::tempdir().unwrap();
    let (realm, volume) = with_volume(dir.path(), masters(&[1])).await;
    write(&volume, "one", content(1)).await;
    assert_eq!(sealed_by(dir.path()), (vec![1], vec![1]));
    assert_eq!(realm.tenant_rotate_key(&acme()).await.unwrap(), KeyGeneration(2));
    write(&volume, "two", content(2)).await;
    assert_eq!(sealed_by(dir.path()).1, [1, 2], "a pack begun after the rotation is sealed by the new key");
    // The journal changes over when its next file is ready.
    let changed_over = async {
        for index in 0.. {
            write(&volume, &format!("small {index}"), Bytes::from_static(b"x")).await;
            if sealed_by(dir.path()).0.contains(&2) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    let limit = std::time::Duration::from_secs(20);
    tokio::time::timeout(limit, changed_over).await.expect("the journal goes over to the new key");
    // Known bytes are found again: the same extents, no new ones.
    let before = pack_bytes(dir.path());
    write(&volume, "one again", content(1)).await;
    assert_eq!(pack_bytes(dir.path()), before, "deduplication does not know the bytes of before");
    assert!(read(&volume, "one").await == content(1) && read(&volume, "two").await == content(2));
    drop(volume); // as a crash would
    realm.close().await.unwrap();
    drop(realm);

    let realm = open(dir.path(), masters(&[1])).await.unwrap();
    let generations: Vec<_> = realm.key_list().iter().map(|key| (key.generation.0, key.current)).collect();
    assert_eq!(generations, [(1, true), (1, false), (2, true)]);
    for _ in 0..2 {
        let volume = self::volume(dir.path(), &realm, &acme()).await;
        assert!(read(&volume, "one").await == content(1) && read(&volume, "two").await == content(2));
        assert_eq!(volume.check().await.unwrap().findings, []);
        // Now through the tables, whose blocks say the generation as well.
        volume.close().await.unwrap();
    }
}

/// The secret of a bucket elsewhere is sealed once, and opens whatever keys are replaced.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_secret_of_a_bucket_elsewhere_outlives_every_rotation() {
    let _one = STRIKES.lock().await;
    let dir = tempfile::tempdir().unwrap();
    let realm = open(dir.path(), masters(&[1])).await.unwrap();
    realm.tenant_create(&acme()).await.unwrap();
    realm.tenant_rotate_key(&acme()).await.unwrap();
    let bucket = realm.bucket_attach(&acme(), &photos(), elsewhere("t0p-s3cr3t")).await.unwrap();
    realm.tenant_rotate_key(&acme()).await.unwrap();
    realm.rotate_master(master(2), "key 2").await.unwrap();
    realm.tenant_rotate_key(&acme()).await.unwrap();
    assert_eq!(realm.external_secret(&bucket).await.unwrap().unwrap().as_str(), "t0p-s3cr3t");
    realm.close().await.unwrap();
    drop(realm);
    assert_eq!(holders(dir.path(), b"t0p-s3cr3t"), Vec::<std::path::PathBuf>::new());
    let realm = open(dir.path(), masters(&[2])).await.unwrap();
    let bucket = realm.buckets(Some(&acme())).await.unwrap().remove(0);
    assert_eq!(realm.external_secret(&bucket).await.unwrap().unwrap().as_str(), "t0p-s3cr3t");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checkpoints_open_by_the_key_that_sealed_them() {
    let dir = tempfile::tempdir().unwrap();
    let (realm, volume) = with_volume(dir.path(), masters(&[1])).await;
    write(&volume, "one", content(1)).await;
    volume.checkpoint().await.unwrap();
    realm.tenant_rotate_key(&acme()).await.unwrap();
    write(&volume, "two", content(2)).await;
    volume.checkpoint().await.unwrap();
    let id = realm.buckets(Some(&acme())).await.unwrap()[0].volume;
    let keys = realm.tenant_key(&acme()).await.unwrap().volume(id);
    let mut found = files(&dir.path().join("data/tenants"));
    found.retain(|path| path.extension().is_some_and(|extension| extension == "checkpoint"));
    found.sort_unstable();
    assert_eq!(found.len(), 2);
    for (path, generation) in found.iter().zip([1, 2]) {
        let bytes = std::fs::read(path).unwrap();
        assert_eq!(bytes[8..11], [2, generation, 0], "version and generation");
        verify(path, &keys).unwrap();
        // As it was before there were generations: the first key, and no word of it.
        let before = [&bytes[..8], &[1], &bytes[11..]].concat();
        std::fs::write(path, before).unwrap();
        assert_eq!(verify(path, &keys).is_ok(), generation == 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_tenants_keys_are_in_no_file_and_its_data_opens_to_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let (realm, volume) = with_volume(dir.path(), masters(&[1])).await;
    realm.tenant_create(&"globex".parse().unwrap()).await.unwrap();
    realm.tenant_rotate_key(&acme()).await.unwrap();
    write(&volume, "secret", content(1)).await;
    volume.close().await.unwrap();
    drop(volume);
    let (before, left) = (ring(dir.path()), tempfile::tempdir().unwrap());
    copy_tree(&dir.path().join("data"), &left.path().join("data"));
    let keys = before["tenants"]["acme"].clone();
    let mut wrapped = vec![keys["hash"]["sealed"].as_str().unwrap().to_owned()];
    let data = keys["generations"].as_array().unwrap();
    wrapped.extend(data.iter().map(|one| one["key"]["sealed"].as_str().unwrap().to_owned()));
    assert_eq!(wrapped.len(), 3);
    assert!(
        wrapped.iter().all(|text| holders(dir.path(), text.as_bytes()).len() == 2),
        "the ring and its copy"
    );

    let in_use: Arc<TenantKeys> = realm.tenant_key(&acme()).await.unwrap();
    assert!(matches!(realm.tenant_rm(&acme(), false).await, Err(RealmError::TenantNotEmpty { .. })));
    assert_eq!(realm.tenant_rm(&acme(), true).await.unwrap().len(), 1);
    assert_eq!(realm.doomed_volumes().await.unwrap().len(), 1);
    assert!(realm.buckets(Some(&acme())).await.unwrap().is_empty());
    for text in &wrapped {
        assert_eq!(holders(dir.path(), text.as_bytes()), Vec::<PathBuf>::new());
        let bytes: Vec<u8> =
            (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect();
        assert_eq!(holders(dir.path(), &bytes), Vec::<PathBuf>::new());
    }
    let id = realm.doomed_volumes().await.unwrap()[0].volume;
    assert!(matches!(in_use.volume(id).pack(1), Err(SealError::NoGeneration { .. })), "also in memory");
    assert!(matches!(realm.tenant_key(&acme()).await, Err(RealmError::NoSuchTenant(_))));
    realm.tenant_key(&"globex".parse().unwrap()).await.unwrap();

    // With the master key, the ring of now and every file of the volume: a tenant of the same name has other keys.
    realm.tenant_create(&acme()).await.unwrap();
    let keys = realm.tenant_key(&acme()).await.unwrap().volume(id);
    let options = LocalOptions {
        dir: DataDir::open(left.path().join("data")).unwrap().volume(&acme(), id),
        keys,
        memory: Memory::new(64 << 20),
        random: common::random(),
        clock: common::clock(),
        config: Config::default(),
    };
    assert!(Volume::open_local(options).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removal_that_stops_in_between_destroys_the_keys_at_the_next_open() {
    let _one = STRIKES.lock().await;
    let dir = tempfile::tempdir().unwrap();
    let realm = open(dir.path(), masters(&[1])).await.unwrap();
    realm.tenant_create(&acme()).await.unwrap();
    arm(Point::KeyRingBeforeRename, Strike::Broken, 1);
    assert!(realm.tenant_rm(&acme(), true).await.is_err());
    disarm();
    assert!(ring(dir.path())["tenants"]["acme"].is_object());
    drop(realm);
    let realm = open(dir.path(), masters(&[1])).await.unwrap();
    assert!(ring(dir.path())["tenants"]["acme"].is_null());
    assert!(matches!(realm.tenant(&acme()).await, Err(RealmError::NoSuchTenant(_))));
}

/// What the first release wrote, and was killed over.
fn first_release(dir: &Path) -> MasterKey {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/before-key-ring");
    copy_tree(&fixture, &dir.join("data"));
    MasterKey::load(&dir.join("data/master.key")).unwrap()
}

async fn is_whole(dir: &Path, realm: &Realm) {
    let names: Vec<_> =
        realm.tenants().await.unwrap().into_iter().map(|tenant| tenant.name.to_string()).collect();
    assert_eq!(names, ["acme", "globex"]);
    assert_eq!(realm.access_keys(&acme()).await.unwrap().len(), 1);
    let volume = volume(dir, realm, &acme()).await;
    let cx = owner();
    let a = volume.lookup(&cx, Ino::ROOT, &name("a")).await.unwrap();
    let note = volume.lookup(&cx, a.ino, &name("note")).await.unwrap();
    let (parts, _) = volume.read(&cx, note.ino, 0, 100).await.unwrap();
    assert_eq!(parts.concat(), b"kept since release one");
    let big: Vec<u8> = (0..1024).flat_map(|_| 0..=255).collect();
    assert!(read(&volume, "big").await == big);
    write(&volume, "new", content(1)).await;
    volume.unlink(&cx, Ino::ROOT, &name("new")).await.unwrap();
    volume.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_first_release_left_opens_and_its_wrapped_keys_move_to_the_ring() {
    let dir = tempfile::tempdir().unwrap();
    let master = || first_release(dir.path());
    let key = master();
    let wrong = open(dir.path(), MasterKeys::from(self::master(1))).await.err().unwrap();
    assert!(wrong.to_string().contains(&key.fingerprint()), "{wrong}");
    let realm = open(dir.path(), key.into()).await.unwrap();
    is_whole(dir.path(), &realm).await;
    assert!(!dir.path().join("data/realm/key").exists() && !dir.path().join("data/realm/next").exists());
    assert!(ring(dir.path())["tenants"]["gone"].is_null());
    realm.close().await.unwrap();
    drop(realm);
    let realm =
        open(dir.path(), MasterKey::load(&dir.path().join("data/master.key")).unwrap().into()).await.unwrap();
    is_whole(dir.path(), &realm).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_to_the_ring_that_stops_anywhere_is_made_good() {
    let _one = STRIKES.lock().await;
    for (point, nth) in [
        (Point::KeyRingBeforeMigration, 1),
        (Point::KeyRingBeforeRename, 1),
        (Point::KeyRingBeforeCopy, 1),
        (Point::KeyRingMidMigration, 1),
        (Point::KeyRingMidMigration, 2),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let key = first_release(dir.path());
        arm(point, Strike::Broken, nth);
        assert!(open(dir.path(), key.into()).await.is_err(), "{point:?} {nth}");
        disarm();
        let key = MasterKey::load(&dir.path().join("data/master.key")).unwrap();
        let realm = open(dir.path(), key.into()).await.unwrap();
        is_whole(dir.path(), &realm).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ring_is_written_as_documented() {
    let dir = tempfile::tempdir().unwrap();
    let realm = open(dir.path(), masters(&[1])).await.unwrap();
    realm.tenant_create(&acme()).await.unwrap();
    let text = std::fs::read_to_string(dir.path().join("data/realm/keyring")).unwrap();
    let (head, rest) = text.split_once('\n').unwrap();
    let json = rest.strip_suffix('\n').unwrap();
    assert_eq!(head, format!("mooring-keyring 1 {:08x} {}", crc32c::crc32c(json.as_bytes()), json.len()));
    let body: serde_json::Value = serde_json::from_str(json).unwrap();
    let fields =
        |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
    assert_eq!(fields(&body), "realm serial tenants");
    assert_eq!(fields(&body["tenants"]["acme"]), "generations hash");
    assert_eq!(fields(&body["tenants"]["acme"]["generations"][0]), "generation key made");
    let wrapped = &body["realm"]["hash"];
    assert_eq!(fields(wrapped), "master salt sealed version");
    assert_eq!(
        (wrapped["salt"].as_str().unwrap().len(), wrapped["sealed"].as_str().unwrap().len()),
        (64, 96)
    );
    assert_eq!(
        std::fs::metadata(dir.path().join("data/realm/keyring")).unwrap().permissions().mode() & 0o777,
        0o600
    );
}
