//! An object store in a directory that can be made to fail, and counts.

use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use mooring_store::backend::{Backing, StoreConfig};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// See the module documentation.
#[derive(Debug)]
pub struct Faulty {
    inner: Arc<dyn ObjectStore>,
    /// Nothing is answered but errors.
    pub out: AtomicBool,
    /// Puts are done, and their answers are lost.
    pub lose_answers: AtomicBool,
    /// Bytes read are not those written, this many times.
    pub wrong: AtomicU64,
    /// Conditions of puts are ignored.
    pub careless: AtomicBool,
    /// Listings are empty.
    pub lists_nothing: AtomicBool,
    /// Objects put.
    pub puts: AtomicU64,
    /// After so many requests there is no answer any more, ever, as for a process that has stopped.
    pub last_request: AtomicU64,
    /// That has come about.
    pub silent: AtomicBool,
}

impl Faulty {
    /// A store in `dir`, and what the volumes see of it.
    pub fn open(dir: &std::path::Path) -> (Arc<Faulty>, Backing) {
        let url = format!("file://{}", dir.join("store").display());
        let backing = Backing::open(&StoreConfig { url: url.clone(), ..StoreConfig::default() }).unwrap();
        let faulty = Arc::new(Faulty {
            inner: backing.store().clone(),
            out: false.into(),
            lose_answers: false.into(),
            wrong: 0.into(),
            careless: false.into(),
            lists_nothing: false.into(),
            puts: 0.into(),
            last_request: u64::MAX.into(),
            silent: false.into(),
        });
        let seen = Backing::over(faulty.clone(), backing.root().clone(), &url, false);
        (faulty, seen)
    }

    fn check(&self) -> Result<()> {
        if self.out.load(Ordering::Acquire) { Err(broken("the store is out")) } else { Ok(()) }
    }

    async fn turn(&self) {
        let left = self.last_request.load(Ordering::Acquire);
        if left == 0 {
            self.silent.store(true, Ordering::Release);
            std::future::pending::<()>().await;
        }
        if left != u64::MAX {
            self.last_request.store(left - 1, Ordering::Release);
        }
    }

    /// Bytes of all objects with `part` in their names.
    pub async fn bytes(&self, part: &str) -> u64 {
        let all: Vec<ObjectMeta> = self.inner.list(None).try_collect().await.unwrap();
        all.iter().filter(|object| object.location.as_ref().contains(part)).map(|object| object.size).sum()
    }

    pub async fn names(&self, part: &str) -> Vec<String> {
        let all: Vec<ObjectMeta> = self.inner.list(None).try_collect().await.unwrap();
        all.into_iter().map(|object| object.location.to_string()).filter(|name| name.contains(part)).collect()
    }
}

fn broken(what: &'static str) -> Error {
    Error::Generic { store: "faulty", source: what.into() }
}

impl std::fmt::Display for Faulty {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("faulty")
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        mut opts: PutOptions,
    ) -> Result<PutResult> {
        self.check()?;
        self.turn().await;
        if self.careless.load(Ordering::Acquire) {
            opts.mode = PutMode::Overwrite;
        }
        self.puts.fetch_add(1, Ordering::AcqRel);
        let put = self.inner.put_opts(location, payload, opts).await?;
        if self.lose_answers.swap(false, Ordering::AcqRel) {
            Err(broken("the answer is lost"))
        } else {
            Ok(put)
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.check()?;
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.check()?;
        self.turn().await;
        let found = self.inner.get_opts(location, options).await?;
        let wrong = self.wrong.load(Ordering::Acquire);
        if wrong == 0 || !location.as_ref().contains("/packs/") {
            return Ok(found);
        }
        self.wrong.store(wrong - 1, Ordering::Release);
        let (meta, range, attributes, extensions) =
            (found.meta.clone(), found.range.clone(), found.attributes.clone(), found.extensions.clone());
        let mut bytes = found.bytes().await?.to_vec();
        bytes.iter_mut().for_each(|byte| *byte ^= 0x55);
        let stream = futures::stream::once(async move { Ok(bytes.into()) }).boxed();
        let payload = object_store::GetResultPayload::Stream(stream);
        Ok(GetResult { payload, meta, range, attributes, extensions })
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        match self.check() {
            Ok(()) => self.inner.delete_stream(locations),
            Err(error) => futures::stream::once(async move { Err(error) }).boxed(),
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.check() {
            Ok(()) if self.lists_nothing.load(Ordering::Acquire) => futures::stream::empty().boxed(),
            Ok(()) => self.inner.list(prefix),
            Err(error) => futures::stream::once(async move { Err(error) }).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.check()?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.check()?;
        self.turn().await;
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.check()?;
        self.inner.rename_opts(from, to, options).await
    }
}
