//! Seals the blocks of the metadata engine's tables.

use super::{Cipher, SealError, TAG_BYTES, VolumeKeys};
use async_trait::async_trait;
use bytes::Bytes;
use mooring_policy::rng::Random;
use slatedb::BlockTransformer;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const SALT_BYTES: usize = 16;
const HEAD_BYTES: usize = SALT_BYTES + 8;

/// How many earlier runs' keys are kept at hand. Each open of a volume is a run; compaction rewrites old blocks.
const KEPT_KEYS: u64 = 1024;

/// Sealed block: salt of the run (16), counter (8, big endian), cipher text, tag (16).
pub struct BlockSealer {
    keys: VolumeKeys,
    salt: [u8; SALT_BYTES],
    cipher: Cipher,
    counter: AtomicU64,
    earlier: moka::sync::Cache<[u8; SALT_BYTES], Arc<Cipher>>,
}

impl std::fmt::Debug for BlockSealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BlockSealer(..)")
    }
}

impl BlockSealer {
    /// A sealer for one run of the engine, with a key of its own.
    pub fn new(keys: VolumeKeys, random: &dyn Random) -> Result<Self, SealError> {
        let mut salt = [0; SALT_BYTES];
        random.fill(&mut salt);
        let cipher = keys.block(&salt)?;
        Ok(Self {
            keys,
            salt,
            cipher,
            counter: AtomicU64::new(0),
            earlier: moka::sync::Cache::new(KEPT_KEYS),
        })
    }

    /// Seals a small file of the engine that has this path.
    pub fn seal_file(&self, path: &str, data: &[u8]) -> Result<Bytes, SealError> {
        self.seal(&self.file_place(path), data)
    }

    /// Opens what [`Self::seal_file`] made for this path.
    pub fn open_file(&self, path: &str, sealed: &[u8]) -> Result<Bytes, SealError> {
        self.open(&self.file_place(path), sealed)
    }

    fn seal(&self, place: &[u8], data: &[u8]) -> Result<Bytes, SealError> {
        let counter = self.counter.fetch_add(1, Ordering::Relaxed);
        let mut sealed = Vec::with_capacity(HEAD_BYTES + data.len() + TAG_BYTES);
        sealed.extend_from_slice(&self.salt);
        sealed.extend_from_slice(&counter.to_be_bytes());
        sealed.extend_from_slice(data);
        self.cipher.seal_tail(counter, place, &mut sealed, HEAD_BYTES)?;
        Ok(sealed.into())
    }

    fn open(&self, place: &[u8], sealed: &[u8]) -> Result<Bytes, SealError> {
        let (salt, rest) = sealed.split_first_chunk::<SALT_BYTES>().ok_or(SealError::Open)?;
        let (counter, body) = rest.split_first_chunk::<8>().ok_or(SealError::Open)?;
        let counter = u64::from_be_bytes(*counter);
        let mut buffer = body.to_vec();
        let plain = if *salt == self.salt {
            self.cipher.open(counter, place, &mut buffer)?.len()
        } else {
            let derive = || self.keys.block(salt).map(Arc::new);
            let cipher = self.earlier.try_get_with(*salt, derive).map_err(|error| (*error).clone())?;
            cipher.open(counter, place, &mut buffer)?.len()
        };
        buffer.truncate(plain);
        Ok(buffer.into())
    }

    fn place(&self) -> [u8; 8] {
        self.keys.volume().get().to_be_bytes()
    }

    fn file_place(&self, path: &str) -> Vec<u8> {
        [&self.place()[..], b"file", path.as_bytes()].concat()
    }
}

#[async_trait]
impl BlockTransformer for BlockSealer {
    async fn encode(&self, data: Bytes) -> Result<Bytes, slatedb::Error> {
        self.seal(&self.place(), &data).map_err(|error| slatedb::Error::data(error.to_string()))
    }

    async fn decode(&self, data: Bytes) -> Result<Bytes, slatedb::Error> {
        self.open(&self.place(), &data).map_err(|error| slatedb::Error::data(error.to_string()))
    }

    fn encoded_overhead(&self) -> usize {
        HEAD_BYTES + TAG_BYTES
    }
}
