//! Multipart uploads.

use mooring_store::api::{PartInfo, UploadInfo};
use mooring_store::error::StoreError;
use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result, s3_error};

use crate::body::ingest::ingest;
use crate::config::LIST_KEYS;
use crate::error::{Refusal, from_store};
use crate::ops::convert::set_checksums;
use crate::ops::list::{Encoding, limit};
use crate::ops::parts::{self, Promise};
use crate::ops::{Door, Open, condition, convert, copy, identity, payload};

/// How often copying a part begins anew because its source changed under it.
const RETRIES: usize = 4;
/// Sorts behind every upload id, which are printable.
const AFTER_ALL_IDS: &str = "\u{7f}";

impl Door {
    pub(super) async fn create_multipart_upload(
        &self,
        req: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let input = req.input;
        let open = self.open(identity(&req.extensions)?, &input.bucket).await?;
        let algorithm = copy::algorithm(input.checksum_algorithm.as_ref())?;
        let promise = Promise::new(algorithm, input.checksum_type.as_ref().map(ChecksumType::as_str))?;
        let mut meta = convert::meta(&req.headers, input.metadata)?;
        if let Some(promise) = promise {
            promise.keep(&mut meta);
        }
        let key = input.key.as_bytes();
        let upload = open.objects.upload_create(&open.cx, key, meta).await.map_err(from_store)?;
        Ok(S3Response::new(CreateMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(upload.id),
            checksum_algorithm: promise
                .map(|p| ChecksumAlgorithm::from(p.algorithm.name().to_ascii_uppercase())),
            checksum_type: promise.map(|p| ChecksumType::from_static(p.kind())),
            ..Default::default()
        }))
    }

    pub(super) async fn upload_part(
        &self,
        req: S3Request<UploadPartInput>,
    ) -> S3Result<S3Response<UploadPartOutput>> {
        let input = req.input;
        let open = self.open(identity(&req.extensions)?, &input.bucket).await?;
        let number = parts::number(input.part_number)?;
        let upload = upload(&open, &input.key, &input.upload_id).await?;
        let promised = Promise::kept(&upload.meta).map(|promise| promise.algorithm);
        let payload = payload(&req.extensions)?;
        let sent = payload.checksum.as_ref().map(|(algorithm, _)| *algorithm).or(payload.trailer);
        if let (Some(sent), Some(promised)) = (sent, promised)
            && sent != promised
        {
            return Err(s3_error!(
                InvalidRequest,
                "Checksum Type mismatch occurred, expected checksum Type: {}, actual checksum Type: {}",
                promised.name(),
                sent.name()
            ));
        }
        let ingested = ingest(&open.objects, &open.cx, payload, promised).await?;
        let computed = promised.and_then(|a| Some((a, ingested.sums.base64(a)?)));
        let checksums = ingested.checksum.clone().or(computed);
        let part = PartInfo {
            number,
            size: ingested.size,
            etag: hex::encode(ingested.sums.md5),
            checksums: checksums.map(|(a, value)| convert::checksum(a, value)).into_iter().collect(),
            modified: open.cx.now,
        };
        let mut output = UploadPartOutput { e_tag: Some(convert::etag(&part.etag)), ..Default::default() };
        set_checksums!(output, part.checksums);
        let staged = ingested.guard.staged()?;
        let (key, id) = (input.key.as_bytes(), input.upload_id.as_str());
        open.objects.upload_part(&open.cx, key, id, part, staged).await.map_err(from_store)?;
        ingested.guard.done();
        Ok(S3Response::new(output))
    }

    pub(super) async fn upload_part_copy(
        &self,
        req: S3Request<UploadPartCopyInput>,
    ) -> S3Result<S3Response<UploadPartCopyOutput>> {
        let input = req.input;
        let who = identity(&req.extensions)?;
        let into = self.open(who, &input.bucket).await?;
        let number = parts::number(input.part_number)?;
        let upload = upload(&into, &input.key, &input.upload_id).await?;
        let promised = Promise::kept(&upload.meta).map(|promise| promise.algorithm);
        let source = self.source(who, &input.copy_source, &into).await?;
        let conditions = condition::Conditions::of_source(
            &req.headers,
            input.copy_source_if_modified_since,
            input.copy_source_if_unmodified_since,
        )?;
        for _ in 0..RETRIES {
            let info = source.head().await?;
            conditions.check_source(&info)?;
            let span = source_span(input.copy_source_range.as_deref(), info.size)?;
            let Some(copied) = source.copy(&into, &info, span.clone(), promised).await? else { continue };
            let etag = match &copied.sums {
                Some(sums) => hex::encode(sums.md5),
                None => reference_etag(&info.etag, &span),
            };
            let sums = copied.sums.as_ref();
            let checksum = promised.and_then(|a| Some(convert::checksum(a, sums?.base64(a)?)));
            let checksums: Vec<_> = match sums {
                Some(_) => checksum.into_iter().collect(),
                // By reference only where the source's own checksum is the one that is wanted.
                None => info
                    .meta
                    .checksums
                    .iter()
                    .filter(|(n, _)| promised.is_some_and(|a| a.name() == n))
                    .cloned()
                    .collect(),
            };
            let part =
                PartInfo { number, size: span.end - span.start, etag, checksums, modified: into.cx.now };
            let mut result = CopyPartResult {
                e_tag: Some(convert::etag(&part.etag)),
                last_modified: Some(convert::time(part.modified)),
                ..Default::default()
            };
            set_checksums!(result, part.checksums);
            let staged = copied.guard.staged()?;
            let (key, id) = (input.key.as_bytes(), input.upload_id.as_str());
            into.objects.upload_part(&into.cx, key, id, part, staged).await.map_err(from_store)?;
            copied.guard.done();
            let output = UploadPartCopyOutput { copy_part_result: Some(result), ..Default::default() };
            return Ok(S3Response::new(output));
        }
        Err(s3_error!(OperationAborted, "the source is being written: try again"))
    }

    /// Completing what is complete already gives the same object.
    pub(super) async fn complete_multipart_upload(
        &self,
        req: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let input = req.input;
        let open = self.open(identity(&req.extensions)?, &input.bucket).await?;
        let listed =
            input.multipart_upload.as_ref().and_then(|upload| upload.parts.as_deref()).unwrap_or_default();
        let named = parts::named(listed)?;
        let when = condition::of_write(&req.headers)?;
        let (key, id) = (input.key.as_bytes(), input.upload_id.as_str());
        let checksums = match open.objects.upload_get(&open.cx, key, id).await {
            Ok(upload) => {
                let stored = parts::stored(&open, key, id).await?;
                let chosen = parts::chosen(&stored, &named, listed)?;
                let size: u64 = chosen.iter().map(|part| part.size).sum();
                if input.mpu_object_size.is_some_and(|claimed| u64::try_from(claimed) != Ok(size)) {
                    return Err(s3_error!(
                        InvalidRequest,
                        "The provided 'x-amz-mp-object-size' header value does not match what was computed: {size}"
                    ));
                }
                parts::checksum_of_whole(&input, Promise::kept(&upload.meta), &chosen)?
            }
            Err(StoreError::NoSuchUpload) => Vec::new(),
            Err(error) => return Err(from_store(error)),
        };
        let put = open
            .objects
            .upload_complete(&open.cx, key, id, &named, checksums, &when)
            .await
            .map_err(from_store)?;
        let checksums = &put.object.meta.checksums;
        let mut output = CompleteMultipartUploadOutput {
            bucket: Some(input.bucket.clone()),
            key: Some(input.key.clone()),
            location: Some(format!("/{}/{}", input.bucket, input.key)),
            e_tag: Some(convert::etag(&put.object.etag)),
            checksum_type: convert::checksum_type(checksums),
            ..Default::default()
        };
        set_checksums!(output, checksums);
        Ok(S3Response::new(output))
    }

    pub(super) async fn abort_multipart_upload(
        &self,
        req: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let open = self.open(identity(&req.extensions)?, &req.input.bucket).await?;
        let (key, id) = (req.input.key.as_bytes(), req.input.upload_id.as_str());
        open.objects.upload_abort(&open.cx, key, id).await.map_err(from_store)?;
        Ok(S3Response::new(AbortMultipartUploadOutput::default()))
    }

    pub(super) async fn list_parts(
        &self,
        req: S3Request<ListPartsInput>,
    ) -> S3Result<S3Response<ListPartsOutput>> {
        let input = req.input;
        let who = identity(&req.extensions)?;
        let open = self.open(who, &input.bucket).await?;
        let max = limit(input.max_parts)?;
        let after = input.part_number_marker.unwrap_or(0);
        let after = u16::try_from(after)
            .map_err(|_| s3_error!(InvalidArgument, "part-number-marker is not a part number"))?;
        let upload = upload(&open, &input.key, &input.upload_id).await?;
        let (key, id) = (input.key.as_bytes(), input.upload_id.as_str());
        let (mut rows, mut over) = open
            .objects
            .upload_parts(&open.cx, key, id, after, max.max(1) as usize)
            .await
            .map_err(from_store)?;
        if max == 0 {
            (rows, over) = (Vec::new(), true);
        }
        let promise = Promise::kept(&upload.meta);
        let owner = convert::owner(who);
        Ok(S3Response::new(ListPartsOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(input.upload_id),
            max_parts: Some(max),
            part_number_marker: Some(i32::from(after)),
            next_part_number_marker: rows.last().map(|part| i32::from(part.number)),
            is_truncated: Some(!over),
            parts: Some(rows.into_iter().map(part).collect()),
            initiator: Some(Initiator { display_name: owner.display_name.clone(), id: owner.id.clone() }),
            owner: Some(owner),
            storage_class: Some(StorageClass::from_static(StorageClass::STANDARD)),
            checksum_algorithm: promise
                .map(|p| ChecksumAlgorithm::from(p.algorithm.name().to_ascii_uppercase())),
            checksum_type: promise.map(|p| ChecksumType::from_static(p.kind())),
            ..Default::default()
        }))
    }

    pub(super) async fn list_multipart_uploads(
        &self,
        req: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        let input = req.input;
        let who = identity(&req.extensions)?;
        let open = self.open(who, &input.bucket).await?;
        let encoding = Encoding::of(input.encoding_type.as_ref())?;
        let max = limit(input.max_uploads)?;
        let prefix = input.prefix.clone().unwrap_or_default();
        let key_marker = input.key_marker.clone().unwrap_or_default();
        let id_marker = match input.upload_id_marker.as_deref() {
            Some(id) if !id.is_empty() && !key_marker.is_empty() => id,
            _ if key_marker.is_empty() => "",
            _ => AFTER_ALL_IDS,
        };
        let asked = Uploads {
            prefix: prefix.as_bytes(),
            delimiter: input.delimiter.as_deref().filter(|delimiter| !delimiter.is_empty()),
            max: max as usize,
        };
        let page = asked.page(&open, key_marker.as_bytes(), id_marker).await?;
        let owner = convert::owner(who);
        let uploads = page.uploads.iter().map(|upload| multipart_upload(upload, encoding, &owner));
        let prefixes =
            page.prefixes.iter().map(|prefix| CommonPrefix { prefix: Some(encoding.text(prefix.as_str())) });
        let (next_key, next_id) = page.next.unzip();
        Ok(S3Response::new(ListMultipartUploadsOutput {
            bucket: Some(input.bucket),
            prefix: Some(encoding.text(prefix)),
            delimiter: input.delimiter.map(|delimiter| encoding.text(delimiter)),
            encoding_type: encoding.echo(),
            key_marker: Some(encoding.text(key_marker)),
            upload_id_marker: Some(input.upload_id_marker.unwrap_or_default()),
            max_uploads: Some(max),
            is_truncated: Some(next_key.is_some()),
            next_key_marker: next_key.map(|key: String| encoding.text(key)),
            next_upload_id_marker: next_id,
            uploads: Some(uploads.collect()),
            common_prefixes: Some(prefixes.collect()),
            ..Default::default()
        }))
    }
}

async fn upload(open: &Open, key: &str, id: &str) -> S3Result<UploadInfo> {
    open.objects.upload_get(&open.cx, key.as_bytes(), id).await.map_err(from_store)
}

fn part(info: PartInfo) -> Part {
    let mut part = Part {
        part_number: Some(i32::from(info.number)),
        size: i64::try_from(info.size).ok(),
        e_tag: Some(convert::etag(&info.etag)),
        last_modified: Some(convert::time(info.modified)),
        ..Default::default()
    };
    set_checksums!(part, info.checksums);
    part
}

fn multipart_upload(info: &UploadInfo, encoding: Encoding, owner: &Owner) -> MultipartUpload {
    let promise = Promise::kept(&info.meta);
    MultipartUpload {
        key: Some(encoding.text(String::from_utf8_lossy(&info.key))),
        upload_id: Some(info.id.clone()),
        initiated: Some(convert::time(info.started)),
        initiator: Some(Initiator { display_name: owner.display_name.clone(), id: owner.id.clone() }),
        owner: Some(owner.clone()),
        storage_class: Some(StorageClass::from_static(StorageClass::STANDARD)),
        checksum_algorithm: promise.map(|p| ChecksumAlgorithm::from(p.algorithm.name().to_ascii_uppercase())),
        checksum_type: promise.map(|p| ChecksumType::from_static(p.kind())),
    }
}

/// `bytes=first-last`, both given, inside the source.
fn source_span(range: Option<&str>, size: u64) -> S3Result<std::ops::Range<u64>> {
    let Some(range) = range else { return Ok(0..size) };
    let parse = || {
        let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
        let number =
            |text: &str| text.parse::<u64>().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
        let (first, last) = (number(first)?, number(last)?);
        (first <= last && last < u64::MAX).then_some(first..last + 1)
    };
    let span = parse().ok_or_else(|| {
        s3_error!(InvalidArgument, "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the zero-based offsets of the first and last bytes to copy")
    })?;
    if span.end > size {
        return Err(s3_error!(
            InvalidRange,
            "Range specified is not valid for source object of size: {size}"
        ));
    }
    Ok(span)
}

/// A part copied by reference was never read, so its tag is not the MD5 of its bytes. It is as good a name for them:
/// made of what names the source's content, and the span.
fn reference_etag(source: &str, span: &std::ops::Range<u64>) -> String {
    let text = format!("part copy\n{source}\n{}\n{}", span.start, span.end);
    hex::encode(&aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes()).as_ref()[..16])
}

/// A listing of uploads.
struct Uploads<'a> {
    prefix: &'a [u8],
    delimiter: Option<&'a str>,
    max: usize,
}

#[derive(Default)]
struct UploadPage {
    uploads: Vec<UploadInfo>,
    prefixes: Vec<String>,
    next: Option<(String, String)>,
}

impl Uploads<'_> {
    /// Gathers a page; uploads rolled up into one prefix count once, however many there are.
    async fn page(&self, open: &Open, key: &[u8], id: &str) -> S3Result<UploadPage> {
        let mut page = UploadPage::default();
        let mut after = (key.to_vec(), id.to_owned());
        // A page that ended inside a prefix has told of it.
        let told = self.rolled(key);
        loop {
            let position = (after.0.as_slice(), after.1.as_str());
            let rows = open.objects.uploads(&open.cx, self.prefix, position, LIST_KEYS as usize).await;
            let (rows, over) = rows.map_err(from_store)?;
            if rows.is_empty() || self.max == 0 {
                return Ok(page);
            }
            for row in rows {
                let rolled = self.rolled(&row.key);
                let known = rolled.is_some() && (rolled == told || page.prefixes.last() == rolled.as_ref());
                if !known && page.uploads.len() + page.prefixes.len() == self.max {
                    let key = String::from_utf8(after.0).map_err(|_| Refusal::Internal)?;
                    page.next = Some((key, after.1));
                    return Ok(page);
                }
                after = (row.key.to_vec(), row.id.clone());
                match rolled {
                    _ if known => {}
                    Some(prefix) => page.prefixes.push(prefix),
                    None => page.uploads.push(row),
                }
            }
            if over {
                return Ok(page);
            }
        }
    }

    /// The common prefix a key falls under.
    fn rolled(&self, key: &[u8]) -> Option<String> {
        let rest = std::str::from_utf8(key.strip_prefix(self.prefix)?).ok()?;
        let delimiter = self.delimiter?;
        let end = rest.find(delimiter)? + delimiter.len();
        String::from_utf8([self.prefix, &rest.as_bytes()[..end]].concat()).ok()
    }
}
