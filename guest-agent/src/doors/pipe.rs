//! S3 on localhost: a byte pipe to the gateway's S3 door, so that there is one S3 and not two.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::DoorError;
use crate::remote::{Port, Remote};

/// Connections piped at once; further ones wait to be accepted.
const MAX_CONNECTIONS: usize = 256;

/// Listens at `address`; returns the address taken (a port 0 is picked by the kernel).
///
/// # Errors
/// When the address is taken.
pub async fn open(remote: Remote, address: SocketAddr) -> Result<SocketAddr, DoorError> {
    let wrong = |source| DoorError::new("S3", address, source);
    let listener = TcpListener::bind(address).await.map_err(wrong)?;
    let at = listener.local_addr().map_err(wrong)?;
    tokio::spawn(accept(listener, remote));
    Ok(at)
}

async fn accept(listener: TcpListener, remote: Remote) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let remote = remote.clone();
                tokio::spawn(async move {
                    if let Err(error) = pipe(stream, &remote).await {
                        tracing::debug!(%error, "an S3 connection ended");
                    }
                    drop(permit);
                });
            }
            // Out of descriptors, mostly: it passes, and trying at once would spin.
            Err(error) => {
                tracing::warn!(%error, "an S3 connection could not be accepted");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

async fn pipe(mut local: TcpStream, remote: &Remote) -> std::io::Result<()> {
    // Small answers must not wait for the client's delayed acknowledgement.
    local.set_nodelay(true)?;
    let duplex = remote.dial(Port::S3).await.map_err(std::io::Error::other)?;
    let mut far = tokio::io::join(duplex.read, duplex.write);
    tokio::io::copy_bidirectional_with_sizes(&mut local, &mut far, 64 << 10, 64 << 10).await?;
    Ok(())
}
