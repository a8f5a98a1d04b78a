//! Checksums of object bytes: which there are, computing several in one pass, and joining those of parts.

use aws_lc_rs::digest as aws;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use crc_fast::CrcAlgorithm;
use md5::{Digest as _, Md5};

use crate::config::HASH_INLINE;
use crate::error::Refusal;

/// A checksum S3 knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Algorithm {
    Crc32,
    Crc32c,
    Crc64Nvme,
    Sha1,
    Sha256,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Crc32, Self::Crc32c, Self::Crc64Nvme, Self::Sha1, Self::Sha256];

    /// As the store keeps it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Crc32 => "crc32",
            Self::Crc32c => "crc32c",
            Self::Crc64Nvme => "crc64nvme",
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
        }
    }

    /// The header or trailer that carries it.
    pub const fn header(self) -> &'static str {
        match self {
            Self::Crc32 => "x-amz-checksum-crc32",
            Self::Crc32c => "x-amz-checksum-crc32c",
            Self::Crc64Nvme => "x-amz-checksum-crc64nvme",
            Self::Sha1 => "x-amz-checksum-sha1",
            Self::Sha256 => "x-amz-checksum-sha256",
        }
    }

    /// By any spelling of its name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|a| a.name().eq_ignore_ascii_case(name))
    }

    /// By the header that carries it.
    pub fn of_header(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|a| a.header().eq_ignore_ascii_case(name))
    }

    /// Bytes of a value.
    pub const fn size(self) -> usize {
        match self {
            Self::Crc32 | Self::Crc32c => 4,
            Self::Crc64Nvme => 8,
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }

    const fn crc(self) -> Option<CrcAlgorithm> {
        match self {
            Self::Crc32 => Some(CrcAlgorithm::Crc32IsoHdlc),
            Self::Crc32c => Some(CrcAlgorithm::Crc32Iscsi),
            Self::Crc64Nvme => Some(CrcAlgorithm::Crc64Nvme),
            Self::Sha1 | Self::Sha256 => None,
        }
    }

    /// Can the checksum of a whole be joined from those of its parts?
    pub const fn joins(self) -> bool {
        self.crc().is_some()
    }

    /// The bytes of a base64 value of this algorithm.
    pub fn decode(self, value: &str) -> Result<Vec<u8>, Refusal> {
        let bytes = STANDARD.decode(value).ok().filter(|bytes| bytes.len() == self.size());
        bytes.ok_or(Refusal::InvalidChecksum(self.header()))
    }

    /// The checksum of bytes.
    pub fn of(self, data: &[u8]) -> String {
        let mut hasher = Hasher::new(self);
        hasher.update(data);
        STANDARD.encode(hasher.finish())
    }

    /// The checksum of a whole from its parts' values and lengths; `None` where that cannot be done.
    pub fn join(self, parts: &[(Vec<u8>, u64)]) -> Option<String> {
        let crc = self.crc()?;
        let number = |bytes: &[u8]| bytes.iter().fold(0u64, |n, b| n << 8 | u64::from(*b));
        let mut parts = parts.iter();
        let first = number(&parts.next()?.0);
        let sum =
            parts.fold(first, |sum, (next, len)| crc_fast::checksum_combine(crc, sum, number(next), *len));
        Some(STANDARD.encode(&sum.to_be_bytes()[8 - self.size()..]))
    }
}

/// One checksum under way.
enum Hasher {
    Crc(Algorithm, Box<crc_fast::Digest>),
    Aws(aws::Context),
}

impl Hasher {
    fn new(algorithm: Algorithm) -> Self {
        match algorithm.crc() {
            Some(crc) => Self::Crc(algorithm, Box::new(crc_fast::Digest::new(crc))),
            None if algorithm == Algorithm::Sha1 => {
                Self::Aws(aws::Context::new(&aws::SHA1_FOR_LEGACY_USE_ONLY))
            }
            None => Self::Aws(aws::Context::new(&aws::SHA256)),
        }
    }

    fn update(&mut self, data: &[u8]) {
        match self {
            Self::Crc(_, digest) => digest.update(data),
            Self::Aws(context) => context.update(data),
        }
    }

    fn finish(self) -> Vec<u8> {
        match self {
            Self::Crc(algorithm, digest) => digest.finalize().to_be_bytes()[8 - algorithm.size()..].to_vec(),
            Self::Aws(context) => context.finish().as_ref().to_vec(),
        }
    }
}

/// MD5 and the checksums asked for, in one pass.
pub(crate) struct Digests {
    md5: Md5,
    others: Vec<(Algorithm, Hasher)>,
}

/// What [`Digests`] came to.
pub(crate) struct Sums {
    pub md5: [u8; 16],
    sums: Vec<(Algorithm, Vec<u8>)>,
}

impl Sums {
    /// The raw value of an algorithm that was asked for.
    pub fn get(&self, algorithm: Algorithm) -> Option<&[u8]> {
        self.sums.iter().find(|(a, _)| *a == algorithm).map(|(_, sum)| sum.as_slice())
    }

    /// The same in base64.
    pub fn base64(&self, algorithm: Algorithm) -> Option<String> {
        self.get(algorithm).map(|sum| STANDARD.encode(sum))
    }
}

impl Digests {
    pub fn new(algorithms: impl IntoIterator<Item = Algorithm>) -> Self {
        let mut others: Vec<(Algorithm, Hasher)> = Vec::new();
        for algorithm in algorithms {
            if !others.iter().any(|(a, _)| *a == algorithm) {
                others.push((algorithm, Hasher::new(algorithm)));
            }
        }
        Self { md5: Md5::new(), others }
    }

    fn update_others(others: &mut [(Algorithm, Hasher)], data: &[u8]) {
        others.iter_mut().for_each(|(_, hasher)| hasher.update(data));
    }

    /// Adds bytes: at once when they are few, else on threads that may block, MD5 (the slow one) beside the rest.
    pub async fn update(self, data: Bytes) -> Result<Self, Refusal> {
        let Self { mut md5, mut others } = self;
        if data.len() <= HASH_INLINE {
            md5.update(&data);
            Self::update_others(&mut others, &data);
            return Ok(Self { md5, others });
        }
        let again = data.clone();
        let slow = tokio::task::spawn_blocking(move || {
            md5.update(&data);
            md5
        });
        let rest = async move {
            if others.is_empty() {
                return Ok(others);
            }
            tokio::task::spawn_blocking(move || {
                Self::update_others(&mut others, &again);
                others
            })
            .await
        };
        let (md5, others) = tokio::join!(slow, rest);
        // A hashing thread fails only when the runtime is going down.
        Ok(Self { md5: md5.map_err(|_| Refusal::Internal)?, others: others.map_err(|_| Refusal::Internal)? })
    }

    pub fn finish(self) -> Sums {
        let sums = self.others.into_iter().map(|(a, hasher)| (a, hasher.finish())).collect();
        Sums { md5: self.md5.finalize().into(), sums }
    }
}

/// MD5 of a small document.
pub(crate) fn md5_of(data: &[u8]) -> [u8; 16] {
    Md5::digest(data).into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn known_values() {
        // The check values of the CRC catalogue (input "123456789") and of FIPS 180 for the hashes.
        let of = |a: Algorithm| hex::encode(a.decode(&a.of(b"123456789")).unwrap());
        assert_eq!(of(Algorithm::Crc32), "cbf43926");
        assert_eq!(of(Algorithm::Crc32c), "e3069283");
        assert_eq!(of(Algorithm::Crc64Nvme), "ae8b14860a799888");
        assert_eq!(of(Algorithm::Sha1), "f7c3bc1d808e04732adf679965ccc34ca7ae3441");
        assert_eq!(of(Algorithm::Sha256), "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225");
    }

    #[test]
    fn parts_join_to_the_whole() {
        let data: Vec<u8> = (0..100_000u32).map(|n| (n * 31 % 251) as u8).collect();
        for algorithm in Algorithm::ALL {
            let parts: Vec<_> = data
                .chunks(33_333)
                .map(|part| (algorithm.decode(&algorithm.of(part)).unwrap(), part.len() as u64))
                .collect();
            let joined = algorithm.join(&parts);
            assert_eq!(joined, algorithm.joins().then(|| algorithm.of(&data)), "{algorithm:?}");
        }
    }

    #[tokio::test]
    async fn large_and_small_updates_agree() {
        let data = Bytes::from(vec![7u8; HASH_INLINE * 3 + 1]);
        let large = Digests::new(Algorithm::ALL).update(data.clone()).await.unwrap().finish();
        let mut small = Digests::new(Algorithm::ALL);
        for chunk in data.chunks(1000) {
            small = small.update(Bytes::copy_from_slice(chunk)).await.unwrap();
        }
        let small = small.finish();
        assert_eq!(large.md5, small.md5);
        for algorithm in Algorithm::ALL {
            assert_eq!(large.base64(algorithm), small.base64(algorithm));
            assert_eq!(large.base64(algorithm), Some(algorithm.of(&data)));
        }
    }

    #[test]
    fn values_of_the_wrong_length_are_refused() {
        assert!(Algorithm::Crc32.decode("AAAA").is_err());
        assert!(Algorithm::Crc32.decode("????????").is_err());
        assert!(Algorithm::Crc32.decode("AAAAAA==").is_ok());
    }
}
