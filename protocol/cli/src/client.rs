//! A client of the HTTP API over a unix socket: one request per connection, bounded answers, typed errors.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use mooring_protocol::api::{ErrorBody, ErrorInfo};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

/// Largest answer that is read, in bytes: a listing of many thousand rows.
const MAX_ANSWER: usize = 16 << 20;

/// Longest wait for an answer; a revocation waits for its sessions, bounded far below this.
const TIMEOUT: Duration = Duration::from_secs(60);

const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A text as one component of a path or a query value.
pub fn escape(text: &str) -> String {
    utf8_percent_encode(text, COMPONENT).to_string()
}

/// Why a call failed.
#[derive(Debug, Error)]
pub enum ApiError {
    /// Nobody listens at the socket.
    #[error("cannot reach {program} at {path}")]
    Connect {
        /// Which program should be there.
        program: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The connection broke or was no HTTP.
    #[error("the answer from {path} was cut short")]
    Broken {
        /// Where.
        path: PathBuf,
        /// What the HTTP library said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No answer in time.
    #[error("no answer from {0} within 60 s")]
    TimedOut(PathBuf),
    /// The other side refused or failed; its own words.
    #[error("{} (request {})", .info.message, .info.request_id)]
    Refused {
        /// HTTP status.
        status: u16,
        /// Its explanation.
        info: ErrorInfo,
    },
    /// An answer that does not fit the API: the two programs differ in version.
    #[error("the answer does not fit this version's API")]
    Unexpected(#[source] serde_json::Error),
    /// Something on this side, such as an argument or a file.
    #[error("{0}")]
    Local(String),
}

impl ApiError {
    /// 3 when it was a matter of rights, else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Refused { status: 401 | 403, .. } => crate::DENIED,
            Self::Connect { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
                crate::DENIED
            }
            _ => crate::FAILED,
        }
    }

    /// The command to try next, where there is one.
    pub fn next_command(&self) -> Option<String> {
        match self {
            Self::Refused { info, .. } => info.try_.clone(),
            Self::Connect { program, source, .. } => Some(match source.kind() {
                std::io::ErrorKind::PermissionDenied => "the same command as root".to_owned(),
                _ if *program == "mooring-agent" => "mooring-agent up".to_owned(),
                _ => format!("{program} serve"),
            }),
            _ => None,
        }
    }
}

/// The API behind a unix socket.
#[derive(Clone, Debug)]
pub struct Api {
    program: &'static str,
    path: PathBuf,
    tenant: Option<String>,
}

impl Api {
    /// The API of `program`, listening at `path`.
    pub fn unix(program: &'static str, path: &Path) -> Api {
        Api { program, path: path.to_owned(), tenant: None }
    }

    /// Acts with the rights of `tenant` (the operator's socket only).
    #[must_use]
    pub fn for_tenant(mut self, tenant: Option<String>) -> Api {
        self.tenant = tenant;
        self
    }

    /// `GET`.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ApiError> {
        self.call(Method::GET, path, None::<&()>).await
    }

    /// `POST` with a body.
    pub async fn post<B: Serialize, T: DeserializeOwned>(&self, path: &str, body: &B) -> Result<T, ApiError> {
        self.call(Method::POST, path, Some(body)).await
    }

    /// `POST` without a body.
    pub async fn post_empty<T: DeserializeOwned>(&self, path: &str) -> Result<T, ApiError> {
        self.call(Method::POST, path, None::<&()>).await
    }

    /// `DELETE`.
    pub async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, ApiError> {
        self.call(Method::DELETE, path, None::<&()>).await
    }

    async fn call<B: Serialize, T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
    ) -> Result<T, ApiError> {
        let bytes = match body {
            Some(b) => serde_json::to_vec(b).map_err(ApiError::Unexpected)?,
            None => Vec::new(),
        };
        let exchange = self.exchange(method, self.target(path), bytes);
        let (status, answer) = tokio::time::timeout(TIMEOUT, exchange)
            .await
            .map_err(|_| ApiError::TimedOut(self.path.clone()))??;
        decode(status, &answer)
    }

    fn target(&self, path: &str) -> String {
        match &self.tenant {
            None => path.to_owned(),
            Some(t) => format!("{path}{}tenant={}", if path.contains('?') { '&' } else { '?' }, escape(t)),
        }
    }

    async fn exchange(
        &self,
        method: Method,
        target: String,
        body: Vec<u8>,
    ) -> Result<(StatusCode, Bytes), ApiError> {
        let broken = |source: Box<dyn std::error::Error + Send + Sync>| ApiError::Broken {
            path: self.path.clone(),
            source,
        };
        let stream = tokio::net::UnixStream::connect(&self.path)
            .await
            .map_err(|source| ApiError::Connect { program: self.program, path: self.path.clone(), source })?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| broken(e.into()))?;
        let driver = tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(target)
            .header(http::header::HOST, "mooring")
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|e| broken(e.into()))?;
        let answer = sender.send_request(request).await.map_err(|e| broken(e.into()))?;
        let status = answer.status();
        let bytes = Limited::new(answer.into_body(), MAX_ANSWER).collect().await.map_err(broken)?.to_bytes();
        driver.abort();
        Ok((status, bytes))
    }
}

fn decode<T: DeserializeOwned>(status: StatusCode, answer: &[u8]) -> Result<T, ApiError> {
    if status.is_success() {
        let text: &[u8] = if answer.is_empty() { b"null" } else { answer };
        return serde_json::from_slice(text).map_err(ApiError::Unexpected);
    }
    let body: ErrorBody = serde_json::from_slice(answer).map_err(ApiError::Unexpected)?;
    Err(ApiError::Refused { status: status.as_u16(), info: body.error })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a failed unwrap is the test's failure

    use super::*;

    #[test]
    fn names_cannot_leave_their_place_in_a_path() {
        assert_eq!(escape("a/../b?c&d"), "a%2F..%2Fb%3Fc%26d");
    }

    #[test]
    fn a_refusal_keeps_its_words_and_its_exit_code() {
        let body =
            br#"{"error":{"code":"denied","message":"no","try":"mooring-agent share ls","request_id":"7"}}"#;
        let error = decode::<()>(StatusCode::FORBIDDEN, body).unwrap_err();
        assert_eq!(error.to_string(), "no (request 7)");
        assert_eq!(error.exit_code(), crate::DENIED);
        assert_eq!(error.next_command().as_deref(), Some("mooring-agent share ls"));
    }

    #[tokio::test]
    async fn a_missing_daemon_is_named_with_the_command_that_starts_it() {
        let api = Api::unix("mooring-gateway", Path::new("/nonexistent/admin.sock"));
        let error = api.get::<()>("/v1/status").await.unwrap_err();
        assert!(error.to_string().contains("/nonexistent/admin.sock"));
        assert_eq!(error.next_command().as_deref(), Some("mooring-gateway serve"));
    }
}
