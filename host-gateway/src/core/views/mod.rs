//! A volume and its snapshots as one tree.
//!
//! In the root of a bucket there is a directory `.snapshots` that no listing shows, so that `find`, `rsync` and `rm` do
//! not walk into it; who names it finds the bucket's snapshots in it, each a tree that cannot be changed. In S3 the key
//! `.snapshots/NAME/KEY` is the object `KEY` as it was.
//!
//! An inode number carries the view it is seen in ([`Ino::view`]): 0 is the head, the store's numbers of a snapshot are
//! shown with the snapshot's view, and [`DIRECTORY`] is the directory of snapshots itself. What comes in is taken apart
//! here and nowhere else: the head and the snapshots are given their own numbers only.
//!
//! A share begins below the root or is confined to the owner's tree as it is: it has no `.snapshots`.

mod objects;
mod tree;

use std::collections::HashMap;
use std::sync::Arc;

use mooring_policy::action::Action;
use mooring_policy::time::Timestamp;
use mooring_protocol::types::{Attr, DirEntry, FileKind, Ino, Name};
use mooring_store::api::{Caller, Objects, Result, SnapshotInfo, Snapshots};
use mooring_store::error::StoreError;
use parking_lot::Mutex;

/// Name of the directory of snapshots.
pub const NAME: &[u8] = mooring_protocol::types::Name::SNAPSHOTS;

/// Its view.
const VIEW: u16 = u16::MAX;

/// Its inode.
pub const DIRECTORY: Ino = Ino::ROOT.in_view(VIEW);

/// Trees by their views, with the names of their snapshots.
type Opened = HashMap<u16, (String, Arc<dyn Objects>)>;

/// A volume with its snapshots. See the module documentation.
pub struct Views {
    head: Arc<dyn Snapshots>,
    /// Snapshots that were looked into, by their views.
    open: Mutex<Opened>,
}

/// Where an inode is.
enum Place {
    Head,
    Snapshot(u16, Arc<dyn Objects>),
    Directory,
}

impl Views {
    /// Over a volume.
    pub fn new(head: Arc<dyn Snapshots>) -> Arc<Views> {
        Arc::new(Views { head, open: Mutex::new(HashMap::new()) })
    }

    /// The volume itself, to make and remove snapshots. What it is told to forget must be forgotten here as well.
    pub fn head(&self) -> &Arc<dyn Snapshots> {
        &self.head
    }

    /// Lets go of snapshots that were looked into: one of them is no more.
    pub fn forget(&self) {
        self.open.lock().clear();
    }

    /// Whether this caller's tree has the directory.
    fn shows(cx: &Caller) -> bool {
        !cx.confined && cx.root == Ino::ROOT
    }

    async fn place(&self, cx: &Caller, ino: Ino) -> Result<Place> {
        match ino.view() {
            0 => Ok(Place::Head),
            _ if !Views::shows(cx) => Err(StoreError::Stale(ino)),
            VIEW if ino == DIRECTORY => Ok(Place::Directory),
            VIEW => Err(StoreError::Stale(ino)),
            view => Ok(Place::Snapshot(view, self.open(cx, ino, view).await?)),
        }
    }

    /// The tree of a view.
    async fn open(&self, cx: &Caller, ino: Ino, view: u16) -> Result<Arc<dyn Objects>> {
        if let Some((_, tree)) = self.open.lock().get(&view) {
            return Ok(tree.clone());
        }
        let all = self.head.snapshots(cx).await?;
        let info = all.into_iter().find(|info| info.view == view).ok_or(StoreError::Stale(ino))?;
        self.tree(cx, &info).await
    }

    async fn tree(&self, cx: &Caller, info: &SnapshotInfo) -> Result<Arc<dyn Objects>> {
        let known = self.open.lock().get(&info.view).cloned();
        if let Some((name, tree)) = known
            && name == info.name
        {
            return Ok(tree);
        }
        let tree = self.head.snapshot_view(cx, &info.name).await?;
        self.open.lock().insert(info.view, (info.name.clone(), tree.clone()));
        Ok(tree)
    }

    /// The snapshot of this name and its tree.
    async fn named(&self, cx: &Caller, name: &[u8]) -> Result<(u16, Arc<dyn Objects>)> {
        let all = self.head.snapshots(cx).await?;
        let info = all.iter().find(|info| info.name.as_bytes() == name).ok_or(StoreError::NotFound)?;
        Ok((info.view, self.tree(cx, info).await?))
    }

    /// What cannot be changed, because it is not in the head.
    fn changeable(inos: &[Ino]) -> Result<()> {
        if inos.iter().all(|ino| ino.view() == 0) { Ok(()) } else { Err(StoreError::ReadOnly) }
    }

    /// A name in the head's tree that would hide the directory, or be hidden by it.
    fn free(cx: &Caller, parent: Ino, name: &Name) -> Result<()> {
        Views::changeable(&[parent])?;
        let taken = Views::shows(cx) && parent == Ino::ROOT && name.as_bytes() == NAME;
        if taken { Err(StoreError::ReadOnly) } else { Ok(()) }
    }

    /// Attributes of the directory of snapshots.
    async fn directory(&self, cx: &Caller) -> Result<Attr> {
        cx.authority.check(Action::List, None)?;
        let root = self.head.getattr(cx, Ino::ROOT).await?;
        let all = self.head.snapshots(cx).await?;
        let newest = all.iter().map(|info| info.created).max().unwrap_or(root.btime);
        // Moves with each snapshot that comes or goes; agents compare it, nothing else does.
        let version = all.iter().fold(1_u64, |sum, info| {
            let created = info.created.secs.unsigned_abs() ^ u64::from(info.created.nanos);
            sum.wrapping_mul(31).wrapping_add(created ^ u64::from(info.view))
        });
        let nlink = u32::try_from(all.len()).unwrap_or(u32::MAX).saturating_add(2);
        Ok(Attr {
            ino: DIRECTORY,
            kind: FileKind::Dir,
            mode: 0o555,
            nlink,
            size: 0,
            blocks: 0,
            atime: newest,
            mtime: newest,
            ctime: newest,
            version,
            ..root
        })
    }

    /// A page of the directory of snapshots.
    async fn list_snapshots(
        &self,
        cx: &Caller,
        cursor: &[u8],
        limit: usize,
        plus: bool,
    ) -> Result<(Vec<DirEntry>, bool)> {
        cx.authority.check(Action::List, None)?;
        let mut all = self.head.snapshots(cx).await?;
        all.sort_by(|a, b| a.name.cmp(&b.name));
        let mut page = Vec::new();
        for info in all {
            let name =
                Name::new(info.name.as_bytes()).map_err(|_| StoreError::Invalid("a snapshot's name"))?;
            let ino = Ino::ROOT.in_view(info.view);
            let mut entry = DirEntry { name, ino, kind: FileKind::Dir, attr: None };
            if entry.cursor().as_slice() <= cursor {
                continue;
            }
            if page.len() == limit {
                return Ok((page, false));
            }
            if plus {
                let attr = self.tree(cx, &info).await?.getattr(cx, Ino::ROOT).await?;
                entry.attr = Some(seen(attr, info.view));
            }
            page.push(entry);
        }
        Ok((page, true))
    }
}

/// Attributes as they are seen in a view.
fn seen(attr: Attr, view: u16) -> Attr {
    Attr { ino: attr.ino.in_view(view), ..attr }
}

/// A snapshot's name that says when it was taken.
#[must_use]
pub fn name_at(before: &str, now: Timestamp) -> String {
    let second = Timestamp::from_millis(now.as_millis() / 1000 * 1000);
    format!("{before}-{}", second.to_string().replace(".000", ""))
}
