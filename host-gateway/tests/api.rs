//! The HTTP API as each kind of asker sees it: the operator, a VM on its channel, somebody with a token on TCP.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod core_support;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use core_support::{World, tenant};
use http::{Method, Request, StatusCode};
use mooring_gateway::api;
use mooring_gateway::core::identity::{Peer, Who};
use mooring_gateway::gateway::Gateway;
use mooring_policy::principal::Principal;
use mooring_protocol::types::{Ino, Name, NewNode};
use mooring_store::api::Tree;
use serde_json::{Value, json};
use tower::ServiceExt;

struct Askers {
    world: World,
    operator: Router,
    vms: Router,
}

impl Askers {
    /// acme has `photos/2026/` in its bucket.
    async fn new() -> Askers {
        let world = World::new().await;
        let gateway: Arc<Gateway> = Gateway::new(world.core.clone()).await.unwrap();
        let (volume, cx) = world.one_shot().await;
        let made =
            volume.create(&cx, Ino::ROOT, &Name::new(b"2026").unwrap(), 0o755, (0, 0), &NewNode::Dir).await;
        made.unwrap();
        Askers { world, operator: api::admin_router(gateway.clone()), vms: api::tenant_router(gateway) }
    }

    fn peer(&self, owner: &str, vm: &str) -> Peer {
        let registry = self.world.core.registry();
        drop(registry);
        let principal = Principal::Vm {
            tenant: tenant(owner),
            vm: vm.parse().unwrap(),
            generation: mooring_policy::ids::Generation(1),
        };
        Peer { who: Some(Who::new(principal)), channel: "test".into() }
    }

    async fn operator(&self, method: Method, path: &str, body: Value) -> (StatusCode, Value) {
        send(self.operator.clone(), request(method, path, body, None)).await
    }

    async fn vm(&self, who: (&str, &str), method: Method, path: &str, body: Value) -> (StatusCode, Value) {
        let router = self.vms.clone().layer(axum::Extension(self.peer(who.0, who.1)));
        send(router, request(method, path, body, None)).await
    }

    async fn tcp(&self, token: &str, method: Method, path: &str, body: Value) -> (StatusCode, Value) {
        let nobody = Peer { who: None, channel: "tcp".into() };
        let router = self.vms.clone().layer(axum::Extension(nobody));
        send(router, request(method, path, body, Some(token))).await
    }
}

fn request(method: Method, path: &str, body: Value, token: Option<&str>) -> Request<Body> {
    let mut builder = Request::builder().method(method).uri(path).header("content-type", "application/json");
    if let Some(token) = token {
        builder = builder.header("authorization", format!("Bearer {token}"));
    }
    let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
    builder.body(body).unwrap()
}

async fn send(router: Router, request: Request<Body>) -> (StatusCode, Value) {
    let answer = router.oneshot(request).await.unwrap();
    let status = answer.status();
    let bytes = axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap();
    (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

const ACME: (&str, &str) = ("acme", "one");
const GLOBEX: (&str, &str) = ("globex", "g");

fn offer() -> Value {
    json!({"bucket": "photos", "prefix": "2026/", "with": "globex", "until": "1h"})
}

#[tokio::test]
async fn a_share_is_given_seen_taken_up_and_taken_back() {
    let askers = Askers::new().await;
    let (status, share) = askers.vm(ACME, Method::POST, "/v1/shares", offer()).await;
    assert_eq!(status, StatusCode::CREATED, "{share}");
    assert_eq!(share["sees"]["bucket"], "acme.photos-2026");
    assert_eq!(share["state"], "offered");
    let id = share["id"].as_str().unwrap().to_owned();

    let (_, seen) = askers.vm(GLOBEX, Method::GET, "/v1/shares?side=in", Value::Null).await;
    assert_eq!(seen.as_array().unwrap().len(), 1);
    let (status, taken) =
        askers.vm(GLOBEX, Method::POST, &format!("/v1/shares/{id}/accept"), Value::Null).await;
    assert_eq!((status, &taken["state"]), (StatusCode::OK, &json!("accepted")));

    let check = json!({"tenant": "globex", "action": "read", "bucket": "photos", "key": "2026/a.jpg"});
    let (_, may) = askers.vm(ACME, Method::POST, "/v1/shares/check", check.clone()).await;
    assert_eq!(may["allowed"], true, "{may}");
    assert_eq!(may["fix"], format!("share revoke {id}"));

    let (status, _) = askers.vm(GLOBEX, Method::DELETE, &format!("/v1/shares/{id}"), Value::Null).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "only who gave it takes it back");
    let (status, done) = askers.vm(ACME, Method::DELETE, &format!("/v1/shares/{id}"), Value::Null).await;
    assert_eq!(status, StatusCode::OK, "{done}");
    let (_, may) = askers.vm(ACME, Method::POST, "/v1/shares/check", check).await;
    assert_eq!(may["allowed"], false);
    assert!(may["rule"].as_str().unwrap().contains("revoked"), "{may}");
    assert_eq!(may["fix"], "share create photos/2026/ --with globex --rights read");
}

#[tokio::test]
async fn what_is_not_ones_own_is_not_found() {
    let askers = Askers::new().await;
    let (_, share) = askers.vm(ACME, Method::POST, "/v1/shares", offer()).await;
    let id = share["id"].as_str().unwrap();
    // A third tenant knows of neither the share nor the bucket.
    let (status, _) = askers.operator(Method::POST, "/v1/tenants", json!({"name": "initech"})).await;
    assert_eq!(status, StatusCode::CREATED);
    let stranger = ("initech", "x");
    for (method, path) in [
        (Method::GET, format!("/v1/shares/{id}")),
        (Method::DELETE, format!("/v1/shares/{id}")),
        (Method::POST, format!("/v1/shares/{id}/accept")),
        (Method::DELETE, "/v1/buckets/photos".to_owned()),
        (Method::GET, "/v1/tenants".to_owned()),
        (Method::GET, "/v1/vms".to_owned()),
        (Method::GET, "/v1/status".to_owned()),
        (Method::GET, "/v1/master-key".to_owned()),
        (Method::POST, "/v1/tenants/initech/rotate-key".to_owned()),
    ] {
        let (status, body) = askers.vm(stranger, method.clone(), &path, Value::Null).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{method} {path}: {body}");
        assert!(body["error"]["request_id"].as_str().is_some_and(|r| !r.is_empty()));
    }
    let (_, buckets) = askers.vm(stranger, Method::GET, "/v1/buckets", Value::Null).await;
    assert_eq!(buckets, json!([]));
}

#[tokio::test]
async fn a_grant_makes_sense_or_is_refused_with_what_to_change() {
    let askers = Askers::new().await;
    let with = |field: &str, value: Value| {
        let mut body = offer();
        body[field] = value;
        body
    };
    for (body, status, word) in [
        (with("bucket", json!("nothing")), StatusCode::NOT_FOUND, "nothing"),
        (with("prefix", json!("2027/")), StatusCode::NOT_FOUND, "2027"),
        (with("prefix", json!("../globex/")), StatusCode::BAD_REQUEST, ""),
        (with("with", json!("acme")), StatusCode::BAD_REQUEST, "another tenant"),
        (with("with", json!("nobody")), StatusCode::NOT_FOUND, "nobody"),
        (with("rights", json!("everything")), StatusCode::BAD_REQUEST, "read"),
        (with("until", json!("yesterday")), StatusCode::BAD_REQUEST, "7d"),
        (with("as", json!("Not A Name")), StatusCode::UNPROCESSABLE_ENTITY, ""),
        (with("untill", json!("7d")), StatusCode::UNPROCESSABLE_ENTITY, ""),
    ] {
        let (got, answer) = askers.vm(ACME, Method::POST, "/v1/shares", body.clone()).await;
        assert_eq!(got, status, "{body}: {answer}");
        assert!(answer.to_string().contains(word), "{body}: {answer}");
    }
    let (status, dry) = askers.vm(ACME, Method::POST, "/v1/shares", with("dry_run", json!(true))).await;
    assert_eq!(status, StatusCode::CREATED, "{dry}");
    let (_, all) = askers.vm(ACME, Method::GET, "/v1/shares", Value::Null).await;
    assert_eq!(all, json!([]), "a dry run stores nothing");
}

#[tokio::test]
async fn passing_on_only_narrows_and_ends_with_what_it_was_cut_from() {
    let askers = Askers::new().await;
    askers.operator(Method::POST, "/v1/tenants", json!({"name": "initech"})).await;
    let mut body = offer();
    body["reshare"] = json!(1);
    let (_, share) = askers.vm(ACME, Method::POST, "/v1/shares", body).await;
    let id = share["id"].as_str().unwrap();
    askers.vm(GLOBEX, Method::POST, &format!("/v1/shares/{id}/accept"), Value::Null).await;

    let onwards = json!({"bucket": "acme.photos-2026", "with": "initech", "rights": "write"});
    let (status, wider) = askers.vm(GLOBEX, Method::POST, "/v1/shares", onwards).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{wider}");
    let onwards = json!({"bucket": "acme.photos-2026", "with": "initech", "until": "forever"});
    let (status, cut) = askers.vm(GLOBEX, Method::POST, "/v1/shares", onwards).await;
    assert_eq!(status, StatusCode::CREATED, "{cut}");
    assert_eq!(cut["until"], share["until"], "it cannot outlast what it was cut from");

    let check = json!({"tenant": "initech", "action": "read", "bucket": "photos", "key": "2026/a"});
    let (_, may) = askers.vm(ACME, Method::POST, "/v1/shares/check", check.clone()).await;
    assert_eq!(may["allowed"], true, "{may}");
    askers.vm(ACME, Method::DELETE, &format!("/v1/shares/{id}"), Value::Null).await;
    let (_, may) = askers.vm(ACME, Method::POST, "/v1/shares/check", check).await;
    assert_eq!(may["allowed"], false, "{may}");
}

#[tokio::test]
async fn tokens_say_less_than_the_channel_and_never_more() {
    let askers = Askers::new().await;
    let (status, _) = askers.tcp("", Method::GET, "/v1/whoami", Value::Null).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    let (status, made) = askers.operator(Method::POST, "/v1/tokens?tenant=acme", json!({})).await;
    assert_eq!(status, StatusCode::OK, "{made}");
    let token = made["token"].as_str().unwrap();
    let (_, who) = askers.tcp(token, Method::GET, "/v1/whoami", Value::Null).await;
    assert_eq!((&who["tenant"], &who["vm"]), (&json!("acme"), &Value::Null));

    // Narrowed to reading a prefix, it manages nothing.
    let scoped = json!({"scope": ["read:photos/2026/"]});
    let (_, made) = askers.operator(Method::POST, "/v1/tokens?tenant=acme", scoped).await;
    let narrow = made["token"].as_str().unwrap();
    for (method, path, body) in [
        (Method::POST, "/v1/shares", offer()),
        (Method::POST, "/v1/buckets", json!({"name": "more"})),
        (Method::DELETE, "/v1/buckets/photos", Value::Null),
        (Method::POST, "/v1/tokens", json!({"scope": ["write:photos"]})),
    ] {
        let (status, answer) = askers.tcp(narrow, method, path, body).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{path}: {answer}");
    }

    // acme's token is worth nothing on globex's channel.
    let router = askers.vms.clone().layer(axum::Extension(askers.peer("globex", "g")));
    let (status, _) = send(router, request(Method::GET, "/v1/whoami", Value::Null, Some(token))).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    // A VM of acme cannot pose as the operator.
    let (_, who) = askers.vm(ACME, Method::GET, "/v1/whoami?tenant=globex", Value::Null).await;
    assert_eq!(who["tenant"], "acme");
}

#[tokio::test]
async fn the_operator_makes_and_removes_everything() {
    let askers = Askers::new().await;
    let (status, _) = askers.operator(Method::POST, "/v1/buckets", json!({"name": "docs"})).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "in whose name?");
    let (status, _) = askers.operator(Method::POST, "/v1/buckets?tenant=acme", json!({"name": "docs"})).await;
    assert_eq!(status, StatusCode::CREATED);
    let (status, again) =
        askers.operator(Method::POST, "/v1/buckets?tenant=acme", json!({"name": "docs"})).await;
    assert_eq!(status, StatusCode::CONFLICT, "{again}");
    let (status, full) = askers.operator(Method::DELETE, "/v1/buckets/photos?tenant=acme", Value::Null).await;
    assert_eq!(status, StatusCode::CONFLICT, "{full}");
    assert!(full["error"]["try"].as_str().unwrap().contains("--force"));
    let (status, _) = askers.operator(Method::DELETE, "/v1/tenants/acme", Value::Null).await;
    assert_eq!(status, StatusCode::CONFLICT);

    let (_, key) = askers.operator(Method::POST, "/v1/keys", json!({"tenant": "acme"})).await;
    assert!(key["secret"].is_string());
    let (_, keys) = askers.operator(Method::GET, "/v1/keys", Value::Null).await;
    assert_eq!((keys[0]["id"].clone(), keys[0].get("secret")), (key["id"].clone(), None), "shown once");

    let (status, gone) =
        askers.operator(Method::DELETE, "/v1/tenants/acme?with_data=true", Value::Null).await;
    assert_eq!(status, StatusCode::NO_CONTENT, "{gone}");
    let (_, tenants) = askers.operator(Method::GET, "/v1/tenants", Value::Null).await;
    assert_eq!(tenants.as_array().unwrap().len(), 1);
    let volumes = askers.world.dir.join("data/tenants/acme");
    let gone = async {
        while std::fs::read_dir(&volumes).map_or(0, |entries| entries.count()) > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    let limit = std::time::Duration::from_secs(30);
    tokio::time::timeout(limit, gone).await.expect("its volumes are gone from the disk soon");
    let (status, text) = askers.operator(Method::GET, "/v1/status", Value::Null).await;
    assert_eq!(status, StatusCode::OK, "{text}");
}

#[tokio::test]
async fn the_operator_replaces_keys_and_sees_ids_only() {
    let askers = Askers::new().await;
    let (_, before) = askers.operator(Method::GET, "/v1/master-key", Value::Null).await;
    assert_eq!(before["keys"].as_array().unwrap().len(), 3, "{before}");
    let (status, rotated) = askers.operator(Method::POST, "/v1/tenants/acme/rotate-key", Value::Null).await;
    assert_eq!((status, rotated), (StatusCode::OK, json!({"tenant": "acme", "generation": 2})));
    let missing = json!({"to": "env:MOORING_TEST_NO_SUCH_VARIABLE"});
    let (status, said) = askers.operator(Method::POST, "/v1/master-key", missing).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(said["error"]["message"].as_str().unwrap().contains("not set"), "{said}");
    let file = askers.world.dir.join("second.key");
    let to = json!({"to": file, "generate": true});
    let (status, done) = askers.operator(Method::POST, "/v1/master-key", to.clone()).await;
    assert_eq!(
        (status, &done["before"], &done["keys"]),
        (StatusCode::OK, &before["id"], &json!(7)),
        "{done}"
    );
    let (status, said) = askers.operator(Method::POST, "/v1/master-key", to).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "an existing key is not replaced: {said}");
    let (_, after) = askers.operator(Method::GET, "/v1/master-key", Value::Null).await;
    assert!(after["keys"].as_array().unwrap().iter().all(|key| key["master"] == done["id"]), "{after}");
    let secret = std::fs::read_to_string(&file).unwrap();
    let secret = secret.trim().rsplit(' ').next().unwrap();
    assert!(!after.to_string().contains(secret));
}
