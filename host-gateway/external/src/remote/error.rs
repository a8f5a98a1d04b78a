//! What the other store answered, in the words of ours.
//!
//! | the store says | a mount sees | S3 sees |
//! |---|---|---|
//! | 404, no such key | `ENOENT` | `NoSuchKey` |
//! | 403, 401 | `EACCES` | `AccessDenied` |
//! | 412, 409 on a condition | (none) | `PreconditionFailed` |
//! | 429, 5xx, time-outs, no connection, after the retries | `EIO` | `ServiceUnavailable` |
//! | anything else | `EIO` | `InternalError` |

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use mooring_store::error::StoreError;
use thiserror::Error;

/// What kind of failure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// No such object.
    NotFound,
    /// No such bucket.
    NoBucket,
    /// The credentials are unknown, wrong, or not allowed this.
    Denied,
    /// A condition does not hold.
    Precondition,
    /// No such upload.
    NoUpload,
    /// A part is not what it was said to be.
    Part,
    /// The range lies outside the object.
    Range,
    /// It is away, slow or overloaded; the retries are used up.
    Away,
    /// Anything else.
    Other,
}

/// A call of the other store that failed.
#[derive(Debug, Error)]
#[error("the external store failed {what}: {said}")]
pub struct RemoteError {
    /// What was asked, for people.
    pub what: &'static str,
    /// What kind of failure it is.
    pub kind: Kind,
    /// Code and message, as far as there are.
    pub said: String,
    /// The client's own error.
    #[source]
    pub source: mooring_store::error::Cause,
}

impl RemoteError {
    /// From what the SDK gives.
    pub fn new<E>(what: &'static str, error: SdkError<E, HttpResponse>) -> RemoteError
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let status = error.raw_response().map(|response| response.status().as_u16());
        let kind = kind(&error, status);
        let said = match (error.code(), error.message(), status) {
            (Some(code), Some(message), _) => format!("{code}: {message}"),
            (Some(code), None, _) => code.to_owned(),
            (None, _, Some(status)) => format!("HTTP status {status}"),
            (None, _, None) => unanswered(&error).to_owned(),
        };
        RemoteError { what, kind, said, source: Box::new(error) }
    }

    /// An answer that makes no sense.
    pub fn odd(what: &'static str, said: impl Into<String>) -> RemoteError {
        let said = said.into();
        RemoteError { what, kind: Kind::Other, source: said.clone().into(), said }
    }
}

fn kind<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>, status: Option<u16>) -> Kind {
    match (error.code(), status) {
        (Some("NoSuchBucket"), _) => Kind::NoBucket,
        (Some("NoSuchUpload"), _) => Kind::NoUpload,
        (Some("InvalidPart" | "InvalidPartOrder" | "EntityTooSmall"), _) => Kind::Part,
        (Some("InvalidRange"), _) | (_, Some(416)) => Kind::Range,
        (Some("PreconditionFailed" | "ConditionalRequestConflict"), _) | (_, Some(412)) => Kind::Precondition,
        (Some("InvalidAccessKeyId" | "SignatureDoesNotMatch"), _) | (_, Some(401 | 403)) => Kind::Denied,
        (_, Some(404)) => Kind::NotFound,
        (_, Some(429 | 500..=599)) => Kind::Away,
        (_, None) if !matches!(error, SdkError::ConstructionFailure(_)) => Kind::Away,
        _ => Kind::Other,
    }
}

fn unanswered<E>(error: &SdkError<E, HttpResponse>) -> &'static str {
    match error {
        SdkError::TimeoutError(_) => "no answer in time",
        SdkError::DispatchFailure(_) => "it cannot be reached",
        SdkError::ConstructionFailure(_) => "the request cannot be made",
        _ => "an answer that is none",
    }
}

impl From<RemoteError> for StoreError {
    fn from(error: RemoteError) -> StoreError {
        match error.kind {
            Kind::NotFound => StoreError::NotFound,
            Kind::Denied => StoreError::AccessDenied(error.to_string()),
            Kind::Precondition => StoreError::PreconditionFailed,
            Kind::NoUpload => StoreError::NoSuchUpload,
            Kind::Part => StoreError::InvalidPart { number: 0, why: "the external store refuses it" },
            Kind::Range => StoreError::Range,
            Kind::Away => StoreError::Unavailable(Box::new(error)),
            Kind::NoBucket | Kind::Other => StoreError::Store(Box::new(error)),
        }
    }
}
