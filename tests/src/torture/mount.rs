//! Workers on a mount. They are programs: they see no error while the gateway is away, they wait.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result};
use fastrand::Rng;

use super::{Content, SLOT, Shared, slot};
use crate::e2e::Pattern;

/// A log is emptied when it has so many records.
const RECORDS: u64 = 400;
/// Slots of a file that is written in place.
const SLOTS: usize = 48;
/// Names that come and go in a folder.
const NAMES: u64 = 16;

/// Appends records to a log, syncs now and then, and empties it when it is long.
pub(super) fn append(shared: &Shared, mount: &Path, folder: &str, mut random: Rng) -> Result<()> {
    let key = format!("{folder}/log");
    let open =
        || OpenOptions::new().append(true).create(true).open(mount.join(&key)).context("opening the log");
    let mut file = open()?;
    let (mut life, mut count) = (1, 0);
    while let Some(_turn) = shared.turn() {
        if count >= RECORDS {
            file.set_len(0).context("emptying the log")?;
            (life, count) = (life + 1, 0);
        }
        for _ in 0..random.u32(1..6) {
            file.write_all(&super::record(life, count)).context("appending")?;
            count += 1;
        }
        shared.book.set(&key, Content::Records { life, count });
        match random.u32(0..8) {
            0..3 => file.sync_data().context("syncing the log")?,
            3 => file = open()?,
            _ => {}
        }
    }
    file.sync_all().context("syncing the log")
}

/// Writes slots of one file again and again, some side by side in one write.
pub(super) fn overwrite(shared: &Shared, mount: &Path, folder: &str, mut random: Rng) -> Result<()> {
    let key = format!("{folder}/slots");
    let mut versions = vec![0; SLOTS];
    let file = {
        let Some(_turn) = shared.turn() else { return Ok(()) };
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).open(mount.join(&key))?;
        file.write_all_at(&Content::Slots(versions.clone()).bytes(), 0).context("filling the slots")?;
        shared.book.set(&key, Content::Slots(versions.clone()));
        file
    };
    while let Some(_turn) = shared.turn() {
        let first = random.usize(0..SLOTS);
        let count = random.usize(1..=8).min(SLOTS - first);
        let mut bytes = Vec::with_capacity(count * SLOT);
        for (at, version) in versions.iter_mut().enumerate().skip(first).take(count) {
            *version += 1;
            bytes.extend(slot(at, *version));
        }
        file.write_all_at(&bytes, (first * SLOT) as u64).context("overwriting slots")?;
        shared.book.set(&key, Content::Slots(versions.clone()));
        if random.u32(0..4) == 0 {
            file.sync_data().context("syncing the slots")?;
        }
    }
    file.sync_all().context("syncing the slots")
}

/// Makes files the safe way (written beside, synced, renamed), renames and removes them, makes and removes folders.
pub(super) fn rename(shared: &Shared, mount: &Path, folder: &str, mut random: Rng) -> Result<()> {
    let below = format!("{folder}/names");
    let here = mount.join(&below);
    {
        let Some(_turn) = shared.turn() else { return Ok(()) };
        fs::create_dir(&here).context("making a folder")?;
        shared.book.set(&format!("{below}/"), Content::Folder);
    }
    let mut number = 0;
    while let Some(_turn) = shared.turn() {
        number += 1;
        let name = format!("name-{}", random.u64(0..NAMES));
        let (path, key) = (here.join(&name), format!("{below}/{name}"));
        match random.u32(0..10) {
            0..5 => {
                let temporary = here.join("temporary");
                let length = [300, 4096, 40_000, 200_000][random.usize(0..4)] + random.usize(0..100);
                Pattern(number).write(&temporary, length as u64)?.sync_all().context("syncing a file")?;
                fs::rename(&temporary, &path).context("renaming over a name")?;
                shared.book.set(&key, Content::Whole { number, length });
            }
            5..7 if shared.book.has(&key) => {
                fs::remove_file(&path).with_context(|| format!("removing {key}"))?;
                shared.book.remove(&key);
            }
            7..9 if shared.book.has(&key) => {
                let other = format!("name-{}", random.u64(0..NAMES));
                if other != name {
                    fs::rename(&path, here.join(&other)).with_context(|| format!("renaming {key}"))?;
                    if let Some(content) = shared.book.remove(&key) {
                        shared.book.set(&format!("{below}/{other}"), content);
                    }
                }
            }
            9 => {
                let (path, key) = (here.join(format!("dir-{name}")), format!("{below}/dir-{name}/"));
                if shared.book.remove(&key).is_some() {
                    fs::remove_dir(&path).with_context(|| format!("removing {key}"))?;
                } else {
                    fs::create_dir(&path).with_context(|| format!("making {key}"))?;
                    shared.book.set(&key, Content::Folder);
                }
            }
            _ => File::open(&here).and_then(|dir| dir.sync_all()).context("syncing a folder")?,
        }
    }
    File::open(&here).and_then(|dir| dir.sync_all()).context("syncing a folder")
}
