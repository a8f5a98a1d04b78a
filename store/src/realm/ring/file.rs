//! The key ring on disk.
//!
//! ```text
//! mooring-keyring 1 <crc32c of the body, 8 hexadecimal digits> <bytes of the body>\n
//! <body: JSON>\n
//! ```
//!
//! Two files of equal content, `keyring` and `keyring.copy`: the one place whose loss would lose everything is worth
//! two. Each is replaced whole (new file, fsync, rename, fsync of the directory), the first one first: a change is made
//! when the first rename is durable, and a stop before the second leaves an older copy that the next open replaces.
//!
//! What is replaced is overwritten before its room is given back, so that the wrapped keys of a removed tenant are in
//! no file and, on a medium that writes in place, not behind one either.

use crate::backend::{self, BackendError, OPEN_LIMIT, sync_dir};
use crate::failpoints::{self, Point, pass};
use crate::realm::RealmError;
use crate::seal::{KeyGeneration, WrappedKey};
use mooring_policy::ids::TenantId;
use mooring_policy::time::Timestamp;
use object_store::{Error, ObjectStoreExt, PutMode, UpdateVersion};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const MAGIC: &str = "mooring-keyring";
const VERSION: u32 = 1;

/// Longest ring that is read: some hundred thousand tenants.
const MAX_BYTES: u64 = 256 << 20;

/// All wrapped keys of an installation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::realm) struct Body {
    /// Raised with every change: of two copies the higher one counts.
    pub serial: u64,
    /// The realm's own keys.
    pub realm: Keys,
    /// Each tenant's.
    pub tenants: BTreeMap<TenantId, Keys>,
}

/// The wrapped keys of one owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::realm) struct Keys {
    pub hash: WrappedKey,
    /// In order of generations; the last one seals.
    pub generations: Vec<Wrapped>,
}

/// One data key, wrapped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::realm) struct Wrapped {
    pub generation: KeyGeneration,
    pub made: Timestamp,
    pub key: WrappedKey,
}

/// Where a ring lies: a directory, or one object in a store, which keeps copies itself.
#[derive(Clone, Debug)]
pub(in crate::realm) enum Place {
    Dir(PathBuf),
    Store(Arc<InStore>),
}

/// A ring in a store, and what it was when this process last read or wrote it: who has been replaced by another gateway
/// must not write an old ring over its new one.
#[derive(Debug)]
pub(in crate::realm) struct InStore {
    place: backend::Place,
    version: parking_lot::Mutex<Option<UpdateVersion>>,
}

enum Found {
    Missing,
    Damaged(String),
    Good(Body),
}

impl Place {
    /// The ring of the realm in `dir`.
    pub fn new(dir: &Path) -> Self {
        Self::Dir(dir.to_path_buf())
    }

    /// The ring of the realm in a store.
    pub fn on(place: backend::Place) -> Self {
        Self::Store(Arc::new(InStore { place, version: parking_lot::Mutex::new(None) }))
    }

    /// What it is called in errors.
    pub fn name(&self) -> String {
        match self {
            Self::Dir(dir) => dir.join("keyring").display().to_string(),
            Self::Store(there) => format!("{}/keyring", there.place.name()),
        }
    }

    /// The ring, or nothing when there never was one.
    pub async fn load(&self) -> Result<Option<Body>, RealmError> {
        match self {
            Self::Dir(dir) => {
                let dir = dir.clone();
                blocking(move || load(&dir)).await
            }
            Self::Store(there) => there.load(self.name()).await,
        }
    }

    /// Makes `body` the ring, durably.
    pub async fn store(&self, body: &Body) -> Result<(), RealmError> {
        let text = encode(body)?;
        match self {
            Self::Dir(dir) => {
                let dir = dir.clone();
                blocking(move || store(&dir, &text)).await
            }
            Self::Store(there) => there.store(text.into(), self.name()).await,
        }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RealmError> + Send + 'static,
) -> Result<T, RealmError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| RealmError::Keys(Box::new(error)))?
}

impl InStore {
    async fn load(&self, name: String) -> Result<Option<Body>, RealmError> {
        let path = self.place.path("keyring");
        let get = || async {
            let found = self.place.store().get(&path).await?;
            let version =
                UpdateVersion { e_tag: found.meta.e_tag.clone(), version: found.meta.version.clone() };
            Ok((version, found.bytes().await?))
        };
        let (version, text) = match self.place.within(OPEN_LIMIT, get).await {
            Ok(found) => found,
            Err(Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(self.place.backing.error("read the key ring from", error).into()),
        };
        *self.version.lock() = Some(version);
        match decode(&text)? {
            Ok(body) => Ok(Some(body)),
            Err(detail) => Err(RealmError::Ring { place: name, detail }),
        }
    }

    async fn store(&self, text: bytes::Bytes, name: String) -> Result<(), RealmError> {
        let path = self.place.path("keyring");
        let known = self.version.lock().clone();
        let put = || async {
            let mode = match &known {
                None => PutMode::Create,
                Some(version) if self.place.backing.replaces => PutMode::Update(version.clone()),
                Some(_) => PutMode::Overwrite,
            };
            self.place.store().put_opts(&path, text.clone().into(), mode.into()).await
        };
        match self.place.within(OPEN_LIMIT, put).await {
            Ok(done) => {
                *self.version.lock() = Some(UpdateVersion { e_tag: done.e_tag, version: done.version });
                Ok(())
            }
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => {
                // A write whose answer was lost is asked again, and finds itself.
                let now = self.place.within(OPEN_LIMIT, || async {
                    let found = self.place.store().get(&path).await?;
                    let version = UpdateVersion {
                        e_tag: found.meta.e_tag.clone(),
                        version: found.meta.version.clone(),
                    };
                    Ok((version, found.bytes().await?))
                });
                match now.await {
                    Ok((version, now)) if now == text => {
                        *self.version.lock() = Some(version);
                        Ok(())
                    }
                    _ => Err(RealmError::RingChanged { place: name }),
                }
            }
            Err(error) => Err(self.place.backing.error("write the key ring to", error).into()),
        }
    }
}

fn files(dir: &Path) -> [PathBuf; 2] {
    ["keyring", "keyring.copy"].map(|name| dir.join(name))
}

/// Of two copies the newer good one counts, and the other is written anew. Blocking.
fn load(dir: &Path) -> Result<Option<Body>, RealmError> {
    let files = files(dir);
    let mut found = Vec::new();
    for path in &files {
        remove_leftover(&path.with_extension(NEW))?;
        found.push(read(path)?);
    }
    let good = found.iter().filter_map(|found| match found {
        Found::Good(body) => Some(body),
        _ => None,
    });
    let Some(best) = good.max_by_key(|body| body.serial).cloned() else {
        let damage = found.into_iter().zip(&files).find_map(|(found, path)| match found {
            Found::Damaged(detail) => Some(RealmError::Ring { place: path.display().to_string(), detail }),
            _ => None,
        });
        return damage.map_or(Ok(None), Err);
    };
    let text = encode(&best)?;
    for (found, path) in found.iter().zip(&files) {
        match found {
            Found::Good(body) if *body == best => continue,
            Found::Damaged(detail) => {
                tracing::warn!(path = %path.display(), detail, "a copy of the key ring is damaged; written anew");
            }
            _ => {}
        }
        replace(path, &text)?;
    }
    Ok(Some(best))
}

/// Blocking.
fn store(dir: &Path, text: &[u8]) -> Result<(), RealmError> {
    let [first, copy] = files(dir);
    replace(&first, text)?;
    pass(Point::KeyRingBeforeCopy).map_err(|error| BackendError::io("write", &copy, error))?;
    Ok(replace(&copy, text)?)
}

/// Ending of a file that takes another's place when it is whole.
const NEW: &str = "new";

fn encode(body: &Body) -> Result<Vec<u8>, RealmError> {
    let json = serde_json::to_vec(body)
        .map_err(|source| RealmError::Row { row: "key ring".to_owned(), source: source.into() })?;
    let mut text = format!("{MAGIC} {VERSION} {:08x} {}\n", crc32c::crc32c(&json), json.len()).into_bytes();
    text.extend_from_slice(&json);
    text.push(b'\n');
    Ok(text)
}

fn read(path: &Path) -> Result<Found, RealmError> {
    let mut text = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_BYTES).read_to_end(&mut text));
    match read {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Found::Missing),
        Err(error) => return Err(BackendError::io("read", path, error).into()),
    }
    decode(&text).map(|body| body.map_or_else(Found::Damaged, Found::Good))
}

/// The inner error says what is damaged.
fn decode(text: &[u8]) -> Result<Result<Body, String>, RealmError> {
    let damaged = |detail: &str| Ok(Err(detail.to_owned()));
    let Some(end) = text.iter().take(80).position(|byte| *byte == b'\n') else {
        return damaged("its first line does not end");
    };
    let (head, rest) = (String::from_utf8_lossy(&text[..end]), &text[end + 1..]);
    let words: Vec<_> = head.split(' ').collect();
    let [MAGIC, version, crc, len] = words[..] else {
        return damaged("its first line is not that of a key ring");
    };
    match version.parse::<u32>() {
        Ok(VERSION) => {}
        Ok(found) => {
            let found = u8::try_from(found).unwrap_or(u8::MAX);
            return Err(RealmError::Version { row: "key ring".to_owned(), found, supported: VERSION as u8 });
        }
        Err(_) => return damaged("its version is no number"),
    }
    let (Ok(crc), Ok(len)) = (u32::from_str_radix(crc, 16), len.parse::<usize>()) else {
        return damaged("its first line does not read");
    };
    match rest.get(..len) {
        Some(json) if rest[len..] == *b"\n" && crc32c::crc32c(json) == crc => {
            Ok(serde_json::from_slice(json).map_err(|error| error.to_string()))
        }
        _ => damaged("its checksum does not fit its content"),
    }
}

fn replace(path: &Path, text: &[u8]) -> Result<(), BackendError> {
    let temporary = path.with_extension(NEW);
    let io = |error| BackendError::io("write", path, error);
    let before = match OpenOptions::new().write(true).open(path) {
        Ok(file) => Some(file),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(io(error)),
    };
    let written = (|| {
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(text)?;
        failpoints::sync(&temporary, || file.sync_all())?;
        pass(Point::KeyRingBeforeRename)?;
        std::fs::rename(&temporary, path)
    })();
    written.map_err(io)?;
    let dir = path.parent().unwrap_or(Path::new("."));
    failpoints::sync(dir, || File::open(dir)?.sync_all())
        .map_err(|error| BackendError::io("sync", dir, error))?;
    if let Some(before) = before
        && let Err(error) = overwrite(&before)
    {
        tracing::warn!(path = %path.display(), %error, "cannot overwrite the key ring that was replaced");
    }
    Ok(())
}

/// Fills a file that has no name any more, or is about to lose it, with zeros.
fn overwrite(file: &File) -> std::io::Result<()> {
    let zeros = vec![0; 64 << 10];
    let (mut at, len) = (0, file.metadata()?.len());
    while at < len {
        let part = zeros.len().min((len - at) as usize);
        file.write_all_at(&zeros[..part], at)?;
        at += part as u64;
    }
    file.sync_data()
}

/// Removes what a stop left half written.
pub(in crate::realm) fn remove_leftover(path: &Path) -> Result<(), BackendError> {
    let removed = (|| {
        overwrite(&OpenOptions::new().write(true).open(path)?)?;
        std::fs::remove_file(path)
    })();
    match removed {
        Ok(()) => path.parent().map_or(Ok(()), sync_dir),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(BackendError::io("remove", path, error)),
    }
}
