#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use super::*;
use bytes::Bytes;
use mooring_policy::ids::VolumeId;
use mooring_policy::rng::{SeededRandom, SystemRandom};
use slatedb::BlockTransformer;
use std::os::unix::fs::PermissionsExt;

const OWNER: &str = "tenant/acme";

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
    for other in [keys.pack(2), keys.journal(&[0; 32]), keys.block(&[0; 16])] {
        assert!(!open(&other.unwrap(), 7, b"here"));
    }
    let other = TenantKey::generate(&SeededRandom::new(1)).volume(VolumeId(2));
    assert!(!open(&other.pack(1).unwrap(), 7, b"here"));
}

#[tokio::test]
async fn blocks_of_earlier_runs_open_and_changed_ones_do_not() {
    let keys = TenantKey::generate(&SeededRandom::new(1)).volume(VolumeId(1));
    let block = Bytes::from(vec![7; 4096]);
    let earlier = BlockSealer::new(keys.clone(), &SystemRandom).unwrap();
    let (first, second) =
        (earlier.encode(block.clone()).await.unwrap(), earlier.encode(block.clone()).await.unwrap());
    assert_ne!(first, second, "equal blocks are not seen to be equal");
    assert_eq!(first.len(), block.len() + earlier.encoded_overhead());
    let now = BlockSealer::new(keys, &SystemRandom).unwrap();
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
