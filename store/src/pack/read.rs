//! Reading extents.

use super::codec;
use super::error::PackError;
use super::extent::ExtentRef;
use super::format;
use super::medium::PackFile;
use super::store::PackStore;
use crate::failpoints::{Point, pass};
use crate::seal::{Cipher, TAG_BYTES};
use bytes::Bytes;
use rustix::io::{Errno, ReadWriteFlags, preadv2};
use std::io::IoSliceMut;
use std::ops::Range;

/// Extents up to this many stored bytes are read and opened on the caller's thread when the kernel has them in
/// memory: some microseconds, less than handing them to another thread costs.
const INLINE_BYTES: u32 = 32 << 10;

/// How often wrong bytes are read again when they come from a store.
const READ_AGAIN: usize = 2;

/// A pack to read from, with its key.
pub(super) struct Handle {
    pub file: PackFile,
    pub cipher: Cipher,
    pub path: std::path::PathBuf,
}

impl PackStore {
    /// The bytes `range` of an extent. They are authentic, or there is an error.
    ///
    /// The whole extent is decoded once and kept in a bounded cache; readers of one extent share the work.
    ///
    /// # Errors
    /// [`PackError::Corrupt`] names pack and offset when the bytes on disk were changed.
    pub async fn read(&self, extent: &ExtentRef, range: Range<u32>) -> Result<Bytes, PackError> {
        if range.start > range.end || range.end > extent.raw_len {
            return Err(corrupt(extent, "the row asks for bytes beyond the extent's end"));
        }
        let whole = self.whole(extent).await?;
        Ok(whole.slice(range.start as usize..range.end as usize))
    }

    /// Reads an extent from its file, past the cache, and holds its bytes against its hash.
    pub async fn verify(&self, extent: &ExtentRef) -> Result<(), PackError> {
        check_lengths(extent)?;
        let (handle, volume) = (self.handle(extent.pack)?, self.options.keys.volume().get());
        let (extent, hash_key) = (*extent, self.hash_key.clone());
        let _turn = handle.file.turn().await;
        let verify = move || {
            let bytes = fetch(&handle, volume, &extent)?;
            if hash_key.hash(&bytes) == extent.hash {
                Ok(())
            } else {
                Err(corrupt(&extent, "the bytes have another hash"))
            }
        };
        let joined = tokio::task::spawn_blocking(verify).await;
        joined.map_err(|error| PackError::io("read", &self.options.dir, std::io::Error::other(error)))?
    }

    async fn whole(&self, extent: &ExtentRef) -> Result<Bytes, PackError> {
        let key = (extent.pack, extent.offset);
        let load = async {
            let handle = self.handle(extent.pack)?;
            pass(Point::PackBeforeRead).map_err(|error| PackError::io("read", &handle.path, error))?;
            check_lengths(extent)?;
            let volume = self.options.keys.volume().get();
            if extent.stored_len <= INLINE_BYTES
                && let Some(sealed) = read_cached(&handle, extent)?
            {
                return open(&handle, volume, extent, sealed);
            }
            let extent = *extent;
            let _turn = handle.file.turn().await;
            let read = move || fetch(&handle, volume, &extent);
            let joined = tokio::task::spawn_blocking(read).await;
            joined.map_err(|error| PackError::io("read", &self.options.dir, std::io::Error::other(error)))?
        };
        let bytes = self.options.cache.get(key, load).await?;
        // A cached extent answers only for the row it was read for.
        if bytes.len() == extent.raw_len as usize {
            Ok(bytes)
        } else {
            Err(corrupt(extent, "the row has another length"))
        }
    }
}

fn check_lengths(extent: &ExtentRef) -> Result<(), PackError> {
    let bounds = super::MAX_EXTENT_BYTES as u32;
    let possible =
        extent.raw_len <= bounds && (TAG_BYTES as u32..=bounds + bounds / 8).contains(&extent.stored_len);
    if possible { Ok(()) } else { Err(corrupt(extent, "the row's lengths are impossible")) }
}

/// The sealed bytes if the kernel has them in memory.
fn read_cached(handle: &Handle, extent: &ExtentRef) -> Result<Option<Vec<u8>>, PackError> {
    let PackFile::Local(file) = &handle.file else { return Ok(None) };
    let mut sealed = vec![0; extent.stored_len as usize];
    let slices = &mut [IoSliceMut::new(&mut sealed)];
    match preadv2(file, slices, body_offset(extent), ReadWriteFlags::NOWAIT) {
        Ok(read) if read == sealed.len() => Ok(Some(sealed)),
        // Partly in memory, not supported here, or not in memory: the blocking way finds out.
        Ok(_) | Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INTR) => Ok(None),
        Err(error) => Err(PackError::io("read", &handle.path, error)),
    }
}

/// The bytes of an extent, read and opened. Blocking. What comes over a network may be wrong once and right the next
/// time.
fn fetch(handle: &Handle, volume: u64, extent: &ExtentRef) -> Result<Bytes, PackError> {
    let mut again = if matches!(handle.file, PackFile::Remote(_)) { READ_AGAIN } else { 0 };
    loop {
        match read_now(handle, extent).and_then(|sealed| open(handle, volume, extent, sealed)) {
            Err(PackError::Corrupt { .. }) if again > 0 => again -= 1,
            done => return done,
        }
    }
}

fn read_now(handle: &Handle, extent: &ExtentRef) -> Result<Vec<u8>, PackError> {
    let mut sealed = vec![0; extent.stored_len as usize];
    match handle.file.read_exact_at(&mut sealed, body_offset(extent)) {
        Ok(()) => Ok(sealed),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            Err(corrupt(extent, "the file ends within the extent"))
        }
        // A file that is open is there; an object may be gone.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(PackError::Missing { pack: extent.pack })
        }
        Err(error) => Err(PackError::io("read", &handle.path, error)),
    }
}

/// The bytes of an extent as the codec left them, opened. Blocking.
pub(super) fn stored_now(handle: &Handle, volume: u64, extent: &ExtentRef) -> Result<Vec<u8>, PackError> {
    let sealed = read_now(handle, extent)?;
    unseal(handle, volume, extent, sealed)
}

fn open(handle: &Handle, volume: u64, extent: &ExtentRef, sealed: Vec<u8>) -> Result<Bytes, PackError> {
    let stored = unseal(handle, volume, extent, sealed)?;
    codec::decode(stored, extent.flags, extent.raw_len as usize)
        .ok_or_else(|| corrupt(extent, "the bytes do not decompress"))
}

fn unseal(
    handle: &Handle,
    volume: u64,
    extent: &ExtentRef,
    mut sealed: Vec<u8>,
) -> Result<Vec<u8>, PackError> {
    let place = format::place(volume, extent);
    let opened = handle.cipher.open(u64::from(extent.offset), &place, &mut sealed);
    let len = opened.map_err(|error| corrupt(extent, &error.to_string()))?.len();
    sealed.truncate(len);
    Ok(sealed)
}

fn body_offset(extent: &ExtentRef) -> u64 {
    u64::from(extent.offset) + format::EXTENT_HEAD as u64
}

pub(super) fn corrupt(extent: &ExtentRef, detail: &str) -> PackError {
    PackError::Corrupt { pack: extent.pack, offset: u64::from(extent.offset), detail: detail.to_owned() }
}
