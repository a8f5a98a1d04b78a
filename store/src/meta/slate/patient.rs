//! The engine's tables and manifests on a disk that fails for a while.
//!
//! The engine gives up after a few attempts to write a manifest, and then answers nothing any more, not even reads. Its
//! rows are in the journal, so nothing presses: a write that fails is tried again here until it works, and meanwhile
//! changes are refused ([`TableDisk::fault`]), so that what waits in memory stays bounded. A full disk is no such
//! fault: deletes have to go on.
//!
//! A write that failed may have taken place. Where the store then says that the file is there already, it is ours if it
//! holds our bytes.
//!
//! Reads of manifests are the engine's own and are tried again too; reads of tables are somebody's who waits, and fail.

use crate::failpoints::{Point, pass};
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, Extensions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions,
    Result,
};
use slatedb_common::retry::should_retry;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::watch;

/// Between two attempts; short at first.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// The longest pause between two attempts.
const LAST_PAUSE: Duration = Duration::from_millis(500);

/// How the disk with the tables is.
#[derive(Debug, Default)]
pub(super) struct TableDisk {
    failing: watch::Sender<Failing>,
    /// One that failed has ended.
    works: tokio::sync::Notify,
    /// The volume is open. Before and after, an error is told instead.
    waits: AtomicBool,
}

/// Operations that fail now. Others may work meanwhile: the disk is well again when none is left.
#[derive(Debug, Default)]
struct Failing {
    operations: usize,
    /// What one of them was told last.
    error: Option<Arc<Error>>,
}

/// A table or manifest cannot be written at the moment.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the engine's tables cannot be written")]
pub(super) struct TableFault(#[source] Arc<Error>);

impl TableDisk {
    /// What is wrong now, if anything.
    pub fn fault(&self) -> Option<TableFault> {
        self.failing.borrow().error.clone().map(TableFault)
    }

    /// Waits until something is.
    pub async fn faulty(&self) -> TableFault {
        let mut failing = self.failing.subscribe();
        loop {
            if let Some(fault) = self.fault() {
                return fault;
            }
            if failing.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// The volume is open: from now on the disk is waited for.
    pub fn be_patient(&self) {
        self.waits.store(true, Ordering::Release);
    }

    /// The volume closes: nothing is tried again any more. The journal has everything.
    pub fn give_up(&self) {
        self.waits.store(false, Ordering::Release);
    }

    /// An operation begins.
    fn attempts(&self) -> Attempts<'_> {
        Attempts { disk: self, pause: FIRST_PAUSE, failed: false, told: false }
    }
}

/// The attempts of one operation. Whatever ends it, it fails no longer.
struct Attempts<'a> {
    disk: &'a TableDisk,
    pause: Duration,
    failed: bool,
    /// It counts among those that fail.
    told: bool,
}

impl Attempts<'_> {
    /// Whether to try again, after a pause.
    async fn again(&mut self, error: Error) -> Result<()> {
        self.failed = true;
        if !should_retry(&error) || !self.disk.waits.load(Ordering::Acquire) {
            return Err(error);
        }
        if !is_full(&error) {
            self.tell(Arc::new(error));
        }
        tokio::select! {
            () = tokio::time::sleep(self.pause) => self.pause = (self.pause * 2).min(LAST_PAUSE),
            () = self.disk.works.notified() => {}
        }
        Ok(())
    }

    fn tell(&mut self, error: Arc<Error>) {
        let new = !std::mem::replace(&mut self.told, true);
        let mut first = false;
        self.disk.failing.send_modify(|failing| {
            first = failing.operations == 0;
            failing.operations += usize::from(new);
            failing.error = Some(Arc::clone(&error));
        });
        if first {
            tracing::error!(
                error = &*error as &dyn std::error::Error,
                "the engine's tables cannot be written; changes are refused until they can"
            );
        }
    }
}

impl Drop for Attempts<'_> {
    fn drop(&mut self) {
        if !self.told {
            return;
        }
        let mut last = false;
        self.disk.failing.send_modify(|failing| {
            failing.operations -= 1;
            last = failing.operations == 0;
            if last {
                failing.error = None;
            }
        });
        // Perhaps for all of them.
        self.disk.works.notify_waiters();
        if last {
            tracing::info!("the engine's tables can be written again");
        }
    }
}

/// Whether the disk has no room, however deep that stands in the error.
fn is_full(error: &Error) -> bool {
    std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source())
        .filter_map(|error| error.downcast_ref::<std::io::Error>())
        .any(|error| {
            matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
        })
}

/// A store that waits for its disk. See the module documentation.
#[derive(Debug)]
pub(super) struct Patient {
    inner: Arc<dyn ObjectStore>,
    disk: Arc<TableDisk>,
}

impl Patient {
    pub fn new(inner: Arc<dyn ObjectStore>, disk: Arc<TableDisk>) -> Self {
        Self { inner, disk }
    }

    async fn put_once(&self, to: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let (before, after) = match is_table(to) {
            true => (Point::TableBeforePut, Point::TableAfterPut),
            false => (Point::ManifestBeforePut, Point::ManifestAfterPut),
        };
        at(before)?;
        let put = self.inner.put_opts(to, payload, opts).await?;
        at(after)?;
        Ok(put)
    }

    /// The file that is there already, if it is the one that was to be written.
    async fn ours(&self, to: &Path, payload: &PutPayload) -> Option<PutResult> {
        let found = self.inner.get(to).await.ok()?;
        let (e_tag, version) = (found.meta.e_tag.clone(), found.meta.version.clone());
        let found = found.bytes().await.ok()?;
        let same = found.len() == payload.content_length()
            && payload.iter().flat_map(|part| part.iter()).eq(found.iter());
        same.then_some(PutResult { e_tag, version, extensions: Extensions::default() })
    }
}

fn at(point: Point) -> Result<()> {
    pass(point).map_err(|source| Error::Generic { store: "failpoint", source: Box::new(source) })
}

fn is_table(path: &Path) -> bool {
    path.extension() == Some("sst")
}

impl std::fmt::Display for Patient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "patient {}", self.inner)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for Patient {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let mut attempts = self.disk.attempts();
        loop {
            match self.put_once(location, payload.clone(), opts.clone()).await {
                Ok(put) => return Ok(put),
                Err(error @ (Error::AlreadyExists { .. } | Error::Precondition { .. })) => {
                    let ours = if attempts.failed { self.ours(location, &payload).await } else { None };
                    return ours.ok_or(error);
                }
                Err(error) => attempts.again(error).await?,
            }
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        // Only large tables come in parts; the engine begins those anew itself.
        at(Point::TableBeforePut)?;
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let mut attempts = self.disk.attempts();
        loop {
            match self.inner.get_opts(location, options.clone()).await {
                Err(error) if !is_table(location) => attempts.again(error).await?,
                got => return got,
            }
        }
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
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
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.inner.rename_opts(from, to, options).await
    }
}
