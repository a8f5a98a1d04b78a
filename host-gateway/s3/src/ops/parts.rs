//! What a completed upload is made of: which parts, are they all there, and the checksum of the whole.

use mooring_store::api::{ObjectMeta, PartInfo};
use s3s::dto::{CompleteMultipartUploadInput, CompletedPart};
use s3s::{S3Result, s3_error};

use crate::body::digest::Algorithm;
use crate::config::{PART_BYTES, PARTS};
use crate::error::{Refusal, from_store};
use crate::ops::convert::get_checksums;
use crate::ops::{Open, convert};

/// A part number.
pub(super) fn number(number: i32) -> S3Result<u16> {
    let number = u16::try_from(number).ok().filter(|number| (1..=PARTS).contains(number));
    number.ok_or_else(|| {
        s3_error!(InvalidArgument, "Part number must be an integer between 1 and 10000, inclusive")
    })
}

/// The checksum an upload was begun with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Promise {
    pub algorithm: Algorithm,
    /// Of the whole object; else of its parts' checksums.
    pub full: bool,
}

const FULL: &str = "FULL_OBJECT";
const COMPOSITE: &str = "COMPOSITE";

impl Promise {
    /// From what CreateMultipartUpload asks for.
    pub fn new(algorithm: Option<Algorithm>, kind: Option<&str>) -> S3Result<Option<Self>> {
        let Some(algorithm) = algorithm else {
            return match kind {
                None => Ok(None),
                Some(_) => Err(s3_error!(
                    InvalidRequest,
                    "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header."
                )),
            };
        };
        let full = match (kind, algorithm) {
            (None, Algorithm::Crc64Nvme) | (Some(FULL), _) => true,
            (None | Some(COMPOSITE), _) => false,
            (Some(_), _) => {
                return Err(s3_error!(InvalidRequest, "Value for x-amz-checksum-type header is invalid."));
            }
        };
        let fits = if full { algorithm.joins() } else { algorithm != Algorithm::Crc64Nvme };
        if !fits {
            let kind = if full { FULL } else { COMPOSITE };
            return Err(s3_error!(
                InvalidRequest,
                "The {kind} checksum type cannot be used with the {} checksum algorithm.",
                algorithm.name()
            ));
        }
        Ok(Some(Self { algorithm, full }))
    }

    /// As it is kept with the upload: in the place of the checksum, the kind it will be of.
    pub fn keep(self, meta: &mut ObjectMeta) {
        meta.checksums = vec![(self.algorithm.name().to_owned(), self.kind().to_owned())];
    }

    /// As it was kept.
    pub fn kept(meta: &ObjectMeta) -> Option<Self> {
        let (name, kind) = meta.checksums.first()?;
        Some(Self { algorithm: Algorithm::parse(name)?, full: kind == FULL })
    }

    /// In S3's words.
    pub const fn kind(self) -> &'static str {
        if self.full { FULL } else { COMPOSITE }
    }
}

/// The parts a client names, in order, each number once.
pub(super) fn named(parts: &[CompletedPart]) -> S3Result<Vec<(u16, String)>> {
    if parts.is_empty() || parts.len() > usize::from(PARTS) {
        return Err(s3_error!(MalformedXML, "an upload is completed with 1 to 10000 parts"));
    }
    let mut named: Vec<(u16, String)> = Vec::with_capacity(parts.len());
    for part in parts {
        let number = number(part.part_number.unwrap_or(0))?;
        if named.last().is_some_and(|(last, _)| *last >= number) {
            return Err(s3_error!(
                InvalidPartOrder,
                "The list of parts was not in ascending order. Parts must be ordered by part number."
            ));
        }
        let etag =
            part.e_tag.as_ref().map(|etag| etag.value().to_owned()).ok_or_else(|| s3_error!(MalformedXML))?;
        named.push((number, etag));
    }
    Ok(named)
}

/// All parts an upload has.
pub(super) async fn stored(open: &Open, key: &[u8], id: &str) -> S3Result<Vec<PartInfo>> {
    let mut all: Vec<PartInfo> = Vec::new();
    loop {
        let after = all.last().map_or(0, |part| part.number);
        let (page, over) =
            open.objects.upload_parts(&open.cx, key, id, after, 1000).await.map_err(from_store)?;
        let progress = !page.is_empty();
        all.extend(page);
        if over || !progress {
            return Ok(all);
        }
    }
}

/// Finds the named parts among the stored ones and checks them.
pub(super) fn chosen<'a>(
    stored: &'a [PartInfo],
    named: &[(u16, String)],
    listed: &[CompletedPart],
) -> S3Result<Vec<&'a PartInfo>> {
    let mut chosen = Vec::with_capacity(named.len());
    for ((number, etag), listed) in named.iter().zip(listed) {
        let part = stored.binary_search_by_key(number, |part| part.number).ok().map(|at| &stored[at]);
        let matches = |part: &&PartInfo| {
            part.etag == *etag
                && get_checksums!(listed).all(|(algorithm, value)| {
                    part.checksums.contains(&convert::checksum(algorithm, value.to_owned()))
                })
        };
        let part = part.filter(matches).ok_or_else(|| s3_error!(InvalidPart, "One or more of the specified parts could not be found. The part may not have been uploaded, or the specified entity tag may not match the part's entity tag: part {number}"))?;
        chosen.push(part);
    }
    let all_but_last = chosen.split_last().map(|(_, rest)| rest).unwrap_or_default();
    if let Some(small) = all_but_last.iter().find(|part| part.size < PART_BYTES) {
        return Err(s3_error!(
            EntityTooSmall,
            "Your proposed upload is smaller than the minimum allowed size: part {} has {} bytes, all but the last need {PART_BYTES}",
            small.number,
            small.size
        ));
    }
    Ok(chosen)
}

/// The checksum of the whole, held against what the client says it is.
pub(super) fn checksum_of_whole(
    input: &CompleteMultipartUploadInput,
    promise: Option<Promise>,
    parts: &[&PartInfo],
) -> S3Result<Vec<(String, String)>> {
    let claimed: Vec<_> = get_checksums!(input).collect();
    let Some(promise) = promise else {
        return match claimed.first() {
            None => Ok(Vec::new()),
            Some(_) => Err(s3_error!(
                InvalidRequest,
                "The upload was created without a checksum algorithm, so a checksum of the whole cannot be checked."
            )),
        };
    };
    if let Some(kind) = &input.checksum_type
        && kind.as_str() != promise.kind()
    {
        return Err(s3_error!(
            InvalidRequest,
            "The upload was created using the {} checksum mode. The complete request must use the same checksum mode.",
            promise.kind()
        ));
    }
    let Some(value) = computed(promise, parts)? else { return Ok(Vec::new()) };
    for (algorithm, claim) in claimed {
        let bare = value.split('-').next().unwrap_or_default();
        if algorithm != promise.algorithm || (claim != value && claim != bare) {
            return Err(Refusal::BadDigest(algorithm.header()).into());
        }
    }
    Ok(vec![convert::checksum(promise.algorithm, value)])
}

fn computed(promise: Promise, parts: &[&PartInfo]) -> S3Result<Option<String>> {
    let mut values = Vec::with_capacity(parts.len());
    for part in parts {
        let Some((_, value)) = part.checksums.iter().find(|(name, _)| name == promise.algorithm.name())
        else {
            return Ok(None);
        };
        values.push((promise.algorithm.decode(value)?, part.size));
    }
    if promise.full {
        return Ok(promise.algorithm.join(&values));
    }
    let all: Vec<u8> = values.into_iter().flat_map(|(value, _)| value).collect();
    Ok(Some(format!("{}-{}", promise.algorithm.of(&all), parts.len())))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use mooring_protocol::types::Time;
    use s3s::dto::ETag;

    use super::*;

    fn part(number: u16, size: u64) -> PartInfo {
        let checksums = vec![("crc32".to_owned(), Algorithm::Crc32.of(&[number as u8]))];
        PartInfo { number, size, etag: format!("e{number}"), checksums, modified: Time::default() }
    }

    fn listed(number: i32, etag: &str) -> CompletedPart {
        CompletedPart {
            part_number: Some(number),
            e_tag: Some(ETag::Strong(etag.into())),
            ..Default::default()
        }
    }

    fn code<T: std::fmt::Debug>(result: S3Result<T>) -> String {
        result.unwrap_err().code().as_str().to_owned()
    }

    #[test]
    fn parts_must_be_there_in_order_and_large_enough() {
        let stored = [part(1, PART_BYTES), part(2, 10), part(7, 10)];
        let choose = |parts: &[CompletedPart]| {
            named(parts).and_then(|named| chosen(&stored, &named, parts).map(|parts| parts.len()))
        };
        assert_eq!(choose(&[listed(1, "e1"), listed(7, "e7")]).unwrap(), 2);
        assert_eq!(code(choose(&[listed(2, "e2"), listed(1, "e1")])), "InvalidPartOrder");
        assert_eq!(code(choose(&[listed(1, "e1"), listed(1, "e1")])), "InvalidPartOrder");
        assert_eq!(code(choose(&[listed(1, "x")])), "InvalidPart");
        assert_eq!(code(choose(&[listed(3, "e3")])), "InvalidPart");
        assert_eq!(code(choose(&[listed(2, "e2"), listed(7, "e7")])), "EntityTooSmall");
        assert_eq!(code(choose(&[])), "MalformedXML");
        assert_eq!(code(choose(&[listed(0, "x")])), "InvalidArgument");
        assert_eq!(code(choose(&[listed(10_001, "x")])), "InvalidArgument");
        let mut wrong = listed(7, "e7");
        wrong.checksum_crc32 = Some("AAAAAA==".into());
        assert_eq!(code(choose(&[wrong])), "InvalidPart");
    }

    #[test]
    fn a_promise_fits_its_algorithm_and_survives_being_kept() {
        let promise = |algorithm, kind| Promise::new(algorithm, kind);
        assert_eq!(promise(None, None).unwrap(), None);
        assert!(promise(Some(Algorithm::Crc64Nvme), None).unwrap().unwrap().full);
        assert!(!promise(Some(Algorithm::Crc32), None).unwrap().unwrap().full);
        assert!(promise(Some(Algorithm::Sha256), Some("FULL_OBJECT")).is_err());
        assert!(promise(Some(Algorithm::Crc64Nvme), Some("COMPOSITE")).is_err());
        assert!(promise(Some(Algorithm::Crc32), Some("x")).is_err());
        assert!(promise(None, Some("COMPOSITE")).is_err());
        let made = promise(Some(Algorithm::Crc32c), Some("FULL_OBJECT")).unwrap().unwrap();
        let mut meta = ObjectMeta::default();
        made.keep(&mut meta);
        assert_eq!(Promise::kept(&meta), Some(made));
    }
}
