//! Where other gateways come in, at the one that is home.
//!
//! A gateway speaks for the VMs on its host, and for nobody else's: the registry says where a VM runs, and the certificate
//! says which gateway speaks. It also passes on what needs no trust in it: S3 that is signed, connections that show a
//! token. And it speaks for its operator, who holds the store's credentials and the master key in any case.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::hail::{Answer, Hail, LIMIT, VERSION, What, hear_soon, say};
use super::roster::Rosters;
use super::tls::{Tls, has_name};
use crate::api::Via;
use crate::core::Core;
use crate::core::identity::{Peer, Who};
use crate::core::listen::http;
use mooring_policy::principal::Principal;

/// Connections from other gateways at a time, all together.
const MAX_CONNECTIONS: usize = 16_384;

/// See the [module](self).
pub struct Door {
    /// The gateway.
    pub core: Arc<Core>,
    /// Who is connected.
    pub rosters: Arc<Rosters>,
    /// S3 for tools.
    pub s3: axum::Router,
    /// The operator's.
    pub admin: axum::Router,
    /// The epoch in which this gateway is home.
    pub epoch: u64,
}

impl Door {
    /// Accepts until the gateway stops.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub async fn open(self, address: SocketAddr, tls: &Tls) -> io::Result<()> {
        let listener = TcpListener::bind(address).await?;
        tracing::info!(%address, "other gateways may come");
        let (door, acceptor) = (Arc::new(self), TlsAcceptor::from(tls.server.clone()));
        let stopping = door.core.sessions().stopping().clone();
        let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        door.core.clone().spawn(async move {
            loop {
                let stream = match listener.accept().await {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        tracing::warn!(%error, "a gateway's connection could not be accepted");
                        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                        continue;
                    }
                };
                let Ok(permit) = room.clone().try_acquire_owned() else {
                    tracing::warn!("refused a gateway's connection: there are too many");
                    continue;
                };
                let (door, acceptor, stopping) = (door.clone(), acceptor.clone(), stopping.clone());
                door.core.clone().spawn(async move {
                    let _permit = permit;
                    if let Err(error) = door.take(acceptor, stream, &stopping).await {
                        tracing::info!(%error, "a gateway's connection ended");
                    }
                });
            }
        });
        Ok(())
    }

    async fn take(
        &self,
        acceptor: TlsAcceptor,
        stream: TcpStream,
        stop: &CancellationToken,
    ) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut stream = tokio::time::timeout(LIMIT, acceptor.accept(stream)).await??;
        let hail: Hail = hear_soon(&mut stream).await?;
        match self.admit(&stream, &hail).await {
            Ok(peer) => {
                say(&mut stream, &Answer::Welcome).await?;
                self.serve(stream, hail, peer, stop).await
            }
            Err(why) => {
                tracing::warn!(
                    gateway = hail.gateway.escape_debug().to_string(),
                    why,
                    "refused a gateway's connection"
                );
                say(&mut stream, &Answer::Refused(why)).await
            }
        }
    }

    /// Whose connection it is, or why it is refused.
    async fn admit(&self, stream: &TlsStream<TcpStream>, hail: &Hail) -> Result<Peer, String> {
        if hail.version != VERSION {
            return Err(format!("version {} is not spoken here, {VERSION} is", hail.version));
        }
        let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        if !shown.is_some_and(|shown| has_name(shown, &hail.gateway)) {
            return Err(format!("the certificate does not have the name `{}`", hail.gateway.escape_debug()));
        }
        if hail.epoch > self.epoch {
            self.core.standing().lose("another gateway says that it is led to a later home");
            return Err("this gateway is home no more".to_owned());
        }
        let from = format!("gateway {}", hail.gateway);
        match &hail.what {
            What::Vm { tenant, vm, .. } => {
                let known = self.core.realm().vm(tenant, vm).await.map_err(|error| error.to_string())?;
                if known.gateway.as_deref() != Some(hail.gateway.as_str()) {
                    return Err(format!("VM {tenant}/{vm} is not attached at gateway {}", hail.gateway));
                }
                let (tenant, vm) = (tenant.clone(), vm.clone());
                let who = Who::new(Principal::Vm { tenant, vm, generation: known.generation });
                Ok(Peer { who: Some(who), channel: from })
            }
            What::Anybody { channel, .. } => {
                Ok(Peer { who: None, channel: format!("{} at {from}", channel.escape_debug()) })
            }
            What::S3 | What::Operator | What::Roster => Ok(Peer { who: None, channel: from }),
        }
    }

    async fn serve(
        &self,
        stream: TlsStream<TcpStream>,
        hail: Hail,
        peer: Peer,
        stop: &CancellationToken,
    ) -> io::Result<()> {
        match hail.what {
            What::Vm { port, .. } | What::Anybody { port, .. } => {
                self.core.listeners().clone().serve(stream, peer, port).await;
            }
            What::S3 => {
                let stopped = stop.clone().cancelled_owned();
                mooring_s3::serve_connection_until(stream, self.s3.clone(), None, stopped)
                    .await
                    .map_err(io::Error::other)?;
            }
            What::Operator => {
                let via = axum::Extension(Via(hail.gateway));
                http::serve(stream, self.admin.clone().layer(via), stop).await;
            }
            What::Roster => self.rosters.tell(&hail.gateway, stream, stop).await?,
        }
        Ok(())
    }
}
