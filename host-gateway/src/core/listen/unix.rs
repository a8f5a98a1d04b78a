//! Unix sockets: the family of a hybrid vsock, and a VM's own socket.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::net::UnixListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::{Listeners, Port};
use crate::core::identity::{Peer, Who};

/// A bound socket; its file goes when it does.
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "a socket's file was gone already");
        }
    }
}

/// Binds a socket that only this user can reach: being able to connect is being the VM. A directory that is missing is
/// made, for this user alone. What a dead gateway left there is replaced; a socket that somebody answers on is not.
pub fn bind(path: &Path) -> io::Result<Socket> {
    if let Some(dir) = path.parent().filter(|dir| !dir.exists()) {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    }
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => match std::os::unix::net::UnixStream::connect(path) {
            Ok(_) => return Err(io::Error::new(io::ErrorKind::AddrInUse, "another program listens there")),
            Err(_) => fs::remove_file(path)?,
        },
        Ok(_) => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "something that is no socket is there"));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(Socket { listener, path: path.to_owned() })
}

/// Accepts until the VM is detached or the gateway stops.
pub async fn accept(
    listeners: Arc<Listeners>,
    socket: Socket,
    who: Who,
    port: Port,
    room: Arc<Semaphore>,
    stop: CancellationToken,
) {
    let peer = Peer { who: Some(who), channel: format!("{}", socket.path.display()) };
    tracing::info!(%peer, ?port, "listening");
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = next(&socket, &room) => accepted,
        };
        match accepted {
            Ok((stream, permit)) => {
                let serving = listeners.clone().serve(stream, peer.clone(), port);
                let detached = stop.clone();
                listeners.tasks.spawn(async move {
                    let _permit = permit;
                    super::until_detached(serving, &detached).await;
                });
            }
            Err(error) => {
                tracing::warn!(%peer, %error, "a connection could not be accepted");
                super::breathe().await;
            }
        }
    }
}

async fn next(
    socket: &Socket,
    room: &Arc<Semaphore>,
) -> io::Result<(tokio::net::UnixStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = room.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = socket.listener.accept().await?;
    Ok((stream, permit))
}
