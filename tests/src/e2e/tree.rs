//! Content that can be checked at any offset, and comparing trees.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// Bytes that depend on a number and the offset alone: whatever part arrives can be checked. They do not compress and
/// no two blocks are alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pattern(pub u64);

impl Pattern {
    /// The bytes from `offset`, which is a multiple of 8.
    pub fn bytes(self, offset: u64, length: usize) -> Vec<u8> {
        let words = (offset / 8..).map(|at| mix(self.0 ^ at.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        let mut bytes: Vec<u8> = words.take(length.div_ceil(8)).flat_map(u64::to_le_bytes).collect();
        bytes.truncate(length);
        bytes
    }

    /// An error that names the first wrong byte.
    pub fn check(self, offset: u64, bytes: &[u8]) -> Result<()> {
        let expected = self.bytes(offset, bytes.len());
        let wrong = bytes.iter().zip(&expected).position(|(got, want)| got != want);
        ensure!(wrong.is_none(), "byte {} is wrong", offset + wrong.unwrap_or_default() as u64);
        Ok(())
    }

    /// Writes `length` bytes to a new file.
    pub fn write(self, path: &Path, length: u64) -> Result<File> {
        let mut file = File::create_new(path).with_context(|| format!("creating {}", path.display()))?;
        self.each(length, |offset, size| {
            file.write_all(&self.bytes(offset, size)).with_context(|| format!("writing at byte {offset}"))
        })?;
        Ok(file)
    }

    /// An error unless the file holds exactly `length` of these bytes.
    pub fn verify(self, path: &Path, length: u64) -> Result<()> {
        let mut file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
        let there = file.metadata()?.len();
        ensure!(there == length, "{} has {there} bytes, not {length}", path.display());
        self.each(length, |offset, size| {
            let mut bytes = vec![0; size];
            file.read_exact(&mut bytes).with_context(|| format!("{}: at byte {offset}", path.display()))?;
            self.check(offset, &bytes).with_context(|| path.display().to_string())
        })
    }

    fn each(self, length: u64, mut step: impl FnMut(u64, usize) -> Result<()>) -> Result<()> {
        const STEP: u64 = 1 << 20;
        for offset in (0..length).step_by(1 << 20) {
            step(offset, usize::try_from(STEP.min(length - offset))?)?;
        }
        Ok(())
    }
}

/// One round of SplitMix64 (Steele, Lea, Flood 2014).
fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// Makes a small tree with all that archives keep: nested folders, an empty one, links, modes, odd names, a hole.
pub fn fill(root: &Path) -> Result<()> {
    for folder in ["docs/deep/deeper", "empty", "bin"] {
        fs::create_dir_all(root.join(folder))?;
    }
    for number in 0..40u64 {
        let file =
            Pattern(number).write(&root.join(format!("docs/deep/file {number}")), number * number * 97)?;
        file.set_permissions(fs::Permissions::from_mode(if number % 2 == 0 { 0o644 } else { 0o640 }))?;
    }
    Pattern(99).write(&root.join("bin/tool"), 3 << 20)?.set_permissions(fs::Permissions::from_mode(0o755))?;
    let hole = File::create(root.join("hole"))?;
    hole.set_len(5 << 20)?;
    std::os::unix::fs::symlink("../bin/tool", root.join("docs/tool"))?;
    fs::hard_link(root.join("bin/tool"), root.join("bin/same"))?;
    fs::write(root.join("na\u{ef}ve \u{1f6a2} name"), "utf-8")?;
    Ok(())
}

/// An error that names the first difference in names, kinds, modes, link targets or bytes.
pub fn same_trees(one: &Path, other: &Path) -> Result<()> {
    let (first, second) = (listing(one)?, listing(other)?);
    for (path, node) in &first {
        let there = second.get(path).with_context(|| format!("{} is missing", path.display()))?;
        ensure!(node == there, "{}: {node:?} against {there:?}", path.display());
        if node.kind == 'f' {
            let (a, b) = (fs::read(one.join(path))?, fs::read(other.join(path))?);
            ensure!(a == b, "{} differs", path.display());
        }
    }
    let extra = second.keys().find(|path| !first.contains_key(*path));
    ensure!(extra.is_none(), "{extra:?} is too much");
    Ok(())
}

#[derive(Debug, PartialEq, Eq)]
struct Node {
    kind: char,
    mode: u32,
    size: u64,
    target: Option<PathBuf>,
}

fn listing(root: &Path) -> Result<BTreeMap<PathBuf, Node>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            let meta = fs::symlink_metadata(&path)?;
            let kind = meta.file_type();
            if kind.is_dir() {
                folders.push(path.clone());
            }
            let node = Node {
                kind: if kind.is_dir() {
                    'd'
                } else if kind.is_symlink() {
                    'l'
                } else {
                    'f'
                },
                mode: meta.mode() & 0o7777,
                size: if kind.is_file() { meta.len() } else { 0 },
                target: fs::read_link(&path).ok(),
            };
            found.insert(path.strip_prefix(root)?.to_owned(), node);
        }
    }
    Ok(found)
}
