//! Uploads in parts.

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;
use mooring_protocol::types::Time;
use mooring_store::api::{Condition, ObjectMeta, PartInfo, Result, UploadInfo};

use super::{Kind, Remote, RemoteError, condition, etag_of, header, unquoted, user};

impl Remote {
    /// Begins an upload; returns its id.
    pub async fn begin(&self, key: &[u8], meta: &ObjectMeta) -> Result<String> {
        let what = "to begin an upload";
        let begin = self.client.create_multipart_upload().bucket(&self.bucket).key(self.full(key)?);
        let begin = begin
            .set_content_type(header(meta, "content-type"))
            .set_cache_control(header(meta, "cache-control"))
            .set_content_disposition(header(meta, "content-disposition"))
            .set_content_encoding(header(meta, "content-encoding"))
            .set_content_language(header(meta, "content-language"))
            .set_metadata(user(meta));
        let begun = begin.send().await.map_err(|e| RemoteError::new(what, e))?;
        Ok(begun.upload_id.ok_or_else(|| RemoteError::odd(what, "an answer without upload id"))?)
    }

    /// Sends a part; returns its ETag.
    pub async fn part(&self, key: &[u8], id: &str, number: u16, data: Bytes) -> Result<String> {
        let what = "to take a part";
        let part = self.client.upload_part().bucket(&self.bucket).key(self.full(key)?).upload_id(id);
        let part = part.part_number(number.into()).body(ByteStream::from(data));
        let done = part.send().await.map_err(|e| RemoteError::new(what, e))?;
        etag_of(what, done.e_tag.as_deref())
    }

    /// Makes the parts one object; returns its ETag.
    pub async fn complete(
        &self,
        key: &[u8],
        id: &str,
        parts: &[(u16, String)],
        when: &Condition,
    ) -> Result<String> {
        let what = "to complete an upload";
        let parts = parts.iter().map(|(number, etag)| {
            CompletedPart::builder()
                .part_number((*number).into())
                .e_tag(super::quoted(unquoted(etag)))
                .build()
        });
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts.collect())).build();
        let complete = self.client.complete_multipart_upload().bucket(&self.bucket).key(self.full(key)?);
        let complete = complete
            .upload_id(id)
            .multipart_upload(parts)
            .set_if_match(when.if_match.as_deref().map(condition))
            .set_if_none_match(when.if_none_match.as_deref().map(condition));
        let done = complete.send().await.map_err(|e| RemoteError::new(what, e))?;
        etag_of(what, done.e_tag.as_deref())
    }

    /// Forgets an upload; one that is not there is forgotten already.
    pub async fn abort(&self, key: &[u8], id: &str) -> Result<()> {
        let abort =
            self.client.abort_multipart_upload().bucket(&self.bucket).key(self.full(key)?).upload_id(id);
        match abort.send().await {
            Ok(_) => Ok(()),
            Err(error) => match RemoteError::new("to abort an upload", error) {
                error if error.kind == Kind::NotFound => Ok(()),
                error => Err(error.into()),
            },
        }
    }

    /// Parts that came, after a number, and whether these are all.
    pub async fn parts(
        &self,
        key: &[u8],
        id: &str,
        after: u16,
        limit: usize,
    ) -> Result<(Vec<PartInfo>, bool)> {
        let what = "to list an upload's parts";
        let list = self.client.list_parts().bucket(&self.bucket).key(self.full(key)?).upload_id(id);
        let list = list.part_number_marker(after.to_string()).max_parts(limit.clamp(1, 1000) as i32);
        let listed = list.send().await.map_err(|e| match RemoteError::new(what, e) {
            error if error.kind == Kind::NotFound => RemoteError { kind: Kind::NoUpload, ..error },
            error => error,
        })?;
        let parts = listed.parts.unwrap_or_default().into_iter().filter_map(|part| {
            Some(PartInfo {
                number: u16::try_from(part.part_number?).ok()?,
                size: u64::try_from(part.size.unwrap_or_default()).ok()?,
                etag: unquoted(part.e_tag.as_deref()?).to_owned(),
                checksums: Vec::new(),
                modified: time(part.last_modified.as_ref()),
            })
        });
        Ok((parts.collect(), !listed.is_truncated.unwrap_or_default()))
    }

    /// Uploads under way below a prefix, after (key, id), and whether these are all.
    pub async fn uploads(
        &self,
        prefix: &[u8],
        after: (&[u8], &str),
        limit: usize,
    ) -> Result<(Vec<(Vec<u8>, UploadInfo)>, bool)> {
        let list = self.client.list_multipart_uploads().bucket(&self.bucket).prefix(self.full(prefix)?);
        let mut list = list.max_uploads(limit.clamp(1, 1000) as i32);
        if !after.0.is_empty() {
            list = list.key_marker(self.full(after.0)?);
            list = list.set_upload_id_marker((!after.1.is_empty()).then(|| after.1.to_owned()));
        }
        let listed = list.send().await.map_err(|e| RemoteError::new("to list uploads", e))?;
        let uploads = listed.uploads.unwrap_or_default().into_iter().filter_map(|upload| {
            let key = upload.key?.strip_prefix(&self.prefix)?.as_bytes().to_vec();
            let id = upload.upload_id?;
            let (started, meta) = (time(upload.initiated.as_ref()), ObjectMeta::default());
            Some((key.clone(), UploadInfo { id, key: key.into(), started, meta }))
        });
        Ok((uploads.collect(), !listed.is_truncated.unwrap_or_default()))
    }
}

fn time(at: Option<&aws_sdk_s3::primitives::DateTime>) -> Time {
    Time { secs: at.map_or(0, aws_sdk_s3::primitives::DateTime::secs), nanos: 0 }
}
