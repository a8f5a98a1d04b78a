//! The other store, as the few calls that are made of it. Every call has time-outs and a bounded number of retries.

mod error;
mod list;
mod multipart;

use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation,
};
use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_sdk_s3::types::MetadataDirective;
use bytes::Bytes;
use mooring_protocol::caps;
use mooring_protocol::types::Time;
use mooring_store::api::{Condition, ObjectMeta, Result};
use mooring_store::error::StoreError;

pub use error::{Kind, RemoteError};
pub use list::{Listed, bytes, delimiter};

use crate::config::Place;

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(5);
/// How long one try may take; 16 MiB in this time is 0.5 MiB/s.
const TRY: Duration = Duration::from_secs(30);
/// How long a call may take with all its tries.
const CALL: Duration = Duration::from_secs(75);
/// Tries of one call.
const TRIES: u32 = 4;
/// Largest object that one copy request copies.
pub const MAX_COPY: u64 = 5 << 30;

/// What the store tells of an object without being asked for its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Without quotes.
    pub etag: String,
    /// Bytes.
    pub size: u64,
    /// Last change, in whole seconds: what a listing says finer, a HEAD does not.
    pub modified: Time,
}

/// A bucket of the other store.
pub struct Remote {
    client: Client,
    bucket: String,
    prefix: String,
}

impl Remote {
    /// A client; nothing is asked yet.
    pub fn new(place: &Place) -> Remote {
        let secret = place.secret.as_str();
        let credentials = Credentials::new(&place.access_key, secret, None, None, "mooring");
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT)
            .operation_attempt_timeout(TRY)
            .operation_timeout(CALL)
            .build();
        // Stores that do not know the newer checksums refuse them; bytes are covered by the request's signature, and
        // what comes back by the ETag that every read asks for.
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(place.region.clone()))
            .credentials_provider(credentials)
            .retry_config(RetryConfig::standard().with_max_attempts(TRIES))
            .timeout_config(timeouts)
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .force_path_style(place.path_style);
        let config = match &place.endpoint {
            Some(endpoint) => config.endpoint_url(endpoint),
            None => config,
        };
        let client = Client::from_conf(config.build());
        Remote { client, bucket: place.bucket.clone(), prefix: place.prefix.clone() }
    }

    /// A key of the bucket.
    fn full(&self, key: &[u8]) -> Result<String> {
        let key = std::str::from_utf8(key).map_err(|_| {
            StoreError::Unsupported("a name that is not UTF-8 cannot be a key of the external store")
        })?;
        if self.prefix.len() + key.len() > caps::MAX_KEY {
            return Err(StoreError::NameTooLong);
        }
        Ok(format!("{}{key}", self.prefix))
    }

    /// Whether this can be a key of the other store.
    pub fn takes(&self, key: &[u8]) -> Result<()> {
        self.full(key).map(drop)
    }

    /// What there is under a key.
    pub async fn head(&self, key: &[u8]) -> Result<Option<(Stat, ObjectMeta)>> {
        let key = self.full(key)?;
        let head = match self.client.head_object().bucket(&self.bucket).key(key).send().await {
            Ok(head) => head,
            Err(error) => {
                let error = RemoteError::new("to say what an object is", error);
                return if error.kind == Kind::NotFound { Ok(None) } else { Err(error.into()) };
            }
        };
        let meta = ObjectMeta {
            headers: [
                ("content-type", &head.content_type),
                ("cache-control", &head.cache_control),
                ("content-disposition", &head.content_disposition),
                ("content-encoding", &head.content_encoding),
                ("content-language", &head.content_language),
            ]
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value.clone()?)))
            .collect(),
            user: head.metadata.unwrap_or_default().into_iter().collect(),
            checksums: Vec::new(),
        };
        let stat = stat(head.e_tag.as_deref(), head.content_length, head.last_modified.as_ref())?;
        Ok(Some((stat, meta)))
    }

    /// Bytes of the content with this ETag; `None` when the object has another by now, or is gone.
    pub async fn read(&self, key: &[u8], etag: &str, offset: u64, size: u64) -> Result<Option<Vec<Bytes>>> {
        let what = "to give an object's bytes";
        let range = format!("bytes={offset}-{}", offset + size - 1);
        let get = self.client.get_object().bucket(&self.bucket).key(self.full(key)?);
        let mut object = match get.range(range).if_match(quoted(etag)).send().await {
            Ok(object) => object,
            Err(error) => {
                let error = RemoteError::new(what, error);
                let changed = matches!(error.kind, Kind::Precondition | Kind::NotFound | Kind::Range);
                return if changed { Ok(None) } else { Err(error.into()) };
            }
        };
        // A store that ignores the condition is found out here.
        if object.e_tag.as_deref().map(unquoted) != Some(etag) {
            return Ok(None);
        }
        let (mut pieces, mut got) = (Vec::new(), 0);
        while let Some(piece) = object.body.next().await {
            let piece = piece.map_err(|error| StoreError::Unavailable(Box::new(error)))?;
            got += piece.len() as u64;
            if got > size {
                return Err(RemoteError::odd(what, "more bytes than were asked for").into());
            }
            pieces.push(piece);
        }
        Ok(Some(pieces))
    }

    /// Puts a whole object; returns its ETag.
    pub async fn put(&self, key: &[u8], data: Bytes, meta: &ObjectMeta, when: &Condition) -> Result<String> {
        let what = "to take an object";
        let put = self.client.put_object().bucket(&self.bucket).key(self.full(key)?);
        let put = put
            .set_content_type(header(meta, "content-type"))
            .set_cache_control(header(meta, "cache-control"))
            .set_content_disposition(header(meta, "content-disposition"))
            .set_content_encoding(header(meta, "content-encoding"))
            .set_content_language(header(meta, "content-language"))
            .set_metadata(user(meta))
            .set_if_match(when.if_match.as_deref().map(condition))
            .set_if_none_match(when.if_none_match.as_deref().map(condition));
        let done = put.body(ByteStream::from(data)).send().await.map_err(|e| RemoteError::new(what, e))?;
        etag_of(what, done.e_tag.as_deref())
    }

    /// Copies an object inside the bucket, as far as one request can; returns the ETag of the copy.
    pub async fn copy(&self, from: &[u8], etag: &str, to: &[u8]) -> Result<String> {
        let what = "to copy an object";
        let source = format!("{}/{}", self.bucket, encoded(&self.full(from)?));
        let copy = self.client.copy_object().bucket(&self.bucket).key(self.full(to)?).copy_source(source);
        let copy = copy.copy_source_if_match(quoted(etag)).metadata_directive(MetadataDirective::Copy);
        let done = copy.send().await.map_err(|e| RemoteError::new(what, e))?;
        let result = done.copy_object_result.as_ref().and_then(|result| result.e_tag.as_deref());
        etag_of(what, result)
    }

    /// Deletes an object; one that is not there is deleted already.
    pub async fn delete(&self, key: &[u8]) -> Result<()> {
        match self.client.delete_object().bucket(&self.bucket).key(self.full(key)?).send().await {
            Ok(_) => Ok(()),
            Err(error) => match RemoteError::new("to delete an object", error) {
                error if error.kind == Kind::NotFound => Ok(()),
                error => Err(error.into()),
            },
        }
    }
}

fn stat(etag: Option<&str>, size: Option<i64>, modified: Option<&DateTime>) -> Result<Stat, RemoteError> {
    let what = "to say what an object is";
    let size = size.and_then(|size| u64::try_from(size).ok());
    match (etag, size) {
        (Some(etag), Some(size)) => Ok(Stat {
            etag: unquoted(etag).to_owned(),
            size,
            modified: Time { secs: modified.map_or(0, DateTime::secs), nanos: 0 },
        }),
        _ => Err(RemoteError::odd(what, "an answer without ETag or length")),
    }
}

fn etag_of(what: &'static str, etag: Option<&str>) -> Result<String> {
    let etag = etag.ok_or_else(|| RemoteError::odd(what, "an answer without ETag"))?;
    Ok(unquoted(etag).to_owned())
}

fn header(meta: &ObjectMeta, name: &str) -> Option<String> {
    meta.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone())
}

fn user(meta: &ObjectMeta) -> Option<std::collections::HashMap<String, String>> {
    let user: std::collections::HashMap<_, _> = meta.user.iter().cloned().collect();
    (!user.is_empty()).then_some(user)
}

/// A path in a header: everything but unreserved characters and slashes is escaped.
fn encoded(key: &str) -> String {
    use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
    const PATH: &AsciiSet =
        &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'~');
    utf8_percent_encode(key, PATH).to_string()
}

fn unquoted(etag: &str) -> &str {
    etag.trim_matches('"')
}

fn quoted(etag: &str) -> String {
    format!("\"{etag}\"")
}

fn condition(etag: &str) -> String {
    if etag == "*" { etag.to_owned() } else { quoted(unquoted(etag)) }
}
