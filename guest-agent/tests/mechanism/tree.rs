//! The smallest tree that a file system can be: everything in memory, one lock around it.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use mooring_protocol::message::{Reply, Request};
use mooring_protocol::status::Status;
use mooring_protocol::types::{
    Attr, DirEntry, FileKind, Handle, Ino, Name, NewNode, OpenMode, RenameMode, SetTime, Time, VolumeStat,
};

struct Inode {
    attr: Attr,
    data: Vec<u8>,
    entries: BTreeMap<Name, Ino>,
    opens: u32,
}

pub struct Tree {
    inodes: HashMap<Ino, Inode>,
    handles: HashMap<Handle, (Ino, OpenMode)>,
    next: u64,
    clock: u64,
}

type Outcome = Result<(Reply, Bytes), Status>;

impl Tree {
    pub fn new() -> Tree {
        let mut tree = Tree { inodes: HashMap::new(), handles: HashMap::new(), next: 1, clock: 1 };
        tree.make(FileKind::Dir, 0o755, 0, 0);
        tree
    }

    fn make(&mut self, kind: FileKind, mode: u16, uid: u32, gid: u32) -> Ino {
        let ino = Ino::new(self.next).expect("small numbers");
        self.next += 1;
        let t = self.now();
        let attr = Attr {
            ino,
            kind,
            mode,
            nlink: if kind == FileKind::Dir { 2 } else { 1 },
            uid,
            gid,
            rdev: 0,
            size: 0,
            blocks: 0,
            atime: t,
            mtime: t,
            ctime: t,
            btime: t,
            version: 1,
        };
        self.inodes.insert(ino, Inode { attr, data: Vec::new(), entries: BTreeMap::new(), opens: 0 });
        ino
    }

    fn now(&mut self) -> Time {
        self.clock += 1;
        Time { secs: i64::try_from(self.clock).expect("fits"), nanos: 0 }
    }

    fn touch(&mut self, ino: Ino) {
        let now = self.now();
        if let Some(inode) = self.inodes.get_mut(&ino) {
            inode.attr.version += 1;
            inode.attr.mtime = now;
            inode.attr.ctime = now;
            if inode.attr.kind == FileKind::File {
                inode.attr.size = inode.data.len() as u64;
            }
        }
    }

    fn get(&self, ino: Ino) -> Result<&Inode, Status> {
        self.inodes.get(&ino).ok_or(Status::Stale)
    }

    fn get_mut(&mut self, ino: Ino) -> Result<&mut Inode, Status> {
        self.inodes.get_mut(&ino).ok_or(Status::Stale)
    }

    pub fn child(&self, parent: Ino, name: &Name) -> Option<Ino> {
        self.inodes.get(&parent)?.entries.get(name).copied()
    }

    pub fn content(&self, name: &Name) -> Option<Vec<u8>> {
        Some(self.inodes.get(&self.child(Ino::ROOT, name)?)?.data.clone())
    }

    pub fn ino_of(&self, handle: Handle) -> Option<Ino> {
        self.handles.get(&handle).map(|(ino, _)| *ino)
    }

    fn attr(&self, ino: Ino) -> Result<Attr, Status> {
        Ok(self.get(ino)?.attr.clone())
    }

    /// The directories that a request changed, as they are now.
    pub fn left_by(&self, request: &Request) -> Vec<Attr> {
        let dirs = match request {
            Request::Create { parent, .. }
            | Request::Unlink { parent, .. }
            | Request::RmDir { parent, .. }
            | Request::Link { parent, .. } => vec![*parent],
            Request::Rename { parent, new_parent, .. } => vec![*parent, *new_parent],
            _ => Vec::new(),
        };
        dirs.into_iter().filter_map(|dir| self.attr(dir).ok()).collect()
    }

    fn open(&mut self, ino: Ino, mode: OpenMode, created: bool) -> Outcome {
        if mode.truncate {
            self.get_mut(ino)?.data.clear();
            self.touch(ino);
        }
        self.get_mut(ino)?.opens += 1;
        let handle = Handle(self.next);
        self.next += 1;
        self.handles.insert(handle, (ino, mode));
        Ok((Reply::Opened { handle, attr: self.attr(ino)?, created }, Bytes::new()))
    }

    fn unlinked(&mut self, ino: Ino) {
        self.touch(ino);
        let Some(inode) = self.inodes.get_mut(&ino) else { return };
        inode.attr.nlink = if inode.attr.kind == FileKind::Dir { 0 } else { inode.attr.nlink - 1 };
        if inode.attr.nlink == 0 && inode.opens == 0 {
            self.inodes.remove(&ino);
        }
    }

    pub fn apply(&mut self, request: &Request, payload: &Bytes) -> Outcome {
        let done = |reply| Ok((reply, Bytes::new()));
        match request {
            Request::Lookup { parent, name } => {
                self.get(*parent)?;
                let ino = self.child(*parent, name).ok_or(Status::NotFound)?;
                done(Reply::Entry { attr: self.attr(ino)? })
            }
            Request::GetAttr { ino } | Request::Acquire { ino, .. } => {
                done(Reply::Attr { attr: self.attr(*ino)? })
            }
            Request::SetAttr { ino, set, .. } => {
                let now = self.now();
                let inode = self.get_mut(*ino)?;
                if let Some(size) = set.size {
                    inode.data.resize(usize::try_from(size).map_err(|_| Status::FileTooLarge)?, 0);
                }
                inode.attr.mode = set.mode.unwrap_or(inode.attr.mode);
                self.touch(*ino);
                if let Some(time) = set.mtime {
                    self.get_mut(*ino)?.attr.mtime = if let SetTime::At(at) = time { at } else { now };
                }
                done(Reply::Attr { attr: self.attr(*ino)? })
            }
            Request::Create { parent, name, mode, uid, gid, node, exclusive } => {
                self.create(*parent, name, (*mode, *uid, *gid), node, *exclusive)
            }
            Request::Unlink { parent, name } => {
                let ino = self.child(*parent, name).ok_or(Status::NotFound)?;
                self.get_mut(*parent)?.entries.remove(name);
                self.unlinked(ino);
                self.touch(*parent);
                done(Reply::Done)
            }
            Request::RmDir { parent, name } => {
                let ino = self.child(*parent, name).ok_or(Status::NotFound)?;
                if !self.get(ino)?.entries.is_empty() {
                    return Err(Status::NotEmpty);
                }
                self.get_mut(*parent)?.entries.remove(name);
                self.unlinked(ino);
                self.touch(*parent);
                done(Reply::Done)
            }
            Request::Rename { parent, name, new_parent, new_name, mode } => {
                self.rename((*parent, name), (*new_parent, new_name), *mode)
            }
            Request::Link { ino, parent, name } => {
                if self.child(*parent, name).is_some() {
                    return Err(Status::Exists);
                }
                self.get_mut(*ino)?.attr.nlink += 1;
                self.get_mut(*parent)?.entries.insert(name.clone(), *ino);
                self.touch(*ino);
                self.touch(*parent);
                done(Reply::Entry { attr: self.attr(*ino)? })
            }
            Request::Open { ino, mode } => self.open(*ino, *mode, false),
            Request::Read { ino, offset, size, .. } => {
                let inode = self.get(*ino)?;
                let from = inode.data.len().min(usize::try_from(*offset).unwrap_or(usize::MAX));
                let to = inode.data.len().min(from + *size as usize);
                let data = Bytes::copy_from_slice(&inode.data[from..to]);
                Ok((Reply::Data { eof: to == inode.data.len(), version: inode.attr.version }, data))
            }
            Request::Write { ino, offset, append, .. } => {
                let inode = self.get_mut(*ino)?;
                let at = if *append { inode.data.len() } else { usize::try_from(*offset).expect("fits") };
                let end = at + payload.len();
                if inode.data.len() < end {
                    inode.data.resize(end, 0);
                }
                inode.data[at..end].copy_from_slice(payload);
                self.touch(*ino);
                done(Reply::Written { count: payload.len() as u64, attr: self.attr(*ino)? })
            }
            Request::Release { handle, .. } => {
                let (ino, _) = self.handles.remove(handle).ok_or(Status::BadHandle)?;
                let inode = self.get_mut(ino)?;
                inode.opens -= 1;
                if inode.opens == 0 && inode.attr.nlink == 0 {
                    self.inodes.remove(&ino);
                }
                done(Reply::Done)
            }
            Request::ReadDir { ino, after, limit, .. } => {
                let mut rows: Vec<DirEntry> = Vec::new();
                for (name, child) in &self.get(*ino)?.entries {
                    let kind = self.get(*child)?.attr.kind;
                    rows.push(DirEntry { name: name.clone(), ino: *child, kind, attr: None });
                }
                rows.sort_by_key(DirEntry::cursor);
                rows.retain(|row| row.cursor() > *after);
                let end = rows.len() <= *limit as usize;
                rows.truncate(*limit as usize);
                done(Reply::Entries { entries: rows, end })
            }
            Request::StatFs => {
                let stat =
                    VolumeStat { total_bytes: 1 << 40, free_bytes: 1 << 39, total_inodes: 1, free_inodes: 1 };
                done(Reply::Stat { stat })
            }
            Request::Fsync { .. } | Request::SyncFs | Request::Return { .. } | Request::LockSet { .. } => {
                done(Reply::Done)
            }
            Request::GetXattr { .. } => Err(Status::NoAttribute),
            _ => Err(Status::Unsupported),
        }
    }

    fn create(
        &mut self,
        parent: Ino,
        name: &Name,
        (mode, uid, gid): (u16, u32, u32),
        node: &NewNode,
        exclusive: bool,
    ) -> Outcome {
        let open = if let NewNode::File { open } = node { *open } else { None };
        if let Some(ino) = self.child(parent, name) {
            return match open {
                Some(open) if !exclusive => self.open(ino, open, false),
                _ => Err(Status::Exists),
            };
        }
        let kind = match node {
            NewNode::File { .. } => FileKind::File,
            NewNode::Dir => FileKind::Dir,
            _ => return Err(Status::Unsupported),
        };
        if self.get(parent)?.attr.nlink == 0 {
            return Err(Status::NotFound);
        }
        let ino = self.make(kind, mode, uid, gid);
        self.get_mut(parent)?.entries.insert(name.clone(), ino);
        self.touch(parent);
        match open {
            Some(open) => self.open(ino, open, true),
            None => Ok((Reply::Entry { attr: self.attr(ino)? }, Bytes::new())),
        }
    }

    fn rename(&mut self, from: (Ino, &Name), to: (Ino, &Name), mode: RenameMode) -> Outcome {
        let ino = self.child(from.0, from.1).ok_or(Status::NotFound)?;
        let target = self.child(to.0, to.1);
        match (mode, target) {
            (RenameMode::NoReplace, Some(_)) => return Err(Status::Exists),
            (RenameMode::Exchange, None) => return Err(Status::NotFound),
            (_, Some(same)) if same == ino => return Ok((Reply::Done, Bytes::new())),
            _ => {}
        }
        self.get_mut(from.0)?.entries.remove(from.1);
        self.get_mut(to.0)?.entries.insert(to.1.clone(), ino);
        if let Some(target) = target {
            if mode == RenameMode::Exchange {
                self.get_mut(from.0)?.entries.insert(from.1.clone(), target);
                self.touch(target);
            } else {
                self.unlinked(target);
            }
        }
        for ino in [ino, from.0, to.0] {
            self.touch(ino);
        }
        Ok((Reply::Done, Bytes::new()))
    }
}
