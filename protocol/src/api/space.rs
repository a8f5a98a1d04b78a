//! What buckets and tenants take, and may take.

use super::Bucket;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::str::FromStr;

/// A limit as people write it: a number with `K`, `M`, `G`, `T` or `P` behind it if they like (of 1,024), or `none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit(pub Option<u64>);

impl FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Limit, String> {
        if text == "none" {
            return Ok(Limit(None));
        }
        let sizes = parse_size::Config::new().with_binary();
        let parsed = sizes.parse_size(text);
        parsed
            .map(|size| Limit(Some(size)))
            .map_err(|_| format!("`{text}` is no limit: use 500M, 10G, 1T, 123456 or none"))
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(limit) => limit.fmt(f),
            None => f.write_str("none"),
        }
    }
}

impl Serialize for Limit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Some(limit) => serializer.serialize_u64(limit),
            None => serializer.serialize_str("none"),
        }
    }
}

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Limit, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Number(u64),
            Text(String),
        }
        match Form::deserialize(deserializer)? {
            Form::Number(number) => Ok(Limit(Some(number))),
            Form::Text(text) => text.parse().map_err(de::Error::custom),
        }
    }
}

/// Limits that are to change; what is absent stays. `POST /v1/buckets/{name}/quota`, `POST /v1/tenants/{name}/quota`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuotaChange {
    /// Logical bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<Limit>,
    /// Files, folders and the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<Limit>,
}

impl QuotaChange {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        *self == QuotaChange::default()
    }
}

/// Limits in force, and what is used of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotaUse {
    /// Most logical bytes.
    pub bytes: Limit,
    /// Most files.
    pub files: Limit,
    /// Logical bytes used.
    pub used_bytes: u64,
    /// Files used.
    pub used_files: u64,
}

/// `GET /v1/buckets/{name}`: what a bucket takes. The sums are exact as of the last change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketShow {
    /// The bucket.
    #[serde(flatten)]
    pub bucket: Bucket,
    /// Bytes of the blocks that files hold, shared ones counted for each file: what quotas count.
    pub logical_bytes: u64,
    /// Files, folders and the rest.
    pub files: u64,
    /// Bytes of packs that are live: compressed, sealed, each shared run once.
    pub stored_bytes: u64,
    /// Bytes of packs that are garbage, or lists of what is in them.
    pub dead_bytes: u64,
    /// Packs.
    pub packs: u64,
    /// Bytes that need not be stored because they are already.
    pub saved_by_dedup: u64,
    /// Bytes that compression saves.
    pub saved_by_compression: u64,
    /// Its limits.
    pub quota: QuotaUse,
    /// What gives room back.
    pub gc: GcShow,
}

/// What gives room back in a bucket, since its volume was opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GcShow {
    /// `idle`, `working` or `paused`.
    pub state: String,
    /// Packs deleted.
    pub freed_packs: u64,
    /// Their bytes.
    pub freed_bytes: u64,
    /// Bytes moved out of packs that were mostly garbage.
    pub moved_bytes: u64,
    /// Runs of bytes that could not be moved because they are damaged.
    pub damaged_extents: u64,
}

/// What `POST /v1/buckets/{name}/gc` is to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GcAction {
    /// Give back all that can be given back now, and wait for it.
    #[default]
    Run,
    /// Stop work in the background, until resumed or the bucket is opened again.
    Pause,
    /// Go on.
    Resume,
}

/// `POST /v1/buckets/{name}/gc`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GcRequest {
    /// What to do.
    #[serde(default)]
    pub action: GcAction,
}

/// What collecting garbage did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GcDone {
    /// Packs deleted.
    pub freed_packs: u64,
    /// Their bytes.
    pub freed_bytes: u64,
    /// Bytes moved to other packs.
    pub moved_bytes: u64,
    /// Runs of bytes that could not be moved because they are damaged.
    pub damaged_extents: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_as_people_write_them() {
        for (text, limit) in [
            ("none", None),
            ("4096", Some(4096)),
            ("10G", Some(10 << 30)),
            ("1.5M", Some(3 << 19)),
            ("2GiB", Some(2 << 30)),
        ] {
            assert_eq!(text.parse(), Ok(Limit(limit)), "{text}");
        }
        for text in ["", "ten", "-1", "10X", "None"] {
            assert!(text.parse::<Limit>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_limit_is_a_number_or_a_word_and_what_is_absent_stays() {
        let change = |text: &str| serde_json::from_str::<QuotaChange>(text).ok();
        let bytes = |limit| Some(QuotaChange { bytes: Some(Limit(limit)), files: None });
        assert_eq!(change(r#"{"bytes":5}"#), bytes(Some(5)));
        assert_eq!(change(r#"{"bytes":"1K"}"#), bytes(Some(1024)));
        assert_eq!(change(r#"{"bytes":"none"}"#), bytes(None));
        assert_eq!(change("{}"), Some(QuotaChange::default()));
        assert_eq!(change(r#"{"byte":5}"#), None);
        assert_eq!(serde_json::to_string(&Limit(None)).ok().as_deref(), Some("\"none\""));
    }
}
