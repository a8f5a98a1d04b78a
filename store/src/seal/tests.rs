#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use super::*;
use bytes::Bytes;
use mooring_policy::ids::VolumeId;
use mooring_policy::rng::{SeededRandom, SystemRandom};
use slatedb::BlockTransformer;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

const OWNER: &str = "tenant/acme";
const FIRST: KeyGeneration = KeyGeneration::FIRST;

#[test]
fn a_master_key_is_made_private_and_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("master.key");
    assert!(matches!(MasterKey::load(&path), Err(SealError::MasterMissing { .. })));
    let made = MasterKey::create(&path, &SystemRandom).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(MasterKey::load(&path).unwrap().fingerprint(), made.fingerprint());
    assert!(MasterKey::create(&path, &SystemRandom).is_err(), "never replaced");
    assert_eq!(MasterKey::load(&path).unwrap().fingerprint(), made.fingerprint());
    let bare = std::fs::read_to_string(&path).unwrap();
    let bare = bare.rsplit(' ').next().unwrap();
    assert_eq!(MasterKey::parse(bare, &path).unwrap().fingerprint(), made.fingerprint());

    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    let open = MasterKey::load(&path).unwrap_err();
    assert!(open.to_string().contains("chmod 0600"), "{open}");
    for bad in ["", "zz", &"0".repeat(64), &bare[1..]] {
        assert!(matches!(MasterKey::parse(bad, &path), Err(SealError::MasterMalformed { .. })), "{bad:?}");
    }
}

#[test]
fn a_wrapped_key_opens_with_its_master_and_name_only() {
    let (master, other) = (master(1), master(2));
    let key = TenantKey::generate(&SeededRandom::new(3));
    let wrapped = master.wrap(OWNER, &key, &SystemRandom).unwrap();
    let data = b"data";
    assert_eq!(master.unwrap_key(OWNER, &wrapped).unwrap().hash_key().hash(data), key.hash_key().hash(data));
    match other.unwrap_key(OWNER, &wrapped).unwrap_err() {
        SealError::MasterWrong { owner, wrapped_by, have } => {
            assert_eq!(
                (owner.as_str(), wrapped_by, have),
                (OWNER, master.fingerprint(), other.fingerprint())
            );
        }
        error => panic!("{error}"),
    }
    assert!(matches!(master.unwrap_key("tenant/globex", &wrapped), Err(SealError::Open)));
}

fn master(seed: u64) -> MasterKey {
    use mooring_policy::rng::Random;
    let mut key = [0; 32];
    SeededRandom::new(seed).fill(&mut key);
    MasterKey::parse(&hex::encode(key), std::path::Path::new("test")).unwrap()
}

#[test]
fn nothing_shows_a_key() {
    let key = TenantKey::generate(&SeededRandom::new(1));
    let secret = hex::encode(key.bytes());
    let keys = key.volume(VolumeId(1));
    let shown = format!("{key:?} {keys:?} {:?} {:?} {:?}", key.hash_key(), keys.pack(1).unwrap(), master(1));
    assert!(!shown.contains(&secret[..8]) && shown.len() < 200, "{shown}");
}

#[test]
fn tenants_hash_alike_bytes_apart() {
    let hash = |seed| TenantKey::generate(&SeededRandom::new(seed)).hash_key().hash(b"the same");
    assert_eq!(hash(1), hash(1));
    assert_ne!(hash(1), hash(2));
}

#[test]
fn place_nonce_and_key_are_bound() {
    let keys = TenantKey::generate(&SeededRandom::new(1)).volume(VolumeId(1));
    let cipher = keys.pack(1).unwrap();
    let mut sealed = b"head:plain".to_vec();
    cipher.seal_tail(7, b"here", &mut sealed, 5).unwrap();
    assert_eq!(sealed.len(), 10 + TAG_BYTES);
    assert!(sealed.starts_with(b"head:") && !sealed.ends_with(b"plain"));
    let open =
        |cipher: &Cipher, nonce, place: &[u8]| cipher.open(nonce, place, &mut sealed[5..].to_vec()).is_ok();
    assert!(open(&cipher, 7, b"here"));
    assert!(!open(&cipher, 8, b"here") && !open(&cipher, 7, b"there"));
    for other in [keys.pack(2), keys.journal(FIRST, &[0; 32]), keys.block(FIRST, &[0; 16])] {
        assert!(!open(&other.unwrap(), 7, b"here"));
    }
    let other = TenantKey::generate(&SeededRandom::new(1)).volume(VolumeId(2));
    assert!(!open(&other.pack(1).unwrap(), 7, b"here"));
}

#[tokio::test]
async fn blocks_of_earlier_runs_open_and_changed_ones_do_not() {
    let keys = TenantKey::generate(&SeededRandom::new(1)).volume(VolumeId(1));
    let block = Bytes::from(vec![7; 4096]);
    let earlier = BlockSealer::new(keys.clone(), Arc::new(SystemRandom)).unwrap();
    let (first, second) =
        (earlier.encode(block.clone()).await.unwrap(), earlier.encode(block.clone()).await.unwrap());
    assert_ne!(first, second, "equal blocks are not seen to be equal");
    assert_eq!(first.len(), block.len() + earlier.encoded_overhead());
    let now = BlockSealer::new(keys, Arc::new(SystemRandom)).unwrap();
    assert_eq!(now.decode(first.clone()).await.unwrap(), block);
    for at in (0..first.len()).step_by(13) {
        let mut changed = first.to_vec();
        changed[at] ^= 1;
        assert!(now.decode(changed.into()).await.is_err(), "byte {at}");
    }
    for len in 0..40 {
        assert!(now.decode(first.slice(..len)).await.is_err());
    }
}

fn two_keys() -> (Arc<TenantKeys>, TenantKey) {
    let [first, second] = [1, 2].map(|seed| TenantKey::generate(&SeededRandom::new(seed)));
    (Arc::new(TenantKeys::new(first.hash_key(), (FIRST, first), BTreeMap::new())), second)
}

#[tokio::test]
async fn a_new_data_key_seals_and_earlier_ones_open() {
    let (tenant, second) = two_keys();
    let keys = tenant.volume(VolumeId(1));
    let sealer = BlockSealer::new(keys.clone(), Arc::new(SystemRandom)).unwrap();
    let block = Bytes::from(vec![7; 4096]);
    let before = sealer.encode(block.clone()).await.unwrap();
    let hash = keys.hash_key().hash(b"data");
    tenant.rotate(KeyGeneration(2), second);
    let after = sealer.encode(block.clone()).await.unwrap();
    assert_eq!(keys.generation(), KeyGeneration(2));
    assert_eq!(keys.hash_key().hash(b"data"), hash, "what was written is found again");
    assert_ne!(before[..16], after[..16], "a new key is a new run");
    assert_eq!((before[16..18].to_vec(), after[16..18].to_vec()), (vec![0, 0], vec![0, 1]));
    for sealed in [&before, &after] {
        assert_eq!(sealer.decode(sealed.clone()).await.unwrap(), block);
    }

    // Who has the first key only reads what it sealed, and is told what is missing for the rest.
    let (alone, _) = two_keys();
    let sealer = BlockSealer::new(alone.volume(VolumeId(1)), Arc::new(SystemRandom)).unwrap();
    assert_eq!(sealer.decode(before).await.unwrap(), block);
    let missing = sealer.decode(after).await.unwrap_err().to_string();
    assert!(missing.contains("data key 2"), "{missing}");
    tenant.destroy();
    assert!(matches!(keys.pack(1), Err(SealError::NoGeneration { generation: 1 })));
}

/// Blocks are read for years: these bytes were sealed when there were no generations.
#[tokio::test]
async fn a_block_sealed_before_there_were_generations_opens() {
    let keys = TenantKey::generate(&SeededRandom::new(1)).volume(VolumeId(1));
    let sealer = BlockSealer::new(keys, Arc::new(SeededRandom::new(9))).unwrap();
    let golden = "646070befe52afae62eaaf875e8a2dc00000000000000000c2d3111a0f33a07900e476f362bc8ae40ea0bbc8d2";
    let sealed = sealer.encode(Bytes::from_static(b"block")).await.unwrap();
    assert_eq!(hex::encode(&sealed), golden);
    assert_eq!(sealer.decode(hex::decode(golden).unwrap().into()).await.unwrap(), "block");
}

#[test]
fn a_key_that_is_needed_is_named_with_the_places_looked_at() {
    let mut keys = MasterKeys::from(master(1));
    keys.found(master(2), "env:SECOND");
    keys.missed("file:/x: it is not there");
    assert_eq!(keys.need("realm", &master(2).fingerprint()).unwrap().fingerprint(), master(2).fingerprint());
    let error = keys.need("realm", &master(3).fingerprint()).unwrap_err().to_string();
    for word in [&master(3).fingerprint(), &master(2).fingerprint(), "env:SECOND", "file:/x", "--master-key"]
    {
        assert!(error.contains(word), "{word}: {error}");
    }
}
