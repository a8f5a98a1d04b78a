//! What the agent knows of one inode, and on what right it knows it.
//!
//! Everything cached here is valid only while the lease is held; the lease, the recall of it and the gathered
//! writes are one state under one short lock, which is never held across a wait.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mooring_protocol::holder::{Holder, Range as Span};
use mooring_protocol::message::{HeldHandle, HeldLock};
use mooring_protocol::status::Status;
use mooring_protocol::types::{Attr, Handle, Ino, LeaseGrant, LeaseMode, Name, Time};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::fuse::{Gate, Hold};
use crate::remote::Mark;
use crate::write::Gather;

/// An inode whose lease was not asked back for this long is not being fought over.
const CALM: Duration = Duration::from_millis(100);

/// One inode.
pub struct Node {
    /// Its number.
    pub ino: Ino,
    /// What is known.
    pub state: Mutex<NodeState>,
    /// Attributes on their way to the kernel with a life there.
    pub gate: Gate,
    /// Something that others wait for has changed: a recall ended, a lease was used.
    pub changed: Notify,
    /// Hand-overs of one file go one after the other, so that a later write cannot overtake an earlier one.
    pub hand_over: tokio::sync::Mutex<()>,
}

/// The state of a [`Node`].
#[derive(Debug)]
pub struct NodeState {
    /// The lease, and the recall of it when there is one.
    pub holder: Holder,
    /// The lease is being given up.
    pub recalling: bool,
    /// It is being given up so far that nothing may be answered from here any more.
    pub published: bool,
    /// It is being given up because we have no use for it, and nobody asked.
    pub returning: bool,
    /// Attributes, without what is gathered.
    pub attr: Option<Attr>,
    /// The newest version of the inode ever seen; older attributes are late answers.
    pub version: u64,
    /// Changes made to this inode by this agent.
    pub changes: u64,
    /// There is no `security.capability` on this file. The kernel asks for it before the first write.
    pub no_capability: bool,
    /// Entries of a directory; `None` for a name that does not exist.
    pub names: HashMap<Name, Option<Ino>>,
    /// These are all entries of the directory: what is not among them does not exist.
    pub complete: bool,
    /// A name was asked for that does not exist: whoever asks for one mostly asks for more.
    pub missed: bool,
    /// It was tried to know all entries.
    pub listed: bool,
    /// Names of this directory that the kernel may keep (read-only mounts).
    pub told: HashSet<Bytes>,
    /// The kernel may have pages of this file.
    pub kernel_pages: bool,
    /// The kernel may have lasting attributes.
    pub kernel_attrs: bool,
    /// An answer gave the kernel lasting attributes, and nothing has shown since that it has used it. Should it not know
    /// the inode, it is about to.
    pub owed: bool,
    /// When the lease was last asked back.
    pub recalled: Option<Instant>,
    /// Pages of writes that the kernel waits for.
    pub writing: Vec<Span>,
    /// Writes not handed over.
    pub gather: Gather,
    /// End and stamp of what is being handed over just now.
    pub sending: Option<(u64, Time)>,
    /// A hand-over failed; told to the next fsync or close.
    pub error: Option<Status>,
    /// Handles at the gateway with the right to write; those that append come last.
    pub writers: Vec<Handle>,
    /// Handles to be released after the next hand-over. The kernel has closed them.
    pub releasing: Vec<HeldHandle>,
    /// Open files of the kernel.
    pub opens: u32,
    /// fcntl locks held.
    pub locks: Vec<HeldLock>,
    /// For giving up what is not used.
    pub used: Instant,
}

impl Node {
    /// A node nothing is known of.
    pub fn new(ino: Ino) -> Arc<Node> {
        Arc::new(Node {
            ino,
            state: Mutex::new(NodeState {
                holder: Holder::new(),
                recalling: false,
                published: false,
                returning: false,
                attr: None,
                version: 0,
                changes: 0,
                no_capability: false,
                names: HashMap::new(),
                complete: false,
                missed: false,
                listed: false,
                told: HashSet::new(),
                kernel_pages: false,
                kernel_attrs: false,
                owed: false,
                recalled: None,
                writing: Vec::new(),
                gather: Gather::default(),
                sending: None,
                error: None,
                writers: Vec::new(),
                releasing: Vec::new(),
                opens: 0,
                locks: Vec::new(),
                used: Instant::now(),
            }),
            gate: Gate::default(),
            changed: Notify::new(),
            hand_over: tokio::sync::Mutex::new(()),
        })
    }

    /// What is known now, to be compared when an answer comes.
    pub fn mark(&self) -> Mark {
        let state = self.state.lock();
        Mark { seq: state.holder.seq(), changes: state.changes }
    }

    /// The attributes as programs see them, if they are known under a lease. The hold says that the kernel may keep
    /// them, and must be kept until they are there.
    pub fn cached_attr(&self) -> Option<(Attr, Option<Hold>)> {
        let mut state = self.state.lock();
        state.used = Instant::now();
        let attr = state.visible_attr()?;
        let hold = state.kernel_may_keep().then(|| self.gate.hold());
        state.owed |= hold.is_some();
        state.kernel_attrs |= hold.is_some();
        Some((attr, hold))
    }
}

impl NodeState {
    /// What is cached here may be answered.
    pub fn covered(&self) -> bool {
        self.holder.mode() >= LeaseMode::Read && !self.published
    }

    /// The kernel may keep attributes: a lease is held that nobody has asked back, and no gathered write makes
    /// them move without the kernel's knowing.
    ///
    /// Not so soon after a recall: what several guests work on would be given to the kernel and dropped there again and
    /// again. Beside the cost, a kernel that is told to drop attributes does not take those of the answer that it waits
    /// for just then, and ends a read where it last knew the file's end.
    pub fn kernel_may_keep(&self) -> bool {
        let calm = self.recalled.is_none_or(|at| at.elapsed() >= CALM);
        self.covered() && !self.recalling && calm && self.gather.is_empty() && self.sending.is_none()
    }

    /// Takes a grant, unless a later one was seen.
    pub fn granted(&mut self, grant: &LeaseGrant) {
        let held = self.holder.mode() > LeaseMode::None;
        if self.holder.grant(grant.mode, grant.seq) && !held {
            // What was known before belongs to an earlier lease.
            self.forget();
        }
    }

    /// Takes attributes of an answer, unless they are older than what was seen.
    pub fn learn(&mut self, attr: &Attr) {
        if attr.version < self.version {
            return;
        }
        self.version = attr.version;
        if self.covered() {
            self.attr = Some(attr.clone());
        }
    }

    /// This agent changed the inode and does not know the new attributes.
    pub fn changed_here(&mut self) {
        self.changes += 1;
        self.attr = None;
        self.no_capability = false;
    }

    /// Forgets what a lease allowed to know.
    pub fn forget(&mut self) {
        self.attr = None;
        self.no_capability = false;
        self.names = HashMap::new();
        (self.complete, self.missed, self.listed) = (false, false, false);
    }

    /// Attributes with what is gathered laid over them.
    pub fn visible_attr(&self) -> Option<Attr> {
        if !self.covered() {
            return None;
        }
        self.attr.clone().map(|attr| self.overlay(attr))
    }

    /// Lays gathered writes over the gateway's attributes.
    pub fn overlay(&self, mut attr: Attr) -> Attr {
        let gathered = (!self.gather.is_empty()).then(|| (self.gather.end(), self.gather.stamp()));
        for (end, stamp) in self.sending.iter().copied().chain(gathered) {
            attr.size = attr.size.max(end);
            attr.mtime = attr.mtime.max(stamp);
            attr.ctime = attr.ctime.max(stamp);
            attr.blocks = attr.blocks.max(attr.size.div_ceil(512).min(attr.blocks + end.div_ceil(512)));
        }
        if self.gather.clears_suid_sgid() {
            attr.mode = without_suid_sgid(attr.mode);
        }
        attr
    }

    /// Whether the node can be forgotten: nothing open, nothing unsent, no locks, nobody at it.
    pub fn idle(&self) -> bool {
        self.opens == 0
            && self.gather.is_empty()
            && self.sending.is_none()
            && !self.recalling
            && self.error.is_none()
            && self.writers.is_empty()
            && self.releasing.is_empty()
            && self.locks.is_empty()
    }
}

/// What a write by an unprivileged program leaves of the permission bits: no set-user-id, and no set-group-id
/// where the group may execute (without that bit it means mandatory locking).
fn without_suid_sgid(mode: u16) -> u16 {
    let mode = mode & !0o4000;
    if mode & 0o010 != 0 { mode & !0o2000 } else { mode }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mooring_protocol::types::FileKind;

    fn attr(version: u64) -> Attr {
        let t = Time::default();
        Attr {
            ino: Ino::ROOT,
            kind: FileKind::File,
            mode: 0o644,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            size: version,
            blocks: 0,
            atime: t,
            mtime: t,
            ctime: t,
            btime: t,
            version,
        }
    }

    fn grant(seq: u64) -> LeaseGrant {
        LeaseGrant { ino: Ino::ROOT, mode: LeaseMode::Read, seq }
    }

    #[test]
    fn nothing_is_known_without_a_lease() {
        let node = Node::new(Ino::ROOT);
        node.state.lock().learn(&attr(1));
        assert!(node.cached_attr().is_none());
        node.state.lock().granted(&grant(1));
        assert!(node.cached_attr().is_none(), "attributes from before the lease prove nothing");
        node.state.lock().learn(&attr(1));
        assert!(node.cached_attr().is_some_and(|(_, hold)| hold.is_some()));
    }

    #[test]
    fn a_late_answer_does_not_undo_a_newer_one() {
        let node = Node::new(Ino::ROOT);
        let mut state = node.state.lock();
        state.granted(&grant(1));
        state.learn(&attr(5));
        state.learn(&attr(4));
        assert_eq!(state.visible_attr().map(|a| a.version), Some(5));
    }

    #[test]
    fn a_set_group_id_without_group_execute_stays() {
        assert_eq!(without_suid_sgid(0o6755), 0o755);
        assert_eq!(without_suid_sgid(0o2644), 0o2644);
    }
}
