//! What an answer teaches. Runs on the task that reads the stream, in the stream's order, so nothing here waits.
//!
//! Three things keep a late answer from becoming a lie:
//! * attributes carry the inode's version, and an older version is never taken;
//! * a name is only taken when the lease on its directory was held without a break from question to answer
//!   (same sequence number), or came with this answer;
//! * and when this agent has not itself changed the directory in between (same count of changes).

use mooring_protocol::message::{Answer, Reply, Request};
use mooring_protocol::status::Status;
use mooring_protocol::types::{Attr, DirEntry, Ino, Name, RenameMode};

use super::Door;
use super::node::Node;
use crate::remote::Mark;

/// Most names kept of one directory; a larger one is asked for name by name.
const MAX_NAMES: usize = 64 << 10;

impl Door {
    /// The node that a request asks about, or the directory it changes, whose [`Mark`] tells whether its answer may be
    /// kept.
    pub(super) fn subject(request: &Request) -> Option<Ino> {
        match request {
            Request::Lookup { parent, .. }
            | Request::Create { parent, .. }
            | Request::Unlink { parent, .. }
            | Request::RmDir { parent, .. }
            | Request::Rename { parent, .. }
            | Request::Link { parent, .. } => Some(*parent),
            Request::GetAttr { ino } | Request::ReadDir { ino, .. } => Some(*ino),
            _ => None,
        }
    }

    /// Takes from an answer what may be kept.
    pub(super) fn absorb(&self, request: &Request, mark: Mark, answer: Result<&Answer, Status>) {
        let answer = match answer {
            Ok(answer) => answer,
            Err(Status::NotFound) => return self.absorb_absence(request, mark),
            Err(_) => return,
        };
        for grant in &answer.leases {
            self.table.get(grant.ino).state.lock().granted(grant);
        }
        let fresh = |ino: Ino| answer.leases.iter().any(|g| g.ino == ino);
        self.absorb_change(request);
        if let Some(dir) = Door::subject(request) {
            answer.also.iter().filter(|attr| attr.ino == dir).for_each(|attr| {
                self.learn_if_unbroken(mark, fresh(dir), attr);
            });
        }
        match (&answer.reply, request) {
            (Reply::Entry { attr }, Request::Lookup { parent, name }) => {
                self.learn(attr);
                self.hint(*parent, name, attr.ino);
                self.name_if_unbroken(*parent, mark, fresh(*parent), name, Some(attr.ino));
            }
            (Reply::Opened { attr, created: true, .. }, Request::Create { parent, name, .. }) => {
                self.learn(attr);
                // What has just been made has no attributes beside.
                let node = self.table.get(attr.ino);
                let mut state = node.state.lock();
                state.no_capability = state.covered();
                drop(state);
                self.hint(*parent, name, attr.ino);
                self.name_own(*parent, name, Some(attr.ino));
            }
            (Reply::Entry { attr } | Reply::Opened { attr, .. }, Request::Create { parent, name, .. })
            | (Reply::Entry { attr }, Request::Link { parent, name, .. }) => {
                self.learn(attr);
                self.hint(*parent, name, attr.ino);
                self.name_own(*parent, name, Some(attr.ino));
            }
            (Reply::Attr { attr }, Request::GetAttr { ino }) => {
                let node = self.table.get(*ino);
                let mut state = node.state.lock();
                if state.changes == mark.changes {
                    state.learn(attr);
                }
            }
            (Reply::Attr { attr } | Reply::Opened { attr, .. } | Reply::Written { attr, .. }, _) => {
                self.learn(attr)
            }
            (Reply::Entries { entries, end }, Request::ReadDir { ino, after, .. }) => {
                for entry in entries {
                    if let Some(attr) = &entry.attr {
                        self.learn(attr);
                    }
                    self.name_if_unbroken(*ino, mark, fresh(*ino), &entry.name, Some(entry.ino));
                    self.hint(*ino, &entry.name, entry.ino);
                }
                if *end && after.is_empty() {
                    self.complete_if_unbroken(*ino, mark, fresh(*ino), entries);
                }
            }
            (Reply::Done, Request::Unlink { parent, name } | Request::RmDir { parent, name }) => {
                self.name_own(*parent, name, None);
            }
            (Reply::Done, Request::Rename { parent, name, new_parent, new_name, mode }) => {
                self.absorb_rename((*parent, name), (*new_parent, new_name), *mode);
            }
            _ => {}
        }
    }

    /// "No such name" is knowledge too, under the directory's lease.
    fn absorb_absence(&self, request: &Request, mark: Mark) {
        if let Request::Lookup { parent, name } = request {
            self.name_if_unbroken(*parent, mark, false, name, None);
            self.table.get(*parent).state.lock().missed = true;
        }
    }

    /// A file that was moved has its new name and no longer the old one. Two names of one file stay both, and an exchange
    /// leaves something under the old one: then, and where it is not known what was there, nothing is known any more.
    fn absorb_rename(&self, from: (Ino, &Name), to: (Ino, &Name), mode: RenameMode) {
        let moved = self.name_known(from.0, from.1).flatten();
        let replaced = self.name_known(to.0, to.1);
        match (moved, replaced) {
            (Some(moved), Some(replaced)) if mode != RenameMode::Exchange && replaced != Some(moved) => {
                self.name_own(from.0, from.1, None);
                self.name_own(to.0, to.1, Some(moved));
            }
            _ => {
                self.name_forget(from.0, from.1);
                self.name_forget(to.0, to.1);
            }
        }
    }

    /// What is known of a name: nothing, that it is absent, or its inode.
    fn name_known(&self, dir: Ino, name: &Name) -> Option<Option<Ino>> {
        let node = self.table.get(dir);
        let state = node.state.lock();
        let known = state.names.get(name).copied();
        known.or(state.complete.then_some(None)).filter(|_| state.covered())
    }

    /// The nodes whose attributes this request of ours has changed, other than by what its answer tells.
    fn absorb_change(&self, request: &Request) {
        let touch = |ino: Ino| self.table.get(ino).state.lock().changed_here();
        let touch_name = |parent: Ino, name: &Name| {
            touch(parent);
            if let Some(child) = self.hinted(parent, name) {
                touch(child);
            }
        };
        match request {
            Request::Create { parent, .. } => touch(*parent),
            Request::Link { parent, ino, .. } => {
                touch(*parent);
                touch(*ino);
            }
            Request::Unlink { parent, name } | Request::RmDir { parent, name } => touch_name(*parent, name),
            Request::Rename { parent, name, new_parent, new_name, .. } => {
                touch_name(*parent, name);
                touch_name(*new_parent, new_name);
            }
            Request::SetXattr { ino, .. } | Request::RemoveXattr { ino, .. } => touch(*ino),
            Request::CopyRange { target, .. } => touch(*target),
            _ => {}
        }
    }

    fn learn(&self, attr: &Attr) {
        self.table.get(attr.ino).state.lock().learn(attr);
    }

    /// What a change left of its directory. Who changed it after us has had our lease for it; changes of our own in between
    /// are told by the version.
    fn learn_if_unbroken(&self, mark: Mark, fresh: bool, attr: &Attr) {
        let node: std::sync::Arc<Node> = self.table.get(attr.ino);
        let mut state = node.state.lock();
        if fresh || state.holder.seq() == mark.seq {
            state.learn(attr);
        }
    }

    fn name_if_unbroken(&self, dir: Ino, mark: Mark, fresh: bool, name: &Name, what: Option<Ino>) {
        let node: std::sync::Arc<Node> = self.table.get(dir);
        let mut state = node.state.lock();
        let unbroken = state.covered() && (fresh || state.holder.seq() == mark.seq);
        if unbroken && state.changes == mark.changes && state.names.len() < MAX_NAMES {
            state.names.insert(name.clone(), what);
        }
    }

    /// All entries of a directory are known, when each of them is.
    fn complete_if_unbroken(&self, dir: Ino, mark: Mark, fresh: bool, entries: &[DirEntry]) {
        let node: std::sync::Arc<Node> = self.table.get(dir);
        let mut state = node.state.lock();
        let unbroken = state.covered() && (fresh || state.holder.seq() == mark.seq);
        let is_known = |entry: &DirEntry| state.names.get(&entry.name) == Some(&Some(entry.ino));
        if unbroken && state.changes == mark.changes && entries.iter().all(is_known) {
            state.complete = true;
        }
    }

    /// A name this agent itself has just set or removed.
    fn name_own(&self, dir: Ino, name: &Name, what: Option<Ino>) {
        let node = self.table.get(dir);
        let mut state = node.state.lock();
        if state.complete && what.is_none() {
            // What is not among all entries does not exist.
            state.names.remove(name);
        } else if state.covered() && state.names.len() < MAX_NAMES {
            state.names.insert(name.clone(), what);
        } else {
            state.names.remove(name);
            state.complete = false;
        }
    }

    fn name_forget(&self, dir: Ino, name: &Name) {
        let node = self.table.get(dir);
        let mut state = node.state.lock();
        state.names.remove(name);
        state.complete = false;
    }
}
