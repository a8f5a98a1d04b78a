//! The engine's small files, sealed: manifests and the plans of its compactor.
//!
//! The engine checks the blocks of its tables and seals them through [`BlockSealer`]; its manifests it writes as they are,
//! with no checksum. A bit that turns in one can name another table, or bound a table by another key, and then rows
//! vanish without an error. They also hold keys of rows, which are names of objects, in clear. So every file that is not a
//! table goes through here, whole: sealed when written, opened when read, bound to its path.
//!
//! ```text
//! magic "MOORMETA" | version u8 | sealed: salt [16] | counter u64 | cipher text | tag [16]
//! ```

use crate::seal::BlockSealer;
use crate::upstream::READ_AGAIN;
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use slatedb_common::retry::NonRetryable;
use std::sync::Arc;

const MAGIC: &[u8; 8] = b"MOORMETA";
const VERSION: u8 = 1;
const HEAD_BYTES: usize = MAGIC.len() + 1;

/// A file of the engine that is not what was written. Asking again would not help.
#[derive(Debug, thiserror::Error)]
#[error("metadata file {path} is damaged: {detail}")]
struct Damaged {
    path: String,
    detail: String,
}

/// A store whose files are sealed, tables excepted. See the module documentation.
#[derive(Debug)]
pub(super) struct SealedFiles {
    inner: Arc<dyn ObjectStore>,
    sealer: Arc<BlockSealer>,
    /// The files come over a network: wrong once, they may be right the next time.
    remote: bool,
}

impl SealedFiles {
    pub fn new(inner: Arc<dyn ObjectStore>, sealer: Arc<BlockSealer>, remote: bool) -> Self {
        Self { inner, sealer, remote }
    }

    fn seal(&self, path: &Path, payload: &PutPayload) -> Result<PutPayload> {
        let plain: Vec<u8> = payload.iter().flat_map(|part| part.iter().copied()).collect();
        let sealed =
            self.sealer.seal_file(path.as_ref(), &plain).map_err(|error| generic(Box::new(error)))?;
        let mut file = Vec::with_capacity(HEAD_BYTES + sealed.len());
        file.extend_from_slice(MAGIC);
        file.push(VERSION);
        file.extend_from_slice(&sealed);
        Ok(file.into())
    }

    fn open(&self, path: &Path, file: &[u8]) -> Result<Bytes> {
        let damaged = |detail: String| generic(Box::new(Damaged { path: path.to_string(), detail }));
        let body = match file.strip_prefix(MAGIC).and_then(|rest| rest.split_first()) {
            Some((&VERSION, body)) => body,
            Some((found, _)) if *found > VERSION => {
                let detail = format!("it has format {found}, this program reads up to {VERSION}");
                return Err(damaged(detail));
            }
            _ => return Err(damaged("its head does not check".to_owned())),
        };
        self.sealer.open_file(path.as_ref(), body).map_err(|error| damaged(error.to_string()))
    }
}

fn generic(source: Box<dyn std::error::Error + Send + Sync>) -> Error {
    Error::Generic { store: "sealed metadata", source: Box::new(NonRetryable(source)) }
}

fn is_table(path: &Path) -> bool {
    path.extension() == Some("sst")
}

impl std::fmt::Display for SealedFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "sealed {}", self.inner)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for SealedFiles {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let payload = if is_table(location) { payload } else { self.seal(location, &payload)? };
        self.inner.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        if is_table(location) {
            return self.inner.put_multipart_opts(location, opts).await;
        }
        // The engine writes its small files in one piece.
        let source = format!("{location} is written in one piece").into();
        Err(Error::NotSupported { source })
    }

    async fn get_opts(&self, location: &Path, mut options: GetOptions) -> Result<GetResult> {
        if is_table(location) || options.head {
            return self.inner.get_opts(location, options).await;
        }
        let wanted = options.range.take();
        let mut again = if self.remote { READ_AGAIN } else { 0 };
        let (mut meta, attributes, extensions, plain) = loop {
            let found = self.inner.get_opts(location, options.clone()).await?;
            let (meta, attributes, extensions) =
                (found.meta.clone(), found.attributes.clone(), found.extensions.clone());
            match self.open(location, &found.bytes().await?) {
                Err(_) if again > 0 => again -= 1,
                plain => break (meta, attributes, extensions, plain?),
            }
        };
        meta.size = plain.len() as u64;
        let range = match wanted {
            Some(range) => range.as_range(meta.size).map_err(|error| generic(Box::new(error)))?,
            None => 0..meta.size,
        };
        let part = plain.slice(range.start as usize..range.end as usize);
        let payload = GetResultPayload::Stream(futures::stream::once(async move { Ok(part) }).boxed());
        Ok(GetResult { payload, meta, range, attributes, extensions })
    }

    async fn get_ranges(&self, location: &Path, ranges: &[std::ops::Range<u64>]) -> Result<Vec<Bytes>> {
        if is_table(location) {
            return self.inner.get_ranges(location, ranges).await;
        }
        let whole = self.get_opts(location, GetOptions::default()).await?.bytes().await?;
        let part = |range: &std::ops::Range<u64>| {
            let bounds = range.start as usize..(range.end as usize).min(whole.len());
            let detail = || Damaged { path: location.to_string(), detail: "it is too short".to_owned() };
            if bounds.start > bounds.end { Err(generic(Box::new(detail()))) } else { Ok(whole.slice(bounds)) }
        };
        ranges.iter().map(part).collect()
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        if is_table(from) && is_table(to) {
            return self.inner.copy_opts(from, to, options).await;
        }
        // A sealed file opens only where it was written.
        let source = format!("{from} cannot be copied").into();
        Err(Error::NotSupported { source })
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: object_store::RenameOptions) -> Result<()> {
        if is_table(from) && is_table(to) {
            return self.inner.rename_opts(from, to, options).await;
        }
        let source = format!("{from} cannot be renamed").into();
        Err(Error::NotSupported { source })
    }
}
