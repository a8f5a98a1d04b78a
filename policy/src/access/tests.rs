#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashSet;

use super::*;
use crate::action::ActionSet;
use crate::ids::{Generation, TokenId};
use crate::rng::SeededRandom;

const NOW: Timestamp = Timestamp::from_millis(1_000_000);

fn session(seed: u64) -> Session {
    Session {
        id: TokenId::random(&SeededRandom::new(seed)),
        principal: vm("acme", "web", 1),
        epoch: Epoch(1),
        issued: NOW,
        not_before: NOW,
        expires: Timestamp::from_millis(1_600_000),
        scope: None,
        holder: None,
    }
}

fn vm(tenant: &str, vm: &str, generation: u64) -> Principal {
    let generation = Generation(generation);
    Principal::Vm { tenant: tenant.parse().unwrap(), vm: vm.parse().unwrap(), generation }
}

fn tenant(name: &str) -> Principal {
    Principal::Tenant { tenant: name.parse().unwrap() }
}

#[test]
fn session_credentials_are_the_same_on_every_gateway() {
    let key = CredentialKey::generate(&SeededRandom::new(1));
    let restored = CredentialKey::from_secret_bytes(&key.to_secret_bytes()).unwrap();
    let credentials = key.mint(&session(1));
    assert_eq!(restored.mint(&session(1)), credentials);
    assert_eq!(restored.check(&credentials.access_key_id, &session(1)), Ok(credentials.secret));
    assert!(is_session_key_id(&credentials.access_key_id));
    assert_eq!(credentials.access_key_id.len(), 27);
    assert_eq!(CredentialKey::from_secret_bytes(&[0; 31]).unwrap_err(), CredentialError::Damaged);
}

#[test]
fn credentials_fit_one_session_only() {
    let key = CredentialKey::generate(&SeededRandom::new(1));
    let id = key.mint(&session(1)).access_key_id;
    let others = [
        session(2),
        Session { principal: vm("globex", "web", 1), ..session(1) },
        Session { principal: vm("acme", "db", 1), ..session(1) },
        Session { principal: vm("acme", "web", 2), ..session(1) },
        Session { principal: tenant("acme"), ..session(1) },
        Session { principal: Principal::Admin, ..session(1) },
    ];
    let mut ids = HashSet::from([id.clone()]);
    for other in &others {
        assert_eq!(key.check(&id, other), Err(CredentialError::ForeignId));
        assert!(ids.insert(key.mint(other).access_key_id), "two sessions with one id");
    }
    for bad in ["", "MRS", &id[..26], &id.to_lowercase(), &format!("{id}A")] {
        assert_eq!(key.check(bad, &session(1)), Err(CredentialError::ForeignId), "{bad:?}");
    }
}

#[test]
fn the_secret_hangs_on_realm_tenant_and_epoch() {
    let key = CredentialKey::generate(&SeededRandom::new(1));
    let other_realm = CredentialKey::generate(&SeededRandom::new(2));
    let secret = |key: &CredentialKey, session: &Session| key.mint(session).secret.expose().to_owned();
    let secrets = HashSet::from([
        secret(&key, &session(1)),
        secret(&other_realm, &session(1)),
        secret(&key, &Session { epoch: Epoch(2), ..session(1) }),
        secret(&key, &Session { principal: tenant("acme"), ..session(1) }),
        secret(&key, &Session { principal: tenant("globex"), ..session(1) }),
        secret(&key, &Session { principal: Principal::Admin, ..session(1) }),
    ]);
    assert_eq!(secrets.len(), 6);
    let raised = Session { epoch: Epoch(2), ..session(1) };
    assert_eq!(key.mint(&raised).access_key_id, key.mint(&session(1)).access_key_id);
}

#[test]
fn static_keys_are_stored_and_end() {
    let random = SeededRandom::new(3);
    let scope = Some(Scope::actions(ActionSet::READ));
    let key = AccessKey::generate(&random, "acme".parse().unwrap(), scope, Some(NOW));
    assert_ne!(key.id, AccessKey::generate(&random, "acme".parse().unwrap(), None, None).id);
    assert!(!is_session_key_id(&key.id));
    assert_eq!(AccessKey::from_secret_bytes(&key.to_secret_bytes().unwrap()).unwrap(), key);
    assert_eq!(key.check(Timestamp::from_millis(999_999)), Ok(()));
    assert_eq!(key.check(NOW), Err(CredentialError::Expired(NOW)));
    assert_eq!(key.principal().to_string(), format!("tenant/acme/key/{}", key.id));
    for bad in [&b""[..], b"{}", b"null", b"[1]"] {
        assert_eq!(AccessKey::from_secret_bytes(bad), Err(CredentialError::Damaged));
    }
}

#[test]
fn debug_shows_no_secret() {
    let key = CredentialKey::generate(&SeededRandom::new(1));
    let credentials = key.mint(&session(1));
    let fixed = AccessKey::generate(&SeededRandom::new(2), "acme".parse().unwrap(), None, None);
    let shown = format!("{key:?} {credentials:?} {fixed:?}");
    assert!(
        !shown.contains(credentials.secret.expose()) && !shown.contains(fixed.secret.expose()),
        "{shown}"
    );
    assert!(shown.contains("[redacted]"));
}
