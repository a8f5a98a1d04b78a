//! Checkpoints: all rows of a volume in one file of its own, for when the metadata is lost.
//!
//! The engine's tables and manifests are many files that need each other, and the engine alone can read them. A checkpoint
//! is one file, written from front to back, of a form that this page tells in full; it does not share a byte with what it
//! stands in for. It is taken from a view of the rows, so others go on writing, and it costs as much as the rows are long.
//! [`crate::rebuild`] begins with the newest that is whole.
//!
//! ```text
//! head (43)   magic "MOORCKPT" | version u8 | key generation u16 | salt [32]
//! chunk       sealed length u32 | sealed bytes (tag included); the nonce is the chunk's number
//!             first: JSON of [`Head`]; then rows, LZ4 block with its raw length u32 before it:
//!             key length u16 | value length u32 | key | value; last: eight bytes, how many rows there were
//! ```
//! Little endian. Place is bound: volume, salt, and whether a chunk is the last. So a file that is cut short, or put
//! together from two, does not open. Version 1 had no key generation and meant the first.

use crate::backend::{BackendError, VolumeDir, sync_dir};
use crate::meta::{MetaError, View, after};
use crate::seal::{Cipher, KeyGeneration, SealError, VolumeKeys};
use bytes::Bytes;
use mooring_policy::rng::Random;
use mooring_policy::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{BufReader, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use thiserror::Error;

pub(crate) mod store;

const MAGIC: &[u8; 8] = b"MOORCKPT";
const VERSION: u8 = 2;
const SALT: usize = 32;
/// Rows of one chunk, bytes before packing; one row more may go over it.
const CHUNK: usize = 1 << 20;
/// No chunk is longer: a row has at most a batch.
const MAX_CHUNK: usize = 16 << 20;
/// What their names end with.
const ENDING: &str = "checkpoint";
/// Checkpoints that are kept.
const KEPT: usize = 2;

/// A checkpoint that cannot be written or read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// It is not what was written.
    #[error("checkpoint {path} is damaged: {detail}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not check.
        detail: String,
    },
    /// Written by a newer release.
    #[error("checkpoint {path} has format {found}, this program reads up to {VERSION}; use a newer one")]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u8,
    },
    /// A file operation failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// A key cannot be made, or does not seal.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The rows cannot be read.
    #[error(transparent)]
    Meta(#[from] MetaError),
}

/// What a checkpoint says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// When it was taken, milliseconds since 1970.
    pub taken: u64,
    /// The last commit that is in it.
    pub seq: u64,
    /// Packs there were, and where their last extent ended: what lies behind came later.
    pub packs: Vec<(u128, u64)>,
}

/// A checkpoint that was read.
pub(crate) struct Checkpoint {
    pub(crate) head: Head,
    pub(crate) rows: Vec<(Bytes, Bytes)>,
}

fn io(op: &'static str, path: &Path) -> impl Fn(std::io::Error) -> CheckpointError {
    move |error| BackendError::io(op, path, error).into()
}

fn place(keys: &VolumeKeys, last: bool) -> [u8; 10] {
    let mut place = [b'K'; 10];
    place[1..9].copy_from_slice(&keys.volume().get().to_be_bytes());
    place[9] = u8::from(last);
    place
}

/// Writes a checkpoint of `view` and removes old ones. Returns how many rows it has.
pub(crate) async fn write(
    dir: &VolumeDir,
    keys: &VolumeKeys,
    random: &dyn Random,
    view: &dyn View,
    head: &Head,
) -> Result<u64, CheckpointError> {
    const PAGE: usize = 4096;
    dir.prepare_checkpoints()?;
    let path = dir.checkpoints().join(format!("{:016x}-{:016x}.checkpoint", head.taken, head.seq));
    let mut writer = Writer::create(&path, keys, random, head)?;
    let (mut from, mut rows) = (Vec::new(), 0_u64);
    loop {
        let page = view.scan(&from, &[], PAGE).await?;
        let Some((last, _)) = page.last() else { break };
        from = after(last);
        rows += page.len() as u64;
        writer.rows(&page)?;
    }
    writer.finish(rows)?;
    for old in list(dir)?.into_iter().skip(KEPT) {
        std::fs::remove_file(&old).map_err(io("remove", &old))?;
    }
    Ok(rows)
}

/// Checkpoints there are, newest first.
pub(crate) fn list(dir: &VolumeDir) -> Result<Vec<PathBuf>, CheckpointError> {
    with_ending(dir, &[ENDING])
}

fn with_ending(dir: &VolumeDir, endings: &[&str]) -> Result<Vec<PathBuf>, CheckpointError> {
    let dir = dir.checkpoints();
    if !dir.exists() {
        return Ok(Vec::new());
    }
    let entries = std::fs::read_dir(&dir).and_then(|entries| {
        entries.map(|entry| entry.map(|entry| entry.path())).collect::<std::io::Result<Vec<_>>>()
    });
    let mut found = entries.map_err(io("list", &dir))?;
    found.retain(|path| path.extension().is_some_and(|is| endings.iter().any(|ending| is == *ending)));
    found.sort_unstable();
    found.reverse();
    Ok(found)
}

/// When the newest checkpoint was taken, by its name; milliseconds since 1970.
#[must_use]
pub fn newest(dir: &VolumeDir) -> Option<Timestamp> {
    let newest = with_ending(dir, &[ENDING, store::SENT]).ok()?.into_iter().next()?;
    let taken = newest.file_stem()?.to_str()?.split_once('-')?.0;
    Some(Timestamp::from_millis(u64::from_str_radix(taken, 16).ok()?))
}

struct Writer {
    file: BufWriter<File>,
    path: PathBuf,
    temporary: PathBuf,
    cipher: Cipher,
    places: [[u8; 10]; 2],
    number: u64,
    rows: Vec<u8>,
}

impl Writer {
    fn create(
        path: &Path,
        keys: &VolumeKeys,
        random: &dyn Random,
        head: &Head,
    ) -> Result<Writer, CheckpointError> {
        let temporary = path.with_extension("new");
        let mut salt = [0; SALT];
        random.fill(&mut salt);
        let options = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary);
        let mut file = BufWriter::new(options.map_err(io("create", &temporary))?);
        let generation = keys.generation();
        let begun = [&MAGIC[..], &[VERSION], &generation.0.to_le_bytes(), &salt].concat();
        file.write_all(&begun).map_err(io("write", &temporary))?;
        let (cipher, places) = (keys.checkpoint(generation, &salt)?, [place(keys, false), place(keys, true)]);
        let path = path.to_path_buf();
        let mut writer = Writer { file, path, temporary, cipher, places, number: 0, rows: Vec::new() };
        let head = serde_json::to_vec(head).map_err(std::io::Error::other);
        writer.chunk(head.map_err(io("write", &writer.temporary))?, false)?;
        Ok(writer)
    }

    fn chunk(&mut self, mut plain: Vec<u8>, last: bool) -> Result<(), CheckpointError> {
        self.cipher.seal_tail(self.number, &self.places[usize::from(last)], &mut plain, 0)?;
        self.number += 1;
        let len = (plain.len() as u32).to_le_bytes();
        let wrote = self.file.write_all(&len).and_then(|()| self.file.write_all(&plain));
        wrote.map_err(io("write", &self.temporary))
    }

    fn rows(&mut self, page: &[(Bytes, Bytes)]) -> Result<(), CheckpointError> {
        for (key, value) in page {
            self.rows.extend_from_slice(&(key.len() as u16).to_le_bytes());
            self.rows.extend_from_slice(&(value.len() as u32).to_le_bytes());
            self.rows.extend_from_slice(key);
            self.rows.extend_from_slice(value);
            if self.rows.len() >= CHUNK {
                self.pack()?;
            }
        }
        Ok(())
    }

    fn pack(&mut self) -> Result<(), CheckpointError> {
        let packed = lz4_flex::block::compress_prepend_size(&self.rows);
        self.rows.clear();
        self.chunk(packed, false)
    }

    fn finish(mut self, rows: u64) -> Result<(), CheckpointError> {
        if !self.rows.is_empty() {
            self.pack()?;
        }
        self.chunk(rows.to_le_bytes().to_vec(), true)?;
        let failed = io("finish", &self.temporary);
        self.file.flush().map_err(&failed)?;
        self.file.get_ref().sync_all().map_err(&failed)?;
        std::fs::rename(&self.temporary, &self.path).map_err(&failed)?;
        self.path.parent().map_or(Ok(()), sync_dir)?;
        Ok(())
    }
}

/// Reads a checkpoint, all of it, or says what is wrong with it. Blocking.
pub(crate) fn read(path: &Path, keys: &VolumeKeys) -> Result<Checkpoint, CheckpointError> {
    let damaged =
        |detail: &str| CheckpointError::Damaged { path: path.to_path_buf(), detail: detail.to_owned() };
    let mut file = BufReader::new(File::open(path).map_err(io("open", path))?);
    let mut begun = [0; MAGIC.len() + 1];
    file.read_exact(&mut begun).map_err(|_| damaged("it is too short"))?;
    if &begun[..8] != MAGIC {
        return Err(damaged("its head does not check"));
    }
    let mut generation = KeyGeneration::FIRST.0.to_le_bytes();
    match begun[8] {
        1 => {}
        VERSION => file.read_exact(&mut generation).map_err(|_| damaged("it is too short"))?,
        found if found > VERSION => return Err(CheckpointError::Version { path: path.to_path_buf(), found }),
        _ => return Err(damaged("its head does not check")),
    }
    let mut salt = [0; SALT];
    file.read_exact(&mut salt).map_err(|_| damaged("it is too short"))?;
    let generation = KeyGeneration(u16::from_le_bytes(generation));
    let cipher = match keys.checkpoint(generation, &salt) {
        // The ring has every key that ever sealed: the number is wrong, or the ring is an old copy.
        Err(error @ SealError::NoGeneration { .. }) => return Err(damaged(&error.to_string())),
        cipher => cipher?,
    };
    let places = [place(keys, false), place(keys, true)];
    let (mut head, mut rows) = (None, Vec::new());
    for number in 0.. {
        let mut len = [0; 4];
        file.read_exact(&mut len).map_err(|_| damaged("it ends too soon"))?;
        let len = u32::from_le_bytes(len) as usize;
        if len > MAX_CHUNK {
            return Err(damaged("the length of a chunk does not check"));
        }
        let mut sealed = vec![0; len];
        file.read_exact(&mut sealed).map_err(|_| damaged("it ends too soon"))?;
        let mut again = sealed.clone();
        if let Ok(plain) = cipher.open(number, &places[0], &mut sealed) {
            match head {
                None => head = Some(serde_json::from_slice(plain).map_err(|e| damaged(&e.to_string()))?),
                Some(_) => unpack(plain, &mut rows).ok_or_else(|| damaged("rows do not unpack"))?,
            }
            continue;
        }
        let last = cipher.open(number, &places[1], &mut again);
        let count = last.map_err(|_| damaged(&format!("chunk {number} does not open")))?;
        if *count != (rows.len() as u64).to_le_bytes() {
            return Err(damaged("rows are missing"));
        }
        break;
    }
    Ok(Checkpoint { head: head.ok_or_else(|| damaged("it says nothing of itself"))?, rows })
}

/// Reads a checkpoint and says how many rows it has. Blocking.
pub fn verify(path: &Path, keys: &VolumeKeys) -> Result<u64, CheckpointError> {
    Ok(read(path, keys)?.rows.len() as u64)
}

fn unpack(packed: &[u8], rows: &mut Vec<(Bytes, Bytes)>) -> Option<()> {
    let raw = u32::from_le_bytes(*packed.first_chunk()?) as usize;
    if raw > MAX_CHUNK {
        return None;
    }
    let mut all = Bytes::from(lz4_flex::block::decompress_size_prepended(packed).ok()?);
    while !all.is_empty() {
        let (key, value) = (all.get(..2)?, all.get(2..6)?);
        let key = usize::from(u16::from_le_bytes(key.try_into().ok()?));
        let value = u32::from_le_bytes(value.try_into().ok()?) as usize;
        if all.len() < 6 + key + value {
            return None;
        }
        drop(all.split_to(6));
        rows.push((all.split_to(key), all.split_to(value)));
    }
    Some(())
}
