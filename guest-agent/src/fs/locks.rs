//! fcntl locks, kept by the gateway so that they hold between guests. (flock stays with the guest's kernel: the library
//! does not say which kind a request is, so only fcntl's are asked for.)

use mooring_protocol::message::{HeldLock, Reply, Request};
use mooring_protocol::types::{LockKind, LockRange};
use rustix::io::Errno;
use tokio::sync::oneshot;

use super::node::Node;
use super::{Door, errno, odd};
use crate::fuse::{FileLock, NodeId, Result};

/// Last byte of any file, as the kernel writes "to the end".
const KERNEL_END: u64 = i64::MAX as u64;

fn range(lock: &FileLock) -> LockRange {
    LockRange { start: lock.start, end: if lock.end >= KERNEL_END { u64::MAX } else { lock.end } }
}

fn kind(lock: &FileLock) -> Result<LockKind> {
    match lock.kind {
        libc::F_RDLCK => Ok(LockKind::Read),
        libc::F_WRLCK => Ok(LockKind::Write),
        libc::F_UNLCK => Ok(LockKind::Unlock),
        _ => Err(Errno::INVAL),
    }
}

impl Door {
    pub(super) async fn op_getlk(&self, id: NodeId, owner: u64, lock: FileLock) -> Result<FileLock> {
        let request =
            Request::LockGet { ino: self.to_ino(id)?, owner, range: range(&lock), kind: kind(&lock)? };
        match self.ask(request).await.map_err(errno)? {
            Reply::Lock { holder: None } => Ok(FileLock { kind: libc::F_UNLCK, ..lock }),
            Reply::Lock { holder: Some((kind, range, pid)) } => Ok(FileLock {
                start: range.start,
                end: range.end.min(KERNEL_END),
                kind: if kind == LockKind::Write { libc::F_WRLCK } else { libc::F_RDLCK },
                pid,
            }),
            other => Err(odd(&other)),
        }
    }

    pub(super) async fn op_setlk(
        &self,
        id: NodeId,
        owner: u64,
        lock: FileLock,
        wait: Option<oneshot::Receiver<()>>,
    ) -> Result<()> {
        let node = self.node(id)?;
        let (range, kind) = (range(&lock), kind(&lock)?);
        let held = HeldLock { ino: node.ino, owner, pid: lock.pid, range, kind };
        if kind == LockKind::Unlock {
            // What was written under the lock has to be there for who takes it next, in another guest too: that
            // is the leases' work. The lock itself is all there is to do.
            node.note_lock(held);
        }
        let request = Request::LockSet {
            ino: node.ino,
            owner,
            pid: lock.pid,
            range,
            kind,
            wait: wait.is_some() && kind != LockKind::Unlock,
        };
        let asked = self.done(request);
        match wait {
            None => asked.await?,
            Some(cancelled) => tokio::select! {
                biased;
                result = asked => result?,
                // Dropping the call tells the gateway. It may have granted the lock in this moment; the lock is
                // then undone like any other of this owner's.
                Ok(()) = cancelled => {
                    self.undo_lock(held).await;
                    return Err(Errno::INTR);
                }
            },
        }
        if kind != LockKind::Unlock {
            node.note_lock(held);
        }
        Ok(())
    }

    async fn undo_lock(&self, held: HeldLock) {
        let HeldLock { ino, owner, pid, range, .. } = held;
        let kept: Vec<HeldLock> = {
            let node = self.table.get(ino);
            let state = node.state.lock();
            let same =
                |l: &&HeldLock| l.owner == owner && l.range.start <= range.end && range.start <= l.range.end;
            state.locks.iter().filter(same).copied().collect()
        };
        // What the owner held in this range before the wait it keeps.
        if kept.is_empty() {
            let kind = LockKind::Unlock;
            let undo = Request::LockSet { ino, owner, pid, range, kind, wait: false };
            if let Err(error) = self.done(undo).await {
                tracing::warn!(%ino, %error, "a lock whose wait was interrupted may still be held");
            }
        }
    }

    /// A descriptor was closed: the locks of its owner go, as fcntl(2) wants it.
    pub(super) async fn unlock_all(&self, node: &Node, owner: u64) -> Result<()> {
        let any = {
            let mut state = node.state.lock();
            let before = state.locks.len();
            state.locks.retain(|l| l.owner != owner);
            state.locks.len() != before
        };
        if !any {
            return Ok(());
        }
        let range = LockRange { start: 0, end: u64::MAX };
        let kind = LockKind::Unlock;
        self.done(Request::LockSet { ino: node.ino, owner, pid: 0, range, kind, wait: false }).await
    }
}

impl Node {
    /// Keeps the list of held locks as the gateway has it: a new lock or an unlock replaces what the owner had of its
    /// range.
    fn note_lock(&self, new: HeldLock) {
        let mut state = self.state.lock();
        let mut left = Vec::with_capacity(state.locks.len() + 1);
        for old in state.locks.drain(..) {
            let apart =
                old.owner != new.owner || old.range.end < new.range.start || new.range.end < old.range.start;
            if apart {
                left.push(old);
                continue;
            }
            if old.range.start < new.range.start {
                left.push(HeldLock { range: LockRange { end: new.range.start - 1, ..old.range }, ..old });
            }
            if old.range.end > new.range.end {
                left.push(HeldLock { range: LockRange { start: new.range.end + 1, ..old.range }, ..old });
            }
        }
        if new.kind != LockKind::Unlock {
            left.push(new);
        }
        state.locks = left;
    }
}
