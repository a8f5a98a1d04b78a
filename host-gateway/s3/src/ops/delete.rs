//! Deleting one object, or up to a thousand.

use futures::stream::{self, StreamExt as _};
use mooring_store::api::Condition;
use mooring_store::error::StoreError;
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
        let when = When {
            etag: condition::of_write(&req.headers)?.if_match,
            time: req.input.if_match_last_modified_time,
            size: req.input.if_match_size,
        };
        when.delete(&open, req.input.key.as_bytes(), Many::No).await?;
        Ok(S3Response::new(DeleteObjectOutput { version_id: req.input.version_id, ..Default::default() }))
    }

    /// Each key succeeds or fails by itself; all wait for the disk together.
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
        // Of what cannot be made durable nobody may believe that it is gone.
        let synced = match results.iter().any(|(result, _)| matches!(result, Ok(false))) {
            true => open.objects.sync().await.map_err(from_store),
            false => Ok(()),
        };
        let (mut deleted, mut errors) = (Vec::new(), Vec::new());
        for (result, object) in results {
            let result = match (result, &synced) {
                (Ok(false), Err(error)) => {
                    Err(S3Error::with_message(error.code().clone(), "the deletion is not durable"))
                }
                (result, _) => result,
            };
            match result {
                Ok(_) if quiet == Some(true) => {}
                Ok(_) => deleted.push(DeletedObject {
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

/// Returns whether it is durable by now.
async fn delete_one(open: &Open, object: &ObjectIdentifier) -> Result<bool, S3Error> {
    null_version(object.version_id.as_deref())?;
    // Keys in a document pass the rules that keys in a path do.
    if object.key.is_empty() || object.key.contains('\0') {
        return Err(s3_error!(InvalidArgument, "the key is empty or has a NUL byte"));
    }
    if object.key.len() > KEY_BYTES {
        return Err(Refusal::KeyTooLong.into());
    }
    let when = When {
        etag: object.e_tag.as_ref().map(|etag| etag.value().to_owned()),
        time: object.last_modified_time.clone(),
        size: object.size,
    };
    when.delete(open, object.key.as_bytes(), Many::Yes).await
}

/// Whether others are deleted by the same request.
#[derive(Clone, Copy)]
enum Many {
    Yes,
    No,
}

/// On which conditions an object is to be deleted.
struct When {
    etag: Option<String>,
    time: Option<Timestamp>,
    size: Option<i64>,
}

impl When {
    /// Deletes the object if they hold. What is not there is deleted, whatever was said of it. Returns whether that is
    /// durable by now.
    async fn delete(self, open: &Open, key: &[u8], many: Many) -> S3Result<bool> {
        let conditional = self.etag.is_some() || self.time.is_some() || self.size.is_some();
        let if_match = match self.time.is_some() || self.size.is_some() {
            true => self.narrowed(open, key).await,
            false => Ok(self.etag),
        };
        let result = match if_match {
            Ok(if_match) => {
                let when = Condition { if_match, if_none_match: None };
                let deleted = match many {
                    Many::No => open.objects.delete(&open.cx, key, &when).await,
                    Many::Yes => open.objects.delete_one_of_many(&open.cx, key, &when).await,
                };
                deleted.map(|deleted| deleted.is_none_or(|deleted| deleted.durable))
            }
            Err(error) => Err(error),
        };
        match result {
            Err(StoreError::NotFound) if conditional => Ok(true),
            result => result.map_err(from_store),
        }
    }

    /// Time and size as a condition the store can decide in one step: the ETag of what was looked at.
    async fn narrowed(&self, open: &Open, key: &[u8]) -> Result<Option<String>, StoreError> {
        let info = open.objects.head(&open.cx, key).await?;
        let time =
            self.time.clone().map(time::OffsetDateTime::from).map(time::OffsetDateTime::unix_timestamp);
        let holds = time.is_none_or(|time| time == info.modified.secs)
            && self.size.is_none_or(|size| u64::try_from(size) == Ok(info.size))
            && self.etag.as_ref().is_none_or(|etag| etag == "*" || *etag == info.etag);
        if holds { Ok(Some(info.etag)) } else { Err(StoreError::PreconditionFailed) }
    }
}
