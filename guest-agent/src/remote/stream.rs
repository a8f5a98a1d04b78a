//! Where the gateway is, and how to reach it.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::{fmt, io};

use mooring_protocol::caps;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;
use tokio_vsock::{VsockAddr, VsockStream};

/// The gateway's doors. Over vsock each has a port; on a unix socket and over TLS the first bytes tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// The session: frames.
    Files,
    /// S3 over HTTP.
    S3,
    /// The tenant API over HTTP.
    Api,
}

impl Port {
    fn offset(self) -> u32 {
        match self {
            Port::Files => 0,
            Port::S3 => 1,
            Port::Api => 2,
        }
    }
}

/// Where the gateway listens for this guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A unix socket.
    Unix(PathBuf),
    /// Context id and first port; S3 and the API are on the next two.
    Vsock(u32, u32),
    /// TCP with TLS: name or address, and port. Such a channel does not say who this VM is; a token does.
    Tls(String, u16),
}

/// A text that is no target.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "{0:?} is no gateway address; write vsock:CID:PORT (usually vsock:2:5000), unix:/path/of/socket or tls:HOST:PORT"
)]
pub struct TargetError(String);

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Target, TargetError> {
        let wrong = || TargetError(text.to_owned());
        match text.split_once(':').ok_or_else(wrong)? {
            ("unix", path) if path.starts_with('/') => Ok(Target::Unix(PathBuf::from(path))),
            ("vsock", rest) => {
                let (cid, port) = rest.split_once(':').unwrap_or((rest, "5000"));
                Ok(Target::Vsock(cid.parse().map_err(|_| wrong())?, port.parse().map_err(|_| wrong())?))
            }
            ("tls", rest) => {
                let (host, port) = rest.rsplit_once(':').ok_or_else(wrong)?;
                // An IPv6 address stands in brackets, as everywhere.
                let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
                ServerName::try_from(host).map_err(|_| wrong())?;
                Ok(Target::Tls(host.to_owned(), port.parse().map_err(|_| wrong())?))
            }
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Unix(path) => write!(f, "unix:{}", path.display()),
            Target::Vsock(cid, port) => write!(f, "vsock:{cid}:{port}"),
            Target::Tls(host, port) if host.contains(':') => write!(f, "tls:[{host}]:{port}"),
            Target::Tls(host, port) => write!(f, "tls:{host}:{port}"),
        }
    }
}

impl serde::Serialize for Target {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Target {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Target, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The gateway cannot be reached.
#[derive(Debug, Error)]
#[error("cannot reach the gateway at {target}; is it running, and is this VM attached to it?")]
pub struct ConnectError {
    target: Target,
    #[source]
    source: io::Error,
}

/// Both directions of a byte stream.
pub struct Duplex {
    /// From the gateway.
    pub read: Box<dyn AsyncRead + Send + Unpin>,
    /// To the gateway.
    pub write: Box<dyn AsyncWrite + Send + Unpin>,
}

/// Dials a target; knows whose certificates are good there.
pub(super) struct Dialer {
    target: Target,
    ca: Option<PathBuf>,
    /// Made at the first use.
    tls: OnceCell<TlsConnector>,
}

impl Dialer {
    pub(super) fn new(target: Target, ca: Option<PathBuf>) -> Dialer {
        Dialer { target, ca, tls: OnceCell::new() }
    }

    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    pub(super) async fn dial(&self, port: Port) -> Result<Duplex, ConnectError> {
        self.connect(port).await.map_err(|source| ConnectError { target: self.target.clone(), source })
    }

    async fn connect(&self, port: Port) -> io::Result<Duplex> {
        match &self.target {
            Target::Unix(path) => {
                let (read, write) = UnixStream::connect(path).await?.into_split();
                Ok(Duplex { read: Box::new(read), write: Box::new(write) })
            }
            Target::Vsock(cid, base) => {
                let stream = VsockStream::connect(VsockAddr::new(*cid, base + port.offset())).await?;
                let (read, write) = tokio::io::split(stream);
                Ok(Duplex { read: Box::new(read), write: Box::new(write) })
            }
            Target::Tls(host, port) => {
                let connector = self.tls.get_or_try_init(async || connector(self.ca.as_deref())).await?;
                let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
                let connected = tokio::time::timeout(caps::HELLO_DEADLINE, async {
                    let stream = TcpStream::connect((host.as_str(), *port)).await?;
                    // Small requests must not wait for an acknowledgement of the ones before.
                    stream.set_nodelay(true)?;
                    connector.connect(name, stream).await
                });
                let (read, write) = tokio::io::split(connected.await??);
                Ok(Duplex { read: Box::new(read), write: Box::new(write) })
            }
        }
    }
}

/// Trusts the certificates in `ca`, or those that this system trusts.
fn connector(ca: Option<&Path>) -> io::Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(path) => {
            let told = |error| io::Error::other(format!("{}: {error}", path.display()));
            for certificate in CertificateDer::pem_file_iter(path).map_err(told)? {
                roots.add(certificate.map_err(told)?).map_err(io::Error::other)?;
            }
        }
        // One that cannot be read leaves the others good.
        None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
    }
    if roots.is_empty() {
        return Err(io::Error::other("no certificate authority is known: name one with --ca FILE"));
    }
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn targets_are_read_and_written_alike() {
        for text in ["unix:/run/mooring/vm.sock", "vsock:2:5000", "tls:store.example:5443", "tls:[::1]:5443"]
        {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
        }
        assert_eq!("vsock:2".parse::<Target>().unwrap(), Target::Vsock(2, 5000));
        for text in ["unix:relative", "vsock:two:5000", "tcp", "http://x", "tls:host", "tls:a b:1"] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }
}
