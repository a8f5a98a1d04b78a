//! Checkpoints of volumes in an object store lie there: what they are for is the loss of everything else.
//!
//! A checkpoint is written into a file here, as for a local volume, and sent from there. The file stays, empty and with
//! another ending: it says when this host took the last.

use super::{CheckpointError, KEPT, io, list, with_ending, write};
use crate::backend::{Place, VolumeDir};
use crate::checkpoint::Head;
use crate::meta::View;
use crate::seal::VolumeKeys;
use bytes::Bytes;
use futures::TryStreamExt;
use mooring_policy::rng::Random;
use object_store::path::Path as Key;
use object_store::{Error, ObjectStoreExt, WriteMultipart};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How the file is called once the store has it.
pub(super) const SENT: &str = "sent";
/// Where they are below the volume's part of the store.
const FOLDER: &str = "checkpoints";
/// Bytes of one request.
const PIECE: usize = 8 << 20;
/// Requests at a time.
const PIECES: usize = 2;
/// How long sending or fetching one may take.
const LIMIT: Duration = Duration::from_secs(1800);
/// How long small requests are repeated.
const ASK_LIMIT: Duration = Duration::from_secs(60);

fn failed(place: &Place, op: &'static str) -> impl Fn(Error) -> CheckpointError {
    let backing = place.backing.clone();
    move |error| backing.error(op, error).into()
}

/// Writes a checkpoint of `view` into the store and removes old ones there. Returns how many rows it has.
pub(crate) async fn write_to(
    place: &Place,
    dir: &VolumeDir,
    keys: &VolumeKeys,
    random: &dyn Random,
    (view, head): (&dyn View, &Head),
) -> Result<u64, CheckpointError> {
    let rows = write(dir, keys, random, view, head).await?;
    for path in list(dir)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let key = place.path(FOLDER).join(name);
        place
            .within(LIMIT, || send(place, &key, &path))
            .await
            .map_err(failed(place, "send a checkpoint to"))?;
        let sent = path.with_extension(SENT);
        File::create(&sent).map_err(io("create", &sent))?;
        std::fs::remove_file(&path).map_err(io("remove", &path))?;
        for older in with_ending(dir, &[SENT])?.into_iter().skip(1) {
            std::fs::remove_file(&older).map_err(io("remove", &older))?;
        }
    }
    for old in list_in(place).await?.into_iter().skip(KEPT) {
        match place.within(ASK_LIMIT, || place.store().delete(&old)).await {
            Ok(()) | Err(Error::NotFound { .. }) => {}
            Err(error) => return Err(failed(place, "remove an old checkpoint from")(error)),
        }
    }
    Ok(rows)
}

/// Sends a file, in pieces when it is long: there is never more than some pieces of it in memory.
async fn send(place: &Place, key: &Key, path: &Path) -> Result<(), Error> {
    let generic = |error: std::io::Error| Error::Generic { store: "checkpoint", source: Box::new(error) };
    let mut file = File::open(path).map_err(generic)?;
    let first = piece(&mut file).map_err(generic)?;
    if first.len() < PIECE {
        return place.store().put(key, first.into()).await.map(drop);
    }
    let mut upload = WriteMultipart::new_with_chunk_size(place.store().put_multipart(key).await?, PIECE);
    let mut next = first;
    while !next.is_empty() {
        upload.wait_for_capacity(PIECES).await?;
        upload.put(next);
        next = piece(&mut file).map_err(generic)?;
    }
    upload.finish().await.map(drop)
}

fn piece(file: &mut File) -> std::io::Result<Bytes> {
    let mut bytes = Vec::with_capacity(PIECE);
    file.take(PIECE as u64).read_to_end(&mut bytes)?;
    Ok(bytes.into())
}

/// Checkpoints there are in the store, newest first.
async fn list_in(place: &Place) -> Result<Vec<Key>, CheckpointError> {
    let prefix = place.path(FOLDER);
    let list = || place.store().list(Some(&prefix)).map_ok(|object| object.location).try_collect();
    let mut found: Vec<Key> =
        place.within(ASK_LIMIT, list).await.map_err(failed(place, "list checkpoints in"))?;
    found.retain(|key| key.extension() == Some("checkpoint"));
    found.sort_unstable();
    found.reverse();
    Ok(found)
}

/// Fetches the checkpoints that the store has, newest first, into the directory in which local ones are. They are checked
/// when they are read.
pub(crate) async fn fetch(place: &Place, dir: &VolumeDir) -> Result<Vec<PathBuf>, CheckpointError> {
    dir.prepare_checkpoints()?;
    for old in list(dir)? {
        std::fs::remove_file(&old).map_err(io("remove", &old))?;
    }
    for key in list_in(place).await? {
        let Some(name) = key.filename() else { continue };
        let path = dir.checkpoints().join(name);
        let fetched = place.within(LIMIT, || receive(place, &key, &path)).await;
        fetched.map_err(failed(place, "fetch a checkpoint from"))?;
    }
    list(dir)
}

async fn receive(place: &Place, key: &Key, path: &Path) -> Result<(), Error> {
    let generic = |error: std::io::Error| Error::Generic { store: "checkpoint", source: Box::new(error) };
    let mut file = File::create(path).map_err(generic)?;
    let mut bytes = place.store().get(key).await?.into_stream();
    while let Some(piece) = bytes.try_next().await? {
        std::io::Write::write_all(&mut file, &piece).map_err(generic)?;
    }
    Ok(())
}

/// Removes what [`fetch`] brought.
pub(crate) fn forget(dir: &VolumeDir) -> Result<(), CheckpointError> {
    for path in list(dir)? {
        std::fs::remove_file(&path).map_err(io("remove", &path))?;
    }
    Ok(())
}

impl From<CheckpointError> for crate::error::StoreError {
    fn from(error: CheckpointError) -> Self {
        Self::Store(Box::new(error))
    }
}
