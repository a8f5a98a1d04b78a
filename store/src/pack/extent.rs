//! What goes into a pack and what names it afterwards.

use crate::seal::{Hash, KeyGeneration};
use bytes::Bytes;
use mooring_policy::rng::Random;

/// A pack, forever: a UUID.
///
/// It says which of the tenant's data keys sealed the pack, so that whoever has a row can open what it names. Version 4
/// (122 random bits) is the first generation; version 8 has the generation in its first two bytes, and 106 random bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PackId(pub u128);

impl PackId {
    /// An id that was never used, for a pack sealed by this generation.
    pub fn random(generation: KeyGeneration, random: &dyn Random) -> PackId {
        let mut id = [0; 16];
        random.fill(&mut id);
        if generation == KeyGeneration::FIRST {
            return PackId(uuid::Builder::from_random_bytes(id).into_uuid().as_u128());
        }
        id[..2].copy_from_slice(&generation.0.to_be_bytes());
        PackId(uuid::Builder::from_custom_bytes(id).into_uuid().as_u128())
    }

    /// The data key that sealed it.
    #[must_use]
    pub fn generation(self) -> KeyGeneration {
        let id = uuid::Uuid::from_u128(self.0);
        match (id.get_variant(), id.get_version()) {
            (uuid::Variant::RFC4122, Some(uuid::Version::Custom)) => KeyGeneration((self.0 >> 112) as u16),
            _ => KeyGeneration::FIRST,
        }
    }
}

impl std::fmt::Display for PackId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // As in the name of its file.
        write!(f, "{}", uuid::Uuid::from_u128(self.0))
    }
}

impl std::fmt::Debug for PackId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PackId({self})")
    }
}

/// Who may share equal extents with whom: deduplication never crosses it. Kept in the pack so that the index of
/// hashes can be rebuilt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Domain(pub u64);

/// An extent to be written.
#[derive(Clone, Debug)]
pub struct ExtentIn {
    /// Its deduplication domain.
    pub domain: Domain,
    /// Map id and byte offset it is first written for: the reverse map, for repacking and repair.
    pub owner: (u64, u64),
    /// 1 to [`MAX_EXTENT_BYTES`].
    pub data: Bytes,
    /// Keyed hash of `data`.
    pub hash: Hash,
}

/// Longest extent, raw bytes.
pub const MAX_EXTENT_BYTES: usize = 4 << 20;

/// Where an extent is and how to read it. What map rows hold.
///
/// Encoded in [`ExtentRef::BYTES`] bytes, big endian: pack (16), offset (4), stored length (4), raw length (4),
/// flags (1), hash (16).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ExtentRef {
    /// The pack.
    pub pack: PackId,
    /// Where the extent's record begins in it.
    pub offset: u32,
    /// Sealed bytes on disk.
    pub stored_len: u32,
    /// Bytes when read.
    pub raw_len: u32,
    /// See [`FLAG_LZ4`] and [`FLAG_SEGMENTS`]. Other bits are zero.
    pub flags: u8,
    /// Keyed hash of the raw bytes.
    pub hash: Hash,
}

/// The stored bytes are LZ4 block format.
pub const FLAG_LZ4: u8 = 1;
/// The stored bytes are sealed in segments: see [`super::segments`].
pub const FLAG_SEGMENTS: u8 = 2;
/// All flags there are.
pub(super) const FLAGS: u8 = FLAG_LZ4 | FLAG_SEGMENTS;

impl ExtentRef {
    /// Length of the encoded form.
    pub const BYTES: usize = 45;

    /// The encoded form.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::BYTES] {
        let mut out = [0; Self::BYTES];
        out[..16].copy_from_slice(&self.pack.0.to_be_bytes());
        out[16..20].copy_from_slice(&self.offset.to_be_bytes());
        out[20..24].copy_from_slice(&self.stored_len.to_be_bytes());
        out[24..28].copy_from_slice(&self.raw_len.to_be_bytes());
        out[28] = self.flags;
        out[29..].copy_from_slice(&self.hash);
        out
    }

    /// Reads the encoded form; `None` when it has another length or unknown flags.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; Self::BYTES] = bytes.try_into().ok()?;
        let word = |at: usize| Some(u32::from_be_bytes(bytes[at..at + 4].try_into().ok()?));
        let pack = PackId(u128::from_be_bytes(bytes[..16].try_into().ok()?));
        let (flags, hash) = (bytes[28], bytes[29..].try_into().ok()?);
        let known = flags & !FLAGS == 0;
        known.then_some(Self {
            pack,
            offset: word(16)?,
            stored_len: word(20)?,
            raw_len: word(24)?,
            flags,
            hash,
        })
    }

    /// Bytes the extent takes in its pack, head included: what live-byte counters count.
    #[must_use]
    pub fn pack_bytes(&self) -> u64 {
        super::format::EXTENT_HEAD as u64 + u64::from(self.stored_len)
    }
}

/// One line of a pack's reverse map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The extent.
    pub extent: ExtentRef,
    /// Its deduplication domain.
    pub domain: Domain,
    /// Map id and offset it was written for.
    pub owner: (u64, u64),
}
