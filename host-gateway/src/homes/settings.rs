//! Settings of gateways that share a store.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use mooring_store::backend::host_name;
use serde::{Deserialize, Serialize};

use crate::settings::SettingsError;

/// How gateways that share a store reach and trust each other: the table `[peers]` of the file.
#[derive(Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerSettings {
    /// Share the store with other gateways: one is home, the others lead their VMs to it and one of them takes over when
    /// it dies. Where this one listens for them [default: nowhere, this gateway is alone on its store]
    #[arg(long = "peers-listen", env = "MOORING_PEERS_LISTEN", value_name = "ADDRESS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
    /// Where the others reach that, as `host:port` [default: the name, and the port that is listened on]
    #[arg(long = "peers-address", env = "MOORING_PEERS_ADDRESS", value_name = "HOST:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// This gateway's name, which its certificate must have [default: the host's name]
    #[arg(long = "peers-name", env = "MOORING_PEERS_NAME", value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The certificate authority of all gateways, PEM. Whoever has a certificate of it speaks for VMs: use one for this
    /// alone
    #[arg(long = "peers-ca", env = "MOORING_PEERS_CA", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// This gateway's certificate chain, PEM
    #[arg(long = "peers-cert", env = "MOORING_PEERS_CERT", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert: Option<PathBuf>,
    /// Its private key, PEM
    #[arg(long = "peers-key", env = "MOORING_PEERS_KEY", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
}

/// Settings that belong together, complete.
#[derive(Clone, Debug)]
pub struct PeerConfig {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Where others reach it.
    pub address: String,
    /// This gateway's name.
    pub name: String,
    /// The authority.
    pub ca: PathBuf,
    /// The certificate chain.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl PeerSettings {
    /// What is set here, and below it.
    pub fn over(self, below: PeerSettings) -> PeerSettings {
        PeerSettings {
            listen: self.listen.or(below.listen),
            address: self.address.or(below.address),
            name: self.name.or(below.name),
            ca: self.ca.or(below.ca),
            cert: self.cert.or(below.cert),
            key: self.key.or(below.key),
        }
    }

    /// Whether nothing is set.
    pub fn is_empty(&self) -> bool {
        *self == PeerSettings::default()
    }

    /// Everything, when the store is shared.
    ///
    /// # Errors
    /// Something is missing that belongs to it.
    pub fn config(&self) -> Result<Option<PeerConfig>, SettingsError> {
        let wrong = |why: &str| SettingsError::Value { field: "peers", why: why.to_owned() };
        let Some(listen) = self.listen else {
            return match self.is_empty() {
                true => Ok(None),
                false => Err(wrong("say where to listen for other gateways: --peers-listen ADDRESS")),
            };
        };
        let (Some(ca), Some(cert), Some(key)) = (&self.ca, &self.cert, &self.key) else {
            return Err(wrong(
                "gateways know each other by certificates: --peers-ca, --peers-cert and --peers-key go together",
            ));
        };
        let name = self.name.clone().unwrap_or_else(host_name);
        let address = match &self.address {
            Some(address) => address.clone(),
            None if listen.port() != 0 => format!("{name}:{}", listen.port()),
            None => return Err(wrong("port 0 is known to nobody: name a port")),
        };
        let (ca, cert, key) = (ca.clone(), cert.clone(), key.clone());
        Ok(Some(PeerConfig { listen, address, name, ca, cert, key }))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a failed unwrap is the test's failure

    use super::*;

    #[test]
    fn what_belongs_together_is_asked_for_by_name() {
        assert!(PeerSettings::default().config().unwrap().is_none());
        let listen = Some("0.0.0.0:7443".parse().unwrap());
        let some = PeerSettings { listen, ..PeerSettings::default() };
        assert!(some.config().unwrap_err().to_string().contains("--peers-ca"));
        let file = |name: &str| Some(PathBuf::from(name));
        let files =
            PeerSettings { ca: file("ca"), cert: file("c"), key: file("k"), ..PeerSettings::default() };
        assert!(files.config().unwrap_err().to_string().contains("--peers-listen"));
        let all = PeerSettings { listen, name: Some("a".to_owned()), ..files };
        assert_eq!(all.config().unwrap().unwrap().address, "a:7443");
    }
}
