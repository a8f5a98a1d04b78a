//! Is this object store fit to hold volumes?
//!
//! Two hosts that open one volume are kept apart by the store alone: of two requests to create the same object one must
//! be refused. Some servers ignore that condition and answer 200 to both, some do so only in buckets that keep versions,
//! some only for conditions of one kind. No list of products is right for long, so the store is asked, in the bucket and
//! below the prefix that are used, with the requests that are used:
//!
//! - an object that exists is not created again, and of eight that create one at a time exactly one succeeds;
//! - what was written is read back, whole and in part, is listed at once, and neither is there once it is deleted;
//! - whether an object can be replaced on condition (`If-Match`). A store that cannot is used without: only the engine's
//!   collector would do so.
//!
//! What was found is kept in the object `probe`, so a start costs two requests: read it, and try to create it again,
//! which must be refused. That also finds a bucket that has begun to keep versions, or was copied to another server.
//! Failures of the way to the store are no answer: the examination begins anew, under new names, until the limit of an
//! open is over.

use super::BackendError;
use super::object::{Backing, OPEN_LIMIT, is_answer};
use bytes::Bytes;
use futures::future::join_all;
use futures::{StreamExt, TryStreamExt};
use mooring_policy::rng::Random;
use object_store::path::Path;
use object_store::{
    Error, GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutResult, UpdateVersion,
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// How many create one object at a time.
const RACERS: usize = 8;
/// Between two examinations while the store does not answer.
const PAUSE: Duration = Duration::from_millis(500);
/// Of [`Found`]; another one is examined anew.
const VERSION: u32 = 1;

/// The object `probe`: what an examination found.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Found {
    version: u32,
    /// Another one means that the object was copied from elsewhere.
    url: String,
    replaces: bool,
}

/// Why there is no result.
enum Fault {
    /// No answer, or one that a repetition on the way may have caused: ask again.
    Unclear(Error),
    /// The store lets us not in, or has no such bucket.
    Refused(&'static str, Error),
    /// It answered, and wrongly.
    Unfit { fault: &'static str, answer: String, remedy: &'static str },
}

const CONDITION: &str =
    "use a store with conditional writes (If-None-Match), and a bucket that keeps no versions";
const CONSISTENT: &str =
    "use a store whose reads and listings show every finished write, with no cache in front of it";

impl Backing {
    /// Asks the store whether it does what volumes rely on. `random` makes names that nobody else uses.
    ///
    /// # Errors
    /// [`BackendError::Unfit`] says what it does wrong, with its answer; [`BackendError::Store`] when it does not answer.
    pub async fn probed(mut self, random: &dyn Random) -> Result<Self, BackendError> {
        let mut last = None;
        let asked = tokio::time::timeout(OPEN_LIMIT, async {
            loop {
                match self.found(random).await {
                    Err(Fault::Unclear(error)) => {
                        tracing::warn!(store = %self.url(), %error, "the store gives no clear answer; asking again");
                        last = Some(error);
                    }
                    other => return other,
                }
                tokio::time::sleep(PAUSE).await;
            }
        })
        .await;
        match asked {
            Ok(Ok(found)) => {
                self.replaces = found.replaces;
                Ok(self)
            }
            Ok(Err(Fault::Refused(op, error))) => Err(self.error(op, error)),
            Ok(Err(Fault::Unfit { fault, answer, remedy })) => {
                Err(BackendError::Unfit { url: self.url().to_owned(), fault, answer, remedy })
            }
            Ok(Err(Fault::Unclear(error))) => Err(self.error("examine", error)),
            Err(elapsed) => {
                let none = || Error::Generic { store: "s3", source: Box::new(elapsed) };
                Err(self.error("examine", last.unwrap_or_else(none)))
            }
        }
    }

    /// What an earlier examination found, if that still holds; otherwise a new one.
    async fn found(&self, random: &dyn Random) -> Result<Found, Fault> {
        let marker = self.root().clone().join("probe");
        if let Some(found) = self.remembered(&marker).await? {
            return Ok(found);
        }
        let mut name = [0; 8];
        random.fill(&mut name);
        let at = self.root().clone().join(format!("probe-{}", hex::encode(name)));
        let probe = Probe { store: self.store().clone(), at };
        let result = probe.run().await;
        // Also after a failure, whose reason says more than that of the cleaning.
        let cleaned = probe.clean().await;
        let replaces = result?;
        cleaned.map_err(|error| sorted("delete from", error))?;
        let found = Found { version: VERSION, url: self.url().to_owned(), replaces };
        tracing::info!(store = %found.url, replaces, "the store does what volumes rely on");
        // One that cannot be made is made at the next start.
        if let Ok(text) = serde_json::to_vec(&found) {
            let kept = self.store().put(&marker, text.into()).await;
            kept.map_err(|error| sorted("write to", error))?;
        }
        Ok(found)
    }

    async fn remembered(&self, marker: &Path) -> Result<Option<Found>, Fault> {
        let read = async { self.store().get(marker).await?.bytes().await };
        let text = match read.await {
            Ok(text) => text,
            Err(Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(sorted("read from", error)),
        };
        let Ok(found) = serde_json::from_slice::<Found>(&text) else { return Ok(None) };
        if found.version != VERSION || found.url != self.url() {
            return Ok(None);
        }
        must_exist(create(self.store(), marker, text).await)?;
        Ok(Some(found))
    }
}

async fn create(store: &Arc<dyn ObjectStore>, name: &Path, bytes: Bytes) -> Result<PutResult, Error> {
    store.put_opts(name, bytes.into(), PutMode::Create.into()).await
}

/// The answer to creating what is there already.
fn must_exist(answer: Result<PutResult, Error>) -> Result<(), Fault> {
    let fault = "created an object that exists already: it ignores If-None-Match";
    match answer {
        Err(error) if is_conflict(&error) => Ok(()),
        Err(error) => Err(sorted("create objects in", error)),
        Ok(put) => Err(Fault::Unfit { fault, answer: success(&put), remedy: CONDITION }),
    }
}

fn is_conflict(error: &Error) -> bool {
    matches!(error, Error::AlreadyExists { .. } | Error::Precondition { .. })
}

fn success(put: &PutResult) -> String {
    format!("success, with ETag {}", put.e_tag.as_deref().unwrap_or("none"))
}

/// What an error means where success was expected.
fn sorted(op: &'static str, error: Error) -> Fault {
    match error {
        Error::NotSupported { .. } | Error::NotImplemented { .. } => {
            let fault = "does not know a request that is needed";
            Fault::Unfit { fault, answer: error.to_string(), remedy: CONDITION }
        }
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } | Error::NotFound { .. } => {
            Fault::Refused(op, error)
        }
        error => Fault::Unclear(error),
    }
}

/// One examination, below names of its own.
struct Probe {
    store: Arc<dyn ObjectStore>,
    at: Path,
}

impl Probe {
    async fn run(&self) -> Result<bool, Fault> {
        let name = self.at.clone().join("one");
        self.creates(&name).await?;
        self.overwrites(&name).await?;
        self.races().await?;
        let replaces = self.replaces().await?;
        self.lists_and_deletes(&name).await?;
        Ok(replaces)
    }

    /// An object that exists is not created again.
    async fn creates(&self, name: &Path) -> Result<(), Fault> {
        // Refused at the first time means that a repetition on the way created it: unclear.
        let first = create(&self.store, name, Bytes::from_static(b"first")).await;
        first.map_err(|error| sorted("create objects in", error))?;
        must_exist(create(&self.store, name, Bytes::from_static(b"second")).await)?;
        self.reads(name, b"first", "refused to create an object again, and changed it").await
    }

    /// A read shows the last write, whole and in part.
    async fn overwrites(&self, name: &Path) -> Result<(), Fault> {
        let put = self.store.put(name, Bytes::from_static(b"overwritten").into()).await;
        put.map_err(|error| sorted("write to", error))?;
        self.reads(name, b"overwritten", "does not give the bytes that were written last").await?;
        let options = GetOptions { range: Some(GetRange::Bounded(4..7)), ..GetOptions::default() };
        let part = async { self.store.get_opts(name, options).await?.bytes().await };
        let part = part.await.map_err(|error| sorted("read a range from", error))?;
        same(&part, b"wri", "does not give the range of bytes that was asked for")
    }

    async fn reads(&self, name: &Path, expected: &[u8], fault: &'static str) -> Result<(), Fault> {
        let read = async { self.store.get(name).await?.bytes().await };
        let bytes = read.await.map_err(|error| sorted("read from", error))?;
        same(&bytes, expected, fault)
    }

    /// Of many that create one object at a time one succeeds, and its bytes are there.
    async fn races(&self) -> Result<(), Fault> {
        let name = self.at.clone().join("race");
        let bodies: Vec<Bytes> = (0..RACERS).map(|racer| format!("racer {racer}").into()).collect();
        let answers = join_all(bodies.iter().map(|body| create(&self.store, &name, body.clone()))).await;
        let mut winner = None;
        let mut unclear = None;
        for (answer, body) in answers.into_iter().zip(&bodies) {
            match answer {
                Ok(put) if winner.is_some() => {
                    let fault = "let several create the same object at one time";
                    return Err(Fault::Unfit { fault, answer: success(&put), remedy: CONDITION });
                }
                Ok(_) => winner = Some(body),
                Err(error) if is_conflict(&error) && unclear.is_some() => {}
                Err(error) if is_conflict(&error) => unclear = Some(error),
                Err(error) => return Err(sorted("create objects in", error)),
            }
        }
        match (winner, unclear) {
            (Some(body), _) => {
                self.reads(&name, body, "told one writer that it was first, and kept another's").await
            }
            // The winner's answer was lost, and its repetition was refused.
            (None, Some(error)) => Err(Fault::Unclear(error)),
            (None, None) => Ok(()),
        }
    }

    /// Whether an object can be replaced on condition that it is still the same. No store is refused for that.
    async fn replaces(&self) -> Result<bool, Fault> {
        let name = self.at.clone().join("replace");
        let old = self.store.put(&name, Bytes::from_static(b"old").into()).await;
        let old = version(old.map_err(|error| sorted("write to", error))?);
        match self.replace(&name, &old).await {
            Err(error) if is_answer(&error) => return Ok(false),
            Err(error) => return Err(sorted("replace objects in", error)),
            Ok(_) => {}
        }
        match self.replace(&name, &old).await {
            Err(error) if is_conflict(&error) => Ok(true),
            Err(error) if !is_answer(&error) => Err(sorted("replace objects in", error)),
            _ => Ok(false),
        }
    }

    async fn replace(&self, name: &Path, old: &UpdateVersion) -> Result<PutResult, Error> {
        let mode = PutMode::Update(old.clone());
        self.store.put_opts(name, Bytes::from_static(b"new").into(), mode.into()).await
    }

    /// Listings show what is there at that moment.
    async fn lists_and_deletes(&self, name: &Path) -> Result<(), Fault> {
        let listed = |names: Vec<Path>, fault, right: fn(bool) -> bool| {
            let answer = format!("{} names", names.len());
            let unfit = || Fault::Unfit { fault, answer, remedy: CONSISTENT };
            if right(names.contains(name)) { Ok(()) } else { Err(unfit()) }
        };
        let names = self.names().await.map_err(|error| sorted("list", error))?;
        listed(names, "does not list an object that was written", |there| there)?;
        self.store.delete(name).await.map_err(|error| sorted("delete from", error))?;
        let names = self.names().await.map_err(|error| sorted("list", error))?;
        listed(names, "lists an object that was deleted", |there| !there)?;
        match self.store.head(name).await {
            Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(sorted("read from", error)),
            Ok(meta) => {
                let (fault, answer) =
                    ("still has an object that was deleted", format!("{} bytes", meta.size));
                Err(Fault::Unfit { fault, answer, remedy: CONSISTENT })
            }
        }
    }

    async fn names(&self) -> Result<Vec<Path>, Error> {
        self.store.list(Some(&self.at)).map_ok(|object: ObjectMeta| object.location).try_collect().await
    }

    /// Removes what this examination made, by name: the listing may be what is wrong.
    async fn clean(&self) -> Result<(), Error> {
        let names: Vec<_> = ["one", "race", "replace"].map(|name| Ok(self.at.clone().join(name))).into();
        let mut gone = self.store.delete_stream(futures::stream::iter(names).boxed());
        while let Some(one) = gone.next().await {
            match one {
                Ok(_) | Err(Error::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn version(put: PutResult) -> UpdateVersion {
    UpdateVersion { e_tag: put.e_tag, version: put.version }
}

fn same(found: &[u8], expected: &[u8], fault: &'static str) -> Result<(), Fault> {
    if found == expected {
        return Ok(());
    }
    let shown = found.get(..found.len().min(32)).unwrap_or_default();
    let answer = format!("{} bytes, {:?}", found.len(), String::from_utf8_lossy(shown));
    Err(Fault::Unfit { fault, answer, remedy: CONSISTENT })
}
