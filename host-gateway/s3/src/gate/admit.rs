//! Decides what a request is and whether it may go on, from its head alone.

use http::HeaderMap;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, RANGE};
use http::request::Parts;
use mooring_policy::principal::Principal;

use crate::config::{HEADER_BYTES, HEADERS, METADATA_BYTES, S3Config};
use crate::edge::{CredentialError, Credentials, Identity, SecretKey};
use crate::error::Refusal;
use crate::gate::claim::{Claim, Signature};
use crate::gate::op::{BodyKind, Level, Op, of_every_request};
use crate::gate::query::Query;
use crate::gate::target::{Target, host_of};

/// What the gate found a request to be.
#[derive(Debug)]
pub(crate) struct Admission {
    pub op: Op,
    pub target: Target,
    pub query: Query,
    pub claim: Claim,
}

/// What goes with the request to the operation: the identity, and what `s3s` must agree with.
#[derive(Clone, Debug)]
pub(crate) struct Admitted {
    pub op: Op,
    pub target: Target,
    pub identity: Identity,
    /// `None` for a bearer token.
    pub access_key: Option<String>,
}

impl Admitted {
    pub fn new(admission: &Admission, identity: Identity) -> Self {
        let access_key = admission.access_key().map(str::to_owned);
        Self { op: admission.op, target: admission.target.clone(), identity, access_key }
    }
}

/// Who was found; the secret only where there is a signature to verify.
pub(crate) struct Caller {
    pub identity: Identity,
    pub secret: Option<SecretKey>,
}

impl Admission {
    /// Reads the head of a request. Headers may be changed only where that cannot matter to the signature.
    pub fn check(parts: &mut Parts, config: &S3Config) -> Result<Admission, Refusal> {
        bounds(&parts.headers)?;
        let host = host_of(&parts.uri, &parts.headers)?;
        let target = Target::parse(&parts.uri, host, &config.domains)?;
        let query = Query::parse(parts.uri.query().unwrap_or(""))?;
        let claim = Claim::parse(&parts.headers, &query, &config.region)?;
        let op = operation(parts, &target, &query)?;
        allow_query(op, &query, &claim)?;
        allow_headers(op, &parts.headers)?;
        values(op, &parts.headers)?;
        hide_secrets(&mut parts.headers);
        drop_bad_range(&mut parts.headers, &claim);
        Ok(Admission { op, target, query, claim })
    }

    /// The access key that signed.
    pub fn access_key(&self) -> Option<&str> {
        self.signature().map(|signature| signature.access_key.as_str())
    }

    /// The signature, unless a bearer token was presented.
    pub fn signature(&self) -> Option<&Signature> {
        match &self.claim {
            Claim::Signature(signature) => Some(signature),
            Claim::Bearer(_) => None,
        }
    }

    /// Asks the registry who this is. An unsigned claim to a key is worth nothing until `s3s` has checked the signature.
    pub async fn authenticate(
        &self,
        credentials: &dyn Credentials,
        peer: Option<&Principal>,
    ) -> Result<Caller, CredentialError> {
        match &self.claim {
            Claim::Bearer(token) => {
                let identity = credentials.bearer(&token.0, peer).await?;
                Ok(Caller { identity, secret: None })
            }
            Claim::Signature(signature) => {
                let token = signature.token.as_ref().map(|token| token.0.as_str());
                let found = credentials.find(&signature.access_key, token, peer).await?;
                Ok(Caller { identity: found.identity, secret: Some(found.secret) })
            }
        }
    }
}

fn bounds(headers: &HeaderMap) -> Result<(), Refusal> {
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if headers.len() > HEADERS || bytes > HEADER_BYTES {
        return Err(Refusal::HeadersTooLarge);
    }
    for name in headers.keys() {
        let once = name.as_str().starts_with("x-amz-")
            || matches!(name.as_str(), "authorization" | "host" | "content-length" | "content-md5" | "range");
        if once && headers.get_all(name).iter().nth(1).is_some() {
            return Err(Refusal::Repeated(name.as_str().to_owned()));
        }
    }
    Ok(())
}

fn operation(parts: &Parts, target: &Target, query: &Query) -> Result<Op, Refusal> {
    let form = |value: &http::HeaderValue| {
        value.as_bytes().get(..19).is_some_and(|start| start.eq_ignore_ascii_case(b"multipart/form-data"))
    };
    if parts.method == http::Method::POST && parts.headers.get(CONTENT_TYPE).is_some_and(form) {
        return Err(Refusal::NotImplemented("PostObject (upload by a form)".into()));
    }
    let copy_source = parts.headers.contains_key("x-amz-copy-source");
    let level = target.level();
    Op::resolve(&parts.method, level, |key| query.has(key), copy_source).ok_or_else(|| {
        // The subresource says what was wanted; without one it is the method that does not fit.
        match (query.keys().find(|key| !key.starts_with("X-Amz-") && *key != "x-id"), level) {
            (Some(key), _) => {
                Refusal::NotImplemented(format!("{} with the query parameter {key:?}", parts.method))
            }
            (None, Level::Root | Level::Bucket | Level::Object) => Refusal::Method,
        }
    })
}

fn allow_query(op: Op, query: &Query, claim: &Claim) -> Result<(), Refusal> {
    const SIGNATURE: &[&str] = &[
        "X-Amz-Algorithm",
        "X-Amz-Credential",
        "X-Amz-Date",
        "X-Amz-Expires",
        "X-Amz-SignedHeaders",
        "X-Amz-Signature",
        "X-Amz-Security-Token",
    ];
    let presigned = matches!(claim, Claim::Signature(signature) if signature.presigned);
    for key in query.keys() {
        let fits = op.allows_query(key)
            || (key == "x-id" && query.get(key) == Some(op.name()))
            || (presigned && SIGNATURE.contains(&key));
        if !fits {
            return Err(match key {
                "x-id" => Refusal::WrongId(op.name()),
                _ => Refusal::NotImplemented(format!("the query parameter {key:?} with {}", op.name())),
            });
        }
    }
    if op == Op::ListObjectsV2 && query.get("list-type") != Some("2") {
        return Err(Refusal::Malformed("list-type: expected 2"));
    }
    if matches!(op, Op::UploadPart | Op::UploadPartCopy) && !query.has("partNumber") {
        return Err(Refusal::Malformed("query: an upload of a part needs both uploadId and partNumber"));
    }
    Ok(())
}

fn allow_headers(op: Op, headers: &HeaderMap) -> Result<(), Refusal> {
    let stranger = headers
        .keys()
        .map(HeaderName::as_str)
        .find(|name| name.starts_with("x-amz-") && !of_every_request(name) && !op.allows_header(name));
    match stranger {
        Some(name) => Err(Refusal::NotImplemented(format!("the header {name} with {}", op.name()))),
        None => Ok(()),
    }
}

/// Headers of which we serve only some values.
fn values(op: Op, headers: &HeaderMap) -> Result<(), Refusal> {
    let of = |name: &str| headers.get(name).map(http::HeaderValue::as_bytes);
    match of("x-amz-acl") {
        None | Some(b"private" | b"bucket-owner-full-control") => {}
        Some(
            acl @ (b"public-read"
            | b"public-read-write"
            | b"authenticated-read"
            | b"bucket-owner-read"
            | b"aws-exec-read"
            | b"log-delivery-write"),
        ) => {
            let acl = acl.escape_ascii();
            return Err(Refusal::NotImplemented(format!("the canned ACL {acl} (use shares instead)")));
        }
        Some(_) => return Err(Refusal::Malformed("x-amz-acl header")),
    }
    if let Some(class) = of("x-amz-storage-class")
        && class != b"STANDARD"
    {
        return Err(Refusal::NotImplemented(format!("the storage class {}", class.escape_ascii())));
    }
    if op.has_metadata() {
        let user = headers
            .iter()
            .filter_map(|(name, value)| Some((name.as_str().strip_prefix("x-amz-meta-")?, value)));
        if user.map(|(name, value)| name.len() + value.len()).sum::<usize>() > METADATA_BYTES {
            return Err(Refusal::MetadataTooLarge);
        }
    }
    let length = of(CONTENT_LENGTH.as_str());
    if op.body() == BodyKind::None && length.is_some_and(|length| length != b"0") {
        return Err(Refusal::InvalidRequest("this operation takes no body"));
    }
    Ok(())
}

/// Keeps what is secret out of anything that prints headers.
fn hide_secrets(headers: &mut HeaderMap) {
    for name in [AUTHORIZATION, HeaderName::from_static("x-amz-security-token")] {
        if let Some(value) = headers.get_mut(name) {
            value.set_sensitive(true);
        }
    }
}

/// A range that is none is to be ignored (RFC 9110, 14.2), as AWS does; so is more than one. Only where no signature
/// covers it.
fn drop_bad_range(headers: &mut HeaderMap, claim: &Claim) {
    let signed = matches!(claim, Claim::Signature(s) if s.signed.iter().any(|name| name == RANGE.as_str()));
    let good = |value: &http::HeaderValue| {
        let text = value.to_str().ok()?.strip_prefix("bytes=")?;
        let (first, last) = text.split_once('-')?;
        let number = |text: &str| text.parse::<u64>().ok().filter(|n| *n <= i64::MAX as u64);
        match (first, last) {
            ("", last) => number(last).map(|_| ()),
            (first, "") => number(first).map(|_| ()),
            (first, last) => (number(first)? <= number(last)?).then_some(()),
        }
    };
    if !signed && headers.get(RANGE).is_some_and(|value| good(value).is_none()) {
        headers.remove(RANGE);
    }
}
