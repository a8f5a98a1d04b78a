//! Between the store's words and S3's.

use http::HeaderMap;
use http::header::HeaderName;
use mooring_protocol::types::Time;
use mooring_store::api::ObjectMeta;
use s3s::S3Result;
use s3s::dto::{ChecksumType, ETag, Metadata, Owner, Timestamp};

use crate::body::digest::Algorithm;
use crate::edge::Identity;
use crate::error::Refusal;

/// Headers kept with an object as they were given.
const KEPT: [&str; 6] = [
    "content-type",
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "expires",
];

/// What a request says about the object it makes.
pub(super) fn meta(headers: &HeaderMap, user: Option<Metadata>) -> S3Result<ObjectMeta> {
    let mut kept = Vec::new();
    for name in KEPT {
        let Some(value) = headers.get(name) else { continue };
        let value = value.to_str().map_err(|_| Refusal::Malformed(name))?;
        let value = if name == "content-encoding" { without_chunked(value) } else { value.to_owned() };
        if !value.is_empty() {
            kept.push((name.to_owned(), value));
        }
    }
    let mut user: Vec<(String, String)> = user.unwrap_or_default().into_iter().collect();
    user.sort();
    Ok(ObjectMeta { headers: kept, user, checksums: Vec::new() })
}

/// `aws-chunked` says how the body was sent, not what the object is.
fn without_chunked(value: &str) -> String {
    let kept = value.split(',').map(str::trim).filter(|coding| !coding.eq_ignore_ascii_case("aws-chunked"));
    kept.collect::<Vec<_>>().join(", ")
}

/// A kept header.
pub(super) fn kept(meta: &ObjectMeta, name: &str) -> Option<String> {
    meta.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
}

/// `Expires` goes out as it came in: it need not be a date.
pub(super) fn expires(meta: &ObjectMeta) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Some(value) = kept(meta, "expires").and_then(|value| value.parse().ok()) {
        headers.insert(HeaderName::from_static("expires"), value);
    }
    headers
}

/// User metadata, when there is some.
pub(super) fn user(meta: &ObjectMeta) -> Option<Metadata> {
    (!meta.user.is_empty()).then(|| meta.user.iter().cloned().collect())
}

/// An ETag.
pub(super) fn etag(value: &str) -> ETag {
    ETag::Strong(value.to_owned())
}

/// A moment; outside of what calendars write, the epoch.
pub(super) fn time(time: Time) -> Timestamp {
    let nanos = i128::from(time.secs) * 1_000_000_000 + i128::from(time.nanos);
    time::OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap_or(time::OffsetDateTime::UNIX_EPOCH).into()
}

/// The tenant as S3 calls owners.
pub(super) fn owner(who: &Identity) -> Owner {
    let id = who.principal.tenant().map_or_else(|| "admin".to_owned(), |tenant| tenant.as_str().to_owned());
    Owner { display_name: Some(id.clone()), id: Some(id) }
}

/// Does the checksum cover the whole object, or those of its parts?
pub(super) fn checksum_type(checksums: &[(String, String)]) -> Option<ChecksumType> {
    let kind = checksums.first()?;
    Some(ChecksumType::from_static(if kind.1.contains('-') {
        ChecksumType::COMPOSITE
    } else {
        ChecksumType::FULL_OBJECT
    }))
}

/// One checksum as the store keeps it.
pub(super) fn checksum(algorithm: Algorithm, value: String) -> (String, String) {
    (algorithm.name().to_owned(), value)
}

/// Sets the five checksum fields that many outputs have.
macro_rules! set_checksums {
    ($out:expr, $list:expr) => {
        for (name, value) in $list.iter() {
            let value = Some(value.clone());
            match $crate::body::digest::Algorithm::parse(name) {
                Some($crate::body::digest::Algorithm::Crc32) => $out.checksum_crc32 = value,
                Some($crate::body::digest::Algorithm::Crc32c) => $out.checksum_crc32c = value,
                Some($crate::body::digest::Algorithm::Crc64Nvme) => $out.checksum_crc64nvme = value,
                Some($crate::body::digest::Algorithm::Sha1) => $out.checksum_sha1 = value,
                Some($crate::body::digest::Algorithm::Sha256) => $out.checksum_sha256 = value,
                None => {}
            }
        }
    };
}
pub(super) use set_checksums;

/// Reads the five checksum fields.
macro_rules! get_checksums {
    ($from:expr) => {
        [
            ($crate::body::digest::Algorithm::Crc32, $from.checksum_crc32.as_deref()),
            ($crate::body::digest::Algorithm::Crc32c, $from.checksum_crc32c.as_deref()),
            ($crate::body::digest::Algorithm::Crc64Nvme, $from.checksum_crc64nvme.as_deref()),
            ($crate::body::digest::Algorithm::Sha1, $from.checksum_sha1.as_deref()),
            ($crate::body::digest::Algorithm::Sha256, $from.checksum_sha256.as_deref()),
        ]
        .into_iter()
        .filter_map(|(algorithm, value)| Some((algorithm, value?)))
    };
}
pub(super) use get_checksums;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_transport_coding_is_not_the_objects() {
        assert_eq!(without_chunked("aws-chunked"), "");
        assert_eq!(without_chunked("aws-chunked,gzip"), "gzip");
        assert_eq!(without_chunked("gzip, AWS-Chunked"), "gzip");
    }

    #[test]
    fn no_time_of_an_inode_can_break_an_answer() {
        for secs in [i64::MIN, -1, 0, i64::MAX] {
            let _ = time(Time { secs, nanos: 999_999_999 });
        }
    }
}
