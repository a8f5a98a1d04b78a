//! Assembles the gateway from its parts and runs it until it is told to stop.
//!
//! In this order, so that nobody is let in before everything behind the door stands: keys, registry, sessions of before,
//! HTTP doors, VMs' channels, S3 for the host, and last the operator's socket, whose being there means "ready".

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mooring_policy::rng::{Random, SystemRandom};
use mooring_policy::time::{Clock, SystemClock};
use mooring_policy::token;
use mooring_store::backend::{BackendError, Backing, DataDir, StoreConfig, host_name};
use mooring_store::memory::Memory;
use mooring_store::realm::RealmOptions;
use mooring_store::seal::SealError;
use mooring_store::volume::Config;
use thiserror::Error;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::core::limits::Limits;
use crate::core::listen::ListenError;
use crate::core::standing::Standing;
use crate::core::volumes::{InStore, VolumeOptions};
use crate::core::{Core, CoreDeps, CoreError};
use crate::gateway::{Doors, Gateway};
use crate::homes::door::Door;
use crate::homes::roster::Rosters;
use crate::homes::{self, Shared};
use crate::settings::{Settings, SettingsError};
use crate::{api, log};

/// Why the gateway did not start, or stopped.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The settings cannot be used.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The log directives make no sense.
    #[error(transparent)]
    Log(#[from] log::LogError),
    /// The data directory cannot be used.
    #[error(transparent)]
    Data(#[from] BackendError),
    /// The master key is missing or wrong.
    #[error(transparent)]
    Key(#[from] SealError),
    /// The registry or its sessions.
    #[error(transparent)]
    Core(#[from] CoreError),
    /// A way in cannot be opened.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The operator's socket cannot be made.
    #[error("cannot listen on the admin socket {path}: choose another with --admin-socket")]
    Admin {
        /// Where.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// S3 for the host cannot be offered.
    #[error("cannot listen on {address} for S3: choose another with --s3, or `--s3 off`")]
    S3 {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Certificate or key of TLS.
    #[error("cannot use the TLS certificate {path}")]
    Tls {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The data directory cannot note that it is home's.
    #[error("cannot note in {path} that this gateway is home")]
    Note {
        /// Which directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Other gateways cannot come.
    #[error("cannot listen on {address} for other gateways: choose another with --peers-listen")]
    Peers {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Home no more, and a new process of this program cannot be begun.
    #[error("another gateway has taken over, and this one cannot begin anew: start it again")]
    StartOver(#[source] io::Error),
    /// Signals cannot be waited for.
    #[error("cannot wait for signals")]
    Signals(#[source] io::Error),
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// [`ServeError`] when it cannot start.
pub async fn serve(settings: Settings) -> Result<(), ServeError> {
    log::start(settings.log(), settings.log_format())?;
    if let Some(peers) = settings.peers.config()? {
        return homes::run(settings, peers).await;
    }
    home(&settings, None, stop_signal()).await
}

/// Serves until `stop`; among others when `shared` says how.
pub(crate) async fn home(
    settings: &Settings,
    shared: Option<Shared>,
    stop: impl Future<Output = io::Result<()>>,
) -> Result<(), ServeError> {
    let core = open(settings, shared.as_ref()).await?;
    let gateway = Gateway::new(Arc::clone(&core)).await?;
    core.keep_scrubbed(settings.scrub());
    core.set_http(Doors::new(&gateway, settings.s3_domains()));
    let taken = shared.as_ref().map(|shared| (shared.epoch, shared.since));
    if let Some(shared) = shared {
        admit_others(&gateway, settings, shared).await?;
    }
    core.listen_all().await?;
    core.listeners().listen_vsock();
    if let Some(address) = settings.tls {
        let bound = core.listeners().listen_tls(address, tls(settings)?).await?;
        tracing::info!(%bound, "files, S3 and API over TLS");
    }
    if let Some(address) = settings.s3()? {
        serve_s3(&gateway, address, settings).await?;
    }
    let path = settings.admin_socket();
    let admin = bind_admin(&path).map_err(|source| ServeError::Admin { path: path.clone(), source })?;
    if let Some((epoch, since)) = taken {
        let took_ms = core.monotonic().saturating_sub(since).as_millis() as u64;
        tracing::info!(epoch, took_ms, "this gateway is home");
    }
    tracing::info!(socket = %path.display(), "ready");
    let stopping = core.sessions().stopping().clone();
    let serving =
        axum::serve(admin, api::admin_router(gateway)).with_graceful_shutdown(stopping.cancelled_owned());
    let serving = tokio::spawn(serving.into_future());
    stop.await.map_err(ServeError::Signals)?;
    tracing::info!("stopping: saying goodbye, finishing what is under way");
    core.shutdown().await;
    serving.abort();
    // Gone already, or somebody else's by now: nothing to do about either.
    let _gone = std::fs::remove_file(&path);
    tracing::info!("stopped");
    Ok(())
}

/// Opens the door for other gateways.
async fn admit_others(gateway: &Arc<Gateway>, settings: &Settings, shared: Shared) -> Result<(), ServeError> {
    let core = &gateway.core;
    let rosters = Rosters::new(&shared.peers.name, shared.epoch);
    rosters.set_core(core);
    core.set_elsewhere(rosters.clone());
    let (address, epoch) = (shared.peers.listen, shared.epoch);
    let s3 = gateway.s3(settings.s3_domains());
    let admin = api::admin_router(Arc::clone(gateway));
    let door = Door { core: Arc::clone(core), rosters, s3, admin, epoch };
    door.open(address, &shared.tls).await.map_err(|source| ServeError::Peers { address, source })
}

async fn open(settings: &Settings, shared: Option<&Shared>) -> Result<Arc<Core>, ServeError> {
    let data = DataDir::open(settings.data_dir())?;
    let random: Arc<dyn Random> = Arc::new(SystemRandom);
    let store = match settings.store.config()? {
        None => None,
        Some(config) => Some(in_store(settings, &config, &*random).await?),
    };
    let has_data = match &store {
        None => data.has_data(),
        Some(store) => store.backing.has_data().await?,
    };
    let master = crate::master::gather(settings, has_data, &*random).await?;
    let clock = shared.map_or_else(|| Arc::new(SystemClock::new()) as Arc<dyn Clock>, |s| s.clock.clone());
    let standing = shared.map_or_else(|| Standing::alone(clock.clone()), |s| s.standing.clone());
    let disk = match &store {
        None => 0,
        Some(_) => settings.cache_disk_bytes(data.free()?),
    };
    let memory = Memory::with_disk(settings.cache_bytes(), disk);
    if store.is_some() {
        memory.copies().survey(data.path());
    }
    let realm_options =
        RealmOptions { data, master: Arc::new(master), cache: memory.blocks(), random, clock };
    let max_open = settings.max_open.unwrap_or(64);
    let config = Config { gc: settings.gc(), ..Config::default() };
    let volumes = VolumeOptions { config, max_open, memory, store };
    let token_realm = token::Realm { issuer: "mooring".to_owned(), audience: "mooring".to_owned() };
    let limits = Limits::default();
    Ok(Core::open(CoreDeps { store: realm_options, volumes, token_realm, limits, standing }).await?)
}

async fn in_store(
    settings: &Settings,
    config: &StoreConfig,
    random: &dyn Random,
) -> Result<InStore, ServeError> {
    let backing = Backing::open(config)?.probed(random).await?;
    tracing::info!(store = %backing.url(), "everything is kept in an object store");
    Ok(InStore { backing, owner: host_name(), accept_loss: settings.store.accept_loss() })
}

pub(crate) fn tls(settings: &Settings) -> Result<Arc<rustls::ServerConfig>, ServeError> {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let path = |p: &Option<PathBuf>| p.clone().unwrap_or_default();
    let (cert, key) = (path(&settings.tls_cert), path(&settings.tls_key));
    let failed = |path: &Path, source: Box<dyn std::error::Error + Send + Sync>| ServeError::Tls {
        path: path.to_owned(),
        source,
    };
    let chain = CertificateDer::pem_file_iter(&cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|e| failed(&cert, e.into()))?;
    let secret = PrivateKeyDer::from_pem_file(&key).map_err(|e| failed(&key, e.into()))?;
    let config = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, secret);
    config.map(Arc::new).map_err(|e| failed(&cert, e.into()))
}

async fn serve_s3(
    gateway: &Arc<Gateway>,
    address: SocketAddr,
    settings: &Settings,
) -> Result<(), ServeError> {
    let failed = |source| ServeError::S3 { address, source };
    let listener = tokio::net::TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    let stopping = gateway.core.sessions().stopping().clone();
    let router = gateway.s3(settings.s3_domains());
    tokio::spawn(mooring_s3::serve_tcp(listener, router, stopping.cancelled_owned()));
    tracing::info!(%bound, "S3 for tools on this host");
    Ok(())
}

/// A socket that a gateway left behind is replaced; one that is answered is somebody's.
pub(crate) fn bind_admin(path: &Path) -> io::Result<UnixListener> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "another gateway answers there"));
    }
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

pub(crate) async fn stop_signal() -> io::Result<()> {
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    Ok(())
}
