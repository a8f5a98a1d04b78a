//! One operation's change: rows, what the caches shall show, references to extents, and the locks it is made under.

use super::lock::Held;
use super::map::{Piece, signed};
use super::maps::RowChange;
use super::shared::Shared;
use crate::keys::counter::Counter;
use crate::keys::dentry::Dentry;
use crate::keys::inode::Inode;
use crate::keys::map::{ExtentId, Row, Source};
use crate::keys::orphan::Orphan;
use crate::keys::{HeadId, Layer, backlink, counter, dentry, inode, map, orphan};
use crate::meta::Batch;
use crate::pack::{ExtentRef, Placed};
use bytes::Bytes;
use mooring_protocol::types::{FileKind, Ino};
use std::collections::BTreeMap;
use std::sync::Arc;

/// References to one extent that a change adds and drops.
#[derive(Clone, Debug, Default)]
pub(crate) struct RefChange {
    pub(crate) delta: i64,
    /// Where this operation stored the bytes, if it did.
    pub(crate) place: Option<Placed>,
    /// The bytes, when the operation counts on finding them stored.
    pub(crate) bytes: Option<Bytes>,
}

/// What an operation knows of the bytes of an extent it refers to.
#[derive(Clone, Debug)]
pub(crate) enum Stored {
    /// It stored them here.
    At(Placed),
    /// They were stored already when it looked.
    Before(Bytes),
}

/// An extent that was written again: its row changes if it still says `from`.
#[derive(Clone, Debug)]
pub(crate) struct Move {
    pub(crate) id: ExtentId,
    pub(crate) from: ExtentRef,
    pub(crate) to: Placed,
}

/// What a head that is open is from now on.
pub(crate) struct Head {
    pub(crate) of: Arc<Shared>,
    pub(crate) chain: Vec<Layer>,
    /// Other rows show through than before: nothing that is cached of inodes and names holds.
    pub(crate) other: bool,
}

/// Everything one operation does. It takes effect as a whole or not at all.
#[derive(Default)]
pub(crate) struct Change {
    pub(crate) batch: Batch,
    pub(crate) inodes: Vec<(Ino, Option<Arc<Inode>>)>,
    pub(crate) dentries: Vec<(Ino, Bytes, Option<Dentry>)>,
    pub(crate) refs: BTreeMap<ExtentId, RefChange>,
    /// How many rows more or less name a map that others name too. See [`crate::keys::frozen`].
    pub(crate) maps: BTreeMap<u64, i64>,
    /// Rows of maps, in the order in which they change.
    pub(crate) rows: Vec<RowChange>,
    pub(crate) inode_count: i64,
    pub(crate) block_count: i64,
    /// Bytes that rows of maps show from extents: added less dropped.
    pub(crate) referenced: i64,
    /// Extents that were written again elsewhere.
    pub(crate) moves: Vec<Move>,
    /// A directory changed its place: what is known about who lies below whom is void.
    pub(crate) moved_directory: bool,
    /// Heads that have other layers.
    pub(crate) heads: Vec<Head>,
    pub(crate) held: Vec<Arc<Held>>,
}

/// A change being put together.
pub(crate) struct Tx<'a> {
    shared: &'a Arc<Shared>,
    change: Change,
}

impl<'a> Tx<'a> {
    pub(crate) fn new(shared: &'a Arc<Shared>, held: &Arc<Held>) -> Tx<'a> {
        let change = Change { held: vec![held.clone()], ..Change::default() };
        Tx { shared, change }
    }

    pub(crate) fn done(self) -> Change {
        self.change
    }

    /// Keeps more locks until the change is in.
    pub(crate) fn hold(&mut self, held: &Arc<Held>) {
        self.change.held.push(held.clone());
    }

    /// Sets a row of a namespace family.
    pub(crate) fn put(&mut self, key: impl Fn(Layer) -> Vec<u8>, value: Bytes) {
        self.change.batch.put(key(self.shared.rows.head()), value);
    }

    /// Removes a row of a namespace family.
    pub(crate) fn delete(&mut self, key: impl Fn(Layer) -> Vec<u8>) {
        self.shared.rows.delete(&mut self.change.batch, key);
    }

    /// Sets a row of a family without layers.
    pub(crate) fn put_plain(&mut self, key: Vec<u8>, value: Bytes) {
        self.change.batch.put(key, value);
    }

    /// Removes a row of a family without layers.
    pub(crate) fn delete_plain(&mut self, key: Vec<u8>) {
        self.change.batch.delete(key);
    }

    /// A new inode.
    pub(crate) fn add_inode(&mut self, ino: Ino, new: Inode) -> Arc<Inode> {
        self.change.inode_count += 1;
        self.change.block_count += blocks(&new);
        self.put_inode(ino, new)
    }

    /// An inode that changed from `old`. Where that lies in a lower layer it stays there, so the map has one more name,
    /// unless the new inode brings a new one.
    pub(crate) fn set_inode(&mut self, ino: Ino, old: &Inode, mut new: Inode) -> Arc<Inode> {
        self.change.block_count += blocks(&new) - blocks(old);
        let copied = old.layer != self.shared.rows.head();
        if old.kind == FileKind::File {
            match (copied, new.map == old.map) {
                (true, true) => {
                    new.flags |= inode::SHARED;
                    self.name_map(old.map, 1);
                }
                (false, false) => self.name_map(old.map, -1),
                _ => {}
            }
        }
        self.put_inode(ino, new)
    }

    /// `by` more rows name a map that exists.
    pub(crate) fn name_map(&mut self, map: u64, by: i64) {
        *self.change.maps.entry(map).or_default() += by;
    }

    /// Whether the inode's map is its alone, so that its rows may change.
    pub(crate) fn owns_map(&self, inode: &Inode) -> bool {
        inode.layer == self.shared.rows.head() && !inode.has(inode::SHARED)
    }

    /// The inode's row, which is about to be dropped, names its map no more. With its last name the map goes, in the
    /// background.
    pub(crate) fn leave_map(&mut self, inode: &Inode) {
        if inode.layer == self.shared.rows.head() {
            self.name_map(inode.map, -1);
        }
    }

    fn put_inode(&mut self, ino: Ino, mut new: Inode) -> Arc<Inode> {
        new.layer = self.shared.rows.head();
        self.put(|layer| inode::key(layer, ino), inode::encode(&new));
        let new = Arc::new(new);
        self.change.inodes.push((ino, Some(new.clone())));
        new
    }

    /// The inode's row lies elsewhere now: it is looked up again.
    pub(crate) fn forget_inode(&mut self, ino: Ino) {
        self.change.inodes.push((ino, None));
    }

    /// The inode is gone.
    pub(crate) fn drop_inode(&mut self, ino: Ino, old: &Inode) {
        self.change.inode_count -= 1;
        self.change.block_count -= blocks(old);
        self.delete(|layer| inode::key(layer, ino));
        self.change.inodes.push((ino, None));
    }

    /// A new name, and the way back from the inode.
    pub(crate) fn add_name(&mut self, parent: Ino, name: &[u8], entry: Dentry) {
        let is_dir = entry.kind == FileKind::Dir;
        self.put(|layer| dentry::key(layer, parent, name, is_dir), dentry::encode(&entry));
        self.put(|layer| backlink::key(layer, entry.ino, parent, name), backlink::encode());
        self.change.dentries.push((parent, Bytes::copy_from_slice(name), Some(entry)));
    }

    /// A name is gone.
    pub(crate) fn drop_name(&mut self, parent: Ino, name: &[u8], entry: &Dentry) {
        let is_dir = entry.kind == FileKind::Dir;
        self.delete(|layer| dentry::key(layer, parent, name, is_dir));
        self.delete(|layer| backlink::key(layer, entry.ino, parent, name));
        self.change.dentries.push((parent, Bytes::copy_from_slice(name), None));
    }

    pub(crate) fn put_orphan(&mut self, ino: Ino, orphan: Orphan) {
        self.put(|layer| orphan::key(layer, ino), orphan::encode(&orphan));
    }

    pub(crate) fn drop_orphan(&mut self, ino: Ino) {
        self.delete(|layer| orphan::key(layer, ino));
    }

    /// A new row of a map; counts its reference.
    pub(crate) fn put_row(&mut self, map: u64, end: u64, row: &Row) {
        match row.source {
            Source::Extent { id, .. } => {
                self.refer(id, 1);
                self.change.referenced += signed(row.len);
            }
            Source::Slice { map, .. } => self.name_map(map, 1),
            Source::Inline(_) => {}
        }
        self.change.batch.put(map::key(map, end), map::encode(row));
        self.row_changed(map, end, row, Some(row.clone()));
    }

    /// Where the bytes of an extent were stored by this operation, or which bytes it counts on finding stored.
    fn stored(&mut self, id: ExtentId, stored: &Stored) {
        let entry = self.change.refs.entry(id).or_default();
        match stored {
            Stored::At(place) => entry.place = Some(place.clone()),
            Stored::Before(bytes) => entry.bytes = Some(bytes.clone()),
        }
    }

    /// A new row of a map, with what is known of its bytes.
    pub(crate) fn put_piece(&mut self, map: u64, piece: &Piece) {
        self.put_row(map, piece.end(), &piece.row);
        if let (Source::Extent { id, .. }, Some(stored)) = (&piece.row.source, &piece.stored) {
            self.stored(*id, stored);
        }
    }

    /// A row of a map is gone; drops its reference.
    pub(crate) fn drop_row(&mut self, map: u64, end: u64, row: &Row) {
        match row.source {
            Source::Extent { id, .. } => {
                self.refer(id, -1);
                self.change.referenced -= signed(row.len);
            }
            Source::Slice { map, .. } => self.name_map(map, -1),
            Source::Inline(_) => {}
        }
        self.change.batch.delete(map::key(map, end));
        self.row_changed(map, end, row, None);
    }

    fn row_changed(&mut self, map: u64, end: u64, row: &Row, now: Option<Row>) {
        let start = end.saturating_sub(row.blocks * map::BLOCK);
        self.change.rows.push(RowChange { map, start, end, row: now });
    }

    fn refer(&mut self, id: ExtentId, delta: i64) {
        self.change.refs.entry(id).or_default().delta += delta;
    }

    pub(crate) fn moved_directory(&mut self) {
        self.change.moved_directory = true;
    }

    /// This head has other layers from now on. `other`: see [`Head`].
    pub(crate) fn head(&mut self, chain: Vec<Layer>, other: bool) {
        self.change.heads.push(Head { of: self.shared.clone(), chain, other });
    }

    /// The same, of any head.
    pub(crate) fn head_of(&mut self, of: &Arc<Shared>, chain: Vec<Layer>) {
        self.change.heads.push(Head { of: of.clone(), chain, other: false });
    }

    /// The volume's totals change by this.
    pub(crate) fn totals(&mut self, inodes: i64, blocks: i64) {
        self.change.inode_count += inodes;
        self.change.block_count += blocks;
    }

    pub(crate) fn counter(&mut self, which: Counter, of: HeadId, number: u64) {
        self.change.batch.put(counter::of(which, of), counter::encode(number));
    }
}

fn blocks(inode: &Inode) -> i64 {
    i64::try_from(inode.blocks).unwrap_or(i64::MAX)
}
