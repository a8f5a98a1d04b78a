//! Making an object from a request's body.

use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result};

use crate::body::ingest::ingest;
use crate::error::from_store;
use crate::ops::convert::set_checksums;
use crate::ops::{Door, condition, convert, identity, payload};

impl Door {
    pub(super) async fn put_object(
        &self,
        req: S3Request<PutObjectInput>,
    ) -> S3Result<S3Response<PutObjectOutput>> {
        let open = self.open(identity(&req.extensions)?, &req.input.bucket).await?;
        let when = condition::of_write(&req.headers)?;
        let mut meta = convert::meta(&req.headers, req.input.metadata)?;
        let ingested = ingest(&open.objects, &open.cx, payload(&req.extensions)?, None).await?;
        meta.checksums
            .extend(ingested.checksum.map(|(algorithm, value)| convert::checksum(algorithm, value)));
        let checksums = meta.checksums.clone();

        let etag = hex::encode(ingested.sums.md5);
        let key = req.input.key.as_bytes();
        let staged = ingested.guard.staged()?;
        let put = open.objects.put(&open.cx, staged, key, etag, meta, &when).await.map_err(from_store)?;
        ingested.guard.done();

        let mut output = PutObjectOutput {
            e_tag: Some(convert::etag(&put.object.etag)),
            checksum_type: convert::checksum_type(&checksums),
            ..Default::default()
        };
        set_checksums!(output, checksums);
        Ok(S3Response::new(output))
    }
}
