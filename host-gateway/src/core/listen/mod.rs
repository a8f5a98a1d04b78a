//! Where guests come in, and who they are by where they came in.
//!
//! | channel | identity | ports |
//! |---|---|---|
//! | hybrid vsock | the VM's own socket family: guest port P arrives at `<path>_P` | 5000 frames, 5001 S3, 5002 API |
//! | kernel vsock | the peer's context id, by the registry | the same |
//! | unix socket | the VM's own socket | one for all: first bytes tell |
//! | TCP with TLS | none; a token in the greeting or as `Bearer` | one for all: first bytes tell |
//!
//! A VM's sockets are made when it is attached and at start, and removed when it is detached. Where the host has no
//! vsock the rest works and one line in the log says so.

pub(crate) mod http;
mod mux;
mod tls;
mod unix;
mod vsock;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use mooring_policy::ids::{TenantId, VmId};
use mooring_policy::principal::Principal;
use mooring_store::realm::{Channel, Vm};
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::identity::{Peer, Who};
use super::session::conn;
use super::sessions::Sessions;
pub use http::HttpDoors;

/// Connections one VM's channel, or one shared listener, may have at once.
const MAX_CONNECTIONS: usize = 1024;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Port {
    /// Frames: the agent's session.
    Frames,
    /// S3 over HTTP.
    S3,
    /// The tenant API over HTTP.
    Api,
    /// Any of these: the first bytes tell frames from HTTP, the path tells the API (`/v1/`) from S3.
    Any,
}

impl Port {
    /// The ports of a VM's channel.
    pub const CHANNEL: [(u32, Port); 3] = [(5000, Port::Frames), (5001, Port::S3), (5002, Port::Api)];
}

/// Why a VM or an address cannot be listened for.
#[derive(Debug, Error)]
pub enum ListenError {
    /// A socket cannot be made.
    #[error("cannot listen on {path}: check that its directory is writable and no other program uses it")]
    Socket {
        /// Where.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// An address cannot be listened on.
    #[error("cannot listen on {address}")]
    Address {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The VM's host has another gateway, and that cannot listen for it.
    #[error("gateway {gateway} cannot listen for its VM: {why}")]
    Elsewhere {
        /// Which.
        gateway: String,
        /// What it said, or that it cannot be reached.
        why: String,
    },
}

/// A VM's sockets.
struct Channels {
    stop: CancellationToken,
    accepting: Vec<tokio::task::JoinHandle<()>>,
}

/// A stream of any channel.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// Who takes connections to the gateway that serves them, when it is not this one.
#[async_trait]
pub trait Carrier: Send + Sync {
    /// Carries one connection until it ends.
    async fn carry(&self, stream: Box<dyn Stream>, peer: Peer, port: Port);
}

/// Where connections are served.
enum Server {
    Here { sessions: Arc<Sessions>, http: OnceLock<Arc<dyn HttpDoors>> },
    Elsewhere(Arc<dyn Carrier>),
}

/// All listeners.
pub struct Listeners {
    server: Server,
    stopping: CancellationToken,
    tasks: TaskTracker,
    vms: Mutex<HashMap<(TenantId, VmId), Channels>>,
    cids: RwLock<HashMap<u32, (Who, Arc<Semaphore>)>>,
}

impl Listeners {
    pub(super) fn new(sessions: Arc<Sessions>, tasks: TaskTracker) -> Arc<Listeners> {
        let stopping = sessions.stopping().clone();
        Listeners::over(Server::Here { sessions, http: OnceLock::new() }, stopping, tasks)
    }

    /// Listeners of a gateway that serves nobody itself.
    pub fn elsewhere(
        carrier: Arc<dyn Carrier>,
        stopping: CancellationToken,
        tasks: TaskTracker,
    ) -> Arc<Listeners> {
        Listeners::over(Server::Elsewhere(carrier), stopping, tasks)
    }

    fn over(server: Server, stopping: CancellationToken, tasks: TaskTracker) -> Arc<Listeners> {
        Arc::new(Listeners {
            server,
            stopping,
            tasks,
            vms: Mutex::new(HashMap::new()),
            cids: RwLock::new(HashMap::new()),
        })
    }

    /// Says who answers HTTP. To be called once, before anything is listened on.
    pub fn set_http(&self, doors: Arc<dyn HttpDoors>) {
        let Server::Here { http, .. } = &self.server else { return };
        if http.set(doors).is_err() {
            tracing::error!("HTTP doors were set twice; the first stay");
        }
    }

    /// Makes a VM's channel.
    pub async fn add(self: &Arc<Self>, vm: &Vm) -> Result<(), ListenError> {
        let (tenant, name) = (vm.tenant.clone(), vm.name.clone());
        let principal = Principal::Vm { tenant: tenant.clone(), vm: name.clone(), generation: vm.generation };
        let who = Who::new(principal);
        self.remove(vm).await;
        let mut accepting = Vec::new();
        let stop = self.stopping.child_token();
        match &vm.channel {
            Some(Channel::Hybrid(path)) => {
                let mut bound = Vec::new();
                for (number, port) in Port::CHANNEL {
                    let mut path = path.as_os_str().to_owned();
                    path.push(format!("_{number}"));
                    let path = PathBuf::from(path);
                    let socket = unix::bind(&path).map_err(|source| ListenError::Socket { path, source })?;
                    bound.push((socket, port));
                }
                let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
                for (socket, port) in bound {
                    let (who, room) = (who.clone(), room.clone());
                    accepting.push(self.tasks.spawn(unix::accept(
                        self.clone(),
                        socket,
                        who,
                        port,
                        room,
                        stop.clone(),
                    )));
                }
            }
            Some(Channel::Unix(path)) => {
                let socket =
                    unix::bind(path).map_err(|source| ListenError::Socket { path: path.clone(), source })?;
                let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
                accepting.push(self.tasks.spawn(unix::accept(
                    self.clone(),
                    socket,
                    who,
                    Port::Any,
                    room,
                    stop.clone(),
                )));
            }
            Some(Channel::Cid(cid)) => {
                self.cids.write().insert(*cid, (who, Arc::new(Semaphore::new(MAX_CONNECTIONS))));
            }
            Some(Channel::Tcp) | None => {}
        }
        self.vms.lock().insert((tenant, name), Channels { stop, accepting });
        Ok(())
    }

    /// Ends a VM's channel: its sockets are gone when this returns.
    pub async fn remove(&self, vm: &Vm) {
        let channels = self.vms.lock().remove(&(vm.tenant.clone(), vm.name.clone()));
        if let Some(channels) = channels {
            channels.stop.cancel();
            for accepting in channels.accepting {
                if let Err(error) = accepting.await {
                    tracing::error!(%error, "a listener failed");
                }
            }
        }
        let is_it = |who: &Who| who.tenant() == Some(&vm.tenant) && who.vm() == Some(&vm.name);
        self.cids.write().retain(|_, (who, _)| !is_it(who));
    }

    /// Listens on kernel vsock, for every VM that has a context id. A host without vsock is no error.
    pub fn listen_vsock(self: &Arc<Self>) {
        for (number, port) in Port::CHANNEL {
            match vsock::bind(number) {
                Ok(listener) => {
                    self.tasks.spawn(vsock::accept(self.clone(), listener, port));
                }
                Err(error) => {
                    tracing::warn!(port = number, %error,
                        "this host has no kernel vsock to listen on: VMs attached by CID cannot reach the gateway, all others can");
                    return;
                }
            }
        }
    }

    /// Listens on TCP with TLS. Returns the address, which tells the port when 0 was asked for.
    pub async fn listen_tls(
        self: &Arc<Self>,
        address: SocketAddr,
        config: Arc<rustls::ServerConfig>,
    ) -> Result<SocketAddr, ListenError> {
        let failed = |source| ListenError::Address { address, source };
        let listener = tokio::net::TcpListener::bind(address).await.map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        self.tasks.spawn(tls::accept(self.clone(), listener, config));
        Ok(bound)
    }

    /// Whom a context id belongs to.
    fn by_cid(&self, cid: u32) -> Option<(Who, Arc<Semaphore>)> {
        self.cids.read().get(&cid).cloned()
    }

    /// Serves one connection.
    pub async fn serve<S>(self: Arc<Self>, stream: S, peer: Peer, port: Port)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let sessions = match &self.server {
            Server::Here { sessions, .. } => sessions.clone(),
            Server::Elsewhere(carrier) => return carrier.carry(Box::new(stream), peer, port).await,
        };
        match port {
            Port::Frames => conn::serve(sessions, stream, peer).await,
            Port::S3 | Port::Api => self.serve_http(stream, peer, port).await,
            Port::Any => match mux::tell(stream).await {
                Ok(mux::Spoken::Frames(stream)) => conn::serve(sessions, stream, peer).await,
                Ok(mux::Spoken::Http(stream)) => self.serve_http(stream, peer, Port::Any).await,
                Err(error) => tracing::debug!(%peer, %error, "closed a connection that said nothing"),
            },
        }
    }

    async fn serve_http<S>(&self, stream: S, peer: Peer, port: Port)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Server::Here { http, .. } = &self.server else { return };
        match http.get() {
            Some(doors) => http::serve(stream, doors.router(&peer, port), &self.stopping).await,
            None => tracing::warn!(%peer, "closed an HTTP connection: this gateway has no HTTP doors"),
        }
    }
}

/// How long a connection may go on after its channel is gone: long enough for goodbyes and the answer under way.
const LINGER: std::time::Duration = std::time::Duration::from_secs(5);

/// Serves a connection; when its VM is detached, or the gateway stops, not much longer than that.
async fn until_detached(serving: impl Future<Output = ()>, detached: &CancellationToken) {
    let over = async {
        detached.cancelled().await;
        tokio::time::sleep(LINGER).await;
    };
    tokio::select! {
        () = serving => {}
        () = over => {}
    }
}

/// A moment after a failed accept (out of file descriptors, mostly), so that it is not tried without pause.
async fn breathe() {
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
}
