//! The container-credentials endpoint: AWS SDKs ask here for keys and get short-lived ones, so that none is on disk.
//!
//! The SDKs send what is in the file named by `AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE`; who can read that file may
//! act as this VM's tenant.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use super::{DoorError, http as web, write_private};
use crate::remote::Remote;

const PATH: &str = "/credentials";
/// The region that SDKs are told. Not us-east-1, for which some would sign in an old way.
pub const REGION: &str = "mooring-1";

/// Where the files of this door are.
#[derive(Clone, Debug)]
pub struct Files {
    /// The secret that SDKs send.
    pub token: PathBuf,
    /// Shell assignments to be sourced.
    pub environment: PathBuf,
}

impl Files {
    /// In this directory.
    #[must_use]
    pub fn in_dir(dir: &Path) -> Files {
        Files { token: dir.join("credentials.token"), environment: dir.join("env") }
    }
}

/// Listens at `address` and writes both files; `s3` is where S3 is offered.
///
/// # Errors
/// When the address is taken or the files cannot be written.
pub async fn open(
    remote: Remote,
    address: SocketAddr,
    s3: SocketAddr,
    files: &Files,
) -> Result<SocketAddr, DoorError> {
    let wrong = |source| DoorError::new("credentials", address, source);
    let listener = TcpListener::bind(address).await.map_err(wrong)?;
    let at = listener.local_addr().map_err(wrong)?;
    let secret = uuid::Uuid::new_v4().simple().to_string();
    let write = |path: &Path, mode, text: &str| {
        write_private(path, mode, text.as_bytes())
            .map_err(|e| DoorError::new("credentials", path.display(), e))
    };
    write(&files.token, 0o600, &secret)?;
    write(&files.environment, 0o644, &environment(at, s3, &files.token))?;
    tokio::spawn(accept(listener, remote, secret));
    Ok(at)
}

fn environment(at: SocketAddr, s3: SocketAddr, token: &Path) -> String {
    let token = token.display();
    format!(
        "export AWS_ENDPOINT_URL_S3=http://{s3}\n\
         export AWS_CONTAINER_CREDENTIALS_FULL_URI=http://{at}{PATH}\n\
         export AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE='{token}'\n\
         export AWS_REGION={REGION}\n\
         export AWS_DEFAULT_REGION={REGION}\n"
    )
}

async fn accept(listener: TcpListener, remote: Remote, secret: String) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let (remote, secret) = (remote.clone(), secret.clone());
                let service = service_fn(move |request| {
                    let (remote, secret) = (remote.clone(), secret.clone());
                    async move { Ok::<_, Infallible>(answer(&remote, &secret, &request).await) }
                });
                tokio::spawn(async move {
                    let served = hyper::server::conn::http1::Builder::new();
                    if let Err(error) = served.serve_connection(TokioIo::new(stream), service).await {
                        tracing::debug!(%error, "a credentials connection ended");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a credentials connection could not be accepted");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

async fn answer(remote: &Remote, secret: &str, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let given =
        request.headers().get(header::AUTHORIZATION).map(http::HeaderValue::as_bytes).unwrap_or_default();
    if !same(given, secret.as_bytes()) {
        let message = "the authorization does not match the agent's token file".to_owned();
        return web::refusal(StatusCode::UNAUTHORIZED, "unauthenticated", message, None);
    }
    if request.method() != Method::GET || request.uri().path() != PATH {
        return web::refusal(StatusCode::NOT_FOUND, "not_found", format!("only GET {PATH}"), None);
    }
    let ask = Request::get("/v1/credentials").header(header::HOST, "mooring").body(Full::default());
    match ask {
        Ok(ask) => web::ask(remote, ask).await.unwrap_or_else(|error| web::unavailable(&error)),
        Err(error) => web::refusal(StatusCode::INTERNAL_SERVER_ERROR, "internal", error.to_string(), None),
    }
}

/// Compares in a time that does not depend on where the texts differ.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |acc, (x, y)| acc | (x ^ y)) == 0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn the_environment_can_be_sourced() {
        let at = "127.0.0.1:9001".parse().unwrap();
        let s3 = "127.0.0.1:9000".parse().unwrap();
        let text = environment(at, s3, Path::new("/run/mooring/credentials.token"));
        assert!(text.lines().all(|line| line.starts_with("export AWS_") && line.contains('=')), "{text}");
        assert!(text.contains("FULL_URI=http://127.0.0.1:9001/credentials"));
    }

    #[test]
    fn private_files_are_private() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        std::fs::write(&path, "old").unwrap();
        write_private(&path, 0o600, b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn secrets_are_compared_whole() {
        assert!(same(b"abc", b"abc"));
        assert!(!same(b"abc", b"abd"));
        assert!(!same(b"ab", b"abc"));
        assert!(!same(b"", b"abc"));
    }
}
