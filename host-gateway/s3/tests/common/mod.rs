//! What the tests share: two tenants with buckets on real volumes, behind a real listener.
#![allow(dead_code, reason = "each test binary uses a part")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

pub mod raw;
pub mod sign;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use mooring_policy::action::{Action, ActionSet};
use mooring_policy::ids::{BucketName, TenantId, VolumeId};
use mooring_policy::principal::Principal;
use mooring_policy::rng::{SeededRandom, SystemRandom};
use mooring_policy::time::SystemClock;
use mooring_protocol::types::{Ino, Time};
use mooring_s3::{
    BucketEntry, Buckets, CredentialError, Credentials, Found, Identity, S3Config, S3Deps, SecretKey,
};
use mooring_store::api::{Authority, Caller, ListQuery, Objects, Tree};
use mooring_store::backend::VolumeDir;
use mooring_store::error::StoreError;
use mooring_store::memory::Memory;
use mooring_store::seal::TenantKey;
use mooring_store::volume::{Config, LocalOptions, Volume};
use tokio::sync::oneshot;

/// Access key and secret of a tenant of the tests.
#[derive(Clone, Copy)]
pub struct Key {
    pub id: &'static str,
    pub secret: &'static str,
    pub token: Option<&'static str>,
}

pub const ACME: Key = Key { id: "AKACME", secret: "acme-secret", token: None };
pub const GLOBEX: Key = Key { id: "AKGLOBEX", secret: "globex-secret", token: None };
/// A session of acme: worth nothing without its token.
pub const SESSION: Key =
    Key { id: "ASACME", secret: "session-secret", token: Some("the-token-of-the-session") };

pub const REGION: &str = "mooring-1";

type Names = BTreeMap<(String, String), Arc<Volume>>;

/// The gateway's part, as small as it can be: who, and which volume.
pub struct World {
    dir: tempfile::TempDir,
    memory: Arc<Memory>,
    volumes: Mutex<Names>,
    next: Mutex<u64>,
    /// What globex may do with the share of acme's `shared/` in `photos`; nothing: there is none.
    pub share: Mutex<Option<ActionSet>>,
}

struct Allow {
    actions: Arc<dyn Fn() -> Option<ActionSet> + Send + Sync>,
}

impl Authority for Allow {
    fn check(&self, action: Action, _: Option<&[u8]>) -> Result<(), StoreError> {
        match (self.actions)() {
            None => Err(StoreError::NotFound),
            Some(actions) if actions.contains(action) => Ok(()),
            Some(_) => Err(StoreError::AccessDenied(format!("{action} is not granted"))),
        }
    }
}

fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Time { secs: since.as_secs() as i64, nanos: since.subsec_nanos() }
}

impl World {
    fn new() -> Arc<World> {
        Arc::new(World {
            dir: tempfile::tempdir().unwrap(),
            memory: Memory::new(64 << 20),
            volumes: Mutex::new(BTreeMap::new()),
            next: Mutex::new(1),
            share: Mutex::new(None),
        })
    }

    pub fn volume(&self, tenant: &str, bucket: &str) -> Option<Arc<Volume>> {
        self.volumes.lock().unwrap().get(&(tenant.to_owned(), bucket.to_owned())).cloned()
    }

    fn caller(
        &self,
        root: Ino,
        confined: bool,
        actions: Arc<dyn Fn() -> Option<ActionSet> + Send + Sync>,
    ) -> Caller {
        Caller { authority: Arc::new(Allow { actions }), root, confined, now: now(), trace: 0 }
    }

    pub fn owner(&self) -> Caller {
        self.caller(Ino::ROOT, false, Arc::new(|| Some(ActionSet::ALL)))
    }
}

fn tenant(who: &Identity) -> String {
    who.principal.tenant().unwrap().as_str().to_owned()
}

/// Borrowed by the server through an `Arc` of its own.
struct Shared(Arc<World>);

#[async_trait]
impl Buckets for Shared {
    async fn list(&self, who: &Identity) -> Result<Vec<BucketEntry>, StoreError> {
        let tenant = tenant(who);
        let volumes = self.0.volumes.lock().unwrap();
        let own = volumes.keys().filter(|(owner, _)| *owner == tenant);
        let mut rows: Vec<_> =
            own.map(|(_, name)| BucketEntry { name: name.clone(), created: now() }).collect();
        if tenant == "globex" && self.0.share.lock().unwrap().is_some() {
            rows.push(BucketEntry { name: "acme.holiday".into(), created: now() });
        }
        Ok(rows)
    }

    async fn open(&self, who: &Identity, bucket: &str) -> Result<(Arc<dyn Objects>, Caller), StoreError> {
        let tenant = tenant(who);
        if let Some(volume) = self.0.volume(&tenant, bucket) {
            return Ok((volume, self.0.owner()));
        }
        if tenant == "globex" && bucket == "acme.holiday" && self.0.share.lock().unwrap().is_some() {
            let volume = self.0.volume("acme", "photos").ok_or(StoreError::NotFound)?;
            let root = volume.resolve(b"shared").await?.ino;
            let world = self.0.clone();
            let caller = self.0.caller(root, true, Arc::new(move || *world.share.lock().unwrap()));
            return Ok((volume, caller));
        }
        Err(StoreError::NotFound)
    }

    async fn create(&self, who: &Identity, bucket: &str) -> Result<(), StoreError> {
        BucketName::try_from(bucket).map_err(|_| StoreError::Invalid("the bucket name is not valid"))?;
        if self.0.volume(&tenant(who), bucket).is_some() {
            return Err(StoreError::Exists);
        }
        let number = {
            let mut next = self.0.next.lock().unwrap();
            *next += 1;
            *next
        };
        let volume = Volume::open_local(LocalOptions {
            dir: VolumeDir::at(self.0.dir.path().join(format!("volume-{number}"))),
            keys: TenantKey::generate(&SeededRandom::new(1)).volume(VolumeId(number)),
            memory: self.0.memory.clone(),
            random: Arc::new(SystemRandom),
            clock: Arc::new(SystemClock::new()),
            config: Config::default(),
        })
        .await?;
        self.0.volumes.lock().unwrap().insert((tenant(who), bucket.to_owned()), volume);
        Ok(())
    }

    async fn delete(&self, who: &Identity, bucket: &str) -> Result<(), StoreError> {
        let volume = self.0.volume(&tenant(who), bucket).ok_or(StoreError::NotFound)?;
        let query = ListQuery { limit: 1, ..ListQuery::default() };
        let page = volume.list(&self.0.owner(), &query).await?;
        if !page.objects.is_empty() || !page.prefixes.is_empty() {
            return Err(StoreError::NotEmpty);
        }
        self.0.volumes.lock().unwrap().remove(&(tenant(who), bucket.to_owned()));
        volume.close().await
    }
}

struct Keys;

pub fn principal(tenant: &str) -> Identity {
    let tenant = TenantId::try_from(tenant).unwrap();
    Identity { principal: Principal::Tenant { tenant }, scope: None }
}

#[async_trait]
impl Credentials for Keys {
    async fn find(
        &self,
        key: &str,
        token: Option<&str>,
        peer: Option<&Principal>,
    ) -> Result<Found, CredentialError> {
        let (known, tenant) = match key {
            "AKACME" => (ACME, "acme"),
            "AKGLOBEX" => (GLOBEX, "globex"),
            "ASACME" => (SESSION, "acme"),
            _ => return Err(CredentialError::UnknownKey),
        };
        // On a channel that vouches for somebody, only that somebody's credentials count.
        let foreign = peer.is_some_and(|peer| peer.tenant().is_none_or(|peer| peer.as_str() != tenant));
        if token != known.token || foreign {
            return Err(CredentialError::InvalidToken);
        }
        Ok(Found { secret: SecretKey::new(known.secret.into()), identity: principal(tenant) })
    }

    async fn bearer(&self, token: &str, _: Option<&Principal>) -> Result<Identity, CredentialError> {
        match token {
            "good-bearer" => Ok(principal("acme")),
            "old-bearer" => Err(CredentialError::Expired),
            _ => Err(CredentialError::InvalidToken),
        }
    }
}

/// A running S3 door.
pub struct Server {
    pub address: SocketAddr,
    /// The same door, to be served on another stream.
    pub router: axum::Router,
    pub world: Arc<World>,
    stop: Option<oneshot::Sender<()>>,
}

impl Server {
    pub async fn start() -> Server {
        Self::start_with(S3Config::default()).await
    }

    pub async fn start_with(config: S3Config) -> Server {
        Self::start_at("127.0.0.1:0", config).await
    }

    pub async fn start_at(address: &str, config: S3Config) -> Server {
        let world = World::new();
        let deps = S3Deps { buckets: Arc::new(Shared(world.clone())), credentials: Arc::new(Keys), config };
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let router = mooring_s3::router(deps);
        let serving = mooring_s3::serve_tcp(listener, router.clone(), async {
            let _ = stopped.await;
        });
        tokio::spawn(serving);
        Server { address, router, world, stop: Some(stop) }
    }

    /// A server with a bucket of acme's.
    pub async fn with_bucket(name: &str) -> Server {
        let server = Self::start().await;
        Shared(server.world.clone()).create(&principal("acme"), name).await.unwrap();
        server
    }

    pub async fn bucket_of(&self, tenant: &str, name: &str) {
        Shared(self.world.clone()).create(&principal(tenant), name).await.unwrap();
    }

    pub fn client(&self, key: Key) -> aws_sdk_s3::Client {
        let config = aws_sdk_s3::Config::builder()
            .behavior_version_latest()
            .region(aws_sdk_s3::config::Region::new(REGION))
            .endpoint_url(format!("http://{}", self.address))
            .credentials_provider(aws_sdk_s3::config::Credentials::new(
                key.id,
                key.secret,
                key.token.map(str::to_owned),
                None,
                "test",
            ))
            .retry_config(aws_sdk_s3::config::retry::RetryConfig::disabled())
            .force_path_style(true)
            .build();
        aws_sdk_s3::Client::from_conf(config)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }
}

/// Bytes that do not repeat in any way that a store could mix up.
pub fn bytes(size: usize, seed: u64) -> Vec<u8> {
    let mut out = vec![0; size];
    mooring_policy::rng::Random::fill(&SeededRandom::new(seed), &mut out);
    out
}
