//! Kernel vsock: the host's own device. The peer's context id says which VM it is.

use std::io;
use std::sync::Arc;

use tokio_vsock::{VMADDR_CID_ANY, VsockAddr, VsockListener, VsockStream};

use super::{Listeners, Port};
use crate::core::identity::Peer;

/// Listens on one port for every VM of the host.
pub fn bind(port: u32) -> io::Result<VsockListener> {
    VsockListener::bind(VsockAddr::new(VMADDR_CID_ANY, port))
}

/// Accepts until the gateway stops. A context id that no VM is attached with is refused.
pub async fn accept(listeners: Arc<Listeners>, listener: VsockListener, port: Port) {
    let stopping = listeners.stopping.clone();
    loop {
        let accepted = tokio::select! {
            () = stopping.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, address)) => take(&listeners, stream, address.cid(), port),
            Err(error) => {
                tracing::warn!(%error, "a vsock connection could not be accepted");
                super::breathe().await;
            }
        }
    }
}

fn take(listeners: &Arc<Listeners>, stream: VsockStream, cid: u32, port: Port) {
    let Some((who, room)) = listeners.by_cid(cid) else {
        return tracing::warn!(cid, "refused a vsock connection: no VM is attached with this CID");
    };
    let Ok(permit) = room.try_acquire_owned() else {
        return tracing::warn!(cid, "refused a vsock connection: the VM has too many");
    };
    let peer = Peer { who: Some(who), channel: format!("vsock {cid}") };
    let serving = listeners.clone().serve(stream, peer, port);
    let stopping = listeners.stopping.clone();
    listeners.tasks.spawn(async move {
        let _permit = permit;
        super::until_detached(serving, &stopping).await;
    });
}
