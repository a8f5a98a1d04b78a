//! Conditional requests (RFC 9110, section 13) on ETags and times.

use http::{HeaderMap, HeaderValue, StatusCode, header};
use mooring_store::api::{Condition, ObjectInfo};
use s3s::dto::Timestamp;
use s3s::{S3Error, S3Result, s3_error};
use time::OffsetDateTime;

use crate::error::{Refusal, coded};
use crate::ops::convert;

/// The four headers, whichever they are called.
pub(super) struct Conditions<'a> {
    if_match: Option<&'a str>,
    if_none_match: Option<&'a str>,
    modified_since: Option<OffsetDateTime>,
    unmodified_since: Option<OffsetDateTime>,
}

/// What they come to.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Go,
    NotModified,
    Failed,
}

impl<'a> Conditions<'a> {
    /// Of a read.
    pub fn of_read(
        headers: &'a HeaderMap,
        modified_since: Option<Timestamp>,
        unmodified_since: Option<Timestamp>,
    ) -> S3Result<Self> {
        Ok(Self {
            if_match: text(headers, "if-match")?,
            if_none_match: text(headers, "if-none-match")?,
            modified_since: modified_since.map(Into::into),
            unmodified_since: unmodified_since.map(Into::into),
        })
    }

    /// Of a copy's source.
    pub fn of_source(
        headers: &'a HeaderMap,
        modified_since: Option<Timestamp>,
        unmodified_since: Option<Timestamp>,
    ) -> S3Result<Self> {
        Ok(Self {
            if_match: text(headers, "x-amz-copy-source-if-match")?,
            if_none_match: text(headers, "x-amz-copy-source-if-none-match")?,
            modified_since: modified_since.map(Into::into),
            unmodified_since: unmodified_since.map(Into::into),
        })
    }

    /// May the read go on? 304 or 412 otherwise.
    pub fn check_read(&self, info: &ObjectInfo) -> S3Result<()> {
        match self.verdict(info) {
            Verdict::Go => Ok(()),
            Verdict::NotModified => Err(not_modified(info)),
            Verdict::Failed => Err(failed()),
        }
    }

    /// May the copy go on? Any condition that does not hold is 412.
    pub fn check_source(&self, info: &ObjectInfo) -> S3Result<()> {
        if self.verdict(info) == Verdict::Go { Ok(()) } else { Err(failed()) }
    }

    fn verdict(&self, info: &ObjectInfo) -> Verdict {
        // HTTP dates have seconds, so the object's time is compared without the rest.
        let modified: OffsetDateTime = convert::time(info.modified).into();
        let modified = modified.unix_timestamp();
        let unchanged = match (self.if_match, self.unmodified_since) {
            (Some(list), _) => matches(list, &info.etag, false),
            (None, Some(since)) => modified <= since.unix_timestamp(),
            (None, None) => true,
        };
        if !unchanged {
            return Verdict::Failed;
        }
        let new = match (self.if_none_match, self.modified_since) {
            (Some(list), _) => !matches(list, &info.etag, true),
            (None, Some(since)) => modified > since.unix_timestamp(),
            (None, None) => true,
        };
        if new { Verdict::Go } else { Verdict::NotModified }
    }
}

/// Is the ETag in an `If-Match` list? Weak tags only compare where `weak`.
fn matches(list: &str, etag: &str, weak: bool) -> bool {
    list.split(',').map(str::trim).any(|tag| match tag.strip_prefix("W/") {
        Some(tag) => weak && tag.trim_matches('"') == etag,
        None => tag == "*" || tag.trim_matches('"') == etag,
    })
}

/// The condition of a write or delete, for the store to decide in the same step as the change.
pub(super) fn of_write(headers: &HeaderMap) -> S3Result<Condition> {
    let bare = |tag: &str| tag.trim().trim_matches('"').to_owned();
    let if_none_match = text(headers, "if-none-match")?.map(bare);
    Ok(Condition { if_match: text(headers, "if-match")?.map(bare), if_none_match })
}

fn text<'a>(headers: &'a HeaderMap, name: &'static str) -> S3Result<Option<&'a str>> {
    let value = headers.get(name).map(|value| value.to_str());
    value.transpose().map_err(|_| Refusal::Malformed(name).into())
}

fn failed() -> S3Error {
    s3_error!(PreconditionFailed, "At least one of the pre-conditions you specified did not hold")
}

fn not_modified(info: &ObjectInfo) -> S3Error {
    let mut error = coded("NotModified", StatusCode::NOT_MODIFIED, "Not Modified");
    let mut headers = HeaderMap::new();
    if let Ok(etag) = HeaderValue::from_str(&format!("\"{}\"", info.etag)) {
        headers.insert(header::ETAG, etag);
    }
    error.set_headers(headers);
    error
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use bytes::Bytes;
    use mooring_protocol::types::{Ino, Time};

    use super::*;

    fn info() -> ObjectInfo {
        ObjectInfo {
            key: Bytes::from_static(b"k"),
            ino: Ino::ROOT,
            version: 1,
            size: 3,
            modified: Time { secs: 1000, nanos: 500 },
            etag: "abc".into(),
            meta: Default::default(),
            marker: false,
        }
    }

    fn verdict(m: Option<&str>, n: Option<&str>, since: Option<i64>, until: Option<i64>) -> Verdict {
        let at = |secs| OffsetDateTime::from_unix_timestamp(secs).unwrap();
        let conditions = Conditions {
            if_match: m,
            if_none_match: n,
            modified_since: since.map(at),
            unmodified_since: until.map(at),
        };
        conditions.verdict(&info())
    }

    #[test]
    fn precedence_is_that_of_the_rfc() {
        assert_eq!(verdict(None, None, None, None), Verdict::Go);
        assert_eq!(verdict(Some("\"abc\""), None, None, Some(1)), Verdict::Go);
        assert_eq!(verdict(Some("\"x\""), None, None, None), Verdict::Failed);
        assert_eq!(verdict(Some("W/\"abc\""), None, None, None), Verdict::Failed);
        assert_eq!(verdict(Some("\"x\", \"abc\""), None, None, None), Verdict::Go);
        assert_eq!(verdict(None, Some("W/\"abc\""), None, None), Verdict::NotModified);
        assert_eq!(verdict(None, Some("*"), None, None), Verdict::NotModified);
        assert_eq!(verdict(None, Some("\"x\""), Some(2000), None), Verdict::Go);
        assert_eq!(verdict(None, None, Some(1000), None), Verdict::NotModified);
        assert_eq!(verdict(None, None, Some(999), None), Verdict::Go);
        assert_eq!(verdict(None, None, None, Some(1000)), Verdict::Go);
        assert_eq!(verdict(None, None, None, Some(999)), Verdict::Failed);
        assert_eq!(verdict(Some("\"x\""), Some("\"abc\""), None, None), Verdict::Failed);
    }
}
