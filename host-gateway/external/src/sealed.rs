//! A file that nobody can read but who has it open: sealed under a key that is in memory only.
//!
//! ```text
//! slot    number u64, big endian | a block of 16 KiB, sealed | tag [16]
//! ```
//!
//! Block `n` of the content is in slot `n`. The number is the nonce: it is counted up with each block that is sealed, so
//! that no two have the same, whatever is overwritten. A slot of zeros was never written and reads as zeros. The number
//! of the block is bound, so that a block opens in its own slot only.

use std::fs::File;
use std::io::{Error, ErrorKind, Result};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};

use mooring_policy::rng::Random;
use mooring_store::seal::{Cipher, SealError, TAG_BYTES};
use parking_lot::RwLock;

/// Bytes of content that are sealed together.
const BLOCK: usize = 16 << 10;
const HEAD: usize = 8;
const SLOT: usize = HEAD + BLOCK + TAG_BYTES;

/// See the module's documentation. Blocking.
pub(crate) struct SealedFile {
    file: File,
    cipher: Cipher,
    /// The last number given out.
    number: AtomicU64,
    /// Held shared by who reads: a slot that is being written does not open.
    turn: RwLock<()>,
}

fn damaged(error: SealError) -> Error {
    Error::new(ErrorKind::InvalidData, error)
}

impl SealedFile {
    /// An empty file, sealed by a key that goes with this value.
    pub(crate) fn new(file: File, random: &dyn Random) -> Result<SealedFile> {
        let cipher = Cipher::ephemeral(random).map_err(damaged)?;
        Ok(SealedFile { file, cipher, number: AtomicU64::new(0), turn: RwLock::new(()) })
    }

    /// Writes all of `data` at an offset.
    pub(crate) fn write_all_at(&self, data: &[u8], offset: u64) -> Result<()> {
        let _one = self.turn.write();
        let (first, skip) = place(offset);
        let count = (skip + data.len()).div_ceil(BLOCK);
        let mut slots = Vec::with_capacity(count * SLOT);
        let mut rest = data;
        for index in 0..count {
            let from = if index == 0 { skip } else { 0 };
            let (now, later) = rest.split_at(rest.len().min(BLOCK - from));
            rest = later;
            if now.len() == BLOCK {
                self.seal(first + index as u64, now, &mut slots)?;
                continue;
            }
            let mut block = self.blocks(first + index as u64, 1)?;
            block[from..from + now.len()].copy_from_slice(now);
            self.seal(first + index as u64, &block, &mut slots)?;
        }
        self.file.write_all_at(&slots, first * SLOT as u64)
    }

    /// `len` bytes from an offset; what was never written is zeros.
    pub(crate) fn read_at(&self, offset: u64, len: usize) -> Result<Vec<u8>> {
        let _shared = self.turn.read();
        let (first, skip) = place(offset);
        let mut bytes = self.blocks(first, (skip + len).div_ceil(BLOCK))?;
        bytes.truncate(skip + len);
        bytes.drain(..skip);
        Ok(bytes)
    }

    /// Cuts it, or extends it with zeros.
    pub(crate) fn set_len(&self, to: u64) -> Result<()> {
        let _one = self.turn.write();
        let (last, kept) = place(to);
        let slots = to.div_ceil(BLOCK as u64);
        if kept > 0 && self.file.metadata()?.len() > last * SLOT as u64 {
            // What is cut off must not come back when the file grows again.
            let mut block = self.blocks(last, 1)?;
            block[kept..].fill(0);
            let mut slot = Vec::with_capacity(SLOT);
            self.seal(last, &block, &mut slot)?;
            self.file.write_all_at(&slot, last * SLOT as u64)?;
        }
        self.file.set_len(slots * SLOT as u64)
    }

    fn seal(&self, index: u64, block: &[u8], slots: &mut Vec<u8>) -> Result<()> {
        let number = self.number.fetch_add(1, Ordering::Relaxed) + 1;
        slots.extend_from_slice(&number.to_be_bytes());
        let from = slots.len();
        slots.extend_from_slice(block);
        self.cipher.seal_tail(number, &index.to_be_bytes(), slots, from).map_err(damaged)
    }

    /// The content of some blocks.
    fn blocks(&self, first: u64, count: usize) -> Result<Vec<u8>> {
        let mut slots = vec![0; count * SLOT];
        let mut got = 0;
        while got < slots.len() {
            match self.file.read_at(&mut slots[got..], first * SLOT as u64 + got as u64) {
                Ok(0) => break,
                Ok(more) => got += more,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let mut bytes = Vec::with_capacity(count * BLOCK);
        for (index, slot) in (first..).zip(slots.chunks_exact_mut(SLOT)) {
            let (head, sealed) = slot.split_at_mut(HEAD);
            let mut number = [0; HEAD];
            number.copy_from_slice(head);
            match u64::from_be_bytes(number) {
                0 => bytes.resize(bytes.len() + BLOCK, 0),
                number => {
                    let block = self.cipher.open(number, &index.to_be_bytes(), sealed).map_err(damaged)?;
                    bytes.extend_from_slice(block);
                }
            }
        }
        Ok(bytes)
    }
}

/// The block of an offset, and where in it.
fn place(offset: u64) -> (u64, usize) {
    (offset / BLOCK as u64, (offset % BLOCK as u64) as usize)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use mooring_policy::rng::SeededRandom;

    fn below(random: &SeededRandom, bound: usize) -> usize {
        let mut bytes = [0; 8];
        random.fill(&mut bytes);
        (u64::from_le_bytes(bytes) % bound as u64) as usize
    }

    #[test]
    fn it_holds_what_a_plain_file_would_and_shows_nothing_of_it() {
        let random = SeededRandom::new(1);
        let file = tempfile::tempfile().unwrap();
        let sealed = SealedFile::new(file.try_clone().unwrap(), &random).unwrap();
        let mut plain: Vec<u8> = Vec::new();
        for step in 0..400 {
            let at = below(&random, 100_000);
            if step % 5 == 4 {
                sealed.set_len(at as u64).unwrap();
                plain.resize(at, 0);
            } else {
                let data = vec![b'a' + (step % 26) as u8; 1 + below(&random, 40_000)];
                sealed.write_all_at(&data, at as u64).unwrap();
                plain.resize(plain.len().max(at + data.len()), 0);
                plain[at..at + data.len()].copy_from_slice(&data);
            }
            let (from, len) = (below(&random, plain.len() + 1), below(&random, 60_000));
            let len = len.min(plain.len() - from);
            assert_eq!(sealed.read_at(from as u64, len).unwrap(), plain[from..from + len], "step {step}");
        }
        let mut raw = vec![0; file.metadata().unwrap().len() as usize];
        file.read_exact_at(&mut raw, 0).unwrap();
        assert!(!raw.windows(16).any(|part| part[0] != 0 && part.iter().all(|byte| *byte == part[0])));
    }

    #[test]
    fn a_turned_bit_and_a_block_of_another_place_are_errors() {
        let file = tempfile::tempfile().unwrap();
        let sealed = SealedFile::new(file.try_clone().unwrap(), &SeededRandom::new(2)).unwrap();
        sealed.write_all_at(&vec![7; 2 * BLOCK], 0).unwrap();
        let mut slots = vec![0; 2 * SLOT];
        file.read_exact_at(&mut slots, 0).unwrap();
        file.write_all_at(&slots[SLOT..], 0).unwrap();
        assert_eq!(sealed.read_at(0, 10).unwrap_err().kind(), ErrorKind::InvalidData);
        slots[SLOT - 1] ^= 1;
        file.write_all_at(&slots, 0).unwrap();
        assert_eq!(sealed.read_at(BLOCK as u64 - 10, 10).unwrap_err().kind(), ErrorKind::InvalidData);
        assert_eq!(sealed.read_at(BLOCK as u64, 10).unwrap(), [7; 10]);
    }
}
