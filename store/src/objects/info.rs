//! What S3 is told of an object.

use super::key::{Found, What};
use crate::api::{Condition, ObjectInfo, ObjectMeta, Result};
use crate::error::StoreError;
use crate::keys::inode::{self, Inode};
use crate::keys::object::{self, Object};
use crate::volume::Volume;
use bytes::Bytes;
use mooring_protocol::types::Ino;

/// MD5 of nothing: the ETag of every directory's marker.
const EMPTY_MD5: &str = "d41d8cd98f00b204e9800998ecf8427e";

impl Volume {
    /// Tells of an inode under the key it was found by.
    pub(crate) async fn describe(&self, key: &[u8], ino: Ino, inode: &Inode) -> Result<ObjectInfo> {
        let stored = match inode.has(inode::OBJECT) {
            true => self.rows().get(|layer| object::key(layer, ino)).await?,
            false => None,
        };
        let stored = stored.map(|value| object::decode(&value)).transpose()?;
        Ok(self.info(key, ino, inode, stored))
    }

    pub(crate) fn info(&self, key: &[u8], ino: Ino, inode: &Inode, stored: Option<Object>) -> ObjectInfo {
        let marker = inode.is_dir();
        let (etag, meta) = match stored {
            Some(stored) if marker => (EMPTY_MD5.to_owned(), stored.meta),
            Some(stored) if stored.content == inode.content => (stored.etag, stored.meta),
            // Written in a mount since: what was said of the bytes no longer holds, what was said of the file does.
            Some(stored) => {
                (self.computed_etag(ino, inode), ObjectMeta { checksums: Vec::new(), ..stored.meta })
            }
            None if marker => (EMPTY_MD5.to_owned(), ObjectMeta::default()),
            None => (self.computed_etag(ino, inode), ObjectMeta::default()),
        };
        ObjectInfo {
            key: Bytes::copy_from_slice(key),
            ino,
            version: inode.version,
            size: if marker { 0 } else { inode.size },
            modified: inode.mtime,
            etag,
            meta,
            marker,
        }
    }

    /// The ETag of bytes that came through a mount: new with each change of content.
    fn computed_etag(&self, ino: Ino, inode: &Inode) -> String {
        let mut named = b"etag".to_vec();
        named.extend_from_slice(&ino.get().to_be_bytes());
        named.extend_from_slice(&inode.content.to_be_bytes());
        format!("{}-1", hex::encode(self.packs.hash(&named)))
    }

    /// What was found, described; `None` when it has gone meanwhile.
    pub(crate) async fn describe_found(&self, key: &[u8], found: &Found) -> Result<Option<ObjectInfo>> {
        match self.found_inode(found).await? {
            Some(inode) if inode.is_dir() == matches!(found.what, What::Marker) => {
                Ok(Some(self.describe(key, found.entry.ino, &inode).await?))
            }
            _ => Ok(None),
        }
    }
}

/// Refuses a PUT or DELETE whose condition does not hold for what has the key now.
pub(crate) fn settle(when: &Condition, now: Option<&ObjectInfo>) -> Result<()> {
    let matches = |wanted: &str, info: &ObjectInfo| wanted == "*" || wanted.trim_matches('"') == info.etag;
    match (&when.if_match, now) {
        (Some(_), None) => return Err(StoreError::NotFound),
        (Some(wanted), Some(info)) if !matches(wanted, info) => return Err(StoreError::PreconditionFailed),
        _ => {}
    }
    match (&when.if_none_match, now) {
        (Some(wanted), Some(info)) if matches(wanted, info) => Err(StoreError::PreconditionFailed),
        _ => Ok(()),
    }
}
