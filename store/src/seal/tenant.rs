//! A tenant's keys and everything derived from them.
//!
//! A tenant has one key that hashes, for good, and data keys that follow one another. A new data key (a new
//! *generation*) seals everything that is begun from then on; what earlier ones sealed is read with them, because
//! every pack, journal file and engine block says its generation in clear.
//!
//! The hash key stays when data keys change: hashes are kept in sealed rows only, and equal bytes must go on having
//! equal hashes, or nothing written before a rotation would be found again by deduplication or by a repack.

use super::{Cipher, SealError};
use crate::pack::PackId;
use mooring_policy::ids::VolumeId;
use mooring_policy::rng::Random;
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Keyed BLAKE3 of an extent, cut to 128 bits: found by chance once in 2^64 extents, and not at will without
/// the tenant's key.
pub type Hash = [u8; 16];

/// Which of an owner's data keys, counted from one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyGeneration(pub u16);

impl KeyGeneration {
    /// The key that an owner begins with. What says no generation was sealed by it.
    pub const FIRST: KeyGeneration = KeyGeneration(1);

    /// The one after this; `None` when numbers have run out.
    #[must_use]
    pub fn next(self) -> Option<KeyGeneration> {
        self.0.checked_add(1).map(KeyGeneration)
    }
}

impl std::fmt::Display for KeyGeneration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// One key: 32 random bytes, never written unwrapped.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct TenantKey([u8; 32]);

impl std::fmt::Debug for TenantKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TenantKey(..)")
    }
}

impl TenantKey {
    /// A new key.
    pub fn generate(random: &dyn Random) -> Self {
        let mut bytes = [0; 32];
        random.fill(&mut bytes);
        Self(bytes)
    }

    pub(super) fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub(super) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The keys of one volume of an owner who has this key and no other: for tools and tests.
    #[must_use]
    pub fn volume(&self, volume: VolumeId) -> VolumeKeys {
        let only = (KeyGeneration::FIRST, self.clone());
        Arc::new(TenantKeys::new(self.hash_key(), only, BTreeMap::new())).volume(volume)
    }

    /// The key that hashes the extents of an owner who began with this key.
    #[must_use]
    pub fn hash_key(&self) -> HashKey {
        HashKey(blake3::derive_key("mooring 2026-11 tenant extent hash v1", &self.0))
    }
}

/// Hashes extents of one tenant.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct HashKey([u8; 32]);

impl std::fmt::Debug for HashKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HashKey(..)")
    }
}

impl HashKey {
    /// The hash of `data` for this tenant.
    #[must_use]
    pub fn hash(&self, data: &[u8]) -> Hash {
        let mut hash = Hash::default();
        hash.copy_from_slice(&blake3::keyed_hash(&self.0, data).as_bytes()[..16]);
        hash
    }

    /// As a key that can be wrapped.
    pub(crate) fn to_key(&self) -> TenantKey {
        TenantKey(self.0)
    }

    /// Undoes [`Self::to_key`].
    pub(crate) fn from_key(key: &TenantKey) -> Self {
        Self(key.0)
    }
}

/// The keys of one tenant, shared by all its open volumes: a rotation reaches each of them at once.
pub struct TenantKeys {
    hash: HashKey,
    current: AtomicU16,
    data: RwLock<BTreeMap<KeyGeneration, TenantKey>>,
}

impl std::fmt::Debug for TenantKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TenantKeys(generation {})", self.generation())
    }
}

impl TenantKeys {
    /// The key that seals now, and those that sealed before.
    #[must_use]
    pub fn new(
        hash: HashKey,
        (generation, key): (KeyGeneration, TenantKey),
        mut earlier: BTreeMap<KeyGeneration, TenantKey>,
    ) -> Self {
        earlier.insert(generation, key);
        Self { hash, current: AtomicU16::new(generation.0), data: RwLock::new(earlier) }
    }

    /// Everything that is begun from now on is sealed by `key`.
    ///
    /// The caller has made the key durable: bytes must not outlive what opens them.
    pub fn rotate(&self, generation: KeyGeneration, key: TenantKey) {
        let mut data = self.data.write();
        data.insert(generation, key);
        self.current.store(generation.0, Ordering::Release);
    }

    /// Forgets the data keys: nothing more is sealed or opened, but by the ciphers that are in use already.
    pub fn destroy(&self) {
        self.data.write().clear();
    }

    /// The generation that seals now.
    #[must_use]
    pub fn generation(&self) -> KeyGeneration {
        KeyGeneration(self.current.load(Ordering::Acquire))
    }

    /// The key that hashes the tenant's extents.
    #[must_use]
    pub fn hash_key(&self) -> HashKey {
        self.hash.clone()
    }

    /// The keys of one volume of this tenant.
    #[must_use]
    pub fn volume(self: &Arc<Self>, volume: VolumeId) -> VolumeKeys {
        VolumeKeys { tenant: Arc::clone(self), volume }
    }
}

/// Makes the ciphers of one volume's files.
#[derive(Clone, Debug)]
pub struct VolumeKeys {
    tenant: Arc<TenantKeys>,
    volume: VolumeId,
}

impl VolumeKeys {
    /// The volume these belong to.
    #[must_use]
    pub fn volume(&self) -> VolumeId {
        self.volume
    }

    /// The generation that what is begun now is sealed by.
    #[must_use]
    pub fn generation(&self) -> KeyGeneration {
        self.tenant.generation()
    }

    /// The key that hashes the tenant's extents.
    #[must_use]
    pub fn hash_key(&self) -> HashKey {
        self.tenant.hash_key()
    }

    /// The cipher of the pack with this id, which says its generation.
    pub fn pack(&self, pack: u128) -> Result<Cipher, SealError> {
        self.derive(PackId(pack).generation(), "mooring 2026-11 pack v1", &pack.to_be_bytes())
    }

    /// The cipher of the journal file with this salt.
    pub fn journal(&self, generation: KeyGeneration, salt: &[u8; 32]) -> Result<Cipher, SealError> {
        self.derive(generation, "mooring 2026-11 journal v1", salt)
    }

    /// The cipher of a secret that is kept for the volume under this salt. It follows from the key that stays when data
    /// keys are replaced and forgotten: the secret is a row that is sealed once and must open as long as its tenant is.
    pub fn secret(&self, salt: &[u8; 32]) -> Result<Cipher, SealError> {
        if self.tenant.data.read().is_empty() {
            return Err(SealError::NoGeneration { generation: self.generation().0 });
        }
        self.derive_from(&self.tenant.hash.0, "mooring 2026-11 volume secret v2", salt)
    }

    /// The cipher that secrets had first: by the first data key.
    pub fn first_secret(&self, salt: &[u8; 32]) -> Result<Cipher, SealError> {
        self.derive(KeyGeneration::FIRST, "mooring 2026-11 volume secret v1", salt)
    }

    /// The cipher of the checkpoint with this salt.
    pub fn checkpoint(&self, generation: KeyGeneration, salt: &[u8; 32]) -> Result<Cipher, SealError> {
        self.derive(generation, "mooring 2026-11 checkpoint v1", salt)
    }

    pub(super) fn block(&self, generation: KeyGeneration, salt: &[u8; 16]) -> Result<Cipher, SealError> {
        self.derive(generation, "mooring 2026-11 engine block v1", salt)
    }

    fn derive(&self, generation: KeyGeneration, context: &str, salt: &[u8]) -> Result<Cipher, SealError> {
        let data = self.tenant.data.read();
        let key = data.get(&generation).ok_or(SealError::NoGeneration { generation: generation.0 })?;
        self.derive_from(&key.0, context, salt)
    }

    fn derive_from(&self, key: &[u8; 32], context: &str, salt: &[u8]) -> Result<Cipher, SealError> {
        let mut hasher = blake3::Hasher::new_derive_key(context);
        hasher.update(key);
        hasher.update(&self.volume.get().to_be_bytes());
        hasher.update(salt);
        let mut key = *hasher.finalize().as_bytes();
        let cipher = Cipher::new(&key);
        key.zeroize();
        hasher.zeroize();
        cipher
    }
}
