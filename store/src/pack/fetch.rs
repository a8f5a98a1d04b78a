//! Getting the bytes of extents from their medium, and opening them.

use super::codec::{self, Encoded};
use super::error::PackError;
use super::extent::{ExtentRef, FLAG_SEGMENTS};
use super::format;
use super::medium::PackFile;
use super::segments::{self, Layout};
use crate::seal::{Cipher, TAG_BYTES};
use bytes::Bytes;
use rustix::io::{Errno, ReadWriteFlags, preadv2};
use std::io::IoSliceMut;
use std::ops::Range;

/// How often wrong bytes are read again when they come from a store.
const READ_AGAIN: usize = 2;

/// A pack to read from, with its key.
pub(super) struct Handle {
    pub file: PackFile,
    pub cipher: Cipher,
    pub path: std::path::PathBuf,
    pub volume: u64,
}

impl Handle {
    /// The index of an extent that has one, opened. Blocking.
    pub fn index(&self, extent: &ExtentRef) -> Result<Bytes, PackError> {
        self.again(|| {
            let mut sealed = vec![0; segments::index_sealed_len(extent.raw_len) as usize];
            self.read(extent, &mut sealed, 0)?;
            self.open_index(extent, &sealed)
        })
    }

    /// [`Self::index`], when the kernel has it in memory.
    pub fn index_in_memory(&self, extent: &ExtentRef) -> Result<Option<Bytes>, PackError> {
        let len = segments::index_sealed_len(extent.raw_len);
        let sealed = self.in_memory(extent, 0..len)?;
        sealed.map(|sealed| self.open_index(extent, &sealed)).transpose()
    }

    fn open_index(&self, extent: &ExtentRef, sealed: &[u8]) -> Result<Bytes, PackError> {
        let mut index = vec![0; sealed.len().saturating_sub(TAG_BYTES)];
        self.open_piece(extent, segments::place_in_pack(extent, 0), sealed, &mut index)?;
        Ok(index.into())
    }

    /// The raw bytes of some segments. Blocking.
    pub fn segments(
        &self,
        extent: &ExtentRef,
        layout: &Layout,
        which: Range<u32>,
    ) -> Result<Bytes, PackError> {
        self.again(|| {
            let at = layout.sealed(which.clone());
            let mut sealed = vec![0; at.len()];
            self.read(extent, &mut sealed, at.start)?;
            self.open(extent, layout, which.clone(), sealed)
        })
    }

    /// [`Self::segments`], when the kernel has them in memory.
    pub fn segments_in_memory(
        &self,
        extent: &ExtentRef,
        layout: &Layout,
        which: Range<u32>,
    ) -> Result<Option<Bytes>, PackError> {
        let sealed = self.in_memory(extent, layout.sealed(which.clone()))?;
        sealed.map(|sealed| self.open(extent, layout, which, sealed)).transpose()
    }

    /// All raw bytes. Blocking.
    pub fn whole(&self, extent: &ExtentRef) -> Result<Bytes, PackError> {
        let layout = self.layout(extent)?;
        let all = 0..layout.count();
        self.segments(extent, &layout, all)
    }

    /// Where the segments are, by the index if it takes that. Blocking.
    fn layout(&self, extent: &ExtentRef) -> Result<Layout, PackError> {
        match Layout::plain(extent) {
            Some(layout) => Ok(layout),
            None => layout_by(extent, &self.index(extent)?),
        }
    }

    /// An extent as it is to be sealed at another place, and its raw bytes. Blocking.
    pub fn encoded(&self, extent: &ExtentRef) -> Result<(Encoded, Bytes), PackError> {
        let index = match Layout::plain(extent) {
            Some(_) => None,
            None => Some(self.index(extent)?),
        };
        let layout = match &index {
            Some(index) => layout_by(extent, index)?,
            None => self.layout(extent)?,
        };
        let all = 0..layout.count();
        let at = layout.sealed(all.clone());
        let mut sealed = vec![0; at.len()];
        self.read(extent, &mut sealed, at.start)?;
        let opened = self.unseal(extent, &layout, all.clone(), sealed)?;
        let lens = all.clone().map(|segment| layout.sealed(segment..segment + 1).len() - TAG_BYTES);
        let mut pieces: Vec<u32> = index.iter().map(|index| index.len() as u32).collect();
        pieces.extend(lens.map(|len| len as u32));
        let stored = match index {
            Some(index) => [&index[..], &opened].concat(),
            None => opened.clone(),
        };
        let raw = decoded(extent, &layout, all, opened)?;
        Ok((Encoded { stored: stored.into(), flags: extent.flags, pieces }, raw))
    }

    /// What comes over a network may be wrong once and right the next time.
    fn again<T>(&self, get: impl Fn() -> Result<T, PackError>) -> Result<T, PackError> {
        let mut again = if matches!(self.file, PackFile::Remote(_)) { READ_AGAIN } else { 0 };
        loop {
            match get() {
                Err(PackError::Corrupt { .. }) if again > 0 => again -= 1,
                done => return done,
            }
        }
    }

    /// Reads from the body of an extent.
    fn read(&self, extent: &ExtentRef, buffer: &mut [u8], at: u32) -> Result<(), PackError> {
        match self.file.read_exact_at(buffer, segments::place_in_pack(extent, at)) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                Err(corrupt(extent, "the file ends within the extent"))
            }
            // A file that is open is there; an object may be gone.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(PackError::Missing { pack: extent.pack })
            }
            Err(error) => Err(PackError::io("read", &self.path, error)),
        }
    }

    /// Sealed bytes, if the kernel has them in memory.
    fn in_memory(&self, extent: &ExtentRef, at: Range<u32>) -> Result<Option<Vec<u8>>, PackError> {
        let PackFile::Local(file) = &self.file else { return Ok(None) };
        let mut sealed = vec![0; at.len()];
        let slices = &mut [IoSliceMut::new(&mut sealed)];
        match preadv2(file, slices, segments::place_in_pack(extent, at.start), ReadWriteFlags::NOWAIT) {
            Ok(read) if read == sealed.len() => Ok(Some(sealed)),
            // Partly in memory, not supported here, or not in memory: the blocking way finds out.
            Ok(_) | Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INTR) => Ok(None),
            Err(error) => Err(PackError::io("read", &self.path, error)),
        }
    }

    fn open(
        &self,
        extent: &ExtentRef,
        layout: &Layout,
        which: Range<u32>,
        sealed: Vec<u8>,
    ) -> Result<Bytes, PackError> {
        let stored = self.unseal(extent, layout, which.clone(), sealed)?;
        decoded(extent, layout, which, stored)
    }

    /// Sealed segments, opened, one after the other.
    fn unseal(
        &self,
        extent: &ExtentRef,
        layout: &Layout,
        which: Range<u32>,
        mut sealed: Vec<u8>,
    ) -> Result<Vec<u8>, PackError> {
        let begin = layout.sealed(which.clone()).start;
        if which.len() == 1 {
            // In place: no second buffer.
            let nonce = layout.nonce(extent, which.start);
            let opened = self.cipher.open(nonce, &format::place(self.volume, extent), &mut sealed);
            let len = opened.map_err(|error| corrupt(extent, &error.to_string()))?.len();
            sealed.truncate(len);
            return Ok(sealed);
        }
        let mut stored = vec![0; sealed.len().saturating_sub(which.len() * TAG_BYTES)];
        let mut rest = &mut stored[..];
        for segment in which {
            let at = layout.sealed(segment..segment + 1);
            let from = &sealed[(at.start - begin) as usize..(at.end - begin) as usize];
            let (place, behind) = std::mem::take(&mut rest).split_at_mut(from.len() - TAG_BYTES);
            self.open_piece(extent, layout.nonce(extent, segment), from, place)?;
            rest = behind;
        }
        Ok(stored)
    }

    fn open_piece(
        &self,
        extent: &ExtentRef,
        nonce: u64,
        sealed: &[u8],
        plain: &mut [u8],
    ) -> Result<(), PackError> {
        let opened = self.cipher.open_to(nonce, &format::place(self.volume, extent), sealed, plain);
        opened.map_err(|error| corrupt(extent, &error.to_string()))
    }
}

/// The layout that an index gives.
pub(super) fn layout_by(extent: &ExtentRef, index: &[u8]) -> Result<Layout, PackError> {
    Layout::indexed(extent, index).ok_or_else(|| corrupt(extent, "the index of the segments does not fit"))
}

fn decoded(
    extent: &ExtentRef,
    layout: &Layout,
    which: Range<u32>,
    stored: Vec<u8>,
) -> Result<Bytes, PackError> {
    codec::decode(stored, layout, which).ok_or_else(|| corrupt(extent, "the bytes do not decompress"))
}

/// Refuses rows whose lengths no extent has.
pub(super) fn check_lengths(extent: &ExtentRef) -> Result<(), PackError> {
    let bounds = super::MAX_EXTENT_BYTES as u32;
    let possible = (1..=bounds).contains(&extent.raw_len)
        && (TAG_BYTES as u32..=bounds + bounds / 8).contains(&extent.stored_len);
    let tags = extent.raw_len.div_ceil(segments::SEGMENT_BYTES) * TAG_BYTES as u32;
    let even = extent.flags != FLAG_SEGMENTS || extent.stored_len == extent.raw_len + tags;
    if possible && even { Ok(()) } else { Err(corrupt(extent, "the row's lengths are impossible")) }
}

pub(super) fn corrupt(extent: &ExtentRef, detail: &str) -> PackError {
    PackError::Corrupt { pack: extent.pack, offset: u64::from(extent.offset), detail: detail.to_owned() }
}
