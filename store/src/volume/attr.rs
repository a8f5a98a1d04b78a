//! Inodes as values: what a change does to times and versions, and what `stat` shows.

use crate::keys::Layer;
use crate::keys::inode::Inode;
use crate::keys::map::BLOCK;
use mooring_protocol::types::{Attr, FileKind, Ino, Time};

/// `st_size` of every directory: entries have no bytes of their own.
const DIR_SIZE: u64 = 4096;
/// `st_blocks` counts in these.
const SECTOR: u64 = 512;

/// A new inode made now.
pub(crate) fn new(kind: FileKind, mode: u16, owner: (u32, u32), ino: Ino, now: Time) -> Inode {
    Inode {
        kind,
        mode: mode & 0o7777,
        nlink: if kind == FileKind::Dir { 2 } else { 1 },
        uid: owner.0,
        gid: owner.1,
        rdev: 0,
        size: 0,
        blocks: 0,
        atime: now,
        mtime: now,
        ctime: now,
        btime: now,
        version: 1,
        content: 1,
        map: ino.get(),
        parent: 0,
        sides: 0,
        flags: 0,
        layer: Layer::default(),
    }
}

/// The root directory of a new volume.
pub(crate) fn root(now: Time) -> Inode {
    Inode { parent: Ino::ROOT.get(), ..new(FileKind::Dir, 0o755, (0, 0), Ino::ROOT, now) }
}

/// `now`, but above `previous`: times of one inode only move forward.
pub(crate) fn tick(previous: Time, now: Time) -> Time {
    if now > previous {
        return now;
    }
    match previous.nanos {
        nanos if nanos < 999_999_999 => Time { nanos: nanos + 1, ..previous },
        _ => Time { secs: previous.secs.saturating_add(1), nanos: 0 },
    }
}

impl Inode {
    /// Marks a change of attributes.
    pub(crate) fn touch(&mut self, now: Time) {
        self.ctime = tick(self.ctime, now);
        self.version += 1;
    }

    /// Marks a change of content, which the writer did at `stamp`: not before the last change, not after this one.
    pub(crate) fn modify(&mut self, now: Time, stamp: Option<Time>) {
        let before = self.ctime;
        self.touch(now);
        self.mtime = stamp.map_or(self.ctime, |stamp| stamp.max(before).min(self.ctime));
        self.content = self.version;
    }

    /// Drops set-user-id, and set-group-id where it means one, as a write by an unprivileged program does.
    pub(crate) fn clear_suid(&mut self) {
        self.mode &= !0o4000;
        if self.mode & 0o010 != 0 {
            self.mode &= !0o2000;
        }
    }

    pub(crate) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    pub(crate) fn is_dir(&self) -> bool {
        self.kind == FileKind::Dir
    }

    /// What `stat` shows.
    pub(crate) fn attr(&self, ino: Ino) -> Attr {
        Attr {
            ino,
            kind: self.kind,
            mode: self.mode,
            nlink: self.nlink,
            uid: self.uid,
            gid: self.gid,
            rdev: self.rdev,
            size: if self.is_dir() { DIR_SIZE } else { self.size },
            blocks: if self.is_dir() { DIR_SIZE / SECTOR } else { self.blocks * (BLOCK / SECTOR) },
            atime: self.atime,
            mtime: self.mtime,
            ctime: self.ctime,
            btime: self.btime,
            version: self.version,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_never_stand_still_or_go_back() {
        let end_of_second = Time { secs: 5, nanos: 999_999_999 };
        assert_eq!(tick(end_of_second, Time { secs: 5, nanos: 0 }), Time { secs: 6, nanos: 0 });
        let mut inode = root(Time { secs: 10, nanos: 7 });
        inode.modify(Time { secs: 3, nanos: 0 }, None);
        assert_eq!((inode.ctime, inode.version), (Time { secs: 10, nanos: 8 }, 2));
        inode.modify(Time { secs: 20, nanos: 0 }, Some(Time { secs: 2, nanos: 0 }));
        assert_eq!(inode.mtime, Time { secs: 10, nanos: 8 });
        inode.modify(Time { secs: 30, nanos: 0 }, Some(Time { secs: 99, nanos: 0 }));
        assert_eq!(inode.mtime, inode.ctime);
    }

    #[test]
    fn a_write_takes_privileges_away() {
        let mut inode = new(FileKind::File, 0o6755, (1, 1), Ino::ROOT, Time::default());
        inode.clear_suid();
        assert_eq!(inode.mode, 0o755);
        let mut locking = new(FileKind::File, 0o2644, (1, 1), Ino::ROOT, Time::default());
        locking.clear_suid();
        assert_eq!(locking.mode, 0o2644, "without group execution the bit means mandatory locking");
    }
}
