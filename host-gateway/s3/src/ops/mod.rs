//! The operations: each takes what `s3s` parsed, opens the bucket as the caller, and asks the store.

mod buckets;
mod condition;
mod convert;
mod copy;
mod delete;
mod get;
mod list;
mod multipart;
mod parts;
mod put;
mod stream;
mod token;
mod versions;

use std::sync::Arc;

use http::Extensions;
use mooring_store::api::{Caller, Objects};
use mooring_store::error::StoreError;
use s3s::dto::*;
use s3s::{S3, S3Error, S3Request, S3Response, S3Result, s3_error};

use crate::body::{Payload, PayloadSlot};
use crate::edge::{Buckets, Identity};
use crate::error::{Refusal, from_bucket, from_store};
use crate::gate::admit::Admitted;

/// S3 over the gateway's buckets.
pub(crate) struct Door {
    buckets: Arc<dyn Buckets>,
    region: String,
}

/// A bucket, open for one caller.
#[derive(Clone)]
struct Open {
    objects: Arc<dyn Objects>,
    cx: Caller,
    name: String,
}

impl Door {
    pub fn new(buckets: Arc<dyn Buckets>, region: String) -> Self {
        Self { buckets, region }
    }

    async fn open(&self, who: &Identity, bucket: &str) -> S3Result<Open> {
        let (objects, cx) = self.buckets.open(who, bucket).await.map_err(from_bucket)?;
        Ok(Open { objects, cx, name: bucket.to_owned() })
    }
}

/// Who asks, as the gate found it.
fn identity(extensions: &Extensions) -> S3Result<&Identity> {
    extensions.get::<Admitted>().map(|admitted| &admitted.identity).ok_or_else(|| s3_error!(AccessDenied))
}

/// The body the gate took out of the request.
fn payload(extensions: &Extensions) -> S3Result<Payload> {
    let taken = extensions.get::<PayloadSlot>().and_then(PayloadSlot::take);
    taken.ok_or_else(|| Refusal::Internal.into())
}

/// An object as it is named with a version: the one called `null` is the object itself, any other a bucket's snapshot.
struct Versioned {
    key: String,
    version: Option<String>,
}

impl Versioned {
    fn new(key: &str, version: Option<&str>) -> Versioned {
        match version.filter(|version| *version != "null") {
            None => Versioned { key: key.to_owned(), version: None },
            Some(version) => {
                Versioned { key: format!(".snapshots/{version}/{key}"), version: Some(version.to_owned()) }
            }
        }
    }

    /// What a failure to find it is called.
    fn failure(&self, error: StoreError) -> S3Error {
        match (&self.version, error) {
            (Some(_), StoreError::NotFound) => {
                s3_error!(NoSuchVersion, "the bucket has no such snapshot, or the object was not in it")
            }
            (_, error) => from_store(error),
        }
    }
}

/// Only what can be changed: no snapshot.
fn null_version(version: Option<&str>) -> S3Result<()> {
    match version {
        None | Some("null") => Ok(()),
        Some(_) => Err(s3_error!(
            NoSuchVersion,
            "the specified version does not exist, or is that of a snapshot, which cannot be changed"
        )),
    }
}

macro_rules! operations {
    ($($method:ident: $input:ident => $output:ident;)+) => {
        #[async_trait::async_trait]
        impl S3 for Door {
            $(
                async fn $method(&self, req: S3Request<$input>) -> S3Result<S3Response<$output>> {
                    Door::$method(self, req).await
                }
            )+
        }
    };
}

operations! {
    list_buckets: ListBucketsInput => ListBucketsOutput;
    create_bucket: CreateBucketInput => CreateBucketOutput;
    head_bucket: HeadBucketInput => HeadBucketOutput;
    delete_bucket: DeleteBucketInput => DeleteBucketOutput;
    get_bucket_location: GetBucketLocationInput => GetBucketLocationOutput;
    get_bucket_versioning: GetBucketVersioningInput => GetBucketVersioningOutput;
    list_objects: ListObjectsInput => ListObjectsOutput;
    list_objects_v2: ListObjectsV2Input => ListObjectsV2Output;
    list_object_versions: ListObjectVersionsInput => ListObjectVersionsOutput;
    list_multipart_uploads: ListMultipartUploadsInput => ListMultipartUploadsOutput;
    put_object: PutObjectInput => PutObjectOutput;
    get_object: GetObjectInput => GetObjectOutput;
    head_object: HeadObjectInput => HeadObjectOutput;
    copy_object: CopyObjectInput => CopyObjectOutput;
    delete_object: DeleteObjectInput => DeleteObjectOutput;
    delete_objects: DeleteObjectsInput => DeleteObjectsOutput;
    create_multipart_upload: CreateMultipartUploadInput => CreateMultipartUploadOutput;
    upload_part: UploadPartInput => UploadPartOutput;
    upload_part_copy: UploadPartCopyInput => UploadPartCopyOutput;
    list_parts: ListPartsInput => ListPartsOutput;
    complete_multipart_upload: CompleteMultipartUploadInput => CompleteMultipartUploadOutput;
    abort_multipart_upload: AbortMultipartUploadInput => AbortMultipartUploadOutput;
}
