//! TCP with TLS, for VMs without vsock. The channel says nothing of who it is: a token does.

use std::sync::Arc;

use mooring_protocol::caps;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use super::{Listeners, MAX_CONNECTIONS, Port};
use crate::core::identity::Peer;

/// Accepts until the gateway stops.
pub async fn accept(listeners: Arc<Listeners>, listener: TcpListener, config: Arc<rustls::ServerConfig>) {
    let acceptor = TlsAcceptor::from(config);
    let stopping = listeners.stopping.clone();
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            () = stopping.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a TCP connection could not be accepted");
                super::breathe().await;
                continue;
            }
        };
        let Ok(permit) = room.clone().try_acquire_owned() else {
            tracing::warn!(%address, "refused a TCP connection: there are too many");
            continue;
        };
        let peer = Peer { who: None, channel: format!("tcp {address}") };
        let (listeners, acceptor, stopping) = (listeners.clone(), acceptor.clone(), stopping.clone());
        let tasks = listeners.tasks.clone();
        tasks.spawn(async move {
            let _permit = permit;
            super::until_detached(handshake(listeners, acceptor, stream, peer), &stopping).await;
        });
    }
}

async fn handshake(listeners: Arc<Listeners>, acceptor: TlsAcceptor, stream: TcpStream, peer: Peer) {
    // Small answers must not wait for an acknowledgement of the ones before.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, %error, "TCP_NODELAY could not be set");
    }
    match tokio::time::timeout(caps::HELLO_DEADLINE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => listeners.serve(stream, peer, Port::Any).await,
        Ok(Err(error)) => tracing::info!(%peer, %error, "TLS handshake failed"),
        Err(_) => tracing::info!(%peer, "TLS handshake took too long"),
    }
}
