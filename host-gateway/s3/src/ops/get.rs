//! Reading objects and what is known of them.

use std::ops::Range as Span;

use http::HeaderMap;
use mooring_store::api::ObjectInfo;
use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result, s3_error};

use crate::error::Refusal;
use crate::ops::condition::Conditions;
use crate::ops::convert::set_checksums;
use crate::ops::{Door, Versioned, convert, identity, stream};

/// How often a read begins anew because the object was replaced between looking and reading.
const RETRIES: usize = 4;

impl Door {
    pub(super) async fn get_object(
        &self,
        req: S3Request<GetObjectInput>,
    ) -> S3Result<S3Response<GetObjectOutput>> {
        let input = req.input;
        let open = self.open(identity(&req.extensions)?, &input.bucket).await?;
        let named = Versioned::new(&input.key, input.version_id.as_deref());
        let conditions =
            Conditions::of_read(&req.headers, input.if_modified_since, input.if_unmodified_since)?;
        for attempt in 0.. {
            let info =
                open.objects.head(&open.cx, named.key.as_bytes()).await.map_err(|e| named.failure(e))?;
            conditions.check_read(&info)?;
            let part =
                input.range.is_none().then(|| one_part(input.part_number, &info)).transpose()?.flatten();
            let span = span(input.range, info.size)?.or(part);
            let whole = span.clone().unwrap_or(0..info.size);
            let Some(body) = stream::open(&open, &info, whole.clone()).await? else {
                if attempt < RETRIES {
                    continue;
                }
                return Err(s3_error!(OperationAborted, "the object is being written: try again"));
            };
            let mut output = GetObjectOutput {
                accept_ranges: Some("bytes".into()),
                body: Some(StreamingBlob::new(body)),
                cache_control: convert::kept(&info.meta, "cache-control"),
                content_disposition: convert::kept(&info.meta, "content-disposition"),
                content_encoding: convert::kept(&info.meta, "content-encoding"),
                content_language: convert::kept(&info.meta, "content-language"),
                content_length: Some(length(&whole)?),
                content_range: span.as_ref().map(|span| content_range(span, info.size)),
                content_type: Some(content_type(&info)),
                e_tag: Some(convert::etag(&info.etag)),
                last_modified: Some(convert::time(info.modified)),
                metadata: convert::user(&info.meta),
                version_id: named.version.clone(),
                ..Default::default()
            };
            if input.checksum_mode.is_some() && span.is_none() {
                set_checksums!(output, info.meta.checksums);
                output.checksum_type = convert::checksum_type(&info.meta.checksums);
            }
            let headers = match &input.response_expires {
                Some(_) => HeaderMap::new(),
                None => convert::expires(&info.meta),
            };
            return Ok(S3Response::with_headers(output, headers));
        }
        Err(Refusal::Internal.into())
    }

    pub(super) async fn head_object(
        &self,
        req: S3Request<HeadObjectInput>,
    ) -> S3Result<S3Response<HeadObjectOutput>> {
        let input = req.input;
        let open = self.open(identity(&req.extensions)?, &input.bucket).await?;
        let named = Versioned::new(&input.key, input.version_id.as_deref());
        let info = open.objects.head(&open.cx, named.key.as_bytes()).await.map_err(|e| named.failure(e))?;
        Conditions::of_read(&req.headers, input.if_modified_since, input.if_unmodified_since)?
            .check_read(&info)?;
        let part = input.range.is_none().then(|| one_part(input.part_number, &info)).transpose()?.flatten();
        let span = span(input.range, info.size)?.or(part);
        let kept = |name| convert::kept(&info.meta, name);
        let mut output = HeadObjectOutput {
            accept_ranges: Some("bytes".into()),
            cache_control: input.response_cache_control.or_else(|| kept("cache-control")),
            content_disposition: input.response_content_disposition.or_else(|| kept("content-disposition")),
            content_encoding: input.response_content_encoding.or_else(|| kept("content-encoding")),
            content_language: input.response_content_language.or_else(|| kept("content-language")),
            content_length: Some(length(&span.clone().unwrap_or(0..info.size))?),
            content_range: span.as_ref().map(|span| content_range(span, info.size)),
            content_type: Some(input.response_content_type.unwrap_or_else(|| content_type(&info))),
            e_tag: Some(convert::etag(&info.etag)),
            expires: input.response_expires.clone(),
            last_modified: Some(convert::time(info.modified)),
            metadata: convert::user(&info.meta),
            version_id: named.version.clone(),
            ..Default::default()
        };
        if input.checksum_mode.is_some() && span.is_none() {
            set_checksums!(output, info.meta.checksums);
            output.checksum_type = convert::checksum_type(&info.meta.checksums);
        }
        let headers = match input.response_expires {
            Some(_) => HeaderMap::new(),
            None => convert::expires(&info.meta),
        };
        let mut response = S3Response::with_headers(output, headers);
        response.status = span.is_some().then_some(http::StatusCode::PARTIAL_CONTENT);
        Ok(response)
    }
}

fn content_type(info: &ObjectInfo) -> String {
    let given = convert::kept(&info.meta, "content-type");
    given.unwrap_or_else(|| {
        if info.marker { "application/x-directory" } else { "binary/octet-stream" }.to_owned()
    })
}

/// What a `Range` comes to for an object of `size` bytes.
fn span(range: Option<Range>, size: u64) -> S3Result<Option<Span<u64>>> {
    let Some(range) = range else { return Ok(None) };
    match range.check(size) {
        // A suffix of an empty object is the empty object, not a part of it.
        Ok(span) if span.is_empty() => Ok(None),
        Ok(span) => Ok(Some(span)),
        Err(_) => Err(s3_error!(InvalidRange, "The requested range is not satisfiable")),
    }
}

/// An object is stored as one piece, so only its first part can be asked for, and only where there is no second.
fn one_part(part: Option<i32>, info: &ObjectInfo) -> S3Result<Option<Span<u64>>> {
    let multipart = info.etag.contains('-') && !info.etag.ends_with("-1");
    match part {
        None => Ok(None),
        Some(_) if multipart => {
            Err(Refusal::NotImplemented("the query parameter \"partNumber\" for a multipart object".into())
                .into())
        }
        Some(1) if info.size == 0 => Ok(None),
        Some(1) => Ok(Some(0..info.size)),
        Some(_) => Err(s3_error!(InvalidPart, "The requested partnumber is not satisfiable")),
    }
}

fn content_range(span: &Span<u64>, size: u64) -> String {
    format!("bytes {}-{}/{size}", span.start, span.end.saturating_sub(1))
}

fn length(span: &Span<u64>) -> S3Result<i64> {
    i64::try_from(span.end - span.start).map_err(|_| Refusal::Internal.into())
}
