//! A gateway that is not home: it listens for its VMs, and carries each connection to the one that is.
//!
//! Bytes pass as they are. So a session is one session, at one gateway, whatever host its VM is on: its leases, locks and
//! replies are in one place, and coherence, revocation and fences are what they are with one gateway. When the home
//! changes, every connection ends, and whoever was connected connects again.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use mooring_store::realm::Vm;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncWrite, AsyncWriteExt, copy_bidirectional_with_sizes};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

use super::hail::{Answer, Hail, LIMIT, MAX_ROSTER, VERSION, What, hear, hear_soon, say};
use super::reign::Home;
use super::roster::{Heard, Roster, name};
use super::tls::Tls;
use crate::core::identity::Peer;
use crate::core::listen::{Carrier, Listeners, Port, Stream};
use mooring_policy::principal::Principal;

/// How long a connection waits for a gateway to be home. Longer than a take-over.
const NO_HOME: Duration = Duration::from_secs(12);

/// Pause after a home that does not answer.
const AGAIN: Duration = Duration::from_millis(100);

/// Bytes on their way in each direction of a connection.
const BUFFER: usize = 256 << 10;

/// What a home that is gone without a word is noticed by.
const SILENT: Duration = Duration::from_secs(10);

/// See the [module](self).
pub struct Front {
    /// This gateway's name.
    pub name: String,
    /// Its certificates.
    pub tls: Tls,
    /// Who is home.
    pub home: watch::Receiver<Option<Home>>,
    /// Cancelled when this gateway leads nobody any more.
    pub stop: CancellationToken,
}

/// What somebody who speaks HTTP is told when nobody is home.
const UNAVAILABLE_S3: (&str, &str) = (
    "application/xml",
    "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>ServiceUnavailable</Code><Message>no gateway is home \
     at the moment; try again</Message></Error>",
);
const UNAVAILABLE_API: (&str, &str) = (
    "application/json",
    "{\"error\":{\"code\":\"unavailable\",\"message\":\"no gateway is home at the moment: the one that was is gone, \
     and this one takes over within seconds if it can reach the store; its log says more\",\"request_id\":\"\"}}",
);

impl Front {
    /// A stream to the home, for `what`.
    async fn open(&self, home: &Home, what: &What) -> io::Result<TlsStream<TcpStream>> {
        let connect = async {
            let stream = TcpStream::connect(&home.claim.address).await?;
            // Small answers must not wait for an acknowledgement of the ones before.
            stream.set_nodelay(true)?;
            let silent = SILENT.as_millis() as u32;
            rustix::net::sockopt::set_tcp_user_timeout(&stream, silent)?;
            rustix::net::sockopt::set_socket_keepalive(&stream, true)?;
            rustix::net::sockopt::set_tcp_keepidle(&stream, SILENT / 2)?;
            rustix::net::sockopt::set_tcp_keepintvl(&stream, SILENT / 5)?;
            let name = ServerName::try_from(home.claim.gateway.clone()).map_err(io::Error::other)?;
            let mut stream = TlsConnector::from(self.tls.client.clone()).connect(name, stream).await?;
            let hail =
                Hail { version: VERSION, gateway: self.name.clone(), epoch: home.epoch, what: what.clone() };
            say(&mut stream, &hail).await?;
            match hear_soon(&mut stream).await? {
                Answer::Welcome => Ok(stream),
                Answer::Refused(why) => Err(io::Error::new(io::ErrorKind::PermissionDenied, why)),
            }
        };
        tokio::time::timeout(LIMIT, connect).await?
    }

    /// The same, to whoever is home as soon as somebody is.
    async fn reach(&self, what: &What) -> Option<(Home, TlsStream<TcpStream>)> {
        let mut homes = self.home.clone();
        let trying = async {
            loop {
                let home = homes.wait_for(Option::is_some).await.ok()?.clone()?;
                match self.open(&home, what).await {
                    Ok(stream) => return Some((home, stream)),
                    Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                        tracing::warn!(home = home.claim.gateway, %error, "the home refuses a connection");
                        return None;
                    }
                    Err(error) => {
                        tracing::debug!(home = home.claim.gateway, %error, "the home does not answer");
                        tokio::time::sleep(AGAIN).await;
                    }
                }
            }
        };
        tokio::time::timeout(NO_HOME, trying).await.ok().flatten()
    }

    /// Waits until somebody else than `home` is home.
    async fn changed(&self, home: &Home) {
        let mut homes = self.home.clone();
        let other = |now: &Option<Home>| now.as_ref().is_some_and(|now| now.epoch != home.epoch);
        let seen = homes.wait_for(other).await.is_ok();
        if !seen {
            // Nobody looks any more; this gateway is about to stop leading.
            self.stop.cancelled().await;
        }
    }

    /// Carries one connection to its end.
    pub async fn pipe<S: Stream>(&self, stream: S, what: What) {
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = self.lead(stream, what) => {}
        }
    }

    async fn lead<S: Stream>(&self, mut stream: S, what: What) {
        let Some((home, mut there)) = self.reach(&what).await else {
            return refuse(&mut stream, &what).await;
        };
        let passing = copy_bidirectional_with_sizes(&mut stream, &mut there, BUFFER, BUFFER);
        tokio::select! {
            passed = passing => if let Err(error) = passed {
                tracing::debug!(%error, ?what, "a connection ended early");
            },
            () = self.changed(&home) => tracing::debug!(?what, "a connection ended with its home"),
        }
    }

    /// Listens for the VMs that the home names, for ever.
    pub async fn follow_roster(&self, listeners: &Arc<Listeners>) {
        let mut known: HashMap<String, Vm> = HashMap::new();
        loop {
            if let Some((home, stream)) = self.reach(&What::Roster).await {
                let following = self.follow_one(stream, listeners, &mut known);
                tokio::select! {
                    Err(error) = following => {
                        tracing::info!(home = home.claim.gateway, %error, "lost the gateway that is home");
                    }
                    () = self.changed(&home) => {}
                }
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn follow_one(
        &self,
        mut stream: TlsStream<TcpStream>,
        listeners: &Arc<Listeners>,
        known: &mut HashMap<String, Vm>,
    ) -> io::Result<std::convert::Infallible> {
        loop {
            let Roster { number, vms } = hear(&mut stream, MAX_ROSTER).await?;
            let wanted: HashMap<String, Vm> = vms.into_iter().map(|vm| (name(&vm), vm)).collect();
            let gone: Vec<String> = known
                .iter()
                .filter(|(name, vm)| wanted.get(*name) != Some(vm))
                .map(|(n, _)| n.clone())
                .collect();
            for name in gone {
                if let Some(vm) = known.remove(&name) {
                    listeners.remove(&vm).await;
                }
            }
            let mut failed = Vec::new();
            for (name, vm) in wanted {
                if known.contains_key(&name) {
                    continue;
                }
                match listeners.add(&vm).await {
                    Ok(()) => {
                        known.insert(name, vm);
                    }
                    Err(error) => {
                        let cause = std::error::Error::source(&error).map(|c| format!(": {c}"));
                        let why = format!("{error}{}", cause.unwrap_or_default());
                        tracing::error!(vm = name, why, "a VM cannot reach the gateway");
                        failed.push((name, why));
                    }
                }
            }
            say(&mut stream, &Heard { number, failed }).await?;
        }
    }
}

#[async_trait]
impl Carrier for Front {
    async fn carry(&self, stream: Box<dyn Stream>, peer: Peer, port: Port) {
        let what = match peer.who.map(|who| who.principal) {
            Some(Principal::Vm { tenant, vm, .. }) => What::Vm { tenant, vm, port },
            _ => What::Anybody { channel: peer.channel, port },
        };
        self.pipe(stream, what).await;
    }
}

/// Says in HTTP that nobody is home. An agent sees the connection end, and tries again.
async fn refuse<S: AsyncWrite + Unpin>(stream: &mut S, what: &What) {
    let (kind, body) = match what {
        What::S3 | What::Vm { port: Port::S3, .. } => UNAVAILABLE_S3,
        What::Operator | What::Vm { port: Port::Api, .. } => UNAVAILABLE_API,
        _ => return,
    };
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nRetry-After: 1\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    );
    let said = async {
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await
    };
    // Whoever does not take it is gone.
    let _ = tokio::time::timeout(LIMIT, said).await;
}
