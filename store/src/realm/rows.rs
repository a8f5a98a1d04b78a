//! Keys and values of the registry's rows.
//!
//! A value is a version byte and JSON: rows are few and gain fields over time; a field that is added has a default.
//! Parts of a key are separated by a zero byte, which no name contains.
//!
//! | key | row |
//! |---|---|
//! | `T tenant` | [`super::Tenant`] |
//! | `B tenant 0 bucket` | [`super::Bucket`] |
//! | `D volume` | a volume whose files are still to be removed |
//! | `M tenant 0 vm` | [`super::Vm`] |
//! | `K access key id` | access key, in the form policy gives it |
//! | `G grant id` | [`super::GrantRow`] |
//! | `g grantee 0 grant id`, `o owner 0 grant id` | indexes of `G`, rebuilt from it |
//! | `R token id` | when a revoked token ends |
//! | `S name` | single values: schema, counters, keys |

use super::RealmError;
use crate::meta::{Batch, Meta, after, prefix_end};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub(super) const VERSION: u8 = 1;
const PAGE: usize = 512;

/// A key of family `family` with its parts.
pub(super) fn key(family: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut key = vec![family];
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            key.push(0);
        }
        key.extend_from_slice(part);
    }
    key
}

/// A key that begins every row below the given parts.
pub(super) fn below(family: u8, part: &[u8]) -> Vec<u8> {
    let mut key = key(family, &[part]);
    key.push(0);
    key
}

pub(super) fn encode(row: &impl Serialize) -> Result<Vec<u8>, RealmError> {
    let mut value = vec![VERSION];
    serde_json::to_writer(&mut value, row)
        .map_err(|source| RealmError::Row { row: "being written".to_owned(), source: Box::new(source) })?;
    Ok(value)
}

pub(super) fn decode<T: DeserializeOwned>(key: &[u8], value: &[u8]) -> Result<T, RealmError> {
    serde_json::from_slice(body(key, value)?)
        .map_err(|source| RealmError::Row { row: name(key), source: Box::new(source) })
}

/// What follows the version byte.
pub(super) fn body<'a>(key: &[u8], value: &'a [u8]) -> Result<&'a [u8], RealmError> {
    match value.split_first() {
        Some((&VERSION, body)) => Ok(body),
        first => {
            let found = first.map_or(0, |(version, _)| *version);
            Err(RealmError::Version { row: name(key), found, supported: VERSION })
        }
    }
}

fn name(key: &[u8]) -> String {
    key.escape_ascii().to_string()
}

pub(super) async fn get<T: DeserializeOwned>(meta: &dyn Meta, key: &[u8]) -> Result<Option<T>, RealmError> {
    let value = meta.get(key).await?;
    value.map(|value| decode(key, &value)).transpose()
}

/// Every row whose key begins with `prefix`.
pub(super) async fn all_raw(meta: &dyn Meta, prefix: &[u8]) -> Result<Vec<(Bytes, Bytes)>, RealmError> {
    let (mut start, end, mut rows) = (prefix.to_vec(), prefix_end(prefix), Vec::new());
    loop {
        let page = meta.scan(&start, &end, PAGE).await?;
        let Some((last, _)) = page.last() else {
            return Ok(rows);
        };
        start = after(last);
        rows.extend(page);
    }
}

/// Every row whose key begins with `prefix`, decoded.
pub(super) async fn all<T: DeserializeOwned>(meta: &dyn Meta, prefix: &[u8]) -> Result<Vec<T>, RealmError> {
    all_raw(meta, prefix).await?.iter().map(|(key, value)| decode(key, value)).collect()
}

pub(super) fn put(batch: &mut Batch, key: Vec<u8>, row: &impl Serialize) -> Result<(), RealmError> {
    batch.put(key, encode(row)?);
    Ok(())
}
