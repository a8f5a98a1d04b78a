//! Object stores: what names one, how it is reached, and how long it is waited for.
//!
//! An S3 fails for moments all the time and for minutes now and then. Requests are therefore asked again, here, by one
//! rule: an answer (found, not found, refused because somebody was first) is passed on at once; everything else is
//! asked again, a little later each time, until it works, a deadline is over or the volume is let go of.

use super::BackendError;
use super::http::Watched;
use futures::{StreamExt, TryStreamExt};
use mooring_policy::ids::{TenantId, VolumeId};
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{BackoffConfig, ClientOptions, Error, ObjectStore, ObjectStoreExt, RetryConfig};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Semaphore, watch};

/// Pause after the first failure; doubled after each, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// So a store that is back is found within a moment.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// No quick repetition begins later than this.
const REPEAT_LIMIT: Duration = Duration::from_secs(15);
/// How long an open waits for a store that does not answer before it says so.
pub(crate) const OPEN_LIMIT: Duration = Duration::from_secs(20);
/// Packs on their way to the store at a time, for all volumes of the process: each is in memory whole.
const UPLOADS: usize = 4;
/// Reads of packs at a time, for all volumes. Each takes a thread while it waits.
const READS: usize = 64;

/// Which object store, and how it is reached. What is not given comes from the AWS variables of the environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreConfig {
    /// `s3://bucket/prefix`, or `file:///directory` for a directory that several hosts mount.
    pub url: String,
    /// Where an S3 that is not Amazon's is, such as `https://s3.example.org:7480`.
    pub endpoint: Option<String>,
    /// Its region.
    pub region: Option<String>,
    /// Access key and secret.
    pub credentials: Option<(String, String)>,
    /// Lets the endpoint be `http://`.
    pub allow_http: bool,
    /// The bucket is part of the host name rather than of the path.
    pub virtual_hosted: bool,
}

/// An object store that is used. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Backing {
    pub(crate) store: Arc<dyn ObjectStore>,
    root: Path,
    url: Arc<str>,
    /// It can replace an object on condition, which the engine's collector uses.
    pub(crate) replaces: bool,
    pub(crate) uploads: Arc<Semaphore>,
    pub(crate) reads: Arc<Semaphore>,
    failing: Arc<AtomicU64>,
}

impl Backing {
    /// Opens the store that `config` names. Nothing is asked of it yet.
    ///
    /// # Errors
    /// [`BackendError::Store`] says what of the configuration is wrong.
    pub fn open(config: &StoreConfig) -> Result<Self, BackendError> {
        let wrong = |detail: String| BackendError::StoreConfig { url: config.url.clone(), detail };
        if let Some(dir) = config.url.strip_prefix("file://") {
            if !dir.starts_with('/') {
                return Err(wrong("write file:// and an absolute path".to_owned()));
            }
            let dir = std::path::Path::new(dir);
            super::dir::make_dirs(dir)?;
            let store = LocalFileSystem::new_with_prefix(dir).map_err(|error| wrong(error.to_string()))?;
            return Ok(Self::over(Arc::new(store.with_fsync(true)), Path::default(), &config.url, false));
        }
        let rest = config
            .url
            .strip_prefix("s3://")
            .ok_or_else(|| wrong("write s3://bucket/prefix, or file:///directory".to_owned()))?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            return Err(wrong("the bucket's name is missing".to_owned()));
        }
        let root = Path::parse(prefix.trim_matches('/')).map_err(|error| wrong(error.to_string()))?;
        let store = s3(config, bucket).map_err(|error| wrong(error.to_string()))?;
        Ok(Self::over(store, root, &config.url, true))
    }

    /// Uses a store that is open already; `replaces` when it can replace an object on condition.
    #[must_use]
    pub fn over(store: Arc<dyn ObjectStore>, root: Path, url: &str, replaces: bool) -> Self {
        Self {
            store,
            root,
            url: url.into(),
            replaces,
            uploads: Arc::new(Semaphore::new(UPLOADS)),
            reads: Arc::new(Semaphore::new(READS)),
            failing: Arc::default(),
        }
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where below the store everything lies.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The store itself.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    /// Requests that failed since one last had an answer: 0 when all is well.
    #[must_use]
    pub fn failing(&self) -> u64 {
        self.failing.load(Ordering::Relaxed)
    }

    /// The registry's place.
    #[must_use]
    pub fn realm(&self) -> Place {
        self.place(self.root.clone().join("realm"))
    }

    /// A volume's place.
    #[must_use]
    pub fn volume(&self, tenant: &TenantId, volume: VolumeId) -> Place {
        self.place(self.root.clone().join("tenants").join(tenant.as_str()).join(volume.to_string()))
    }

    fn place(&self, at: Path) -> Place {
        Place { backing: self.clone(), at }
    }

    /// Whether anything sealed lies here, so that a missing master key is a loss and not a first start.
    pub async fn has_data(&self) -> Result<bool, BackendError> {
        let place = self.realm();
        // `key` is of a release that had no key ring.
        for name in ["keyring", "key"] {
            let path = place.path(name);
            match place.within(OPEN_LIMIT, || self.store.head(&path)).await {
                Ok(_) => return Ok(true),
                Err(Error::NotFound { .. }) => {}
                Err(error) => return Err(self.error("look for data in", error)),
            }
        }
        Ok(false)
    }

    pub(crate) fn error(&self, op: &'static str, source: Error) -> BackendError {
        BackendError::Store { op, url: self.url.to_string(), source: Box::new(source) }
    }

    fn count<T>(&self, answer: &Result<T, Error>) {
        match answer {
            Err(error) if !is_answer(error) => {
                if self.failing.fetch_add(1, Ordering::Relaxed) == 0 {
                    tracing::warn!(store = %self.url, %error, "the store does not answer; asking again");
                }
            }
            _ => {
                let failed = self.failing.swap(0, Ordering::Relaxed);
                if failed > 0 {
                    tracing::info!(store = %self.url, failed, "the store answers again");
                }
            }
        }
    }
}

fn s3(config: &StoreConfig, bucket: &str) -> Result<Arc<dyn ObjectStore>, Error> {
    let client = ClientOptions::new();
    // One quick repetition, for a connection that the other side had closed. The rest is up to who asks.
    let backoff = BackoffConfig { init_backoff: FIRST_PAUSE / 2, max_backoff: FIRST_PAUSE, base: 2.0 };
    let retry = RetryConfig { backoff, max_retries: 1, retry_timeout: REPEAT_LIMIT };
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        .with_http_connector(Watched)
        .with_client_options(client.with_allow_http(config.allow_http))
        .with_retry(retry)
        .with_virtual_hosted_style_request(config.virtual_hosted);
    if let Some(endpoint) = &config.endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    if let Some(region) = &config.region {
        builder = builder.with_region(region);
    }
    if let Some((key, secret)) = &config.credentials {
        builder = builder.with_access_key_id(key).with_secret_access_key(secret);
    }
    Ok(Arc::new(builder.build()?))
}

fn location(object: object_store::ObjectMeta) -> Path {
    object.location
}

/// What this host is called, for messages to people.
#[must_use]
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Whether asking again would bring the same.
pub(crate) fn is_answer(error: &Error) -> bool {
    matches!(
        error,
        Error::NotFound { .. }
            | Error::AlreadyExists { .. }
            | Error::Precondition { .. }
            | Error::NotModified { .. }
            | Error::NotSupported { .. }
            | Error::NotImplemented { .. }
            | Error::InvalidPath { .. }
    )
}

/// A part of the store: the registry's, or one volume's. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Place {
    pub(crate) backing: Backing,
    pub(crate) at: Path,
}

/// Why a request was given up.
#[derive(Debug)]
pub(crate) enum Given {
    /// The store's answer.
    Answer(Error),
    /// Whoever wanted to know goes away.
    Stopped,
}

impl Place {
    /// What this is called in errors: URL and path.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{} ({})", self.backing.url, self.at)
    }

    pub(crate) fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.backing.store
    }

    pub(crate) fn path(&self, below: &str) -> Path {
        below.split('/').fold(self.at.clone(), |path, part| path.join(part))
    }

    /// Asks until there is an answer or `limit` is over.
    pub(crate) async fn within<T, F: Future<Output = Result<T, Error>>>(
        &self,
        limit: Duration,
        mut ask: impl FnMut() -> F,
    ) -> Result<T, Error> {
        let mut last = None;
        let asked = tokio::time::timeout(limit, async {
            let mut pause = FIRST_PAUSE;
            loop {
                let answer = ask().await;
                self.backing.count(&answer);
                match answer {
                    Err(error) if !is_answer(&error) => last = Some(error),
                    answer => return answer,
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        });
        match asked.await {
            Ok(answer) => answer,
            Err(elapsed) => Err(last.unwrap_or(Error::Generic { store: "s3", source: Box::new(elapsed) })),
        }
    }

    /// Asks until there is an answer or `stop` says to stop.
    pub(crate) async fn patiently<T, F: Future<Output = Result<T, Error>>>(
        &self,
        stop: &watch::Sender<bool>,
        mut ask: impl FnMut() -> F,
    ) -> Result<T, Given> {
        let mut stopped = stop.subscribe();
        let mut pause = FIRST_PAUSE;
        loop {
            let answer = tokio::select! {
                answer = ask() => answer,
                _ = stopped.wait_for(|stop| *stop) => return Err(Given::Stopped),
            };
            self.backing.count(&answer);
            match answer {
                Ok(answer) => return Ok(answer),
                Err(error) if is_answer(&error) => return Err(Given::Answer(error)),
                Err(_) => {}
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = stopped.wait_for(|stop| *stop) => return Err(Given::Stopped),
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Whether nothing lies below a part of this.
    pub(crate) async fn is_empty(&self, below: &str) -> Result<bool, BackendError> {
        let prefix = self.path(below);
        let first = || async { self.store().list(Some(&prefix)).try_next().await };
        let found = self.within(OPEN_LIMIT, first).await;
        Ok(found.map_err(|error| self.backing.error("list a volume in", error))?.is_none())
    }

    /// Removes everything here.
    pub async fn remove(&self) -> Result<u64, BackendError> {
        let found = self.store().list(Some(&self.at)).map_ok(location).boxed();
        let mut gone = self.store().delete_stream(found);
        let mut count = 0;
        while let Some(one) = gone.next().await {
            match one {
                Ok(_) => count += 1,
                Err(Error::NotFound { .. }) => {}
                Err(error) => return Err(self.backing.error("remove a volume from", error)),
            }
        }
        Ok(count)
    }
}
