//! An extent on its way into a pack.

use super::codec::{self, Encoded};
use super::error::PackError;
use super::extent::{Domain, Entry, ExtentIn, ExtentRef, FLAG_SEGMENTS, PackId};
use super::format::{self, EXTENT_HEAD};
use crate::seal::{Cipher, Hash, TAG_BYTES};

/// An extent as it will stand in a pack, but for its place and its seal.
pub(super) struct Ready {
    pub domain: Domain,
    pub owner: (u64, u64),
    pub hash: Hash,
    pub raw_len: u32,
    pub encoded: Encoded,
}

impl Ready {
    pub fn new(extent: ExtentIn) -> Ready {
        let ExtentIn { domain, owner, data, hash } = extent;
        Ready { domain, owner, hash, raw_len: data.len() as u32, encoded: codec::encode(&data) }
    }

    /// Bytes of its body in the pack: each piece has a tag.
    fn sealed_len(&self) -> usize {
        self.encoded.stored.len() + self.encoded.pieces.len() * TAG_BYTES
    }

    /// Bytes it takes in the pack.
    pub fn bytes(&self) -> usize {
        EXTENT_HEAD + self.sealed_len()
    }

    /// What names it once it is at `offset` of `pack`.
    pub fn entry(&self, pack: PackId, offset: u32) -> Entry {
        let extent = ExtentRef {
            pack,
            offset,
            stored_len: self.sealed_len() as u32,
            raw_len: self.raw_len,
            flags: self.encoded.flags,
            hash: self.hash,
        };
        Entry { extent, domain: self.domain, owner: self.owner }
    }

    /// Appends head and sealed body to `bytes`; the checksum of the body.
    pub fn seal_into(
        &self,
        bytes: &mut Vec<u8>,
        entry: &Entry,
        volume: u64,
        cipher: &Cipher,
    ) -> Result<u32, PackError> {
        let head = bytes.len();
        let body = head + EXTENT_HEAD;
        bytes.resize(body, 0);
        let extent = &entry.extent;
        let place = format::place(volume, extent);
        let mut rest = &self.encoded.stored[..];
        for len in &self.encoded.pieces {
            let (piece, after) = rest.split_at(*len as usize);
            let at = bytes.len();
            let within = if extent.flags & FLAG_SEGMENTS == 0 { 0 } else { at - head };
            bytes.extend_from_slice(piece);
            cipher.seal_tail(u64::from(extent.offset) + within as u64, &place, bytes, at)?;
            rest = after;
        }
        let crc = crc32c::crc32c(&bytes[body..]);
        bytes[head..body].copy_from_slice(&format::extent_head(entry, crc));
        Ok(crc)
    }
}
