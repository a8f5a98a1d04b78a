//! Where the gateway is, and how to reach it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio_vsock::{VsockAddr, VsockStream};

/// The gateway's doors. Over vsock each has a port; on a unix socket the first bytes tell.
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
}

/// A text that is no target.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is no gateway address; write unix:/path/of/socket or vsock:CID:PORT (usually vsock:2:5000)")]
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
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Unix(path) => write!(f, "unix:{}", path.display()),
            Target::Vsock(cid, port) => write!(f, "vsock:{cid}:{port}"),
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
    source: std::io::Error,
}

/// Both directions of a byte stream.
pub struct Duplex {
    /// From the gateway.
    pub read: Box<dyn AsyncRead + Send + Unpin>,
    /// To the gateway.
    pub write: Box<dyn AsyncWrite + Send + Unpin>,
}

impl Target {
    pub(super) async fn dial(&self, port: Port) -> Result<Duplex, ConnectError> {
        self.connect(port).await.map_err(|source| ConnectError { target: self.clone(), source })
    }

    async fn connect(&self, port: Port) -> std::io::Result<Duplex> {
        match self {
            Target::Unix(path) => {
                let (read, write) = UnixStream::connect(path).await?.into_split();
                Ok(Duplex { read: Box::new(read), write: Box::new(write) })
            }
            Target::Vsock(cid, base) => {
                let stream = VsockStream::connect(VsockAddr::new(*cid, base + port.offset())).await?;
                let (read, write) = tokio::io::split(stream);
                Ok(Duplex { read: Box::new(read), write: Box::new(write) })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn targets_are_read_and_written_alike() {
        for text in ["unix:/run/mooring/vm.sock", "vsock:2:5000"] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
        }
        assert_eq!("vsock:2".parse::<Target>().unwrap(), Target::Vsock(2, 5000));
        for text in ["unix:relative", "vsock:two:5000", "tcp", "http://x"] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }
}
