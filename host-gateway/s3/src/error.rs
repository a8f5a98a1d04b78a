//! Two roads to an S3 error: what the gate refuses ([`Refusal`]) and what the store refuses ([`from_store`]).

use axum::body::Body;
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};
use mooring_protocol::status::Status;
use mooring_store::error::StoreError;
use s3s::{S3Error, S3ErrorCode};
use thiserror::Error;

use crate::edge::CredentialError;

/// Why a request is refused before or beside the store. The message goes to the client and says what to change.
#[derive(Debug, Error)]
pub(crate) enum Refusal {
    #[error("{0} is not implemented here")]
    NotImplemented(String),
    #[error("anonymous requests are refused: sign the request with Signature Version 4")]
    Anonymous,
    #[error("Signature Version 2 is not supported: use AWS4-HMAC-SHA256 (set the client's region to {0})")]
    SignatureV2(String),
    #[error("the request says in two places who signed it: use either the header or the query")]
    TwoSignatures,
    #[error("invalid {0}")]
    Malformed(&'static str),
    #[error("the region of the signature is {given:?}, expected {want:?}: set the client's region")]
    WrongRegion { given: String, want: String },
    #[error("the service of the signature must be s3")]
    WrongService,
    #[error("X-Amz-Expires must be 1 to 604800 seconds (7 days)")]
    PresignLife,
    #[error("there were headers present in the request which were not signed: {0}")]
    UnsignedHeader(String),
    #[error("{0} is given more than once")]
    Repeated(String),
    #[error("x-id names another operation than the request is ({0})")]
    WrongId(&'static str),
    #[error("the path or query is not valid percent-encoded UTF-8, or has a NUL byte")]
    Encoding,
    #[error("the key is longer than 1024 bytes")]
    KeyTooLong,
    #[error("the bucket name is not valid")]
    BucketName,
    #[error("the metadata headers exceed the maximum of 2048 bytes")]
    MetadataTooLarge,
    #[error("the request's headers are too many or too large")]
    HeadersTooLarge,
    #[error("the method is not allowed against this resource")]
    Method,
    #[error("{0}")]
    Credential(#[from] CredentialError),
    #[error("the request's body is larger than {0} bytes")]
    BodyTooLarge(u64),
    #[error("the length of the body must be given: send Content-Length or x-amz-decoded-content-length")]
    NoLength,
    #[error("the body ended before the length that was declared")]
    Incomplete,
    #[error("the body is longer than the length that was declared")]
    Overlong,
    #[error("the aws-chunked framing of the body is broken")]
    Framing,
    #[error("the signature of a chunk or trailer does not match")]
    ChunkSignature,
    #[error("the trailer that was announced did not come, or is not the one that was announced")]
    Trailer,
    #[error("the {0} you specified does not match what was received")]
    BadDigest(&'static str),
    #[error("the x-amz-content-sha256 header does not match what was received")]
    PayloadHash,
    #[error("{0} is not valid base64 of the right length")]
    InvalidDigest(&'static str),
    #[error("the value of the {0} header is not valid base64 of the right length")]
    InvalidChecksum(&'static str),
    #[error("{0}")]
    InvalidRequest(&'static str),
    #[error("no bytes came for too long")]
    Stalled,
    #[error("the connection broke while the body was read")]
    Connection(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the server is busy: reduce your request rate")]
    SlowDown,
    #[error("the server failed")]
    Internal,
}

impl Refusal {
    /// The S3 code and HTTP status.
    pub fn code(&self) -> (&'static str, StatusCode) {
        use Refusal as R;
        const BAD: StatusCode = StatusCode::BAD_REQUEST;
        match self {
            R::NotImplemented(_) => ("NotImplemented", StatusCode::NOT_IMPLEMENTED),
            R::Anonymous | R::UnsignedHeader(_) => ("AccessDenied", StatusCode::FORBIDDEN),
            R::SignatureV2(_) | R::InvalidRequest(_) => ("InvalidRequest", BAD),
            R::TwoSignatures | R::Malformed(_) | R::Repeated(_) | R::WrongId(_) => ("InvalidArgument", BAD),
            R::WrongRegion { .. } => ("AuthorizationHeaderMalformed", BAD),
            R::WrongService => ("AuthorizationHeaderMalformed", BAD),
            R::PresignLife => ("AuthorizationQueryParametersError", BAD),
            R::Encoding => ("InvalidURI", BAD),
            R::KeyTooLong => ("KeyTooLongError", BAD),
            R::BucketName => ("InvalidBucketName", BAD),
            R::MetadataTooLarge => ("MetadataTooLarge", BAD),
            R::HeadersTooLarge => ("RequestHeaderSectionTooLarge", BAD),
            R::Method => ("MethodNotAllowed", StatusCode::METHOD_NOT_ALLOWED),
            R::Credential(CredentialError::UnknownKey) => ("InvalidAccessKeyId", StatusCode::FORBIDDEN),
            R::Credential(CredentialError::InvalidToken) => ("InvalidToken", BAD),
            R::Credential(CredentialError::Expired) => ("ExpiredToken", BAD),
            R::Credential(CredentialError::Unavailable(_)) => {
                ("ServiceUnavailable", StatusCode::SERVICE_UNAVAILABLE)
            }
            R::BodyTooLarge(_) => ("EntityTooLarge", BAD),
            R::NoLength => ("MissingContentLength", StatusCode::LENGTH_REQUIRED),
            R::Incomplete | R::Overlong | R::Framing | R::Connection(_) => ("IncompleteBody", BAD),
            R::ChunkSignature => ("SignatureDoesNotMatch", StatusCode::FORBIDDEN),
            R::Trailer => ("MalformedTrailerError", BAD),
            R::BadDigest(_) | R::InvalidChecksum(_) => ("BadDigest", BAD),
            R::PayloadHash => ("XAmzContentSHA256Mismatch", BAD),
            R::InvalidDigest(_) => ("InvalidDigest", BAD),
            R::Stalled => ("RequestTimeout", BAD),
            R::SlowDown => ("SlowDown", StatusCode::SERVICE_UNAVAILABLE),
            R::Internal => ("InternalError", StatusCode::INTERNAL_SERVER_ERROR),
        }
    }

    /// The answer, without request id (the gate adds it to every answer).
    pub fn into_response(self) -> Response {
        let (code, status) = self.code();
        let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>");
        xml.push_str(code);
        xml.push_str("</Code><Message>");
        escape_into(&mut xml, &self.to_string());
        xml.push_str("</Message></Error>");
        let mut response = Response::new(Body::from(xml));
        *response.status_mut() = status;
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/xml"));
        response
    }
}

impl From<Refusal> for S3Error {
    fn from(refusal: Refusal) -> Self {
        let (code, status) = refusal.code();
        coded(code, status, refusal.to_string())
    }
}

/// Text as XML content. Characters XML 1.0 cannot carry become U+FFFD.
pub(crate) fn escape_into(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            c if (c as u32) < 0x20 && !matches!(c, '\t' | '\n' | '\r') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
}

/// An error with a code of our choice.
pub(crate) fn coded(
    code: &str,
    status: StatusCode,
    message: impl Into<std::borrow::Cow<'static, str>>,
) -> S3Error {
    let code = S3ErrorCode::from_bytes(code.as_bytes()).unwrap_or(S3ErrorCode::InternalError);
    let mut error = S3Error::with_message(code, message);
    error.set_status_code(status);
    error
}

/// An error by the protocol's table.
fn by_table(status: Status, message: String) -> S3Error {
    let http = StatusCode::from_u16(status.http()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    coded(status.s3_code(), http, message)
}

/// What a failure of the store is called in S3. Causes stay in the log; the client learns the kind.
pub(crate) fn from_store(error: StoreError) -> S3Error {
    if let StoreError::InvalidPart { why, .. } = &error {
        return invalid_part(why, error.to_string());
    }
    let status = match error.status() {
        // A redirect needs an address, which this door does not know; the client comes back and is forwarded.
        Status::Moved => Status::Unavailable,
        status => status,
    };
    if status.http() >= 500 && status != Status::Unsupported {
        tracing::error!(error = %Chain(&error), "the store failed under an S3 request");
    }
    by_table(status, error.to_string())
}

/// The same for a bucket as a whole: what is not there is the bucket.
pub(crate) fn from_bucket(error: StoreError) -> S3Error {
    match error {
        StoreError::NotFound => by_table(Status::NoSuchBucket, "the specified bucket does not exist".into()),
        error => from_store(error),
    }
}

fn invalid_part(why: &str, message: String) -> S3Error {
    let code = match why {
        why if why.contains("small") => "EntityTooSmall",
        why if why.contains("order") => "InvalidPartOrder",
        _ => "InvalidPart",
    };
    coded(code, StatusCode::BAD_REQUEST, message)
}

/// An error with its sources, for the log.
pub(crate) struct Chain<'a>(pub &'a (dyn std::error::Error + 'static));

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}
