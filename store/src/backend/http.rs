//! Requests to a store that stop when nothing moves.
//!
//! A limit on a whole request is wrong at both ends: a pack of 16 MiB on a slow line takes minutes and is well, and a
//! request whose answer got lost is dead after seconds. So what is watched here is progress: a request has failed when for
//! [`STILL`] neither a piece of its body was taken nor a piece of the answer came. Whoever asked tries again.

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use object_store::ClientOptions;
use object_store::client::{
    ClientConfigKey, HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody,
    HttpResponse, HttpResponseBody, HttpService,
};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// Nothing moved for so long: it has failed. With the pauses between attempts, a store that is back is in use again within
/// five seconds.
const STILL: Duration = Duration::from_secs(4);
const CONNECT_LIMIT: Duration = Duration::from_secs(3);
/// Connections that wait for a next request; more would be found closed by the store.
const IDLE_CONNECTIONS: usize = 32;
const IDLE_LIMIT: Duration = Duration::from_secs(20);
/// Work that a store does before it answers, such as removing a thousand objects, may take longer.
const WORK: Duration = Duration::from_secs(15);
/// A body is handed over in pieces of this size, so that it can be seen to move.
const PIECE: usize = 64 << 10;
/// A body of more than this may be in the kernel's hands for a while after it was handed over.
const LONG: usize = 256 << 10;
/// What a request with a long body waits longer, for each of the like that failed though the store answered others: the
/// line is slow then, and the store is not away.
const LONGER: Duration = Duration::from_secs(2);
const LONGEST: u32 = 8;

/// Makes clients whose requests are watched.
#[derive(Debug)]
pub(super) struct Watched;

impl HttpConnector for Watched {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let plain = options.get_config_value(&ClientConfigKey::AllowHttp).is_some_and(|text| text == "true");
        let client = reqwest::Client::builder()
            .user_agent(concat!("mooring/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_LIMIT)
            .pool_idle_timeout(IDLE_LIMIT)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .https_only(!plain)
            .http1_only()
            .tcp_nodelay(true)
            .build()
            .map_err(|error| object_store::Error::Generic { store: "http", source: Box::new(error) })?;
        Ok(HttpClient::new(Service { client, answers: AtomicU64::new(0), patience: AtomicU32::new(0) }))
    }
}

#[derive(Debug)]
struct Service {
    client: reqwest::Client,
    /// Answers so far.
    answers: AtomicU64,
    /// How often to wait [`LONGER`].
    patience: AtomicU32,
}

/// Nothing moved.
#[derive(Debug, thiserror::Error)]
#[error("the store did not move for {} s", STILL.as_secs())]
struct Still;

#[async_trait::async_trait]
impl HttpService for Service {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (parts, body) = request.into_parts();
        let unknown = |error| HttpError::new(HttpErrorKind::Unknown, error);
        let url = parts.uri.to_string().parse().map_err(unknown)?;
        let works = parts.method == http::Method::POST;
        let mut request = reqwest::Request::new(parts.method, url);
        *request.headers_mut() = parts.headers;
        let (moved, length) = (Arc::new(AtomicU64::new(0)), body.content_length());
        if length > 0 {
            let sent = Sent { body, rest: Bytes::new(), moved: Arc::clone(&moved) };
            *request.body_mut() = Some(reqwest::Body::wrap(sent));
        }
        let (answers, long) = (self.answers.load(Ordering::Relaxed), length > LONG);
        let patience = self.patience.load(Ordering::Relaxed);
        let limit = match (works, long) {
            (true, _) => WORK,
            (_, true) => STILL + LONGER * patience,
            _ => STILL,
        };
        let answer = tokio::select! {
            answer = self.client.execute(request) => answer.map_err(failed)?,
            still = stands(&moved, length, limit) => {
                if long && self.answers.load(Ordering::Relaxed) > answers {
                    self.patience.store((patience + 1).min(LONGEST), Ordering::Relaxed);
                }
                return Err(HttpError::new(HttpErrorKind::Timeout, still));
            }
        };
        self.answers.fetch_add(1, Ordering::Relaxed);
        if long && patience > 0 {
            self.patience.store(patience - 1, Ordering::Relaxed);
        }
        let answer: http::Response<reqwest::Body> = answer.into();
        let (parts, body) = answer.into_parts();
        let body =
            Received { body: Box::pin(body), still: Box::pin(tokio::time::sleep(STILL)), waiting: false };
        Ok(HttpResponse::from_parts(parts, HttpResponseBody::new(body)))
    }
}

/// Comes back when nothing was sent for a while, or no answer came for `limit` after the last of it.
async fn stands(moved: &AtomicU64, length: usize, limit: Duration) -> Still {
    let (mut seen, mut since) = (0, Instant::now());
    loop {
        tokio::time::sleep(STILL / 16).await;
        let now = moved.load(Ordering::Relaxed);
        let limit = if now >= length as u64 { limit } else { STILL };
        if now != seen {
            (seen, since) = (now, Instant::now());
        } else if since.elapsed() >= limit {
            return Still;
        }
    }
}

/// What kind of failure this is: it decides whether the library tries again by itself.
fn failed(error: reqwest::Error) -> HttpError {
    let kind = match &error {
        error if error.is_timeout() => HttpErrorKind::Timeout,
        error if error.is_connect() => HttpErrorKind::Connect,
        error if error.is_decode() => HttpErrorKind::Decode,
        _ => HttpErrorKind::Interrupted,
    };
    HttpError::new(kind, error.without_url())
}

/// A body that is sent in pieces, and counted.
struct Sent {
    body: HttpRequestBody,
    rest: Bytes,
    moved: Arc<AtomicU64>,
}

impl Body for Sent {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        if self.rest.is_empty() {
            match std::task::ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => self.rest = frame.into_data().unwrap_or_default(),
                end => return Poll::Ready(end),
            }
        }
        let most = PIECE.min(self.rest.len());
        let piece = self.rest.split_to(most);
        self.moved.fetch_add(most as u64, Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.body.size_hint().exact().unwrap_or(0) + self.rest.len() as u64;
        SizeHint::with_exact(rest)
    }
}

/// A body that comes, and must not stand still. Time counts only while somebody waits for it.
struct Received {
    body: Pin<Box<reqwest::Body>>,
    still: Pin<Box<Sleep>>,
    waiting: bool,
}

impl Body for Received {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        if let Poll::Ready(frame) = self.body.as_mut().poll_frame(cx) {
            self.waiting = false;
            return Poll::Ready(frame.map(|frame| frame.map_err(failed)));
        }
        if !self.waiting {
            self.waiting = true;
            self.still.as_mut().reset(Instant::now() + STILL);
        }
        std::task::ready!(self.still.as_mut().poll(cx));
        Poll::Ready(Some(Err(HttpError::new(HttpErrorKind::Timeout, Still))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
