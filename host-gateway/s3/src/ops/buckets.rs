//! Buckets: list, make, look, remove, where, versioned.

use mooring_policy::action::Action;
use mooring_store::error::StoreError;
use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result, s3_error};

use crate::error::{from_bucket, from_store};
use crate::ops::{Door, convert, identity, token::Binding};

impl Door {
    pub(super) async fn list_buckets(
        &self,
        req: S3Request<ListBucketsInput>,
    ) -> S3Result<S3Response<ListBucketsOutput>> {
        let who = identity(&req.extensions)?;
        let prefix = req.input.prefix.clone().unwrap_or_default();
        let binding = Binding { bucket: "", prefix: &prefix, delimiter: "" };
        let after = match &req.input.continuation_token {
            Some(token) => binding.position(token)?,
            None => Vec::new(),
        };
        let limit = match req.input.max_buckets {
            None => usize::MAX,
            Some(limit @ 1..=10_000) => limit as usize,
            Some(_) => return Err(s3_error!(InvalidArgument, "max-buckets must be 1 to 10000")),
        };
        let mut rows = self.buckets.list(who).await.map_err(from_store)?;
        rows.retain(|row| row.name.starts_with(&prefix) && row.name.as_bytes() > after.as_slice());
        rows.sort_by(|a, b| a.name.cmp(&b.name));
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = rows.last().filter(|_| more).map(|row| binding.token(row.name.as_bytes()));
        let buckets = rows.into_iter().map(|row| Bucket {
            name: Some(row.name),
            creation_date: Some(convert::time(row.created)),
            bucket_region: Some(self.region.clone()),
        });
        Ok(S3Response::new(ListBucketsOutput {
            buckets: Some(buckets.collect()),
            continuation_token: next,
            owner: Some(convert::owner(who)),
            prefix: req.input.prefix.clone(),
        }))
    }

    pub(super) async fn create_bucket(
        &self,
        req: S3Request<CreateBucketInput>,
    ) -> S3Result<S3Response<CreateBucketOutput>> {
        let who = identity(&req.extensions)?;
        if let Some(configuration) = &req.input.create_bucket_configuration {
            let wanted = configuration.location_constraint.as_ref().map(BucketLocationConstraint::as_str);
            if wanted.is_some_and(|region| !region.is_empty() && region != self.region) {
                return Err(s3_error!(InvalidLocationConstraint, "the only region here is {}", self.region));
            }
            if configuration.bucket.is_some() || configuration.location.is_some() {
                return Err(s3_error!(NotImplemented, "directory buckets are not implemented here"));
            }
        }
        match self.buckets.create(who, &req.input.bucket).await {
            Ok(()) => {}
            Err(StoreError::Exists) => {
                return Err(s3_error!(BucketAlreadyOwnedByYou, "you already own a bucket of this name"));
            }
            Err(StoreError::Invalid(why)) => return Err(s3_error!(InvalidBucketName, "{why}")),
            Err(error) => return Err(from_store(error)),
        }
        Ok(S3Response::new(CreateBucketOutput { location: Some(format!("/{}", req.input.bucket)) }))
    }

    pub(super) async fn head_bucket(
        &self,
        req: S3Request<HeadBucketInput>,
    ) -> S3Result<S3Response<HeadBucketOutput>> {
        self.known(&req.extensions, &req.input.bucket).await?;
        Ok(S3Response::new(HeadBucketOutput {
            bucket_region: Some(self.region.clone()),
            ..Default::default()
        }))
    }

    pub(super) async fn delete_bucket(
        &self,
        req: S3Request<DeleteBucketInput>,
    ) -> S3Result<S3Response<DeleteBucketOutput>> {
        let who = identity(&req.extensions)?;
        self.buckets.delete(who, &req.input.bucket).await.map_err(from_bucket)?;
        Ok(S3Response::with_status(DeleteBucketOutput::default(), http::StatusCode::NO_CONTENT))
    }

    pub(super) async fn get_bucket_location(
        &self,
        req: S3Request<GetBucketLocationInput>,
    ) -> S3Result<S3Response<GetBucketLocationOutput>> {
        self.known(&req.extensions, &req.input.bucket).await?;
        let region = BucketLocationConstraint::from(self.region.clone());
        Ok(S3Response::new(GetBucketLocationOutput { location_constraint: Some(region) }))
    }

    /// Never enabled: an empty document.
    pub(super) async fn get_bucket_versioning(
        &self,
        req: S3Request<GetBucketVersioningInput>,
    ) -> S3Result<S3Response<GetBucketVersioningOutput>> {
        self.known(&req.extensions, &req.input.bucket).await?;
        Ok(S3Response::new(GetBucketVersioningOutput::default()))
    }

    /// Is there such a bucket for this caller, and may it look?
    async fn known(&self, extensions: &http::Extensions, bucket: &str) -> S3Result<()> {
        let open = self.open(identity(extensions)?, bucket).await?;
        open.cx.authority.check(Action::List, None).map_err(from_bucket)
    }
}
