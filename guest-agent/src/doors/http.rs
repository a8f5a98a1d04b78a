//! The little HTTP that the agent speaks itself: requests to the gateway's API, and answers in JSON.

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use mooring_protocol::api::{ErrorBody, ErrorInfo};
use thiserror::Error;

use crate::remote::{ConnectError, Port, Remote};

/// Largest body of a request or an answer of the API.
const MAX_BODY: usize = 8 << 20;

/// The gateway's API could not be asked.
#[derive(Debug, Error)]
pub(super) enum AskError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("the gateway's API broke off")]
    Http(#[from] hyper::Error),
    #[error("a body is over {} MiB or broken", MAX_BODY >> 20)]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Sends a request to the gateway's API over a connection of its own, and brings the whole answer.
pub(super) async fn ask(
    remote: &Remote,
    mut request: Request<Full<Bytes>>,
) -> Result<Response<Full<Bytes>>, AskError> {
    // Where the channel does not say who this VM is, the token does.
    if let Some(mut bearer) =
        remote.token().and_then(|token| HeaderValue::try_from(format!("Bearer {token}")).ok())
    {
        bearer.set_sensitive(true);
        request.headers_mut().insert(header::AUTHORIZATION, bearer);
    }
    let duplex = remote.dial(Port::Api).await?;
    let io = TokioIo::new(tokio::io::join(duplex.read, duplex.write));
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await?;
    let driver = tokio::spawn(connection);
    let answer = sender.send_request(request).await?;
    let (parts, body) = answer.into_parts();
    let body = whole(body).await?;
    driver.abort();
    Ok(Response::from_parts(parts, Full::new(body)))
}

/// All of a body, within bounds.
pub(super) async fn whole<B>(body: B) -> Result<Bytes, AskError>
where
    B: hyper::body::Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    Ok(Limited::new(body, MAX_BODY).collect().await.map_err(AskError::Body)?.to_bytes())
}

pub(super) fn json<T: serde::Serialize>(status: StatusCode, value: &T) -> Response<Full<Bytes>> {
    // Our own plain values: their serialisation cannot fail.
    let body = serde_json::to_vec(value).unwrap_or_default();
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

pub(super) fn refusal(
    status: StatusCode,
    code: &str,
    message: String,
    try_: Option<&str>,
) -> Response<Full<Bytes>> {
    let error = ErrorInfo {
        code: code.to_owned(),
        message,
        try_: try_.map(str::to_owned),
        request_id: uuid::Uuid::new_v4().to_string(),
    };
    json(status, &ErrorBody { error })
}

/// The answer when the gateway could not be asked.
pub(super) fn unavailable(error: &AskError) -> Response<Full<Bytes>> {
    let message = match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    };
    refusal(StatusCode::BAD_GATEWAY, "unavailable", message, Some("mooring-agent status"))
}
