//! Listings, a page at a time.

use aws_sdk_s3::types::EncodingType;
use bytes::Bytes;
use mooring_store::api::Result;
use mooring_store::error::StoreError;
use percent_encoding::percent_decode;

use super::{Remote, RemoteError, Stat, stat};

/// Most that a store gives at once.
const MAX_PAGE: usize = 1000;

/// Above every key that begins with what stands before it.
const LAST: char = '\u{10ffff}';

/// An object of a listing.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Its key, without our prefix.
    pub key: Vec<u8>,
    /// What it is.
    pub stat: Stat,
}

/// A page of keys in byte order.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// Objects.
    pub objects: Vec<Listed>,
    /// What was rolled up at the delimiter, without our prefix.
    pub prefixes: Vec<Vec<u8>>,
    /// The last key or prefix of the page, when more follow.
    pub next: Option<Vec<u8>>,
}

impl Remote {
    /// Keys and prefixes after `after`, whole: what lies below a prefix is after it, and is not given again.
    pub async fn list(
        &self,
        prefix: &[u8],
        delimiter: Option<&str>,
        after: &[u8],
        limit: usize,
    ) -> Result<Page> {
        let mut page = self.list_after(prefix, delimiter, after, limit).await?;
        // Stores differ in whether a prefix that was given is given again when the listing goes on.
        page.objects.retain(|object| object.key.as_slice() > after);
        page.prefixes.retain(|prefix| prefix.as_slice() > after);
        Ok(page)
    }

    async fn list_after(
        &self,
        prefix: &[u8],
        delimiter: Option<&str>,
        after: &[u8],
        limit: usize,
    ) -> Result<Page> {
        let what = "to list the bucket";
        let mut list = self
            .client
            .list_objects_v2()
            .bucket(&self.bucket)
            .prefix(self.full(prefix)?)
            .set_delimiter(delimiter.map(str::to_owned))
            .encoding_type(EncodingType::Url)
            .max_keys(limit.clamp(1, MAX_PAGE) as i32);
        if !after.is_empty() {
            list = list.start_after(self.start(prefix, delimiter, after)?);
        }
        let listed = list.send().await.map_err(|e| RemoteError::new(what, e))?;
        let mut page = Page::default();
        for object in listed.contents.unwrap_or_default() {
            let key = self.inner(object.key.as_deref())?;
            let stat = stat(object.e_tag.as_deref(), object.size, object.last_modified.as_ref())?;
            page.objects.push(Listed { key, stat });
        }
        for rolled in listed.common_prefixes.unwrap_or_default() {
            page.prefixes.push(self.inner(rolled.prefix.as_deref())?);
        }
        if listed.is_truncated.unwrap_or_default() {
            let last = page.objects.last().map(|object| &object.key).max(page.prefixes.last());
            page.next = last.cloned();
            if page.next.as_deref().is_none_or(|next| next <= after) {
                return Err(RemoteError::odd(what, "a page that does not lead on").into());
            }
        }
        Ok(page)
    }

    /// Where to begin so that neither `after` nor anything rolled up with it comes again.
    fn start(&self, prefix: &[u8], delimiter: Option<&str>, after: &[u8]) -> Result<String> {
        let start = self.full(after)?;
        let inside = (after.len() >= prefix.len()).then(|| self.prefix.len() + prefix.len());
        let Some((delimiter, inside)) = delimiter.zip(inside) else { return Ok(start) };
        let Some(rest) = start.get(inside..) else { return Ok(start) };
        match rest.find(delimiter) {
            Some(at) => Ok(format!("{}{LAST}", &start[..inside + at + delimiter.len()])),
            None => Ok(start),
        }
    }

    /// Whether anything has a key that begins with this.
    pub async fn any(&self, prefix: &[u8]) -> Result<bool> {
        let page = self.list_after(prefix, None, b"", 1).await?;
        Ok(!page.objects.is_empty())
    }

    fn inner(&self, encoded: Option<&str>) -> Result<Vec<u8>> {
        let odd = || RemoteError::odd("to list the bucket", "a key outside what was asked for");
        let plain = encoded.ok_or_else(odd)?.replace('+', " ");
        let key: Vec<u8> = percent_decode(plain.as_bytes()).collect();
        Ok(key.strip_prefix(self.prefix.as_bytes()).ok_or_else(odd)?.to_vec())
    }
}

/// A key as the store API gives it.
pub fn bytes(key: &[u8]) -> Bytes {
    Bytes::copy_from_slice(key)
}

/// A delimiter as the store takes it.
pub fn delimiter(bytes: Option<&[u8]>) -> Result<Option<&str>> {
    bytes.map(std::str::from_utf8).transpose().map_err(|_| StoreError::Invalid("the delimiter must be UTF-8"))
}
