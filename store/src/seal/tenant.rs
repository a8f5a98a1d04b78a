//! A tenant's key and everything derived from it.

use super::{Cipher, SealError};
use mooring_policy::ids::VolumeId;
use mooring_policy::rng::Random;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Keyed BLAKE3 of an extent, cut to 128 bits: found by chance once in 2^64 extents, and not at will without
/// the tenant's key.
pub type Hash = [u8; 16];

/// The data key of one tenant: 32 random bytes, never written unwrapped.
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

    /// The keys of one volume of this tenant.
    #[must_use]
    pub fn volume(&self, volume: VolumeId) -> VolumeKeys {
        VolumeKeys { tenant: self.clone(), volume }
    }

    /// The key that hashes this tenant's extents.
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
}

/// Makes the ciphers of one volume's files.
#[derive(Clone, Debug)]
pub struct VolumeKeys {
    tenant: TenantKey,
    volume: VolumeId,
}

impl VolumeKeys {
    /// The volume these belong to.
    #[must_use]
    pub fn volume(&self) -> VolumeId {
        self.volume
    }

    /// The key that hashes the tenant's extents.
    #[must_use]
    pub fn hash_key(&self) -> HashKey {
        self.tenant.hash_key()
    }

    /// The cipher of the pack with this id.
    pub fn pack(&self, pack: u128) -> Result<Cipher, SealError> {
        self.derive("mooring 2026-11 pack v1", &pack.to_be_bytes())
    }

    /// The cipher of the journal file with this salt.
    pub fn journal(&self, salt: &[u8; 32]) -> Result<Cipher, SealError> {
        self.derive("mooring 2026-11 journal v1", salt)
    }

    /// The cipher of a secret that is kept for the volume under this salt.
    pub fn secret(&self, salt: &[u8; 32]) -> Result<Cipher, SealError> {
        self.derive("mooring 2026-11 volume secret v1", salt)
    }

    /// The cipher of the checkpoint with this salt.
    pub fn checkpoint(&self, salt: &[u8; 32]) -> Result<Cipher, SealError> {
        self.derive("mooring 2026-11 checkpoint v1", salt)
    }

    pub(super) fn block(&self, salt: &[u8; 16]) -> Result<Cipher, SealError> {
        self.derive("mooring 2026-11 engine block v1", salt)
    }

    fn derive(&self, context: &str, salt: &[u8]) -> Result<Cipher, SealError> {
        let mut hasher = blake3::Hasher::new_derive_key(context);
        hasher.update(&self.tenant.0);
        hasher.update(&self.volume.get().to_be_bytes());
        hasher.update(salt);
        let mut key = *hasher.finalize().as_bytes();
        let cipher = Cipher::new(&key);
        key.zeroize();
        hasher.zeroize();
        cipher
    }
}
