//! Seals the blocks of the metadata engine's tables.

use super::{Cipher, KeyGeneration, SealError, TAG_BYTES, VolumeKeys};
use async_trait::async_trait;
use bytes::Bytes;
use mooring_policy::rng::Random;
use parking_lot::RwLock;
use slatedb::BlockTransformer;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const SALT_BYTES: usize = 16;
const HEAD_BYTES: usize = SALT_BYTES + 8;

/// How many earlier runs' keys are kept at hand. Each open of a volume is a run, and each data key; compaction rewrites
/// old blocks.
const KEPT_KEYS: u64 = 1024;

/// Bits of the counter; above them stands the generation of the data key, less one. What was written before there were
/// generations has zeros there.
const COUNTER_BITS: u32 = 48;

type Salt = [u8; SALT_BYTES];

/// Sealed block: salt of the run (16), generation less one and counter (16 and 48 bits, big endian), cipher text, tag
/// (16). The number is the nonce.
pub struct BlockSealer {
    keys: VolumeKeys,
    random: Arc<dyn Random>,
    run: RwLock<Arc<Run>>,
    earlier: moka::sync::Cache<(KeyGeneration, Salt), Arc<Cipher>>,
}

/// What one process seals with one data key.
struct Run {
    generation: KeyGeneration,
    salt: Salt,
    cipher: Cipher,
    counter: AtomicU64,
}

impl Run {
    fn begin(keys: &VolumeKeys, random: &dyn Random) -> Result<Self, SealError> {
        let mut salt = [0; SALT_BYTES];
        random.fill(&mut salt);
        let generation = keys.generation();
        Ok(Self { generation, salt, cipher: keys.block(generation, &salt)?, counter: AtomicU64::new(0) })
    }

    fn nonce(&self) -> Result<u64, SealError> {
        let counter = self.counter.fetch_add(1, Ordering::Relaxed);
        if counter >> COUNTER_BITS != 0 {
            return Err(SealError::Exhausted);
        }
        Ok(u64::from(self.generation.0 - 1) << COUNTER_BITS | counter)
    }
}

fn generation(nonce: u64) -> Result<KeyGeneration, SealError> {
    let before = (nonce >> COUNTER_BITS) as u16;
    KeyGeneration(before).next().ok_or(SealError::Open)
}

impl std::fmt::Debug for BlockSealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BlockSealer(..)")
    }
}

impl BlockSealer {
    /// A sealer for one run of the engine, with a key of its own.
    pub fn new(keys: VolumeKeys, random: Arc<dyn Random>) -> Result<Self, SealError> {
        let run = RwLock::new(Arc::new(Run::begin(&keys, random.as_ref())?));
        Ok(Self { keys, random, run, earlier: moka::sync::Cache::new(KEPT_KEYS) })
    }

    /// The run to seal with: a new one when the data key was replaced.
    fn run(&self) -> Result<Arc<Run>, SealError> {
        let now = self.keys.generation();
        let run = Arc::clone(&self.run.read());
        if run.generation == now {
            return Ok(run);
        }
        let mut run = self.run.write();
        if run.generation != now {
            let next = Arc::new(Run::begin(&self.keys, self.random.as_ref())?);
            let before = std::mem::replace(&mut *run, next);
            drop(before);
        }
        Ok(Arc::clone(&run))
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
        let run = self.run()?;
        let nonce = run.nonce()?;
        let mut sealed = Vec::with_capacity(HEAD_BYTES + data.len() + TAG_BYTES);
        sealed.extend_from_slice(&run.salt);
        sealed.extend_from_slice(&nonce.to_be_bytes());
        sealed.extend_from_slice(data);
        run.cipher.seal_tail(nonce, place, &mut sealed, HEAD_BYTES)?;
        Ok(sealed.into())
    }

    fn open(&self, place: &[u8], sealed: &[u8]) -> Result<Bytes, SealError> {
        let (salt, rest) = sealed.split_first_chunk::<SALT_BYTES>().ok_or(SealError::Open)?;
        let (nonce, body) = rest.split_first_chunk::<8>().ok_or(SealError::Open)?;
        let nonce = u64::from_be_bytes(*nonce);
        let generation = generation(nonce)?;
        let mut buffer = body.to_vec();
        let run = Arc::clone(&self.run.read());
        let plain = if (run.generation, run.salt) == (generation, *salt) {
            run.cipher.open(nonce, place, &mut buffer)?.len()
        } else {
            let derive = || self.keys.block(generation, salt).map(Arc::new);
            let cipher = self.earlier.try_get_with((generation, *salt), derive);
            let cipher = cipher.map_err(|error| (*error).clone())?;
            cipher.open(nonce, place, &mut buffer)?.len()
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
