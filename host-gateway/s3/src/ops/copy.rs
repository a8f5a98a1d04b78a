//! Copying: within a volume by reference, across volumes by streaming. Both ends are opened with the caller's own rights.

use std::sync::Arc;

use futures::StreamExt as _;
use mooring_policy::action::Action;
use mooring_store::api::{ObjectInfo, ObjectMeta};
use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result, s3_error};

use crate::body::digest::{Algorithm, Digests, Sums};
use crate::body::ingest::StagedGuard;
use crate::edge::Identity;
use crate::error::{Refusal, from_store};
use crate::ops::condition::Conditions;
use crate::ops::convert::set_checksums;
use crate::ops::{Door, Open, Versioned, condition, convert, identity, stream};

/// How often a copy begins anew because its source changed under it.
const RETRIES: usize = 4;

/// One end of a copy: where the bytes come from.
pub(super) struct Source {
    pub open: Open,
    pub key: String,
}

impl Door {
    /// Opens what `x-amz-copy-source` names, as the caller.
    pub(super) async fn source(&self, who: &Identity, source: &CopySource, into: &Open) -> S3Result<Source> {
        let CopySource::Bucket { bucket, key, version_id } = source else {
            return Err(Refusal::NotImplemented("a copy source that is an ARN".into()).into());
        };
        if key.is_empty() || key.contains('\0') {
            return Err(Refusal::Encoding.into());
        }
        let open = if **bucket == *into.name { into.clone() } else { self.open(who, bucket).await? };
        open.cx.authority.check(Action::Read, Some(key.as_bytes())).map_err(from_store)?;
        Ok(Source { open, key: Versioned::new(key, version_id.as_deref()).key })
    }

    pub(super) async fn copy_object(
        &self,
        req: S3Request<CopyObjectInput>,
    ) -> S3Result<S3Response<CopyObjectOutput>> {
        let input = req.input;
        let who = identity(&req.extensions)?;
        let into = self.open(who, &input.bucket).await?;
        let source = self.source(who, &input.copy_source, &into).await?;
        let replace = match input.metadata_directive.as_ref().map(MetadataDirective::as_str) {
            None | Some("COPY") => false,
            Some("REPLACE") => true,
            Some(_) => return Err(s3_error!(InvalidArgument, "Unknown metadata directive.")),
        };
        if !replace && source.open.name == into.name && source.key == input.key {
            return Err(s3_error!(
                InvalidRequest,
                "This copy request is illegal because it is trying to copy an object to itself without changing the object's metadata."
            ));
        }
        let wanted = algorithm(input.checksum_algorithm.as_ref())?;
        let conditions = Conditions::of_source(
            &req.headers,
            input.copy_source_if_modified_since,
            input.copy_source_if_unmodified_since,
        )?;
        let when = condition::of_write(&req.headers)?;
        let given = if replace { Some(convert::meta(&req.headers, input.metadata)?) } else { None };
        for _ in 0..RETRIES {
            let info = source.head().await?;
            conditions.check_source(&info)?;
            let Some(copied) = source.copy(&into, &info, 0..info.size, wanted).await? else { continue };
            let mut meta = given.clone().unwrap_or(ObjectMeta { checksums: Vec::new(), ..info.meta.clone() });
            let (etag, checksums) = copied.identity(&info, wanted);
            meta.checksums = checksums.clone();
            let staged = copied.guard.staged()?;
            let key = input.key.as_bytes();
            let put = into.objects.put(&into.cx, staged, key, etag, meta, &when).await.map_err(from_store)?;
            copied.guard.done();
            let mut result = CopyObjectResult {
                e_tag: Some(convert::etag(&put.object.etag)),
                last_modified: Some(convert::time(put.object.modified)),
                checksum_type: convert::checksum_type(&checksums),
                ..Default::default()
            };
            set_checksums!(result, checksums);
            return Ok(S3Response::new(CopyObjectOutput {
                copy_object_result: Some(result),
                ..Default::default()
            }));
        }
        Err(s3_error!(OperationAborted, "the source is being written: try again"))
    }
}

/// The checksum an upload or copy asks for by name.
pub(super) fn algorithm(name: Option<&ChecksumAlgorithm>) -> S3Result<Option<Algorithm>> {
    let Some(name) = name.map(ChecksumAlgorithm::as_str) else { return Ok(None) };
    match Algorithm::parse(name) {
        Some(algorithm) => Ok(Some(algorithm)),
        None => Err(s3_error!(
            InvalidRequest,
            "Checksum algorithm provided is unsupported. Please try again with any of the valid types: [CRC32, CRC32C, CRC64NVME, SHA1, SHA256]"
        )),
    }
}

/// Bytes copied into a staged inode.
pub(super) struct Copied {
    pub guard: StagedGuard,
    /// `None` when they were copied by reference and so never seen.
    pub sums: Option<Sums>,
}

impl Copied {
    /// ETag and checksums of the copy of a whole object. What was copied by reference keeps those of its source.
    fn identity(&self, info: &ObjectInfo, wanted: Option<Algorithm>) -> (String, Vec<(String, String)>) {
        match &self.sums {
            None => (info.etag.clone(), info.meta.checksums.clone()),
            Some(sums) => {
                let checksum = wanted.and_then(|a| Some(convert::checksum(a, sums.base64(a)?)));
                (hex::encode(sums.md5), checksum.into_iter().collect())
            }
        }
    }
}

impl Source {
    pub async fn head(&self) -> S3Result<ObjectInfo> {
        self.open.objects.head(&self.open.cx, self.key.as_bytes()).await.map_err(from_store)
    }

    /// Copies a span. `None`: the source changed since `info` was taken.
    pub async fn copy(
        &self,
        into: &Open,
        info: &ObjectInfo,
        span: std::ops::Range<u64>,
        wanted: Option<Algorithm>,
    ) -> S3Result<Option<Copied>> {
        let known = |a: Algorithm| info.meta.checksums.iter().any(|(name, _)| name == a.name());
        let whole = span == (0..info.size);
        if self.same_volume(into) && wanted.is_none_or(|a| whole && known(a)) {
            return self.by_reference(into, info, span).await;
        }
        self.by_streaming(into, info, span, wanted).await
    }

    fn same_volume(&self, into: &Open) -> bool {
        self.open.name == into.name || Arc::ptr_eq(&self.open.objects, &into.objects) && !into.cx.confined
    }

    async fn by_reference(
        &self,
        into: &Open,
        info: &ObjectInfo,
        span: std::ops::Range<u64>,
    ) -> S3Result<Option<Copied>> {
        let guard = StagedGuard::new(&into.objects, &into.cx).await?;
        let staged = guard.staged()?;
        if !span.is_empty() && !info.marker {
            let length = span.end - span.start;
            let objects = &into.objects;
            objects.stage_copy(&into.cx, info.ino, span.start, length, staged).await.map_err(from_store)?;
            // The source may have been written between the look and the copy.
            if self.head().await?.version != info.version {
                return Ok(None);
            }
        }
        Ok(Some(Copied { guard, sums: None }))
    }

    async fn by_streaming(
        &self,
        into: &Open,
        info: &ObjectInfo,
        span: std::ops::Range<u64>,
        wanted: Option<Algorithm>,
    ) -> S3Result<Option<Copied>> {
        let Some(mut bytes) = stream::open(&self.open, info, span).await? else { return Ok(None) };
        let guard = StagedGuard::new(&into.objects, &into.cx).await?;
        let staged = guard.staged()?;
        let mut digests = Digests::new(wanted);
        while let Some(piece) = bytes.next().await {
            let Ok(piece) = piece else { return Ok(None) };
            let (hashed, stored) = tokio::join!(
                digests.update(piece.clone()),
                into.objects.stage_write(&into.cx, staged, piece)
            );
            stored.map_err(from_store)?;
            digests = hashed?;
        }
        Ok(Some(Copied { guard, sums: Some(digests.finish()) }))
    }
}
