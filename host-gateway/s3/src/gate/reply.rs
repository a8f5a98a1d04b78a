//! What every answer has in common.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use http_body::{Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;

use crate::error::escape_into;

/// Largest error document; more is not one.
const ERROR_BYTES: usize = 64 << 10;

/// A body that keeps its request's turn until it is sent or dropped.
struct Holding {
    body: Body,
    _permit: OwnedSemaphorePermit,
}

impl http_body::Body for Holding {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Keeps the turn for as long as the answer is under way.
pub(crate) fn holding(response: Response, permit: OwnedSemaphorePermit) -> Response {
    response.map(|body| Body::new(Holding { body, _permit: permit }))
}

/// Adds the request id to the headers, and id and resource to an error's document.
pub(crate) async fn finish(response: Response, id: &str, path: &str) -> Response {
    let (mut parts, mut body) = response.into_parts();
    let headers = &mut parts.headers;
    if let Ok(value) = HeaderValue::from_str(id) {
        headers.insert("x-amz-request-id", value);
    }
    headers.insert(header::SERVER, HeaderValue::from_static("mooring"));
    if parts.status == StatusCode::NOT_MODIFIED {
        headers.remove(header::CONTENT_TYPE);
        headers.remove(header::CONTENT_LENGTH);
        body = Body::empty();
    } else if parts.status.is_client_error() || parts.status.is_server_error() {
        let document = axum::body::to_bytes(body, ERROR_BYTES).await.unwrap_or_default();
        let document = named(&document, id, path);
        headers.remove(header::CONTENT_LENGTH);
        if !document.is_empty() {
            headers.entry(header::CONTENT_TYPE).or_insert(HeaderValue::from_static("application/xml"));
        }
        body = Body::from(document);
    }
    Response::from_parts(parts, body)
}

fn named(document: &[u8], id: &str, path: &str) -> Vec<u8> {
    let Some(front) = document.strip_suffix(b"</Error>") else { return document.to_vec() };
    let mut tail = String::from("<Resource>");
    escape_into(&mut tail, path);
    tail.push_str("</Resource><RequestId>");
    tail.push_str(id);
    tail.push_str("</RequestId></Error>");
    [front, tail.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_what_it_is_about_without_breaking_the_document() {
        let named = named(b"<Error><Code>X</Code></Error>", "ID", "/a/<b>&");
        let text = String::from_utf8_lossy(&named).into_owned();
        assert_eq!(
            text,
            "<Error><Code>X</Code><Resource>/a/&lt;b&gt;&amp;</Resource><RequestId>ID</RequestId></Error>"
        );
        assert!(super::named(b"", "ID", "/").is_empty());
    }
}
