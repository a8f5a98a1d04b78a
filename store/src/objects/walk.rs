//! Walking the tree in the order of object keys.
//!
//! Directory entries lie in the order of their names with `/` behind those of directories, so visiting a directory's
//! subtree where its entry lies gives all keys in the order of their bytes. Keys that are no paths are kept at
//! directories too; each directory on the way contributes its own in order, and the walk always takes the least. No
//! directory is read as a whole: memory is one page for each level.

use crate::api::Result;
use crate::keys::dentry::{self, Dentry};
use crate::keys::inode::{self, Inode};
use crate::keys::side::{self, Side};
use crate::meta::after;
use crate::volume::Volume;
use bytes::Bytes;
use mooring_protocol::caps::MAX_KEY;
use mooring_protocol::types::{FileKind, Ino};
use std::collections::VecDeque;
use std::sync::Arc;

/// Rows read at a time.
const PAGE: usize = 512;

/// An object's key and inode.
pub(crate) struct Item {
    pub(crate) key: Vec<u8>,
    pub(crate) ino: Ino,
    /// The inode, when the walk has looked at it.
    pub(crate) inode: Option<Arc<Inode>>,
}

/// One directory on the way.
struct Level {
    dir: Ino,
    /// The key of this directory, with its slash; empty for the root.
    path: Vec<u8>,
    entries: Rows<Dentry>,
    sides: Rows<Side>,
}

/// Rows of one kind under a directory, read page by page.
struct Rows<T> {
    page: VecDeque<(Bytes, T)>,
    from: Vec<u8>,
    end: bool,
}

impl<T> Rows<T> {
    fn new(from: &[u8], end: bool) -> Rows<T> {
        Rows { page: VecDeque::new(), from: from.to_vec(), end }
    }

    fn wants(&self) -> bool {
        self.page.is_empty() && !self.end
    }

    fn fill(&mut self, rows: Vec<(Bytes, T)>) {
        match rows.last() {
            None => self.end = true,
            Some((last, _)) => self.from = after(last),
        }
        self.page.extend(rows);
    }
}

/// A walk under way.
pub(crate) struct Walk<'a> {
    volume: &'a Volume,
    /// Only keys from here on.
    start: Vec<u8>,
    levels: Vec<Level>,
    last: Option<Vec<u8>>,
    /// Entries that S3 cannot see: names not UTF-8, keys over 1,024 bytes.
    pub(crate) invisible: u64,
}

impl<'a> Walk<'a> {
    /// Walks the tree below `root` from the key `start` on.
    pub(crate) async fn new(volume: &'a Volume, root: Ino, start: Vec<u8>) -> Result<Walk<'a>> {
        let mut walk = Walk { volume, start, levels: Vec::new(), last: None, invisible: 0 };
        if let Some(inode) = volume.peek_inode(root).await? {
            walk.push(root, Vec::new(), &inode);
        }
        Ok(walk)
    }

    fn push(&mut self, dir: Ino, path: Vec<u8>, inode: &Inode) {
        // What is left of the start below this directory: nothing when the walk is past it.
        let rest = self.start.strip_prefix(&path[..]).unwrap_or_default();
        let first = rest.iter().position(|&byte| byte == b'/').map_or(rest, |at| &rest[..=at]);
        let (entries, sides) = (Rows::new(first, false), Rows::new(rest, inode.sides == 0));
        self.levels.push(Level { dir, path, entries, sides });
    }

    /// The next object.
    pub(crate) async fn next(&mut self) -> Result<Option<Item>> {
        loop {
            self.fill().await?;
            let Some(top) = self.levels.last() else { return Ok(None) };
            let tree = top.entries.page.front().map(|(cursor, _)| [&top.path[..], cursor].concat());
            let side = self.least_side();
            let item = match (tree, side) {
                (None, _) if top.sides.page.is_empty() => {
                    self.levels.pop();
                    continue;
                }
                (tree, Some((level, key))) if tree.as_ref().is_none_or(|tree| key <= *tree) => {
                    self.take_side(level, key)
                }
                (Some(key), _) => self.take_entry(key).await?,
                (None, _) => None,
            };
            match item {
                // One key, kept twice: the one beside the tree was found first and is the object.
                Some(item) if self.last.as_ref() == Some(&item.key) || item.key < self.start => {}
                Some(item) if !visible(&item.key) => self.invisible += 1,
                Some(item) => {
                    self.last = Some(item.key.clone());
                    return Ok(Some(item));
                }
                None => {}
            }
        }
    }

    /// Goes past every key that begins with `prefix`.
    pub(crate) fn skip(&mut self, prefix: &[u8]) {
        while self.levels.last().is_some_and(|level| level.path.starts_with(prefix)) {
            self.levels.pop();
        }
        for Level { path, sides, entries, .. } in &mut self.levels {
            let begins = |rest: &[u8]| [&path[..], rest].concat().starts_with(prefix);
            while entries.page.front().is_some_and(|(cursor, _)| begins(cursor)) {
                entries.page.pop_front();
            }
            while sides.page.front().is_some_and(|(rest, _)| begins(rest)) {
                sides.page.pop_front();
            }
        }
    }

    async fn fill(&mut self) -> Result<()> {
        let volume = self.volume;
        let rows = volume.rows();
        let count = self.levels.len();
        for (at, Level { dir, entries, sides, .. }) in self.levels.iter_mut().enumerate() {
            let dir = *dir;
            if at + 1 == count && entries.wants() {
                let page = rows.page(|layer| dentry::prefix(layer, dir), &entries.from, PAGE).await?;
                let page = page.into_iter().map(|(cursor, value)| Ok((cursor, dentry::decode(&value)?)));
                entries.fill(page.collect::<Result<_>>()?);
            }
            if sides.wants() {
                let page = rows.page(|layer| side::prefix(layer, dir), &sides.from, PAGE).await?;
                let page = page.into_iter().map(|(rest, value)| Ok((rest, side::decode(&value)?)));
                sides.fill(page.collect::<Result<_>>()?);
            }
        }
        Ok(())
    }

    /// The least key beside the tree, and the level it is kept at.
    fn least_side(&self) -> Option<(usize, Vec<u8>)> {
        let front = |(at, level): (usize, &Level)| {
            let (rest, _) = level.sides.page.front()?;
            Some((at, [&level.path[..], rest].concat()))
        };
        let keys = self.levels.iter().enumerate().filter_map(front);
        keys.min_by(|(_, one), (_, two)| one.cmp(two))
    }

    fn take_side(&mut self, level: usize, key: Vec<u8>) -> Option<Item> {
        let (_, Side { ino, .. }) = self.levels.get_mut(level)?.sides.page.pop_front()?;
        Some(Item { key, ino, inode: None })
    }

    async fn take_entry(&mut self, key: Vec<u8>) -> Result<Option<Item>> {
        let Some((_, entry)) = self.levels.last_mut().and_then(|top| top.entries.page.pop_front()) else {
            return Ok(None);
        };
        match entry.kind {
            FileKind::File if entry.side.is_none() => Ok(Some(Item { key, ino: entry.ino, inode: None })),
            FileKind::Dir if !visible(&key) => {
                self.invisible += 1;
                Ok(None)
            }
            FileKind::Dir => {
                let Some(inode) = self.volume.peek_inode(entry.ino).await? else { return Ok(None) };
                self.push(entry.ino, key.clone(), &inode);
                let marker = !inode.has(inode::IMPLICIT);
                Ok(marker.then_some(Item { key, ino: entry.ino, inode: Some(inode) }))
            }
            _ => Ok(None),
        }
    }
}

/// Whether S3 can carry a key. A directory that is too long has nothing shorter in it.
fn visible(key: &[u8]) -> bool {
    key.len() <= MAX_KEY && std::str::from_utf8(key).is_ok()
}
