//! Certificates between gateways: both sides show one of the same authority, and it must have the name they go by.

use std::path::Path;
use std::sync::Arc;

use rustls::client::verify_server_name;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::settings::PeerConfig;
use crate::serve::ServeError;

/// What both sides say they speak.
const PROTOCOL: &[u8] = b"mooring-peer/1";

/// The two halves of a gateway's TLS.
#[derive(Clone)]
pub struct Tls {
    /// For those that come.
    pub server: Arc<ServerConfig>,
    /// For going there.
    pub client: Arc<ClientConfig>,
}

type Cause = Box<dyn std::error::Error + Send + Sync>;

fn failed(path: &Path, source: impl Into<Cause>) -> ServeError {
    ServeError::Tls { path: path.to_owned(), source: source.into() }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ServeError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    read.map_err(|error| failed(path, error))
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// One cannot be read, or the certificate does not have this gateway's name.
    pub fn read(config: &PeerConfig) -> Result<Tls, ServeError> {
        let mut roots = RootCertStore::empty();
        for root in certificates(&config.ca)? {
            roots.add(root).map_err(|error| failed(&config.ca, error))?;
        }
        let roots = Arc::new(roots);
        let chain = certificates(&config.cert)?;
        let first = chain.first().ok_or_else(|| failed(&config.cert, "there is no certificate in it"))?;
        if !has_name(first, &config.name) {
            let why = format!("it does not have this gateway's name `{}`; see --peers-name", config.name);
            return Err(failed(&config.cert, why));
        }
        let key = || PrivateKeyDer::from_pem_file(&config.key).map_err(|error| failed(&config.key, error));
        let provider = Arc::new(aws_lc_rs::default_provider());
        let clients = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone()).build();
        let clients = clients.map_err(|error| failed(&config.ca, error))?;
        let versions = [&rustls::version::TLS13];
        let server = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(&versions);
        let server = server.map_err(|error| failed(&config.cert, error))?;
        let server = server.with_client_cert_verifier(clients).with_single_cert(chain.clone(), key()?);
        let mut server = server.map_err(|error| failed(&config.cert, error))?;
        let client = ClientConfig::builder_with_provider(provider).with_protocol_versions(&versions);
        let client = client.map_err(|error| failed(&config.cert, error))?;
        let client = client.with_root_certificates(roots).with_client_auth_cert(chain, key()?);
        let mut client = client.map_err(|error| failed(&config.cert, error))?;
        server.alpn_protocols = vec![PROTOCOL.to_vec()];
        client.alpn_protocols = vec![PROTOCOL.to_vec()];
        Ok(Tls { server: Arc::new(server), client: Arc::new(client) })
    }
}

/// Whether a certificate, already found valid, has this name.
pub fn has_name(certificate: &CertificateDer<'_>, name: &str) -> bool {
    let (Ok(parsed), Ok(name)) = (ParsedCertificate::try_from(certificate), ServerName::try_from(name))
    else {
        return false;
    };
    verify_server_name(&parsed, &name).is_ok()
}
