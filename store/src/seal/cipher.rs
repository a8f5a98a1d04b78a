//! One AES-256-GCM key with counted nonces.

use super::SealError;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use mooring_policy::rng::Random;
use zeroize::Zeroizing;

/// Bytes that sealing adds.
pub const TAG_BYTES: usize = 16;

/// The key of one file. Nonces are 64-bit numbers that the owner never repeats; see the module documentation.
pub struct Cipher {
    key: LessSafeKey,
}

impl std::fmt::Debug for Cipher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cipher(..)")
    }
}

impl Cipher {
    pub(super) fn new(key: &[u8; 32]) -> Result<Self, SealError> {
        let unbound = UnboundKey::new(&AES_256_GCM, key).map_err(|_| SealError::Seal { len: key.len() })?;
        Ok(Self { key: LessSafeKey::new(unbound) })
    }

    /// A key that is nowhere but in memory: for what need not outlive the process.
    pub fn ephemeral(random: &dyn Random) -> Result<Self, SealError> {
        let mut key = Zeroizing::new([0; 32]);
        random.fill(&mut *key);
        Self::new(&key)
    }

    /// Seals `buffer[from..]` in place and appends the tag. `place` is bound, not stored.
    pub fn seal_tail(
        &self,
        nonce: u64,
        place: &[u8],
        buffer: &mut Vec<u8>,
        from: usize,
    ) -> Result<(), SealError> {
        let refused = |_| SealError::Seal { len: 0 };
        let tag = self
            .key
            .seal_in_place_separate_tag(counted(nonce), Aad::from(place), &mut buffer[from..])
            .map_err(refused)?;
        buffer.extend_from_slice(tag.as_ref());
        Ok(())
    }

    /// Opens `sealed` in place and returns the plain text. On failure the content of `sealed` is unspecified.
    pub fn open<'a>(
        &self,
        nonce: u64,
        place: &[u8],
        sealed: &'a mut [u8],
    ) -> Result<&'a mut [u8], SealError> {
        self.key.open_in_place(counted(nonce), Aad::from(place), sealed).map_err(|_| SealError::Open)
    }

    /// Opens `sealed` and puts the plain text into `plain`, which is [`TAG_BYTES`] shorter. On failure the content of
    /// `plain` is unspecified.
    pub fn open_to(
        &self,
        nonce: u64,
        place: &[u8],
        sealed: &[u8],
        plain: &mut [u8],
    ) -> Result<(), SealError> {
        let (text, tag) = sealed.split_at_checked(plain.len()).ok_or(SealError::Open)?;
        self.key
            .open_separate_gather(counted(nonce), Aad::from(place), text, tag, plain)
            .map_err(|_| SealError::Open)
    }
}

fn counted(nonce: u64) -> Nonce {
    let mut bytes = [0; NONCE_LEN];
    bytes[NONCE_LEN - 8..].copy_from_slice(&nonce.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}
