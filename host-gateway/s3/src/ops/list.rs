//! Listings: v1 and v2. Those of versions are in [`super::versions`].

use mooring_store::api::{ListPage, ListQuery, ObjectInfo};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result, s3_error};

use crate::config::LIST_KEYS;
use crate::error::from_store;
use crate::ops::token::Binding;
use crate::ops::{Door, convert, identity};

/// What `encoding-type=url` leaves as it is: RFC 3986's unreserved characters and the slash.
const URL: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');

/// How keys are written in the answer.
#[derive(Clone, Copy)]
pub(super) struct Encoding(bool);

impl Encoding {
    pub fn of(asked: Option<&EncodingType>) -> S3Result<Self> {
        match asked.map(EncodingType::as_str) {
            None | Some("") => Ok(Self(false)),
            Some("url") => Ok(Self(true)),
            Some(_) => Err(s3_error!(InvalidArgument, "Invalid Encoding Method specified in Request")),
        }
    }

    pub fn text(self, text: impl Into<String>) -> String {
        let text = text.into();
        if self.0 { utf8_percent_encode(&text, URL).to_string() } else { text }
    }

    pub fn echo(self) -> Option<EncodingType> {
        self.0.then(|| EncodingType::from_static(EncodingType::URL))
    }
}

/// At most so many entries; more than AWS gives is what AWS gives.
pub(super) fn limit(asked: Option<i32>) -> S3Result<i32> {
    match asked {
        None => Ok(LIST_KEYS),
        Some(limit) if limit < 0 => Err(s3_error!(InvalidArgument, "max-keys must not be negative")),
        Some(limit) => Ok(limit.min(LIST_KEYS)),
    }
}

pub(super) fn given(text: &Option<String>) -> Option<&str> {
    text.as_deref().filter(|text| !text.is_empty())
}

/// A listing as all three requests ask for it.
struct Asked<'a> {
    bucket: &'a str,
    prefix: Option<&'a str>,
    delimiter: Option<&'a str>,
    after: Vec<u8>,
    limit: i32,
}

impl Door {
    async fn page(&self, extensions: &http::Extensions, asked: &Asked<'_>) -> S3Result<ListPage> {
        let open = self.open(identity(extensions)?, asked.bucket).await?;
        let query = ListQuery {
            prefix: asked.prefix.unwrap_or("").as_bytes().to_vec(),
            delimiter: asked.delimiter.map(|delimiter| delimiter.as_bytes().to_vec()),
            after: asked.after.clone(),
            // Even when nothing is asked for, the right to look is checked.
            limit: asked.limit.max(1) as usize,
        };
        let page = open.objects.list(&open.cx, &query).await.map_err(from_store)?;
        Ok(if asked.limit == 0 { ListPage::default() } else { page })
    }

    pub(super) async fn list_objects(
        &self,
        req: S3Request<ListObjectsInput>,
    ) -> S3Result<S3Response<ListObjectsOutput>> {
        let input = &req.input;
        let encoding = Encoding::of(input.encoding_type.as_ref())?;
        let asked = Asked {
            bucket: &input.bucket,
            prefix: given(&input.prefix),
            delimiter: given(&input.delimiter),
            after: input.marker.clone().unwrap_or_default().into_bytes(),
            limit: limit(input.max_keys)?,
        };
        let page = self.page(&req.extensions, &asked).await?;
        let owner = convert::owner(identity(&req.extensions)?);
        // Without a delimiter a client continues after the last key it got.
        let next = page.next.as_ref().filter(|_| asked.delimiter.is_some());
        Ok(S3Response::new(ListObjectsOutput {
            name: Some(input.bucket.clone()),
            prefix: Some(encoding.text(input.prefix.clone().unwrap_or_default())),
            marker: Some(encoding.text(input.marker.clone().unwrap_or_default())),
            max_keys: Some(asked.limit),
            is_truncated: Some(page.next.is_some()),
            next_marker: next.map(|next| encoding.text(String::from_utf8_lossy(next))),
            contents: Some(page.objects.iter().filter_map(|o| object(o, encoding, Some(&owner))).collect()),
            common_prefixes: Some(prefixes(&page, encoding)),
            delimiter: asked.delimiter.map(|delimiter| encoding.text(delimiter)),
            encoding_type: encoding.echo(),
            ..Default::default()
        }))
    }

    pub(super) async fn list_objects_v2(
        &self,
        req: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = &req.input;
        let encoding = Encoding::of(input.encoding_type.as_ref())?;
        let binding = Binding {
            bucket: &input.bucket,
            prefix: given(&input.prefix).unwrap_or(""),
            delimiter: given(&input.delimiter).unwrap_or(""),
        };
        let after = match given(&input.continuation_token) {
            Some(token) => binding.position(token)?,
            None => input.start_after.clone().unwrap_or_default().into_bytes(),
        };
        let asked = Asked {
            bucket: &input.bucket,
            prefix: given(&input.prefix),
            delimiter: given(&input.delimiter),
            after,
            limit: limit(input.max_keys)?,
        };
        let page = self.page(&req.extensions, &asked).await?;
        let who = identity(&req.extensions)?;
        let owner = (input.fetch_owner == Some(true)).then(|| convert::owner(who));
        let contents: Vec<_> =
            page.objects.iter().filter_map(|o| object(o, encoding, owner.as_ref())).collect();
        let prefixes = prefixes(&page, encoding);
        Ok(S3Response::new(ListObjectsV2Output {
            name: Some(input.bucket.clone()),
            prefix: Some(encoding.text(input.prefix.clone().unwrap_or_default())),
            max_keys: Some(asked.limit),
            key_count: i32::try_from(contents.len() + prefixes.len()).ok(),
            continuation_token: input.continuation_token.clone(),
            is_truncated: Some(page.next.is_some()),
            next_continuation_token: page.next.as_ref().map(|next| binding.token(next)),
            contents: Some(contents),
            common_prefixes: Some(prefixes),
            delimiter: asked.delimiter.map(|delimiter| encoding.text(delimiter)),
            encoding_type: encoding.echo(),
            start_after: input.start_after.clone().map(|after| encoding.text(after)),
            ..Default::default()
        }))
    }
}

/// A key as text. The store lists none that is not UTF-8.
pub(super) fn key(info: &ObjectInfo, encoding: Encoding) -> Option<String> {
    std::str::from_utf8(&info.key).ok().map(|key| encoding.text(key))
}

fn algorithms(info: &ObjectInfo) -> Option<Vec<ChecksumAlgorithm>> {
    let names =
        info.meta.checksums.iter().map(|(name, _)| ChecksumAlgorithm::from(name.to_ascii_uppercase()));
    Some(names.collect::<Vec<_>>()).filter(|names| !names.is_empty())
}

fn object(info: &ObjectInfo, encoding: Encoding, owner: Option<&Owner>) -> Option<Object> {
    Some(Object {
        key: Some(key(info, encoding)?),
        last_modified: Some(convert::time(info.modified)),
        e_tag: Some(convert::etag(&info.etag)),
        size: i64::try_from(info.size).ok(),
        storage_class: Some(ObjectStorageClass::from_static(ObjectStorageClass::STANDARD)),
        owner: owner.cloned(),
        checksum_algorithm: algorithms(info),
        checksum_type: convert::checksum_type(&info.meta.checksums),
        ..Default::default()
    })
}

fn prefixes(page: &ListPage, encoding: Encoding) -> Vec<CommonPrefix> {
    common(&page.prefixes, encoding)
}

pub(super) fn common(prefixes: &[bytes::Bytes], encoding: Encoding) -> Vec<CommonPrefix> {
    let texts = prefixes.iter().filter_map(|prefix| std::str::from_utf8(prefix).ok());
    texts.map(|prefix| CommonPrefix { prefix: Some(encoding.text(prefix)) }).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn url_encoding_is_what_clients_undo() {
        let url = Encoding::of(Some(&EncodingType::from_static("url"))).unwrap();
        assert_eq!(url.text("foo+1/b a\u{1}r~é"), "foo%2B1/b%20a%01r~%C3%A9");
        assert!(Encoding::of(Some(&EncodingType::from_static("gzip"))).is_err());
    }

    #[test]
    fn limits_are_those_of_aws() {
        assert_eq!(
            (limit(None).unwrap(), limit(Some(5000)).unwrap(), limit(Some(0)).unwrap()),
            (1000, 1000, 0)
        );
        assert!(limit(Some(-1)).is_err());
    }
}
