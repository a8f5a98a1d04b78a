//! Takes the body out of a request and says how it is to be read and what it must match.

use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use http::HeaderMap;

use crate::body::chunked::Chain;
use crate::body::digest::{Algorithm, md5_of};
use crate::body::reader::Reader;
use crate::body::{Framing, Payload, PayloadSlot};
use crate::config::Limits;
use crate::edge::SecretKey;
use crate::error::Refusal;
use crate::gate::admit::Admission;
use crate::gate::claim::text;
use crate::gate::op::BodyKind;

/// What becomes of the body.
pub(crate) enum Split {
    Nothing,
    Document(Payload, usize),
    Stream(PayloadSlot),
}

/// Decides it by the operation.
pub(crate) fn split(
    headers: &HeaderMap,
    body: Body,
    admission: &Admission,
    secret: Option<&SecretKey>,
    limits: &Limits,
) -> Result<Split, Refusal> {
    let limit = match admission.op.body() {
        BodyKind::None => return Ok(Split::Nothing),
        BodyKind::Xml(limit) => limit as u64,
        BodyKind::Stream => limits.put_bytes,
    };
    let framing = framing(headers, admission, secret)?;
    let length = match (&framing, admission.op.body()) {
        (Framing::Chunked(_), BodyKind::Xml(_)) => {
            return Err(Refusal::NotImplemented(format!("aws-chunked with {}", admission.op.name())));
        }
        (Framing::Chunked(_), _) => number(headers, "x-amz-decoded-content-length")?,
        (Framing::Plain(_), _) => number(headers, "content-length")?,
    };
    let length = match (length, admission.op.body()) {
        (Some(length), _) => length,
        (None, BodyKind::Xml(_)) if http_body::Body::is_end_stream(&body) => 0,
        (None, _) => return Err(Refusal::NoLength),
    };
    if length > limit {
        return Err(Refusal::BodyTooLarge(limit));
    }
    let (checksum, trailer) = checksums(headers, admission, &framing)?;
    let md5 = md5(headers)?;
    let payload = Payload { body, length, framing, md5, checksum, trailer, stall: limits.body_stall };
    Ok(match admission.op.body() {
        BodyKind::Xml(limit) => Split::Document(payload, limit),
        _ => Split::Stream(PayloadSlot::new(payload)),
    })
}

/// Reads and checks a small document.
pub(crate) async fn document(payload: Payload, limit: usize) -> Result<Bytes, Refusal> {
    let Payload { body, length, framing, md5, checksum, stall, .. } = payload;
    let Framing::Plain(hash) = framing else { return Err(Refusal::Internal) };
    let mut reader = Reader::new(body, Framing::Plain(None), length, stall);
    let mut whole = BytesMut::with_capacity(usize::try_from(length).unwrap_or(limit).min(limit));
    while let Some(batch) = reader.batch().await? {
        whole.extend_from_slice(&batch);
    }
    reader.finish()?;
    let sha256 = |data: &[u8]| aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, data);
    if hash.is_some_and(|hash| sha256(&whole).as_ref() != hash) {
        return Err(Refusal::PayloadHash);
    }
    if md5.is_some_and(|md5| md5 != md5_of(&whole)) {
        return Err(Refusal::BadDigest("Content-MD5"));
    }
    if let Some((algorithm, value)) = checksum {
        algorithm.decode(&value)?;
        if algorithm.of(&whole) != value {
            return Err(Refusal::BadDigest(algorithm.header()));
        }
    }
    Ok(whole.freeze())
}

fn framing(
    headers: &HeaderMap,
    admission: &Admission,
    secret: Option<&SecretKey>,
) -> Result<Framing, Refusal> {
    let Some(kind) = text(headers, "x-amz-content-sha256")? else { return Ok(Framing::Plain(None)) };
    let chunks_signed = match kind {
        "UNSIGNED-PAYLOAD" => return Ok(Framing::Plain(None)),
        "STREAMING-UNSIGNED-PAYLOAD-TRAILER" => false,
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD" | "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER" => true,
        kind if kind.starts_with("STREAMING-") => return Err(Refusal::NotImplemented(kind.to_owned())),
        kind => {
            let mut hash = [0; 32];
            hex::decode_to_slice(kind, &mut hash)
                .map_err(|_| Refusal::Malformed("x-amz-content-sha256 header"))?;
            return Ok(Framing::Plain(Some(hash)));
        }
    };
    let (Some(signature), Some(secret)) = (admission.signature(), secret) else {
        return Err(Refusal::NotImplemented("aws-chunked with a bearer token".into()));
    };
    if signature.presigned {
        return Err(Refusal::NotImplemented("aws-chunked with a presigned URL".into()));
    }
    if kind.ends_with("-TRAILER") != headers.contains_key("x-amz-trailer") {
        return Err(Refusal::Malformed(
            "x-amz-trailer header: it goes with a payload kind that ends in -TRAILER",
        ));
    }
    Ok(Framing::Chunked(chunks_signed.then(|| {
        Chain::new(secret, &signature.date, &signature.region, &signature.timestamp, &signature.signature)
    })))
}

type Declared = (Option<(Algorithm, String)>, Option<Algorithm>);

fn checksums(headers: &HeaderMap, admission: &Admission, framing: &Framing) -> Result<Declared, Refusal> {
    let in_headers =
        headers.iter().filter_map(|(name, value)| Some((Algorithm::of_header(name.as_str())?, value)));
    let mut declared = Vec::new();
    for (algorithm, value) in in_headers {
        let value = value.to_str().map_err(|_| Refusal::InvalidChecksum(algorithm.header()))?;
        declared.push((algorithm, value.to_owned()));
    }
    // Some SDKs move these headers into the query when they presign.
    declared.extend(
        Algorithm::ALL.into_iter().filter_map(|a| Some((a, admission.query.get(a.header())?.to_owned()))),
    );
    // Only those of a completed upload are about something else than this body.
    if admission.op == crate::gate::op::Op::CompleteMultipartUpload {
        declared.clear();
    }
    let trailer = match text(headers, "x-amz-trailer")? {
        None => None,
        Some(name) => Some(
            Algorithm::of_header(name.trim())
                .ok_or_else(|| Refusal::NotImplemented(format!("the trailer {name:?}")))?,
        ),
    };
    if trailer.is_some() && matches!(framing, Framing::Plain(_)) {
        return Err(Refusal::Malformed("x-amz-trailer header: the payload has no trailers"));
    }
    if declared.len() + usize::from(trailer.is_some()) > 1 {
        return Err(Refusal::InvalidRequest("Expecting a single x-amz-checksum- header"));
    }
    if headers.contains_key("x-amz-sdk-checksum-algorithm") && declared.is_empty() && trailer.is_none() {
        return Err(Refusal::InvalidRequest(
            "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or x-amz-trailer headers were found.",
        ));
    }
    if let Some((algorithm, value)) = declared.first() {
        algorithm.decode(value)?;
    }
    Ok((declared.pop(), trailer))
}

fn md5(headers: &HeaderMap) -> Result<Option<[u8; 16]>, Refusal> {
    let Some(value) = headers.get("content-md5") else { return Ok(None) };
    let bytes = STANDARD.decode(value.as_bytes()).ok().and_then(|bytes| <[u8; 16]>::try_from(bytes).ok());
    bytes.map(Some).ok_or(Refusal::InvalidDigest("the Content-MD5 you specified"))
}

fn number(headers: &HeaderMap, name: &'static str) -> Result<Option<u64>, Refusal> {
    let Some(value) = text(headers, name)? else { return Ok(None) };
    let digits = (1..=19).contains(&value.len()) && value.bytes().all(|b| b.is_ascii_digit());
    match value.parse() {
        Ok(number) if digits => Ok(Some(number)),
        _ => Err(Refusal::Malformed(name)),
    }
}
