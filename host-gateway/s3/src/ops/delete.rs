//! Deleting one object, or up to a thousand.

use futures::stream::{self, StreamExt as _};
use mooring_store::api::Condition;
use s3s::dto::*;
use s3s::{S3Error, S3Request, S3Response, S3Result, s3_error};

use crate::config::{DELETE_KEYS, DELETE_PARALLEL, KEY_BYTES};
use crate::error::{Refusal, from_store};
use crate::ops::{Door, Open, condition, identity, null_version};

impl Door {
    pub(super) async fn delete_object(
        &self,
        req: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        let open = self.open(identity(&req.extensions)?, &req.input.bucket).await?;
        null_version(req.input.version_id.as_deref())?;
        let when = condition::of_write(&req.headers)?;
        open.objects.delete(&open.cx, req.input.key.as_bytes(), &when).await.map_err(from_store)?;
        Ok(S3Response::new(DeleteObjectOutput { version_id: req.input.version_id, ..Default::default() }))
    }

    /// Each key succeeds or fails by itself.
    pub(super) async fn delete_objects(
        &self,
        req: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let open = self.open(identity(&req.extensions)?, &req.input.bucket).await?;
        let Delete { objects, quiet } = req.input.delete;
        if objects.is_empty() || objects.len() > DELETE_KEYS {
            return Err(s3_error!(MalformedXML, "DeleteObjects takes 1 to 1000 keys"));
        }
        let open = &open;
        let results: Vec<_> = stream::iter(objects)
            .map(|object| async move { (delete_one(open, &object).await, object) })
            .buffered(DELETE_PARALLEL)
            .collect()
            .await;
        let (mut deleted, mut errors) = (Vec::new(), Vec::new());
        for (result, object) in results {
            match result {
                Ok(()) if quiet == Some(true) => {}
                Ok(()) => deleted.push(DeletedObject {
                    key: Some(object.key),
                    version_id: object.version_id,
                    ..Default::default()
                }),
                Err(error) => errors.push(Error {
                    code: Some(error.code().as_str().to_owned()),
                    key: Some(object.key),
                    message: error.message().map(str::to_owned),
                    version_id: object.version_id,
                }),
            }
        }
        Ok(S3Response::new(DeleteObjectsOutput {
            deleted: Some(deleted),
            errors: Some(errors),
            ..Default::default()
        }))
    }
}

async fn delete_one(open: &Open, object: &ObjectIdentifier) -> Result<(), S3Error> {
    null_version(object.version_id.as_deref())?;
    if object.last_modified_time.is_some() || object.size.is_some() {
        return Err(Refusal::NotImplemented("deleting on condition of time or size".into()).into());
    }
    // Keys in a document pass the rules that keys in a path do.
    if object.key.is_empty() || object.key.contains('\0') {
        return Err(s3_error!(InvalidArgument, "the key is empty or has a NUL byte"));
    }
    if object.key.len() > KEY_BYTES {
        return Err(Refusal::KeyTooLong.into());
    }
    let when = Condition {
        if_match: object.e_tag.as_ref().map(|etag| etag.value().to_owned()),
        if_none_match: None,
    };
    open.objects.delete(&open.cx, object.key.as_bytes(), &when).await.map(|_| ()).map_err(from_store)
}
