//! What earlier processes left in a pack directory.

use super::error::PackError;
use super::extent::PackId;
use super::fill::UNFINISHED;
use super::format::{self, HEAD_BYTES, Head, TAIL_BYTES, VERSION};
use super::medium::PackFile;
use super::open::finish_file;
use crate::failpoints::{self, Point, pass};
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// A pack that is complete.
#[derive(Clone, Debug)]
pub(super) struct Sealed {
    pub epoch: u64,
    pub path: PathBuf,
    /// Length of the file.
    pub bytes: u64,
}

/// Finishes what was open and lists what there is. Blocking.
pub(super) fn recover(dir: &Path, volume: u64) -> Result<Vec<(PackId, Sealed)>, PackError> {
    let mut packs = Vec::new();
    let entries = std::fs::read_dir(dir).map_err(|error| PackError::io("list", dir, error))?;
    for entry in entries {
        let path = entry.map_err(|error| PackError::io("list", dir, error))?.path();
        if path.extension().is_some_and(|end| end == UNFINISHED) {
            // A copy that was being fetched. Should it stay, it is written over by the next.
            let _ = std::fs::remove_file(&path);
        }
        let Some((epoch, id, open)) = parse_name(&path) else {
            continue;
        };
        let path = if open { finish(dir, path, volume, id)? } else { Some(path) };
        if let Some(path) = path {
            let bytes = match std::fs::metadata(&path) {
                Ok(data) => data.len(),
                // A copy of what the store has may go at any time.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(PackError::io("look at", &path, error)),
            };
            packs.push((id, Sealed { epoch, path, bytes }));
        }
    }
    // A process that was killed may not have come to this, and what is found counts as durable from here on.
    failpoints::sync(dir, || File::open(dir)?.sync_all())
        .map_err(|error| PackError::io("sync", dir, error))?;
    Ok(packs)
}

fn parse_name(path: &Path) -> Option<(u64, PackId, bool)> {
    let open = match path.extension()?.to_str()? {
        "open" => true,
        "pack" => false,
        _ => return None,
    };
    let (epoch, id) = path.file_stem()?.to_str()?.split_once('-')?;
    let id = uuid::Uuid::parse_str(id).ok()?;
    Some((u64::from_str_radix(epoch, 16).ok()?, PackId(id.as_u128()), open))
}

/// Ends an open pack of an earlier process. `None` when nothing was in it.
fn finish(dir: &Path, path: PathBuf, volume: u64, id: PackId) -> Result<Option<PathBuf>, PackError> {
    let io = |error: std::io::Error| PackError::io("recover", &path, error);
    pass(Point::PackMidRecover).map_err(io)?;
    let file = OpenOptions::new().read(true).write(true).open(&path).map_err(io)?;
    let mut bytes = Vec::new();
    (&file).read_to_end(&mut bytes).map_err(io)?;
    match Head::decode(&bytes) {
        Some((_, found)) if found > VERSION => {
            return Err(PackError::Version { path, found, supported: VERSION });
        }
        Some((head, _)) if head.id == id && head.volume == volume => {}
        Some(_) => {
            let detail = "it belongs to another volume or has another's name".to_owned();
            return Err(PackError::Corrupt { pack: id, offset: 0, detail });
        }
        // Lost with the power before anything of it was synced. The key does not depend on the head, so extents
        // stay readable; write it again.
        None => {
            let epoch = parse_name(&path).map_or(0, |(epoch, _, _)| epoch);
            file.write_all_at(&Head { volume, epoch, id }.encode(), 0).map_err(io)?;
        }
    }
    let (written, end) = format::scan(&bytes, id);
    if end < bytes.len() {
        tracing::info!(pack = %id, kept = written.len(), cut = bytes.len() - end, "finished an open pack");
    }
    // The process of before may have met a failing sync, whose pages the kernel counts as written.
    let extents = bytes.get(HEAD_BYTES..end).unwrap_or_default();
    file.write_all_at(extents, HEAD_BYTES as u64).map_err(io)?;
    let sync =
        || failpoints::sync(&path, || file.sync_data()).map_err(|error| PackError::io("sync", &path, error));
    finish_file(&file, &path, dir, (&written, end as u64), sync)
}

/// Whether an extent that no list names was damaged, rather than lost with the power before it was durable. The pack is
/// complete: what was lost at its end is where the footer is now.
pub(super) fn is_damaged(path: &Path, extent: &super::ExtentRef) -> Result<bool, PackError> {
    let io = |error: std::io::Error| PackError::io("read", path, error);
    let file = File::open(path).map_err(io)?;
    let len = file.metadata().map_err(io)?.len();
    let mut tail = vec![0; TAIL_BYTES.min(usize::try_from(len).unwrap_or(0))];
    let at = len - tail.len() as u64;
    file.read_exact_at(&mut tail, at).map_err(io)?;
    let end = format::read_tail(&tail, len).map_or(len, |(footer, ..)| footer);
    let (from, bytes) = (u64::from(extent.offset), extent.pack_bytes());
    if from + bytes > end || bytes > 2 * super::MAX_EXTENT_BYTES as u64 {
        return Ok(false);
    }
    let mut found = vec![0; bytes as usize];
    file.read_exact_at(&mut found, from).map_err(io)?;
    Ok(!format::is_torn(&found, found.len()))
}

/// The extents of a pack, from the extents themselves.
pub(super) fn scan_entries(path: &Path, id: PackId) -> Result<Vec<super::Entry>, PackError> {
    let bytes = std::fs::read(path).map_err(|error| PackError::io("read", path, error))?;
    Ok(scan_bytes(&bytes, id))
}

/// The extents of a pack whose bytes these are.
pub(super) fn scan_bytes(bytes: &[u8], id: PackId) -> Vec<super::Entry> {
    format::scan(bytes, id).0.into_iter().map(|(entry, _)| entry).collect()
}

/// The reverse map of a complete pack, from its footer.
pub(super) fn read_entries(file: &PackFile, path: &Path, id: PackId) -> Result<Vec<super::Entry>, PackError> {
    let io = |error: std::io::Error| match error.kind() {
        // A file that is open is there; an object may be gone.
        std::io::ErrorKind::NotFound => PackError::Missing { pack: id },
        _ => PackError::io("read", path, error),
    };
    let corrupt = |offset, detail: &str| PackError::Corrupt { pack: id, offset, detail: detail.to_owned() };
    let len = file.len().map_err(io)?;
    let at = len.saturating_sub(TAIL_BYTES as u64);
    let mut tail = vec![0; (len - at) as usize];
    file.read_exact_at(&mut tail, at).map_err(io)?;
    let (from, bytes, crc) =
        format::read_tail(&tail, len).ok_or_else(|| corrupt(at, "the tail does not check"))?;
    let mut footer = vec![0; bytes];
    file.read_exact_at(&mut footer, from).map_err(io)?;
    if crc32c::crc32c(&footer) != crc {
        return Err(corrupt(from, "the footer does not check"));
    }
    format::read_footer(&footer, id).ok_or_else(|| corrupt(from, "an entry of the footer does not check"))
}
