//! Random operations on files.

use super::*;

impl Run {
    pub(super) async fn create(&mut self) {
        let (cx, cy) = self.callers();
        let ((p, q), name) = (self.node(), self.name());
        let node = match self.below(8) {
            0..=2 => NewNode::Dir,
            3 => NewNode::Symlink { target: b"../else/where".to_vec() },
            4 => NewNode::Special { kind: FileKind::Fifo, rdev: 0 },
            _ => NewNode::File { open: None },
        };
        let mode = *self.pick(&[0o644, 0o2775, 0o6755]);
        let what = format!("create {p:?}/{name} {node:?} {mode:o} confined {}", cx.confined);
        self.log.push(what.clone());
        let one = self.volume.create(&cx, p, &name, mode, (5, 6), &node).await;
        let two = self.oracle.create(&cy, q, &name, mode, (5, 6), &node).await;
        if same(&one, &two, &what) {
            let (one, two) = (one.unwrap(), two.unwrap());
            same_attr(&one, &two, &what);
            self.learn(one.ino, two.ino);
        }
    }

    pub(super) async fn remove(&mut self) {
        let (cx, cy) = self.callers();
        let ((p, q), name) = (self.node(), self.name());
        let dir = self.below(2) == 0;
        let what = format!("remove {p:?}/{name} directory {dir} confined {}", cx.confined);
        self.log.push(what.clone());
        let (one, two) = if dir {
            (self.volume.rmdir(&cx, p, &name).await, self.oracle.rmdir(&cy, q, &name).await)
        } else {
            (self.volume.unlink(&cx, p, &name).await, self.oracle.unlink(&cy, q, &name).await)
        };
        if same(&one, &two, &what) {
            same_attr(&one.unwrap(), &two.unwrap(), &what);
        }
    }

    pub(super) async fn rename(&mut self) {
        let (cx, cy) = self.callers();
        let ((p, q), (r, s), from, to) = (self.node(), self.node(), self.name(), self.name());
        let mode = *self.pick(&[
            RenameMode::Replace,
            RenameMode::Replace,
            RenameMode::NoReplace,
            RenameMode::Exchange,
        ]);
        let what = format!("rename {p:?}/{from} to {r:?}/{to} {mode:?} confined {}", cx.confined);
        self.log.push(what.clone());
        let one = self.volume.rename(&cx, p, &from, r, &to, mode).await;
        let two = self.oracle.rename(&cy, q, &from, s, &to, mode).await;
        if same(&one, &two, &what) {
            let (one, two) = (one.unwrap(), two.unwrap());
            same_attr(&one.moved, &two.moved, &what);
            assert_eq!(one.other.as_ref().map(attr_line), two.other.as_ref().map(attr_line), "{what}");
        }
    }

    pub(super) async fn link(&mut self) {
        let (cx, cy) = self.callers();
        let ((i, j), (p, q), name) = (self.node(), self.node(), self.name());
        let what = format!("link {i:?} as {p:?}/{name} confined {}", cx.confined);
        self.log.push(what.clone());
        let one = self.volume.link(&cx, i, p, &name).await;
        let two = self.oracle.link(&cy, j, q, &name).await;
        if same(&one, &two, &what) {
            same_attr(&one.unwrap(), &two.unwrap(), &what);
        }
    }

    pub(super) async fn write(&mut self) {
        let (cx, cy) = self.callers();
        let ((i, j), data) = (self.node(), self.bytes());
        let place = if self.below(4) == 0 { WriteAt::End } else { WriteAt::Offset(self.offset()) };
        let stamp = (self.below(3) == 0).then(|| Time { secs: self.now - 3, nanos: 0 });
        let clear = self.below(2) == 0;
        let what = format!("write {i:?} {place:?} {} bytes confined {}", data.len(), cx.confined);
        self.log.push(what.clone());
        let one = self.volume.write(&cx, i, place, data.clone(), stamp, clear).await;
        let two = self.oracle.write(&cy, j, place, data, stamp, clear).await;
        if same(&one, &two, &what) {
            let (one, two) = (one.unwrap(), two.unwrap());
            assert_eq!(one.0, two.0, "{what}");
            same_attr(&one.1, &two.1, &what);
        }
    }

    pub(super) async fn setattr(&mut self) {
        let (cx, cy) = self.callers();
        let (i, j) = self.node();
        let set = SetAttr {
            mode: (self.below(2) == 0).then(|| *self.pick(&[0o755, 0o4711, 0o2777])),
            uid: (self.below(3) == 0).then_some(9),
            gid: (self.below(3) == 0).then_some(10),
            size: (self.below(2) == 0).then(|| self.offset()),
            atime: (self.below(3) == 0).then_some(SetTime::Now),
            mtime: (self.below(3) == 0).then_some(SetTime::At(Time { secs: 77, nanos: 5 })),
            clear_suid_sgid: self.below(2) == 0,
        };
        let what = format!("setattr {i:?} {set:?} confined {}", cx.confined);
        self.log.push(what.clone());
        let (one, two) = (self.volume.setattr(&cx, i, &set).await, self.oracle.setattr(&cy, j, &set).await);
        if same(&one, &two, &what) {
            same_attr(&one.unwrap(), &two.unwrap(), &what);
        }
    }

    pub(super) async fn allocate(&mut self) {
        let (cx, cy) = self.callers();
        let ((i, j), offset, length) = (self.node(), self.offset(), self.offset());
        let keep_size = self.below(2) == 0;
        let how = *self.pick(&[
            Allocate::Reserve { keep_size },
            Allocate::PunchHole,
            Allocate::ZeroRange { keep_size },
            Allocate::PunchHole,
        ]);
        let what = format!("allocate {i:?} {offset} {length} {how:?} confined {}", cx.confined);
        self.log.push(what.clone());
        let one = self.volume.allocate(&cx, i, offset, length, how).await;
        let two = self.oracle.allocate(&cy, j, offset, length, how).await;
        if same(&one, &two, &what) {
            same_attr(&one.unwrap(), &two.unwrap(), &what);
        }
    }

    pub(super) async fn copy(&mut self) {
        let (cx, cy) = self.callers();
        let ((i, j), (k, l)) = (self.node(), self.node());
        let (from, to, len) = (self.offset(), self.offset(), 1 + self.offset());
        let what = format!("copy {i:?} {from} to {k:?} {to} {len} bytes confined {}", cx.confined);
        self.log.push(what.clone());
        let one = self.volume.copy_range(&cx, (i, from), (k, to), len).await;
        let two = self.oracle.copy_range(&cy, (j, from), (l, to), len).await;
        if same(&one, &two, &what) {
            let (one, two) = (one.unwrap(), two.unwrap());
            assert_eq!(one.0, two.0, "{what}");
            same_attr(&one.1, &two.1, &what);
        }
    }

    pub(super) async fn xattr(&mut self) {
        let (cx, cy) = self.callers();
        let ((i, j), data) = (self.node(), self.bytes());
        let name = *self.pick(&["user.one", "user.two", "security.x"]);
        let mode = *self.pick(&[XattrMode::Set, XattrMode::Create, XattrMode::Replace]);
        let what = format!("xattr {i:?} {name} {mode:?} confined {}", cx.confined);
        self.log.push(what.clone());
        if self.below(3) == 0 {
            let one = self.volume.removexattr(&cx, i, name.as_bytes()).await;
            same(&one, &self.oracle.removexattr(&cy, j, name.as_bytes()).await, &what);
        } else {
            let one = self.volume.setxattr(&cx, i, name.as_bytes(), &data, mode).await;
            same(&one, &self.oracle.setxattr(&cy, j, name.as_bytes(), &data, mode).await, &what);
        }
    }

    pub(super) async fn pin(&mut self) {
        let (cx, cy) = self.callers();
        if self.below(2) == 0 && !self.pins.is_empty() {
            let (i, j) = self.pins.swap_remove(self.below(self.pins.len() as u64) as usize);
            self.log.push(format!("unpin {i:?}"));
            self.volume.unpin(i).await.unwrap();
            self.oracle.unpin(j).await.unwrap();
            return;
        }
        let (i, j) = self.node();
        let what = format!("pin {i:?} confined {}", cx.confined);
        self.log.push(what.clone());
        let (one, two) = (self.volume.pin(&cx, i).await, self.oracle.pin(&cy, j).await);
        if same(&one, &two, &what) {
            self.pins.push((i, j));
        }
    }
}
