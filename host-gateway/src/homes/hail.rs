//! What a gateway says first on a stream to the one that is home: who it is, and whose connection follows. Then bytes pass
//! as they are.

use std::io;
use std::time::Duration;

use mooring_policy::ids::{TenantId, VmId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::core::listen::Port;

/// Version of this page.
pub const VERSION: u8 = 1;

/// Longest greeting, bytes.
const MAX_HAIL: usize = 4 << 10;

/// Longest list of VMs, bytes.
pub const MAX_ROSTER: usize = 16 << 20;

/// How long either side waits for the other's words.
pub const LIMIT: Duration = Duration::from_secs(5);

/// The first words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hail {
    /// Of this form.
    pub version: u8,
    /// Who speaks; its certificate must have the name.
    pub gateway: String,
    /// The epoch in which the one spoken to is home, as far as is known.
    pub epoch: u64,
    /// What the stream is for.
    pub what: What,
}

/// What a stream is for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// A connection of a VM on the speaker's host, known by its channel.
    Vm {
        /// Whose it is.
        tenant: TenantId,
        /// Which.
        vm: VmId,
        /// What it is for.
        port: Port,
    },
    /// A connection over TLS: a token says whose.
    Anybody {
        /// Where it came from, for logs.
        channel: String,
        /// What it is for.
        port: Port,
    },
    /// S3 of a tool on the speaker's host, with an access key.
    S3,
    /// The operator at the speaker's socket.
    Operator,
    /// The speaker wants to know of its VMs from now on.
    Roster,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Go on.
    Welcome,
    /// No, and why.
    Refused(String),
}

/// Sends one piece.
pub async fn say<S: AsyncWrite + Unpin>(stream: &mut S, words: &impl Serialize) -> io::Result<()> {
    let body = serde_json::to_vec(words).map_err(io::Error::other)?;
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    let mut bytes = Vec::with_capacity(4 + body.len());
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&body);
    stream.write_all(&bytes).await?;
    stream.flush().await
}

/// Receives one piece of `most` bytes at most.
pub async fn hear<S: AsyncRead + Unpin, T: DeserializeOwned>(stream: &mut S, most: usize) -> io::Result<T> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).await?;
    let length = u32::from_le_bytes(length) as usize;
    if length > most {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{length} bytes are too many")));
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    serde_json::from_slice(&body).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Receives a greeting or its answer.
pub async fn hear_soon<S: AsyncRead + Unpin, T: DeserializeOwned>(stream: &mut S) -> io::Result<T> {
    tokio::time::timeout(LIMIT, hear(stream, MAX_HAIL)).await?
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a failed unwrap is the test's failure

    use super::*;

    #[tokio::test]
    async fn what_is_said_is_heard_and_nothing_longer_is_read() {
        let hail = Hail {
            version: VERSION,
            gateway: "b".to_owned(),
            epoch: 7,
            what: What::Vm {
                tenant: "acme".parse().unwrap(),
                vm: "one".parse().unwrap(),
                port: Port::Frames,
            },
        };
        let mut wire = Vec::new();
        say(&mut wire, &hail).await.unwrap();
        assert_eq!(hear_soon::<_, Hail>(&mut &wire[..]).await.unwrap(), hail);
        assert!(hear::<_, Hail>(&mut &wire[..], 10).await.is_err());
        assert!(hear_soon::<_, Hail>(&mut &wire[..wire.len() - 1]).await.is_err());
        let endless = u32::MAX.to_le_bytes();
        assert!(hear_soon::<_, Hail>(&mut &endless[..]).await.is_err());
    }
}
