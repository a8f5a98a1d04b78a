#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::rng::SeededRandom;

const NOW: Timestamp = Timestamp::from_millis(1_000_000);

#[test]
fn thumbprints_are_those_of_rfc_8037() {
    let x = URL_SAFE_NO_PAD.decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo").unwrap();
    let thumbprint = Thumbprint::of(&x.try_into().unwrap());
    assert_eq!(thumbprint.to_string(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    assert_eq!(Thumbprint::parse(&thumbprint.to_string()), Some(thumbprint));
    for bad in ["", "kPrK", "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4l", "../../etc/passwd"] {
        assert_eq!(Thumbprint::parse(bad), None, "{bad}");
    }
}

#[test]
fn rotation_keeps_the_public_half_and_destroys_the_secret() {
    let random = SeededRandom::new(1);
    let mut keys = KeySet::generate(&random, NOW).unwrap();
    let (first, seed) = (keys.current(), keys.seed.clone());
    keys.rotate(&random, NOW).unwrap();
    assert_ne!(keys.current(), first);
    let old = keys.public().get(first).unwrap();
    assert_eq!(old.retired, Some(NOW));
    assert!(old.verifies_sessions(NOW.saturating_add(SESSION_LIFE)));
    assert!(!old.verifies_sessions(NOW.saturating_add(SESSION_LIFE + CLOCK_LEEWAY)));
    let stored = keys.to_secret_bytes();
    assert!(!stored.windows(SEED_LEN).any(|window| window == &seed[..]));
    assert_eq!(keys.forget(keys.current()), Err(KeyError::InUse));
    assert_eq!((keys.forget(first), keys.forget(first)), (Ok(true), Ok(false)));
}

#[test]
fn stored_keys_come_back_and_damage_is_seen() {
    let random = SeededRandom::new(2);
    let mut keys = KeySet::generate(&random, NOW).unwrap();
    keys.rotate(&random, NOW).unwrap();
    let bytes = keys.to_secret_bytes();
    let back = KeySet::from_secret_bytes(&bytes).unwrap();
    assert_eq!((back.current(), &back.public.0), (keys.current(), &keys.public.0));
    for len in 0..bytes.len() {
        assert!(KeySet::from_secret_bytes(&bytes[..len]).is_err(), "cut at {len}");
    }
    for at in 0..=SEED_LEN {
        let mut damaged = bytes.to_vec();
        damaged[at] ^= 0x10;
        assert!(KeySet::from_secret_bytes(&damaged).is_err(), "damaged at {at}");
    }
}

#[test]
fn a_set_is_bounded() {
    let random = SeededRandom::new(3);
    let mut keys = KeySet::generate(&random, NOW).unwrap();
    for _ in 1..MAX_KEYS {
        keys.rotate(&random, NOW).unwrap();
    }
    let current = keys.current();
    assert_eq!(keys.rotate(&random, NOW), Err(KeyError::Full));
    assert_eq!(keys.current(), current);
}

#[test]
fn debug_shows_no_secret() {
    let keys = KeySet::generate(&SeededRandom::new(4), NOW).unwrap();
    let shown = format!("{keys:?} {:?}", keys.signing());
    let list = format!("{:?}", &keys.seed[..4]);
    assert!(
        !shown.contains(&hex(&keys.seed[..4])) && !shown.contains(list.trim_matches(['[', ']'])),
        "{shown}"
    );
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn jwks_names_no_secret_member() {
    let jwks = KeySet::generate(&SeededRandom::new(5), NOW).unwrap().public().to_jwks();
    let key = jwks["keys"][0].as_object().unwrap();
    assert!(!key.contains_key("d"));
    assert_eq!(key["alg"], "EdDSA");
}
