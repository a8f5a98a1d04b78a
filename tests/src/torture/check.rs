//! What is there against what must be.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::{BUCKET, Content, Load};
use crate::e2e::{Sdk, work};

/// What was found wrong. All zero, or the store is not worth its name.
#[derive(Debug, Default)]
pub struct Tally {
    /// Acknowledged bytes that are not there.
    pub bytes_lost: u64,
    /// Files that hold bytes nobody wrote there.
    pub torn_files: u64,
    /// Names that are missing, too much, or listed by one door only.
    pub wrong_listings: u64,
    /// Keys compared.
    pub compared: u64,
    /// What each of them was, for people.
    pub notes: Vec<String>,
}

impl Tally {
    /// An error that tells all, unless everything is zero.
    pub fn must_be_zero(&self) -> Result<()> {
        let Tally { bytes_lost, torn_files, wrong_listings, notes, .. } = self;
        ensure!(
            (*bytes_lost, *torn_files, *wrong_listings) == (0, 0, 0) && notes.is_empty(),
            "bytes lost {bytes_lost}, torn files {torn_files}, wrong listings {wrong_listings}:\n{}",
            notes.join("\n")
        );
        Ok(())
    }

    fn listing(&mut self, note: String) {
        self.wrong_listings += 1;
        self.notes.push(note);
    }

    fn compare(&mut self, key: &str, content: &Content, found: Option<&[u8]>) {
        self.compared += 1;
        let wanted = content.bytes();
        let found = found.unwrap_or_default();
        if found == wanted {
            return;
        }
        let same = found.iter().zip(&wanted).take_while(|(found, wanted)| found == wanted).count();
        let (has, wants) = (found.len(), wanted.len());
        self.notes
            .push(format!("{key} ({content:?}) has {has} bytes of {wants}, the first {same} as written"));
        self.bytes_lost += wants.saturating_sub(has) as u64;
        self.torn_files += u64::from(same < has.min(wants) || has > wants);
    }
}

impl Load {
    /// Stops the load for a moment and compares everything: the listing and every byte through S3, the names of every
    /// folder through every mount, and the bytes of one file of each folder through a mount.
    pub async fn check(&self, sdk: &Sdk, mounts: &[PathBuf], tally: &mut Tally) -> Result<()> {
        let _quiet = self.shared.gate.write().await;
        for wrong in std::mem::take(&mut *self.shared.wrong.lock()) {
            tally.listing(wrong);
        }
        let book = self.shared.book.copy();
        let listed: BTreeSet<String> = sdk.keys(BUCKET, "").await?.into_iter().collect();
        let wanted: BTreeSet<String> = book.keys().cloned().collect();
        for key in wanted.difference(&listed) {
            tally.listing(format!("S3 does not list {key}"));
        }
        for key in listed.difference(&wanted) {
            tally.listing(format!("S3 lists {key}, which nobody made"));
        }
        for (key, content) in book.iter().filter(|(_, content)| **content != Content::Folder) {
            let found = sdk.get(BUCKET, key).await?;
            tally.compare(key, content, found.as_deref());
        }
        for mount in mounts {
            let (mount, book) = (mount.clone(), book.clone());
            let found = work(move || look(&mount, &book)).await.context("looking through a mount")?;
            tally.compared += found.compared;
            tally.bytes_lost += found.bytes_lost;
            tally.torn_files += found.torn_files;
            tally.wrong_listings += found.wrong_listings;
            tally.notes.extend(found.notes);
        }
        Ok(())
    }
}

/// The names of each folder, as the keys say.
fn folders(book: &BTreeMap<String, Content>) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut folders: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for key in book.keys() {
        if key.ends_with('/') {
            folders.entry(key.trim_end_matches('/')).or_default();
        }
        let mut path = key.trim_end_matches('/');
        while let Some((folder, name)) = path.rsplit_once('/') {
            folders.entry(folder).or_default().insert(name);
            path = folder;
        }
        folders.entry("").or_default().insert(path);
    }
    folders
}

fn look(mount: &Path, book: &BTreeMap<String, Content>) -> Result<Tally> {
    let mut tally = Tally::default();
    for (folder, wanted) in folders(book) {
        let at = mount.join(folder);
        let mut found = BTreeSet::new();
        for entry in std::fs::read_dir(&at).with_context(|| format!("listing {}", at.display()))? {
            found.insert(entry?.file_name().to_string_lossy().into_owned());
        }
        let found: BTreeSet<&str> = found.iter().map(String::as_str).collect();
        for name in found.symmetric_difference(&wanted) {
            tally.listing(format!("in {}, {name} is there or not, and should not or should", at.display()));
        }
        let files = wanted.iter().map(|name| [folder, name].join("/"));
        let first = files.filter_map(|key| book.get_key_value(key.trim_start_matches('/'))).next();
        if let Some((key, content)) = first {
            let read = std::fs::read(mount.join(key)).with_context(|| format!("reading {key} on a mount"))?;
            tally.compare(&format!("{key} on a mount"), content, Some(&read));
        }
    }
    Ok(tally)
}
