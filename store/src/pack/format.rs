//! Byte layout of a pack file. Little endian.
//!
//! ```text
//! head (56)   magic "MOORPACK" | version u16 | 0 [6] | volume u64 | epoch u64 | pack id [16] | crc32c u32 | 0 u32
//! extents     head (72): magic "MXT1" | flags u8 | 0 [3] | raw length u32 | stored length u32 | domain u64
//!                        | map u64 | map offset u64 | hash [16] | crc32c u32 of the body | 0 u64 | crc32c u32 of the head
//!             body: sealed bytes (stored length, tag included)
//! footer      the heads of all extents, each followed by its offset u32
//! tail (32)   magic "MOORPEND" | version u16 | 0 u16 | extents u32 | footer offset u32 | crc32c u32 of the footer
//!             | 0 u32 | crc32c u32 of the tail before
//! ```
//!
//! Between extents there may be holes: room taken by an append that failed or was stopped. The body is sealed with
//! its record's offset as the nonce and with [`place`] bound; an offset is given out once, so nonces are unique. A long
//! body is sealed in parts: see [`super::segments`].

use super::extent::{Domain, Entry, ExtentRef, FLAGS, PackId};
use crate::seal::TAG_BYTES;

const MAGIC: &[u8; 8] = b"MOORPACK";
const TAIL_MAGIC: &[u8; 8] = b"MOORPEND";
const EXTENT_MAGIC: &[u8; 4] = b"MXT1";
pub(super) const VERSION: u16 = 1;
pub(super) const HEAD_BYTES: usize = 56;
pub(super) const EXTENT_HEAD: usize = 72;
pub(super) const TAIL_BYTES: usize = 32;
const FOOTER_ROW: usize = EXTENT_HEAD + 4;

/// What stands at the head of a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub volume: u64,
    pub epoch: u64,
    pub id: PackId,
}

impl Head {
    pub fn encode(&self) -> [u8; HEAD_BYTES] {
        let mut out = [0; HEAD_BYTES];
        out[..8].copy_from_slice(MAGIC);
        out[8..10].copy_from_slice(&VERSION.to_le_bytes());
        out[16..24].copy_from_slice(&self.volume.to_le_bytes());
        out[24..32].copy_from_slice(&self.epoch.to_le_bytes());
        out[32..48].copy_from_slice(&self.id.0.to_be_bytes());
        let crc = crc32c::crc32c(&out[..48]);
        out[48..52].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// The head and its version; `None` when it does not check.
    pub fn decode(bytes: &[u8]) -> Option<(Self, u16)> {
        let head = bytes.get(..HEAD_BYTES)?;
        if &head[..8] != MAGIC || u32_at(head, 48) != crc32c::crc32c(&head[..48]) {
            return None;
        }
        let id = PackId(u128::from_be_bytes(head[32..48].try_into().ok()?));
        Some((
            Self { volume: u64_at(head, 16), epoch: u64_at(head, 24), id },
            u16::from_le_bytes([head[8], head[9]]),
        ))
    }
}

/// What the seal of an extent binds besides its offset, which is the nonce.
pub(super) fn place(volume: u64, extent: &ExtentRef) -> [u8; 34] {
    let mut place = [b'X'; 34];
    place[1..9].copy_from_slice(&volume.to_be_bytes());
    place[9..25].copy_from_slice(&extent.pack.0.to_be_bytes());
    place[25..29].copy_from_slice(&extent.offset.to_be_bytes());
    place[29..33].copy_from_slice(&extent.raw_len.to_be_bytes());
    place[33] = extent.flags;
    place
}

/// Encodes the head of an extent whose sealed bytes have the checksum `body_crc`.
pub(super) fn extent_head(entry: &Entry, body_crc: u32) -> [u8; EXTENT_HEAD] {
    let Entry { extent, domain, owner } = entry;
    let mut out = [0; EXTENT_HEAD];
    out[..4].copy_from_slice(EXTENT_MAGIC);
    out[4] = extent.flags;
    out[8..12].copy_from_slice(&extent.raw_len.to_le_bytes());
    out[12..16].copy_from_slice(&extent.stored_len.to_le_bytes());
    out[16..24].copy_from_slice(&domain.0.to_le_bytes());
    out[24..32].copy_from_slice(&owner.0.to_le_bytes());
    out[32..40].copy_from_slice(&owner.1.to_le_bytes());
    out[40..56].copy_from_slice(&extent.hash);
    out[56..60].copy_from_slice(&body_crc.to_le_bytes());
    let crc = crc32c::crc32c(&out[..68]);
    out[68..72].copy_from_slice(&crc.to_le_bytes());
    out
}

/// Reads an extent's head that stands at `offset` of `pack`: the entry and the checksum of its body.
pub(super) fn read_extent_head(head: &[u8], pack: PackId, offset: u32) -> Option<(Entry, u32)> {
    let head = head.get(..EXTENT_HEAD)?;
    if &head[..4] != EXTENT_MAGIC || u32_at(head, 68) != crc32c::crc32c(&head[..68]) {
        return None;
    }
    let extent = ExtentRef {
        pack,
        offset,
        stored_len: u32_at(head, 12),
        raw_len: u32_at(head, 8),
        flags: head[4],
        hash: head[40..56].try_into().ok()?,
    };
    let known = extent.flags & !FLAGS == 0 && extent.stored_len as usize > TAG_BYTES;
    let entry =
        Entry { extent, domain: Domain(u64_at(head, 16)), owner: (u64_at(head, 24), u64_at(head, 32)) };
    known.then_some((entry, u32_at(head, 56)))
}

/// A run of zeros of this length stands in no sealed extent: its head has shorter ones, and cipher text has none.
const ZERO_RUN: usize = 32;
/// The last bytes of an extent are part of its tag.
const LAST: usize = 8;

/// Whether loss of power can have left `extent` (head and body, cut off where the file ends) of `len` bytes: a file is
/// all zeros before it is written, so some of it is zero still, or the file ends within it. Whatever else does not check
/// was changed after it was written.
pub(super) fn is_torn(extent: &[u8], len: usize) -> bool {
    if extent.len() < len || extent[len.saturating_sub(LAST)..len].iter().all(|byte| *byte == 0) {
        return true;
    }
    let mut run = 0;
    extent[..len].iter().any(|byte| {
        run = if *byte == 0 { run + 1 } else { 0 };
        run >= ZERO_RUN
    })
}

/// Every extent in the file, and where the last one ends. Skips holes and what a stop has torn. One whose body was
/// damaged after it was written is listed: its bytes were here, and reading it says that they are damaged.
pub(super) fn scan(file: &[u8], pack: PackId) -> (Vec<(Entry, u32)>, usize) {
    let (mut found, mut end, mut at) = (Vec::new(), HEAD_BYTES, HEAD_BYTES);
    while at + EXTENT_HEAD <= file.len() {
        let head =
            file[at..].starts_with(EXTENT_MAGIC).then(|| read_extent_head(&file[at..], pack, at as u32));
        if let Some((entry, crc)) = head.flatten() {
            let body = at + EXTENT_HEAD;
            let to = body + entry.extent.stored_len as usize;
            let whole = file.get(body..to).is_some_and(|body| crc32c::crc32c(body) == crc);
            if whole || !is_torn(&file[at..], to - at) && !is_footer_row(file, at) {
                found.push((entry, crc));
                (at, end) = (to, to);
                continue;
            }
        }
        at += 1;
    }
    (found, keep_damaged(file, end))
}

/// Whether the head at `at` stands in the footer that an earlier end of this pack wrote, and not before an extent: the
/// next head, or the tail, follows where cipher text would.
fn is_footer_row(file: &[u8], at: usize) -> bool {
    let next = &file[(at + FOOTER_ROW).min(file.len())..];
    next.starts_with(TAIL_MAGIC) || read_extent_head(next, PackId(0), 0).is_some()
}

/// Where the file is to end when the last extent that can be told ends at `end`. What follows is cut off, unless it is
/// an extent whose head was damaged: the row that names it knows enough to read it.
fn keep_damaged(file: &[u8], end: usize) -> usize {
    let rest = &file[end.min(file.len())..];
    if is_torn(rest, EXTENT_HEAD) || read_extent_head(rest, PackId(0), 0).is_some() {
        return end;
    }
    end + rest.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

/// Footer and tail for extents that end at `at`.
pub(super) fn footer(entries: &[(Entry, u32)], at: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(entries.len() * FOOTER_ROW + TAIL_BYTES);
    for (entry, crc) in entries {
        out.extend_from_slice(&extent_head(entry, *crc));
        out.extend_from_slice(&entry.extent.offset.to_le_bytes());
    }
    let crc = crc32c::crc32c(&out);
    let tail = out.len();
    out.extend_from_slice(TAIL_MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&[0; 2]);
    for word in [entries.len() as u32, at, crc, 0] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    let crc = crc32c::crc32c(&out[tail..]);
    out.extend_from_slice(&crc.to_le_bytes());
    out
}

/// Where the footer begins, its length without the tail and its checksum, from the last [`TAIL_BYTES`] of a file of
/// `len` bytes.
pub(super) fn read_tail(tail: &[u8], len: u64) -> Option<(u64, usize, u32)> {
    if tail.len() != TAIL_BYTES || &tail[..8] != TAIL_MAGIC || u32_at(tail, 28) != crc32c::crc32c(&tail[..28])
    {
        return None;
    }
    let (count, at, crc) = (u32_at(tail, 12) as usize, u64::from(u32_at(tail, 16)), u32_at(tail, 20));
    let bytes = count.checked_mul(FOOTER_ROW)?;
    (at + bytes as u64 + TAIL_BYTES as u64 == len).then_some((at, bytes, crc))
}

/// The entries of a footer; `None` when one does not check.
pub(super) fn read_footer(footer: &[u8], pack: PackId) -> Option<Vec<Entry>> {
    let rows = footer.chunks_exact(FOOTER_ROW);
    rows.map(|row| Some(read_extent_head(row, pack, u32_at(row, EXTENT_HEAD))?.0)).collect()
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}
