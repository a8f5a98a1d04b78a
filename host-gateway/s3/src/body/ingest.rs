//! From a request's body to a staged inode that carries verified bytes and no name yet.

use std::sync::Arc;

use mooring_store::api::{Caller, Objects, Staged};
use s3s::S3Error;

use crate::body::digest::{Algorithm, Digests, Sums};
use crate::body::reader::Reader;
use crate::body::{Framing, Payload};
use crate::error::{Refusal, from_store};

/// A staged inode that is forgotten unless it is put under a key: also when the client goes away half-way.
pub(crate) struct StagedGuard {
    objects: Arc<dyn Objects>,
    cx: Caller,
    staged: Option<Staged>,
}

impl StagedGuard {
    pub async fn new(objects: &Arc<dyn Objects>, cx: &Caller) -> Result<Self, S3Error> {
        let staged = objects.stage(cx).await.map_err(from_store)?;
        Ok(Self { objects: objects.clone(), cx: cx.clone(), staged: Some(staged) })
    }

    /// The inode, while it is ours.
    pub fn staged(&self) -> Result<Staged, S3Error> {
        self.staged.ok_or_else(|| Refusal::Internal.into())
    }

    /// It has been put under a key: the store owns it.
    pub fn done(mut self) {
        self.staged = None;
    }
}

impl Drop for StagedGuard {
    fn drop(&mut self) {
        let (Some(staged), Ok(runtime)) = (self.staged.take(), tokio::runtime::Handle::try_current()) else {
            return;
        };
        let (objects, cx) = (self.objects.clone(), self.cx.clone());
        runtime.spawn(async move {
            if let Err(error) = objects.stage_abort(&cx, staged).await {
                tracing::warn!(%error, ino = %staged.ino, "an abandoned upload stays until the volume is opened again");
            }
        });
    }
}

/// What came in.
pub(crate) struct Ingested {
    pub guard: StagedGuard,
    pub sums: Sums,
    pub size: u64,
    /// The checksum that was declared and held.
    pub checksum: Option<(Algorithm, String)>,
}

/// Reads the payload into a staged inode. While one batch is hashed and stored the next is read. `extra` names a
/// checksum to compute though none was declared.
pub(crate) async fn ingest(
    objects: &Arc<dyn Objects>,
    cx: &Caller,
    payload: Payload,
    extra: Option<Algorithm>,
) -> Result<Ingested, S3Error> {
    let Payload { body, length, framing, md5, checksum, trailer, stall } = payload;
    let signed_hash = match &framing {
        Framing::Plain(hash) => *hash,
        Framing::Chunked(_) => None,
    };
    let wanted = checksum.as_ref().map(|(algorithm, _)| *algorithm).or(trailer).or(extra);
    let mut digests = Digests::new(wanted.into_iter().chain(signed_hash.map(|_| Algorithm::Sha256)));
    let mut reader = Reader::new(body, framing, length, stall);

    // The first bytes are read before anything is made: a client that sends none costs nothing.
    let mut next = reader.batch().await?;
    let guard = StagedGuard::new(objects, cx).await?;
    let staged = guard.staged()?;
    while let Some(batch) = next {
        let (read, hashed, stored) = tokio::join!(
            reader.batch(),
            digests.update(batch.clone()),
            objects.stage_write(cx, staged, batch)
        );
        stored.map_err(from_store)?;
        digests = hashed?;
        next = read?;
    }
    let trailers = reader.finish()?;
    let sums = digests.finish();

    if signed_hash.is_some_and(|hash| sums.get(Algorithm::Sha256) != Some(&hash)) {
        return Err(Refusal::PayloadHash.into());
    }
    if md5.is_some_and(|md5| md5 != sums.md5) {
        return Err(Refusal::BadDigest("Content-MD5").into());
    }
    let declared = match trailer {
        Some(algorithm) => Some((algorithm, trailer_value(algorithm, trailers)?)),
        None if trailers.is_empty() => checksum,
        None => return Err(Refusal::Trailer.into()),
    };
    if let Some((algorithm, value)) = &declared
        && sums.get(*algorithm) != Some(algorithm.decode(value)?.as_slice())
    {
        return Err(Refusal::BadDigest(algorithm.header()).into());
    }
    Ok(Ingested { guard, sums, size: length, checksum: declared })
}

/// The one trailer that was announced, and no other.
fn trailer_value(algorithm: Algorithm, trailers: Vec<(String, String)>) -> Result<String, Refusal> {
    let mut trailers = trailers.into_iter();
    match (trailers.next(), trailers.next()) {
        (Some((name, value)), None) if name == algorithm.header() => Ok(value),
        _ => Err(Refusal::Trailer),
    }
}
