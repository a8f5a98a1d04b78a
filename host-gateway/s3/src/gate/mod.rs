//! The gate every request passes before `s3s` sees it. See the crate's page for why it is there.

pub(crate) mod admit;
pub(crate) mod claim;
pub(crate) mod op;
pub(crate) mod payload;
pub(crate) mod query;
pub(crate) mod reply;
pub(crate) mod target;

use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

use crate::S3Deps;
use crate::edge::Peer;
use crate::error::Refusal;
use crate::gate::admit::{Admission, Admitted};
use crate::service::Service;

/// The gate with the service behind it.
#[derive(Clone)]
pub(crate) struct Gate(Arc<Inner>);

struct Inner {
    deps: S3Deps,
    service: Service,
    turns: Arc<Semaphore>,
}

impl Gate {
    pub fn new(deps: S3Deps) -> Self {
        let turns = Arc::new(Semaphore::new(deps.config.limits.requests));
        Self(Arc::new(Inner { service: Service::new(&deps), deps, turns }))
    }

    /// Answers a request. Every answer has a request id; none of it waits without a deadline.
    pub async fn answer(&self, request: Request) -> Response {
        let id = request_id();
        let begun = Instant::now();
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let result = match self.turn().await {
            Ok(permit) => self.serve(request).await.map(|response| reply::holding(response, permit)),
            Err(refusal) => Err(refusal),
        };
        let response = result.unwrap_or_else(|refusal| {
            tracing::info!(request_id = %id, %method, path, code = refusal.code().0, reason = %refusal, "refused");
            refusal.into_response()
        });
        let response = reply::finish(response, &id, &path).await;
        tracing::debug!(request_id = %id, %method, path, status = response.status().as_u16(),
            ms = begun.elapsed().as_millis() as u64, "answered");
        response
    }

    async fn turn(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        let turn = self.0.turns.clone().acquire_owned();
        match tokio::time::timeout(self.0.deps.config.limits.queue_wait, turn).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(Refusal::SlowDown),
        }
    }

    async fn serve(&self, request: Request) -> Result<Response, Refusal> {
        let inner = &self.0;
        let (mut parts, body) = request.into_parts();
        let peer = parts.extensions.remove::<Peer>();
        let admission = Admission::check(&mut parts, &inner.deps.config)?;
        let found =
            admission.authenticate(inner.deps.credentials.as_ref(), peer.as_ref().map(|p| &p.0)).await?;
        let secret = found.secret.as_ref();
        let small = match payload::split(&parts.headers, body, &admission, secret, &inner.deps.config.limits)?
        {
            payload::Split::Nothing => Body::empty(),
            payload::Split::Document(payload, limit) => Body::from(payload::document(payload, limit).await?),
            payload::Split::Stream(slot) => {
                parts.extensions.insert(slot);
                Body::empty()
            }
        };
        parts.extensions.insert(Admitted::new(&admission, found.identity));
        if found.secret.is_none() {
            parts.headers.remove(http::header::AUTHORIZATION);
        }
        let key = found.secret.map(|secret| (admission.access_key().unwrap_or_default().to_owned(), secret));
        inner.service.call(Request::from_parts(parts, small), key).await
    }
}

/// Sixteen upper-case hexadecimal digits, as AWS has them.
fn request_id() -> String {
    let (high, _) = Uuid::new_v4().as_u64_pair();
    format!("{high:016X}")
}
