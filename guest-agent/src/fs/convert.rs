//! The protocol's values as the kernel wants them, and back.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mooring_protocol::types::{Attr, FileKind, SetTime, Time};

use super::{Door, FOR_EVER};
use crate::fuse::{self, Entry, Hold, Stat, TimeSet};

pub(super) fn kind_bits(kind: FileKind) -> u32 {
    match kind {
        FileKind::File => libc::S_IFREG,
        FileKind::Dir => libc::S_IFDIR,
        FileKind::Symlink => libc::S_IFLNK,
        FileKind::Fifo => libc::S_IFIFO,
        FileKind::Socket => libc::S_IFSOCK,
        FileKind::CharDevice => libc::S_IFCHR,
        FileKind::BlockDevice => libc::S_IFBLK,
    }
}

/// The special file that a mode names; regular files and directories are none.
pub(super) fn special_kind(mode: u32) -> Option<FileKind> {
    match mode & libc::S_IFMT {
        libc::S_IFIFO => Some(FileKind::Fifo),
        libc::S_IFSOCK => Some(FileKind::Socket),
        libc::S_IFCHR => Some(FileKind::CharDevice),
        libc::S_IFBLK => Some(FileKind::BlockDevice),
        _ => None,
    }
}

/// The permission bits of a mode.
pub(super) fn permissions(mode: u32) -> u16 {
    // 12 bits.
    (mode & 0o7777) as u16
}

fn system_time(time: Time) -> SystemTime {
    let nanos = Duration::from_nanos(u64::from(time.nanos));
    let whole = Duration::from_secs(time.secs.unsigned_abs());
    let base = if time.secs < 0 { UNIX_EPOCH.checked_sub(whole) } else { UNIX_EPOCH.checked_add(whole) };
    base.and_then(|t| t.checked_add(nanos)).unwrap_or(UNIX_EPOCH)
}

pub(super) fn set_time(time: TimeSet) -> SetTime {
    let at = match time {
        TimeSet::Now => return SetTime::Now,
        TimeSet::At(at) => at,
    };
    SetTime::At(match at.duration_since(UNIX_EPOCH) {
        Ok(after) => {
            Time { secs: i64::try_from(after.as_secs()).unwrap_or(i64::MAX), nanos: after.subsec_nanos() }
        }
        Err(before) => {
            let before = before.duration();
            let whole = i64::try_from(before.as_secs()).unwrap_or(i64::MAX);
            match before.subsec_nanos() {
                0 => Time { secs: -whole, nanos: 0 },
                nanos => Time { secs: -whole - 1, nanos: 1_000_000_000 - nanos },
            }
        }
    })
}

impl Door {
    pub(super) fn to_attr(&self, attr: &Attr) -> fuse::Attr {
        fuse::Attr {
            ino: self.to_node(attr.ino),
            size: attr.size,
            blocks: attr.blocks,
            mode: kind_bits(attr.kind) | u32::from(attr.mode),
            nlink: attr.nlink,
            uid: attr.uid,
            gid: attr.gid,
            rdev: attr.rdev,
            atime: system_time(attr.atime),
            mtime: system_time(attr.mtime),
            ctime: system_time(attr.ctime),
        }
    }

    /// Attributes for the kernel, to be kept there exactly when they rest on a lease.
    pub(super) fn to_stat(&self, attr: &Attr, hold: Option<Hold>) -> Stat {
        let ttl = if hold.is_some() { FOR_EVER } else { Duration::ZERO };
        Stat { attr: self.to_attr(attr), ttl, hold }
    }

    /// A name that is there. It may be kept in the kernel only where this session cannot write: dropping a name
    /// there waits for a create that is under way in its directory.
    pub(super) fn to_entry(&self, attr: &Attr, hold: Option<Hold>, keep_name: bool) -> Entry {
        let stat = self.to_stat(attr, hold);
        let entry_ttl = if keep_name { FOR_EVER } else { Duration::ZERO };
        Entry { attr: Some(stat.attr), entry_ttl, attr_ttl: stat.ttl, hold: stat.hold }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn times_before_1970_go_there_and_back() {
        for (secs, nanos) in [(0, 0), (-1, 0), (-1, 999_999_999), (-2_000_000_000, 5), (4_000_000_000, 7)] {
            let time = Time { secs, nanos };
            assert_eq!(set_time(TimeSet::At(system_time(time))), SetTime::At(time));
        }
    }
}
