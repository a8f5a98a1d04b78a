//! What a request is about: bucket and key, from host and path, decoded once. The key found here is the string that
//! rights are decided on and that the store is asked for; nothing is normalised on the way, so `a/../b` is a key of
//! that spelling and no way out of anything.

use http::Uri;
use http::uri::Authority;
use percent_encoding::percent_decode_str;

use crate::config::{BUCKET_BYTES, KEY_BYTES};
use crate::error::Refusal;
use crate::gate::op::Level;

/// Bucket and key of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// The bucket, unless it is about all of them.
    pub bucket: Option<String>,
    /// The key, unless it is about the bucket.
    pub key: Option<String>,
}

impl Target {
    /// Reads host and path.
    pub fn parse(uri: &Uri, host: Option<&str>, domains: &[String]) -> Result<Target, Refusal> {
        let path = decode(uri.path())?;
        let path = path.strip_prefix('/').ok_or(Refusal::Encoding)?;
        let (bucket, key) = match host.and_then(|host| bucket_of(host, domains)) {
            Some(bucket) => (Some(bucket.to_owned()), path),
            None => match path.split_once('/') {
                Some((bucket, key)) => (Some(bucket.to_owned()), key),
                None => (Some(path.to_owned()).filter(|p| !p.is_empty()), ""),
            },
        };
        if bucket.as_deref().is_some_and(|name| !bucket_name(name)) {
            return Err(Refusal::BucketName);
        }
        if key.len() > KEY_BYTES {
            return Err(Refusal::KeyTooLong);
        }
        Ok(Target { bucket, key: Some(key.to_owned()).filter(|k| !k.is_empty()) })
    }

    /// What kind of thing it is.
    pub fn level(&self) -> Level {
        match (&self.bucket, &self.key) {
            (None, _) => Level::Root,
            (Some(_), None) => Level::Bucket,
            (Some(_), Some(_)) => Level::Object,
        }
    }
}

/// Percent-decoding that accepts only UTF-8 without NUL.
pub(crate) fn decode(text: &str) -> Result<String, Refusal> {
    let decoded = percent_decode_str(text).decode_utf8().map_err(|_| Refusal::Encoding)?;
    if decoded.contains('\0') { Err(Refusal::Encoding) } else { Ok(decoded.into_owned()) }
}

/// The bucket that a host name carries in front of one of our domains.
pub(crate) fn bucket_of<'a>(host: &'a str, domains: &[String]) -> Option<&'a str> {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    domains.iter().find_map(|domain| {
        let split = name.len().checked_sub(domain.len())?;
        let (front, back) = name.split_at_checked(split)?;
        if !back.eq_ignore_ascii_case(domain) {
            return None;
        }
        front.strip_suffix('.').filter(|bucket| !bucket.is_empty())
    })
}

/// Could this be a bucket as some caller sees it? Labels of lower-case letters, digits and hyphens, with dots between.
/// Whether it exists is another question; whether it may be made, the registry's.
pub(crate) fn bucket_name(name: &str) -> bool {
    let label = |label: &str| {
        let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        ends(label.chars().next()) && ends(label.chars().next_back())
    };
    (3..=BUCKET_BYTES).contains(&name.len())
        && name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.'))
        && name.split('.').all(label)
}

/// The host a request names.
pub(crate) fn host_of<'a>(uri: &'a Uri, headers: &'a http::HeaderMap) -> Result<Option<&'a str>, Refusal> {
    match headers.get(http::header::HOST) {
        Some(value) => value.to_str().map(Some).map_err(|_| Refusal::Malformed("Host header")),
        None => Ok(uri.authority().map(Authority::as_str)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn target(path: &str, host: &str) -> Result<(Option<String>, Option<String>), &'static str> {
        let uri: Uri = path.parse().unwrap();
        let domains = vec!["s3.localhost".to_owned()];
        Target::parse(&uri, Some(host), &domains).map(|t| (t.bucket, t.key)).map_err(|e| e.code().0)
    }

    fn some(bucket: &str, key: &str) -> Result<(Option<String>, Option<String>), &'static str> {
        Ok((Some(bucket.into()), Some(key.to_owned()).filter(|k| !k.is_empty())))
    }

    #[test]
    fn both_styles_name_the_same_things() {
        assert_eq!(target("/", "127.0.0.1:9000"), Ok((None, None)));
        assert_eq!(target("/photos/a/b", "127.0.0.1:9000"), some("photos", "a/b"));
        assert_eq!(target("/photos/", "localhost"), some("photos", ""));
        assert_eq!(target("/a/b", "photos.s3.localhost:9000"), some("photos", "a/b"));
        assert_eq!(target("/a", "acme.photos.S3.localhost"), some("acme.photos", "a"));
        assert_eq!(target("/photos/a", "s3.localhost"), some("photos", "a"));
        assert_eq!(target("/photos/a", "evils3.localhost"), some("photos", "a"));
    }

    #[test]
    fn keys_are_taken_as_they_are() {
        assert_eq!(target("/photos/a/../../x", "h"), some("photos", "a/../../x"));
        assert_eq!(target("/photos/%2e%2e%2Fx", "h"), some("photos", "../x"));
        assert_eq!(target("/photos//x", "h"), some("photos", "/x"));
        assert_eq!(target("/photos/%ff", "h"), Err("InvalidURI"));
        assert_eq!(target("/photos/a%00b", "h"), Err("InvalidURI"));
        assert_eq!(target(&format!("/photos/{}", "k".repeat(1025)), "h"), Err("KeyTooLongError"));
        assert_eq!(
            target(&format!("/photos/{}", "k".repeat(1024)), "h").map(|t| t.1.unwrap().len()),
            Ok(1024)
        );
    }

    #[test]
    fn bucket_names_have_no_paths_in_them() {
        for bad in ["/..", "/../x", "/a%2Fb/c", "/Photos/x", "/a_b/x", "/-ab/x", "/ab-/x", "/a..b/x", "/ab/x"]
        {
            assert_eq!(target(bad, "h"), Err("InvalidBucketName"), "{bad}");
        }
    }
}
