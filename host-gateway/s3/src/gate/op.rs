//! The operations we serve, and for each exactly which query keys and `x-amz-*` headers it may carry. What is in no
//! list does not get in: it is answered NotImplemented with its name, never ignored.

use http::Method;

use crate::config::{COMPLETE_XML, CREATE_XML, DELETE_XML};

/// What becomes of a request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyKind {
    /// It must be empty.
    None,
    /// A small document of at most so many bytes, read and checked whole before anything runs.
    Xml(usize),
    /// An object's bytes, streamed.
    Stream,
}

/// An operation, by its name in the AWS API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    ListBuckets,
    CreateBucket,
    HeadBucket,
    DeleteBucket,
    GetBucketLocation,
    GetBucketVersioning,
    ListObjects,
    ListObjectsV2,
    ListObjectVersions,
    ListMultipartUploads,
    DeleteObjects,
    PutObject,
    GetObject,
    HeadObject,
    DeleteObject,
    CopyObject,
    CreateMultipartUpload,
    UploadPart,
    UploadPartCopy,
    ListParts,
    CompleteMultipartUpload,
    AbortMultipartUpload,
}

/// Which kind of thing the path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    Root,
    Bucket,
    Object,
}

const LISTING: &[&str] = &["prefix", "delimiter", "encoding-type"];
const RESPONSE: &[&str] = &[
    "response-cache-control",
    "response-content-disposition",
    "response-content-encoding",
    "response-content-language",
    "response-content-type",
    "response-expires",
];
const CHECKSUMS: &[&str] = &[
    "x-amz-checksum-crc32",
    "x-amz-checksum-crc32c",
    "x-amz-checksum-crc64nvme",
    "x-amz-checksum-sha1",
    "x-amz-checksum-sha256",
];
const COPY_SOURCE: &[&str] = &[
    "x-amz-copy-source",
    "x-amz-copy-source-if-match",
    "x-amz-copy-source-if-none-match",
    "x-amz-copy-source-if-modified-since",
    "x-amz-copy-source-if-unmodified-since",
];

impl Op {
    /// What a method on such a path means, given which query keys there are.
    pub fn resolve(
        method: &Method,
        level: Level,
        has: impl Fn(&str) -> bool,
        copy_source: bool,
    ) -> Option<Op> {
        let op = match (method.as_str(), level) {
            ("GET", Level::Root) => Op::ListBuckets,
            ("HEAD", Level::Bucket) => Op::HeadBucket,
            ("PUT", Level::Bucket) => Op::CreateBucket,
            ("DELETE", Level::Bucket) => Op::DeleteBucket,
            ("POST", Level::Bucket) if has("delete") => Op::DeleteObjects,
            ("GET", Level::Bucket) if has("location") => Op::GetBucketLocation,
            ("GET", Level::Bucket) if has("versioning") => Op::GetBucketVersioning,
            ("GET", Level::Bucket) if has("uploads") => Op::ListMultipartUploads,
            ("GET", Level::Bucket) if has("versions") => Op::ListObjectVersions,
            ("GET", Level::Bucket) if has("list-type") => Op::ListObjectsV2,
            ("GET", Level::Bucket) => Op::ListObjects,
            ("GET", Level::Object) if has("uploadId") => Op::ListParts,
            ("GET", Level::Object) => Op::GetObject,
            ("HEAD", Level::Object) => Op::HeadObject,
            ("PUT", Level::Object) if has("uploadId") && copy_source => Op::UploadPartCopy,
            ("PUT", Level::Object) if has("uploadId") => Op::UploadPart,
            ("PUT", Level::Object) if copy_source => Op::CopyObject,
            ("PUT", Level::Object) => Op::PutObject,
            ("POST", Level::Object) if has("uploads") => Op::CreateMultipartUpload,
            ("POST", Level::Object) if has("uploadId") => Op::CompleteMultipartUpload,
            ("DELETE", Level::Object) if has("uploadId") => Op::AbortMultipartUpload,
            ("DELETE", Level::Object) => Op::DeleteObject,
            _ => return None,
        };
        Some(op)
    }

    /// The name in the AWS API.
    pub const fn name(self) -> &'static str {
        match self {
            Op::ListBuckets => "ListBuckets",
            Op::CreateBucket => "CreateBucket",
            Op::HeadBucket => "HeadBucket",
            Op::DeleteBucket => "DeleteBucket",
            Op::GetBucketLocation => "GetBucketLocation",
            Op::GetBucketVersioning => "GetBucketVersioning",
            Op::ListObjects => "ListObjects",
            Op::ListObjectsV2 => "ListObjectsV2",
            Op::ListObjectVersions => "ListObjectVersions",
            Op::ListMultipartUploads => "ListMultipartUploads",
            Op::DeleteObjects => "DeleteObjects",
            Op::PutObject => "PutObject",
            Op::GetObject => "GetObject",
            Op::HeadObject => "HeadObject",
            Op::DeleteObject => "DeleteObject",
            Op::CopyObject => "CopyObject",
            Op::CreateMultipartUpload => "CreateMultipartUpload",
            Op::UploadPart => "UploadPart",
            Op::UploadPartCopy => "UploadPartCopy",
            Op::ListParts => "ListParts",
            Op::CompleteMultipartUpload => "CompleteMultipartUpload",
            Op::AbortMultipartUpload => "AbortMultipartUpload",
        }
    }

    /// What its body is.
    pub const fn body(self) -> BodyKind {
        match self {
            Op::CreateBucket => BodyKind::Xml(CREATE_XML),
            Op::DeleteObjects => BodyKind::Xml(DELETE_XML),
            Op::CompleteMultipartUpload => BodyKind::Xml(COMPLETE_XML),
            Op::PutObject | Op::UploadPart => BodyKind::Stream,
            _ => BodyKind::None,
        }
    }

    /// May the query carry this key (besides the signature's own and `x-id`)?
    pub fn allows_query(self, key: &str) -> bool {
        let (own, shared): (&[&str], &[&str]) = match self {
            Op::ListBuckets => (&["prefix", "max-buckets", "continuation-token"], &[]),
            Op::GetBucketLocation => (&["location"], &[]),
            Op::GetBucketVersioning => (&["versioning"], &[]),
            Op::ListObjects => (&["marker", "max-keys"], LISTING),
            Op::ListObjectsV2 => {
                (&["list-type", "start-after", "continuation-token", "max-keys", "fetch-owner"], LISTING)
            }
            Op::ListObjectVersions => (&["versions", "key-marker", "version-id-marker", "max-keys"], LISTING),
            Op::ListMultipartUploads => {
                (&["uploads", "key-marker", "upload-id-marker", "max-uploads"], LISTING)
            }
            Op::DeleteObjects => (&["delete"], &[]),
            Op::GetObject | Op::HeadObject => (&["versionId", "partNumber"], RESPONSE),
            Op::DeleteObject => (&["versionId"], &[]),
            Op::PutObject => (&["x-amz-sdk-checksum-algorithm"], CHECKSUMS),
            Op::CreateMultipartUpload => (&["uploads"], &[]),
            Op::UploadPart => (&["uploadId", "partNumber", "x-amz-sdk-checksum-algorithm"], CHECKSUMS),
            Op::UploadPartCopy => (&["uploadId", "partNumber"], &[]),
            Op::ListParts => (&["uploadId", "max-parts", "part-number-marker"], &[]),
            Op::CompleteMultipartUpload | Op::AbortMultipartUpload => (&["uploadId"], &[]),
            Op::CreateBucket | Op::HeadBucket | Op::DeleteBucket | Op::CopyObject => (&[], &[]),
        };
        own.contains(&key) || shared.contains(&key)
    }

    /// May the request carry this `x-amz-*` header (besides those of every signed request)?
    pub fn allows_header(self, name: &str) -> bool {
        let (own, shared): (&[&str], &[&[&str]]) = match self {
            Op::CreateBucket => (&["x-amz-acl"], &[]),
            // Nothing here is retained, so there is nothing to bypass; clean-up tools send it always.
            Op::DeleteObject => (
                &[
                    "x-amz-bypass-governance-retention",
                    "x-amz-if-match-last-modified-time",
                    "x-amz-if-match-size",
                ],
                &[],
            ),
            Op::DeleteObjects => {
                (&["x-amz-bypass-governance-retention", "x-amz-checksum-algorithm"], &[CHECKSUMS])
            }
            Op::PutObject => (
                &[
                    "x-amz-acl",
                    "x-amz-storage-class",
                    "x-amz-decoded-content-length",
                    "x-amz-trailer",
                    "x-amz-checksum-algorithm",
                ],
                &[CHECKSUMS],
            ),
            Op::UploadPart => {
                (&["x-amz-decoded-content-length", "x-amz-trailer", "x-amz-checksum-algorithm"], &[CHECKSUMS])
            }
            Op::GetObject | Op::HeadObject => (&["x-amz-checksum-mode"], &[]),
            Op::CopyObject => (
                &["x-amz-acl", "x-amz-storage-class", "x-amz-metadata-directive", "x-amz-checksum-algorithm"],
                &[COPY_SOURCE],
            ),
            Op::CreateMultipartUpload => (
                &["x-amz-acl", "x-amz-storage-class", "x-amz-checksum-algorithm", "x-amz-checksum-type"],
                &[],
            ),
            Op::UploadPartCopy => (&["x-amz-copy-source-range"], &[COPY_SOURCE]),
            Op::CompleteMultipartUpload => (&["x-amz-checksum-type", "x-amz-mp-object-size"], &[CHECKSUMS]),
            _ => (&[], &[]),
        };
        own.contains(&name)
            || shared.iter().any(|list| list.contains(&name))
            || (self.has_metadata() && name.starts_with("x-amz-meta-"))
    }

    /// Does it make an object that carries user metadata?
    pub const fn has_metadata(self) -> bool {
        matches!(self, Op::PutObject | Op::CopyObject | Op::CreateMultipartUpload)
    }
}

/// `x-amz-*` headers of any signed request.
pub(crate) fn of_every_request(name: &str) -> bool {
    matches!(name, "x-amz-date" | "x-amz-content-sha256" | "x-amz-security-token" | "x-amz-user-agent")
        || name.starts_with("x-amz-sdk-")
}

/// Headers that say how the body is sent or what an SDK did. They cannot change what a request does beyond making it
/// fail, and SDKs add them after signing.
pub(crate) fn may_be_unsigned(name: &str) -> bool {
    matches!(
        name,
        "x-amz-content-sha256"
            | "x-amz-decoded-content-length"
            | "x-amz-trailer"
            | "x-amz-checksum-algorithm"
    ) || name.starts_with("x-amz-sdk-")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn resolve(method: &str, level: Level, keys: &[&str], copy: bool) -> Option<&'static str> {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        Op::resolve(&method, level, |k| keys.contains(&k), copy).map(Op::name)
    }

    #[test]
    fn a_subresource_decides_and_a_copy_source_turns_a_put_into_a_copy() {
        assert_eq!(resolve("GET", Level::Bucket, &["list-type"], false), Some("ListObjectsV2"));
        assert_eq!(resolve("GET", Level::Bucket, &["prefix"], false), Some("ListObjects"));
        assert_eq!(resolve("PUT", Level::Object, &[], false), Some("PutObject"));
        assert_eq!(resolve("PUT", Level::Object, &[], true), Some("CopyObject"));
        assert_eq!(resolve("PUT", Level::Object, &["uploadId", "partNumber"], true), Some("UploadPartCopy"));
        assert_eq!(resolve("DELETE", Level::Object, &["uploadId"], false), Some("AbortMultipartUpload"));
        assert_eq!(resolve("POST", Level::Bucket, &[], false), None);
        assert_eq!(resolve("OPTIONS", Level::Object, &[], false), None);
        assert_eq!(resolve("PUT", Level::Root, &[], false), None);
    }

    #[test]
    fn only_what_is_listed_gets_in() {
        assert!(!Op::ListObjects.allows_query("acl"));
        assert!(!Op::PutObject.allows_header("x-amz-copy-source"));
        assert!(!Op::PutObject.allows_header("x-amz-tagging"));
        assert!(!Op::GetObject.allows_header("x-amz-meta-a"));
        assert!(Op::PutObject.allows_header("x-amz-meta-a"));
        assert!(Op::CopyObject.allows_header("x-amz-copy-source"));
    }
}
