//! Byte layout of a journal file, and the judgement of what does not fit it.
//!
//! All numbers are little endian.
//!
//! ```text
//! head (96)    magic "MOORJRNL" | version u16 | flags u16 | key generation u32 | volume u64 | epoch u64 | number u64
//!              | first id u64 | synced u64 | salt [32] | crc32c u32 of all before | mark A5A5A5A5
//! record       magic "MJR1" | body length u32 | id u64 | synced u64 | crc32c u32 of the body
//!              | crc32c u32 of the 28 bytes before | mark A5A5A5A5 | body (sealed) | end A5
//! ```
//!
//! `synced` is the highest record known to be on the medium when this one was written. It tells a record whose
//! loss is allowed (it was never synced) from one whose loss is damage. Version 1 had zeros for the key generation and
//! meant the first.
//!
//! **Torn or damaged?** Files are allocated full of zeros before use. What a crash can leave of a record is therefore
//! its beginning followed by zeros, or the whole with some 512-byte sectors still zero. The marks and the end byte
//! make both recognisable: a record is torn when its last byte is zero, when one of its sectors is zero, or when
//! the file ends within it. Anything else that does not check was changed after it was written: damage.

use super::JournalError;
use crate::seal::KeyGeneration;
use std::path::Path;

const MAGIC: &[u8; 8] = b"MOORJRNL";
const VERSION: u16 = 2;
const RECORD_MAGIC: &[u8; 4] = b"MJR1";
const MARK: [u8; 4] = [0xa5; 4];
const SECTOR: usize = 512;

/// Bytes before the first record.
pub(super) const HEAD_BYTES: usize = 96;
/// Bytes before the body of a record.
pub(super) const RECORD_HEAD: usize = 36;
/// Bytes after it.
pub(super) const RECORD_TAIL: usize = 1;

/// What stands at the head of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub volume: u64,
    pub epoch: u64,
    pub number: u64,
    pub first_id: u64,
    pub synced: u64,
    /// The data key that sealed the records.
    pub generation: KeyGeneration,
    pub salt: [u8; 32],
}

impl Head {
    pub fn encode(&self) -> [u8; HEAD_BYTES] {
        let mut out = Vec::with_capacity(HEAD_BYTES);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(&u32::from(self.generation.0).to_le_bytes());
        for number in [self.volume, self.epoch, self.number, self.first_id, self.synced] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.salt);
        out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
        out.extend_from_slice(&MARK);
        let mut head = [0; HEAD_BYTES];
        head.copy_from_slice(&out);
        head
    }

    /// The head of `file`; `None` when it was never written or is torn.
    pub fn decode(file: &[u8], path: &Path) -> Result<Option<Self>, JournalError> {
        let head = &file[..file.len().min(HEAD_BYTES)];
        let whole =
            head.len() == HEAD_BYTES && head[92..] == MARK && u32_at(head, 88) == crc32c::crc32c(&head[..88]);
        if !whole {
            // A head is written at offset 0 and lies in one sector: torn means cut short.
            let torn = head.len() < HEAD_BYTES || head[HEAD_BYTES - 1] == 0;
            return if torn { Ok(None) } else { Err(corrupt(path, 0, "the file's head does not check")) };
        }
        let found = u16::from_le_bytes([head[8], head[9]]);
        if &head[..8] != MAGIC || found == 0 {
            return Err(corrupt(path, 0, "this is no journal file"));
        }
        if found > VERSION {
            return Err(JournalError::Version { path: path.to_path_buf(), found, supported: VERSION });
        }
        let generation = match found {
            1 => Some(KeyGeneration::FIRST),
            _ => u16::try_from(u32_at(head, 12)).ok().filter(|number| *number > 0).map(KeyGeneration),
        };
        let generation = generation.ok_or_else(|| corrupt(path, 12, "there is no such key generation"))?;
        let mut salt = [0; 32];
        salt.copy_from_slice(&head[56..88]);
        let [volume, epoch, number, first_id, synced] = [16, 24, 32, 40, 48].map(|at| u64_at(head, at));
        Ok(Some(Self { volume, epoch, number, first_id, synced, generation, salt }))
    }
}

/// Fills in head and end of a record whose sealed body stands at `record[RECORD_HEAD..]`.
pub(super) fn finish_record(record: &mut Vec<u8>, id: u64, synced: u64) {
    let body = crc32c::crc32c(&record[RECORD_HEAD..]);
    let len = (record.len() - RECORD_HEAD) as u32;
    record[..4].copy_from_slice(RECORD_MAGIC);
    record[4..8].copy_from_slice(&len.to_le_bytes());
    record[8..16].copy_from_slice(&id.to_le_bytes());
    record[16..24].copy_from_slice(&synced.to_le_bytes());
    record[24..28].copy_from_slice(&body.to_le_bytes());
    let head = crc32c::crc32c(&record[..28]);
    record[28..32].copy_from_slice(&head.to_le_bytes());
    record[32..36].copy_from_slice(&MARK);
    record.push(MARK[0]);
}

/// A record that checks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record<'a> {
    pub id: u64,
    pub synced: u64,
    pub body: &'a [u8],
    /// Bytes of the whole record.
    pub bytes: usize,
}

/// What stands at some offset of a file.
pub(super) enum Found<'a> {
    Record(Record<'a>),
    /// Only zeros to the end, or the end.
    End,
    /// A record that a crash can have left.
    Torn,
    /// A record that only damage explains.
    Damaged(&'static str),
}

/// Reads what stands at `file[at..]`.
pub(super) fn read_record(file: &[u8], at: usize) -> Found<'_> {
    let rest = &file[at.min(file.len())..];
    let Some(len) = checked_len(rest) else {
        if is_zero(rest) {
            return Found::End;
        }
        let torn = is_torn(file, at, RECORD_HEAD);
        return if torn { Found::Torn } else { Found::Damaged("the record's head does not check") };
    };
    let bytes = RECORD_HEAD + len + RECORD_TAIL;
    let body = rest.get(RECORD_HEAD..RECORD_HEAD + len);
    match body {
        Some(body) if rest.get(bytes - 1) == Some(&MARK[0]) && crc32c::crc32c(body) == u32_at(rest, 24) => {
            Found::Record(Record { id: u64_at(rest, 8), synced: u64_at(rest, 16), body, bytes })
        }
        _ if is_torn(file, at, bytes) => Found::Torn,
        _ => Found::Damaged("the record's body does not check"),
    }
}

/// The highest `synced` that any whole record from `at` on knows of, wherever it stands. Used behind a torn
/// record, whose length is not to be trusted.
pub(super) fn highest_synced(file: &[u8], at: usize) -> Option<u64> {
    let magic = RECORD_MAGIC.as_slice();
    let starts = (at..file.len().saturating_sub(RECORD_HEAD)).filter(|at| file[*at..].starts_with(magic));
    starts
        .filter_map(|at| match read_record(file, at) {
            Found::Record(record) => Some(record.synced),
            _ => None,
        })
        .max()
}

fn checked_len(rest: &[u8]) -> Option<usize> {
    let head = rest.get(..RECORD_HEAD)?;
    let good =
        &head[..4] == RECORD_MAGIC && head[32..] == MARK && u32_at(head, 28) == crc32c::crc32c(&head[..28]);
    good.then(|| u32_at(head, 4) as usize)
}

/// Whether a crash can have left `file[at..at + bytes]`; see the module documentation.
fn is_torn(file: &[u8], at: usize, bytes: usize) -> bool {
    let Some(region) = file.get(at..at + bytes) else {
        return true;
    };
    if region.last() == Some(&0) {
        return true;
    }
    let mut from = at;
    while from < at + bytes {
        let to = ((from / SECTOR + 1) * SECTOR).min(at + bytes);
        if is_zero(&file[from..to]) {
            return true;
        }
        from = to;
    }
    false
}

/// Whether there are only zeros. By blocks, because it runs over whole files.
pub(super) fn is_zero(bytes: &[u8]) -> bool {
    const ZEROS: [u8; SECTOR] = [0; SECTOR];
    bytes.chunks(SECTOR).all(|chunk| *chunk == ZEROS[..chunk.len()])
}

pub(super) fn corrupt(path: &Path, offset: usize, detail: impl Into<String>) -> JournalError {
    JournalError::Corrupt { path: path.to_path_buf(), offset: offset as u64, detail: detail.into() }
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
