//! Reads of the engine's tables on the local disk.
//!
//! A block of a table is a few KiB, and most blocks that are not in the block cache are in the kernel's. For these a
//! change of threads costs many times the read itself, and so does opening the file. So tables stay open, and a read
//! asks the kernel first for what it has in memory (`RWF_NOWAIT`), on the thread that it is on; only what has to come
//! from the medium goes to a thread that may wait.
//!
//! Tables never change: an open one is the one that was written. How many all volumes of the process have open is
//! bounded ([`OpenTables`]); the rest is opened for each read. A table that is deleted is let go of at once, or its
//! room would not come back.

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    Attributes, CopyOptions, Error, Extensions, GetOptions, GetRange, GetResult, GetResultPayload,
    ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, RenameOptions, Result,
};
use parking_lot::Mutex;
use rustix::io::{Errno, ReadWriteFlags};
use std::collections::HashMap;
use std::fs::File;
use std::io::IoSliceMut;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Tables that all volumes of a process have open, at most.
const MOST_OPEN: usize = 256;

/// Longer reads than this take a thread that may wait: copying so much is work too.
const LONG: u64 = 1 << 20;

/// How many tables are open in the process.
#[derive(Debug, Default)]
pub(super) struct OpenTables(AtomicUsize);

/// One that stays open.
#[derive(Debug)]
struct Open {
    file: File,
    meta: ObjectMeta,
    count: Arc<OpenTables>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.count.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A directory whose tables are read as above; everything else goes to `inner`.
#[derive(Debug)]
pub(super) struct Tables {
    inner: Arc<dyn ObjectStore>,
    root: PathBuf,
    open: Arc<Mutex<HashMap<Path, Arc<Open>>>>,
    count: Arc<OpenTables>,
}

impl Tables {
    /// `inner` is a store of the files below `root`.
    pub fn new(inner: Arc<dyn ObjectStore>, root: PathBuf, count: Arc<OpenTables>) -> Self {
        Self { inner, root, open: Arc::default(), count }
    }

    async fn table(&self, location: &Path) -> Result<Arc<Open>> {
        if let Some(open) = self.open.lock().get(location) {
            return Ok(Arc::clone(open));
        }
        let (path, to) = (self.root.join(location.as_ref()), location.clone());
        let (file, meta) = blocking(move || open_file(&path, to)).await?;
        let room = self.count.0.fetch_add(1, Ordering::Relaxed) < MOST_OPEN;
        let open = Arc::new(Open { file, meta, count: Arc::clone(&self.count) });
        if room {
            self.open.lock().insert(location.clone(), Arc::clone(&open));
        }
        Ok(open)
    }

    fn let_go(&self, location: &Path) {
        self.open.lock().remove(location);
    }

    async fn read(&self, table: Arc<Open>, range: Range<u64>) -> Result<Bytes> {
        let length = (range.end - range.start) as usize;
        let mut bytes = vec![0; length];
        let mut had = 0;
        if length as u64 <= LONG {
            had = read_from_memory(&table.file, &mut bytes, range.start);
            if had == length {
                return Ok(bytes.into());
            }
        }
        blocking(move || {
            let rest = bytes.get_mut(had..).unwrap_or_default();
            table
                .file
                .read_exact_at(rest, range.start + had as u64)
                .map_err(|error| generic(error.into()))?;
            Ok(bytes.into())
        })
        .await
    }
}

/// As much of the beginning as is in the kernel's memory.
fn read_from_memory(file: &File, bytes: &mut [u8], offset: u64) -> usize {
    loop {
        match rustix::io::preadv2(file, &mut [IoSliceMut::new(bytes)], offset, ReadWriteFlags::NOWAIT) {
            Ok(read) => return read,
            Err(Errno::INTR) => {}
            // It is not there, or this filesystem cannot say; an error shows at the read that waits.
            Err(_) => return 0,
        }
    }
}

fn open_file(path: &std::path::Path, location: Path) -> Result<(File, ObjectMeta)> {
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            Error::NotFound { path: path.display().to_string(), source: error.into() }
        }
        _ => generic(error.into()),
    };
    let file = File::open(path).map_err(failed)?;
    let data = file.metadata().map_err(failed)?;
    let last_modified = data.modified().map_err(failed)?.into();
    let meta = ObjectMeta { location, last_modified, size: data.len(), e_tag: None, version: None };
    Ok((file, meta))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|error| generic(error.into()))?
}

fn generic(source: Box<dyn std::error::Error + Send + Sync>) -> Error {
    Error::Generic { store: "table", source }
}

/// The range that is asked for, when it is of a table and nothing else is asked.
fn plain(location: &Path, options: &GetOptions) -> Option<Range<u64>> {
    let conditions = options.if_match.is_some()
        || options.if_none_match.is_some()
        || options.if_modified_since.is_some()
        || options.if_unmodified_since.is_some()
        || options.version.is_some();
    match &options.range {
        Some(GetRange::Bounded(range)) if !conditions && !options.head && is_table(location) => {
            Some(range.clone())
        }
        _ => None,
    }
}

fn is_table(path: &Path) -> bool {
    path.extension() == Some("sst")
}

impl std::fmt::Display for Tables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "tables of {}", self.inner)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for Tables {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.let_go(location);
        self.inner.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.let_go(location);
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let Some(range) = plain(location, &options) else {
            return self.inner.get_opts(location, options).await;
        };
        let table = self.table(location).await?;
        let meta = table.meta.clone();
        if range.start >= range.end || range.end > meta.size {
            // It knows best how to say that.
            return self.inner.get_opts(location, options).await;
        }
        let bytes = self.read(table, range.clone()).await?;
        let payload = GetResultPayload::Stream(futures::stream::once(async move { Ok(bytes) }).boxed());
        let (attributes, extensions) = (Attributes::default(), Extensions::default());
        Ok(GetResult { payload, meta, range, attributes, extensions })
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let open = Arc::clone(&self.open);
        let deleted = self.inner.delete_stream(locations);
        deleted
            .inspect(move |deleted| {
                if let Ok(location) = deleted {
                    open.lock().remove(location);
                }
            })
            .boxed()
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
        self.let_go(to);
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.let_go(from);
        self.let_go(to);
        self.inner.rename_opts(from, to, options).await
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use futures::TryStreamExt;
    use object_store::ObjectStoreExt;
    use object_store::local::LocalFileSystem;

    fn tables(dir: &std::path::Path, count: &Arc<OpenTables>) -> Tables {
        let inner = Arc::new(LocalFileSystem::new_with_prefix(dir).unwrap());
        Tables::new(inner, dir.to_path_buf(), Arc::clone(count))
    }

    fn of_process(dir: &std::path::Path) -> usize {
        let open = std::fs::read_dir("/proc/self/fd")
            .unwrap()
            .filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok());
        open.filter(|path| path.starts_with(dir)).count()
    }

    #[tokio::test]
    async fn parts_of_tables_are_what_was_written() {
        let (dir, count) = (tempfile::tempdir().unwrap(), Arc::default());
        let tables = tables(dir.path(), &count);
        let bytes: Vec<u8> = (0..3 << 20).map(|n: u32| (n ^ n >> 8) as u8).collect();
        let place = Path::from("db/compacted/one.sst");
        tables.put(&place, bytes.clone().into()).await.unwrap();
        let len = bytes.len() as u64;
        for range in [0..1, 5..4101, len - 1..len, 0..len, 1000..LONG + 2000] {
            // Once with the kernel's memory and once, as far as it lets go of it, without.
            for _ in 0..2 {
                let part = tables.get_range(&place, range.clone()).await.unwrap();
                assert!(part == bytes[range.start as usize..range.end as usize], "{range:?}");
                let file = File::open(dir.path().join(place.as_ref())).unwrap();
                rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
            }
        }
        assert_eq!(of_process(dir.path()), 1, "it stays open");
        assert!(tables.get_range(&place, len..len + 1).await.is_err());
        assert!(matches!(
            tables.get_range(&Path::from("db/none.sst"), 0..1).await,
            Err(Error::NotFound { .. })
        ));
        tables.delete(&place).await.unwrap();
        assert_eq!(of_process(dir.path()), 0, "its room came back");
        assert!(tables.get_range(&place, 0..1).await.is_err());
        assert_eq!(count.0.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn no_more_tables_are_open_than_may_be() {
        let (dir, count) = (tempfile::tempdir().unwrap(), Arc::default());
        let volumes: Vec<Tables> = (0..2)
            .map(|n| {
                let home = dir.path().join(n.to_string());
                std::fs::create_dir(&home).unwrap();
                tables(&home, &count)
            })
            .collect();
        for volume in &volumes {
            for n in 0..MOST_OPEN {
                let place = Path::from(format!("{n}.sst"));
                volume.put(&place, vec![n as u8].into()).await.unwrap();
                assert_eq!(volume.get_range(&place, 0..1).await.unwrap()[..], [n as u8]);
            }
        }
        assert_eq!(of_process(dir.path()), MOST_OPEN);
        let places =
            futures::stream::iter((0..MOST_OPEN).map(|n| Ok(Path::from(format!("{n}.sst"))))).boxed();
        volumes[0].delete_stream(places).try_collect::<Vec<_>>().await.unwrap();
        assert_eq!(of_process(dir.path()), 0);
        drop(volumes);
        assert_eq!(count.0.load(Ordering::Relaxed), 0);
    }
}
