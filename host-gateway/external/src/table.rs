//! Which key is which inode, and what was changed here lately.
//!
//! An inode's number is a keyed hash of its key, so it is the same after a restart; two keys that are known never have
//! the same one (the second takes the next hash). What nobody has open and nothing waits for can be forgotten; it comes
//! back by its path, mostly under the same number.
//!
//! The other store is asked without any lock of ours, so an answer may be older than a change made here. For every
//! change of a name its moment is kept for a while, and a question that was asked before it learns nothing from the
//! answer: *what was changed here while the store was being asked counts before what it answered*.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mooring_protocol::types::{FileKind, Ino, Time};
use mooring_store::seal::HashKey;
use parking_lot::Mutex;

use crate::node::{Node, State};
use crate::remote::Stat;

/// Nodes that are kept though nobody needs them.
const KEPT: usize = 64 << 10;

/// How long a change counts before an older answer: longer than any call of the other store takes.
const RECENT: Duration = Duration::from_secs(180);

/// A change of a name made here.
#[derive(Clone, Copy, Debug)]
struct Local {
    at: Duration,
    present: bool,
    /// Not in the other store: counts until it is.
    pending: bool,
}

#[derive(Default)]
struct Inner {
    nodes: HashMap<Ino, Arc<Node>>,
    by_key: HashMap<Vec<u8>, Ino>,
    local: BTreeMap<Vec<u8>, Local>,
    /// As many as were there when the old ones were last thrown out.
    swept: usize,
}

/// All nodes of a bucket.
pub struct Table {
    inner: Mutex<Inner>,
    hash: HashKey,
    salt: [u8; 8],
    counter: AtomicU64,
    versions: AtomicU64,
}

/// What is known here about a key, without asking.
pub enum Known {
    /// Made or written here; the other store need not know of it yet.
    Here(Arc<Node>),
    /// Removed here.
    Gone,
    /// Ask.
    No,
}

impl Table {
    /// Only the root is there.
    pub fn new(hash: HashKey, volume: u64, now: Time) -> Table {
        let table = Table {
            inner: Mutex::default(),
            hash,
            salt: volume.to_be_bytes(),
            counter: AtomicU64::new(0),
            versions: AtomicU64::new(0),
        };
        let root = node(Ino::ROOT, FileKind::Dir, Vec::new(), now, 1);
        root.state.lock().sticky = true;
        let mut inner = table.inner.lock();
        inner.by_key.insert(Vec::new(), Ino::ROOT);
        inner.nodes.insert(Ino::ROOT, Arc::new(root));
        drop(inner);
        table
    }

    /// The node with this number.
    pub fn get(&self, ino: Ino) -> Option<Arc<Node>> {
        let node = self.inner.lock().nodes.get(&ino).cloned()?;
        node.used.store(self.tick(), Ordering::Relaxed);
        Some(node)
    }

    /// The node that has this key, as far as it is known.
    pub fn by_key(&self, key: &[u8]) -> Option<Arc<Node>> {
        let inner = self.inner.lock();
        inner.by_key.get(key).and_then(|ino| inner.nodes.get(ino)).cloned()
    }

    /// A version above all that were given: by a clock of milliseconds, so that it grows through restarts, too.
    pub fn version(&self, now: Time) -> u64 {
        let next = |last: u64| Some(now.as_millis().max(last + 1));
        match self.versions.fetch_update(Ordering::AcqRel, Ordering::Acquire, next) {
            Ok(last) | Err(last) => now.as_millis().max(last + 1),
        }
    }

    fn tick(&self) -> u64 {
        self.counter.fetch_add(1, Ordering::Relaxed)
    }

    /// What was done to this key here since `asked`.
    pub fn known(&self, key: &[u8], asked: Duration) -> Known {
        let inner = self.inner.lock();
        match inner.local.get(key) {
            Some(local) if local.pending || local.at >= asked => {
                let node = inner.by_key.get(key).and_then(|ino| inner.nodes.get(ino));
                match node {
                    Some(node) if local.present => Known::Here(Arc::clone(node)),
                    _ if local.present => Known::No,
                    _ => Known::Gone,
                }
            }
            _ => Known::No,
        }
    }

    /// Keys right below a directory that were made or removed here since `asked`, above `after`: key, and whether it
    /// is there.
    pub fn changed_below(&self, directory: &[u8], after: &[u8], asked: Duration) -> Vec<(Vec<u8>, bool)> {
        let inner = self.inner.lock();
        let from = if after > directory { after } else { directory };
        let range = inner.local.range::<[u8], _>((Bound::Excluded(from), Bound::Unbounded));
        range
            .take_while(|(key, _)| key.starts_with(directory))
            .filter(|(key, _)| is_child(directory, key))
            .filter(|(_, local)| local.pending || local.at >= asked)
            .map(|(key, local)| (key.clone(), local.present))
            .collect()
    }

    /// Whether anything below a directory waits to be uploaded.
    pub fn pending_below(&self, directory: &[u8]) -> bool {
        let inner = self.inner.lock();
        let range = inner.local.range::<[u8], _>((Bound::Excluded(directory), Bound::Unbounded));
        range
            .take_while(|(key, _)| key.starts_with(directory))
            .any(|(_, local)| local.pending && local.present)
    }

    /// What the other store said of a key, when it was asked at `asked`. Returns the node, unless it was removed here
    /// meanwhile.
    pub fn observe(&self, key: &[u8], stat: Option<&Stat>, asked: Duration, now: Time) -> Option<Arc<Node>> {
        match self.known(key, asked) {
            Known::Here(node) => return Some(node),
            Known::Gone => return None,
            Known::No => {}
        }
        let mut inner = self.inner.lock();
        if let Some(node) = inner.by_key.get(key).and_then(|ino| inner.nodes.get(ino)).cloned() {
            let mut state = node.state.lock();
            if state.dirty.is_some() || state.checked > asked {
                drop(state);
                return Some(node);
            }
            if node.is_dir() || state.stat.as_ref() == stat {
                state.checked = asked;
                state.stat = stat.cloned().or(state.stat.take());
                drop(state);
                return Some(node);
            }
            let same = state.stat.as_ref().map(|s| (&s.etag, s.size)) == stat.map(|s| (&s.etag, s.size));
            if same || state.pins == 0 {
                state.stat = stat.cloned();
                state.checked = asked;
                state.modified = None;
                if !same {
                    state.spool = None;
                }
                state.version = self.version(now);
                drop(state);
                return Some(node);
            }
            state.gone = true;
            state.version = self.version(now);
            drop(state);
            inner.by_key.remove(key);
        }
        let kind = if key.ends_with(b"/") { FileKind::Dir } else { FileKind::File };
        let node = self.insert(&mut inner, key, kind, now);
        let mut state = node.state.lock();
        state.stat = stat.cloned();
        state.checked = asked;
        drop(state);
        Some(node)
    }

    /// The other store said that a key is not there.
    pub fn observe_gone(&self, key: &[u8], asked: Duration, now: Time) {
        if !matches!(self.known(key, asked), Known::No) {
            return;
        }
        let mut inner = self.inner.lock();
        let Some(node) = inner.by_key.get(key).and_then(|ino| inner.nodes.get(ino)).cloned() else { return };
        let mut state = node.state.lock();
        if state.dirty.is_none() && state.checked <= asked && !state.sticky {
            self.detach(&mut inner, &node, &mut state, now);
        }
    }

    /// A key that is made here, now. What had it before is gone.
    pub fn make(&self, key: &[u8], kind: FileKind, at: Duration, now: Time, pending: bool) -> Arc<Node> {
        let mut inner = self.inner.lock();
        if let Some(old) = inner.by_key.get(key).and_then(|ino| inner.nodes.get(ino)).cloned() {
            let mut state = old.state.lock();
            if kind == FileKind::Dir {
                state.checked = at;
                drop(state);
                self.note(&mut inner, key, Local { at, present: true, pending });
                return old;
            }
            self.detach(&mut inner, &old, &mut state, now);
        }
        let node = self.insert(&mut inner, key, kind, now);
        node.state.lock().checked = at;
        self.note(&mut inner, key, Local { at, present: true, pending });
        node
    }

    /// A key was removed here; returns what had it.
    pub fn remove(&self, key: &[u8], at: Duration, now: Time) -> Option<Arc<Node>> {
        let mut inner = self.inner.lock();
        self.note(&mut inner, key, Local { at, present: false, pending: false });
        let node = inner.by_key.get(key).and_then(|ino| inner.nodes.get(ino)).cloned()?;
        let mut state = node.state.lock();
        self.detach(&mut inner, &node, &mut state, now);
        drop(state);
        Some(node)
    }

    /// A key got its content from here, now: it is in the other store as `stat` says.
    pub fn stored(&self, node: &Arc<Node>, key: &[u8], at: Duration) {
        let mut inner = self.inner.lock();
        if inner.by_key.get(key) == Some(&node.ino) {
            self.note(&mut inner, key, Local { at, present: true, pending: false });
        }
    }

    /// A file takes another key; returns what had it before.
    pub fn rekey(&self, node: &Arc<Node>, to: &[u8], at: Duration, now: Time) -> Option<Arc<Node>> {
        let mut inner = self.inner.lock();
        let replaced = inner.by_key.get(to).and_then(|ino| inner.nodes.get(ino)).cloned();
        let replaced = replaced.filter(|other| other.ino != node.ino);
        if let Some(other) = &replaced {
            let mut state = other.state.lock();
            self.detach(&mut inner, other, &mut state, now);
        }
        let mut state = node.state.lock();
        let from = std::mem::replace(&mut state.key, to.to_vec());
        let pending = state.stat.is_none();
        state.version = self.version(now);
        state.checked = at;
        drop(state);
        if inner.by_key.get(&from) == Some(&node.ino) {
            inner.by_key.remove(&from);
        }
        inner.by_key.insert(to.to_vec(), node.ino);
        self.note(&mut inner, &from, Local { at, present: false, pending: false });
        self.note(&mut inner, to, Local { at, present: true, pending });
        replaced
    }

    /// Lets go of a node that nobody needs any more and nothing leads to.
    pub fn forget(&self, node: &Arc<Node>) {
        let mut inner = self.inner.lock();
        let state = node.state.lock();
        if state.gone && state.pins == 0 {
            inner.nodes.remove(&node.ino);
        }
    }

    fn detach(&self, inner: &mut Inner, node: &Arc<Node>, state: &mut State, now: Time) {
        state.gone = true;
        state.dirty = None;
        state.version = self.version(now);
        if inner.by_key.get(&state.key) == Some(&node.ino) {
            inner.by_key.remove(&state.key);
        }
        if state.pins == 0 {
            inner.nodes.remove(&node.ino);
        }
    }

    fn insert(&self, inner: &mut Inner, key: &[u8], kind: FileKind, now: Time) -> Arc<Node> {
        if inner.nodes.len() >= KEPT && inner.nodes.len() >= inner.swept + KEPT / 8 {
            sweep(inner);
        }
        let ino = self.number(inner, key);
        // Directories have no versions in the other store: theirs stays.
        let version = if kind == FileKind::Dir { 1 } else { self.version(now) };
        let node = Arc::new(node(ino, kind, key.to_vec(), now, version));
        node.used.store(self.tick(), Ordering::Relaxed);
        inner.nodes.insert(ino, Arc::clone(&node));
        inner.by_key.insert(key.to_vec(), ino);
        node
    }

    fn number(&self, inner: &Inner, key: &[u8]) -> Ino {
        for turn in 0_u32.. {
            let hash = self.hash.hash(&[&self.salt[..], &turn.to_be_bytes(), key].concat());
            let mut low = [0; 8];
            low[2..].copy_from_slice(&hash[..6]);
            if let Some(ino) = Ino::new(u64::from_be_bytes(low)).filter(|ino| *ino != Ino::ROOT)
                && !inner.nodes.contains_key(&ino)
            {
                return ino;
            }
        }
        Ino::ROOT
    }

    /// A number for something that has no key, told apart by a count.
    pub fn nameless(&self) -> Ino {
        let inner = self.inner.lock();
        // No key has a NUL at its beginning and its end.
        self.number(&inner, &[b"\0staged", &self.tick().to_be_bytes()[..], b"\0"].concat())
    }

    /// The number a key has or would have.
    pub fn number_of(&self, key: &[u8]) -> Ino {
        let inner = self.inner.lock();
        inner.by_key.get(key).copied().unwrap_or_else(|| self.number(&inner, key))
    }

    fn note(&self, inner: &mut Inner, key: &[u8], local: Local) {
        if inner.local.len() >= KEPT {
            inner.local.retain(|_, old| old.pending || old.at + RECENT > local.at);
        }
        inner.local.insert(key.to_vec(), local);
    }
}

/// Whether a key lies right below a directory.
pub fn is_child(directory: &[u8], key: &[u8]) -> bool {
    key.strip_prefix(directory).is_some_and(|rest| {
        let rest = rest.strip_suffix(b"/").unwrap_or(rest);
        !rest.is_empty() && !rest.contains(&b'/')
    })
}

fn node(ino: Ino, kind: FileKind, key: Vec<u8>, now: Time, version: u64) -> Node {
    Node {
        ino,
        kind,
        work: tokio::sync::Mutex::new(()),
        state: Mutex::new(State {
            key,
            gone: false,
            stat: None,
            checked: Duration::ZERO,
            version,
            pins: 0,
            sticky: false,
            spool: None,
            dirty: None,
            born: now,
            modified: None,
        }),
        used: AtomicU64::new(0),
    }
}

/// Forgets the half of the spare nodes that was not asked for the longest.
fn sweep(inner: &mut Inner) {
    let spare = inner.nodes.values().filter(|node| node.state.lock().is_spare());
    let mut spare: Vec<(u64, Ino)> = spare.map(|n| (n.used.load(Ordering::Relaxed), n.ino)).collect();
    spare.sort_unstable();
    spare.truncate(spare.len() / 2);
    for (_, ino) in spare {
        if let Some(node) = inner.nodes.remove(&ino) {
            let state = node.state.lock();
            if inner.by_key.get(&state.key) == Some(&ino) {
                inner.by_key.remove(&state.key);
            }
        }
    }
    inner.swept = inner.nodes.len();
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use mooring_policy::rng::SeededRandom;
    use mooring_store::seal::TenantKey;

    const NOW: Time = Time { secs: 2_000_000_000, nanos: 0 };

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn stat(etag: &str) -> Stat {
        Stat { etag: etag.to_owned(), size: 1, modified: NOW }
    }

    fn table() -> Table {
        Table::new(TenantKey::generate(&SeededRandom::new(7)).hash_key(), 1, NOW)
    }

    #[test]
    fn a_key_has_the_same_number_again_and_no_other_key_has_it_meanwhile() {
        let (one, two) = (table(), table());
        let first = one.observe(b"a", Some(&stat("x")), at(1), NOW).unwrap();
        assert_eq!(first.ino, two.observe(b"a", Some(&stat("x")), at(1), NOW).unwrap().ino);
        // Renamed, it keeps its number; what takes its old name gets another.
        one.rekey(&first, b"b", at(2), NOW);
        let second = one.make(b"a", FileKind::File, at(3), NOW, false);
        assert_ne!(first.ino, second.ino);
        assert_eq!(one.by_key(b"b").unwrap().ino, first.ino);
        assert_ne!(one.number_of(b"c"), one.number_of(b"c/"));
    }

    #[test]
    fn an_answer_older_than_a_change_made_here_teaches_nothing() {
        let table = table();
        let node = table.observe(b"a", Some(&stat("x")), at(1), NOW).unwrap();
        table.remove(b"a", at(5), NOW);
        assert!(table.observe(b"a", Some(&stat("x")), at(4), NOW).is_none(), "it was asked for before");
        assert!(table.observe(b"a", Some(&stat("y")), at(6), NOW).is_some());
        assert!(node.state.lock().gone);
        let made = table.make(b"b", FileKind::File, at(5), NOW, true);
        table.observe_gone(b"b", at(6), NOW);
        assert!(!made.state.lock().gone, "the other store cannot know of it yet");
        assert_eq!(table.changed_below(b"", b"", at(6)), [(b"b".to_vec(), true)]);
        table.stored(&made, b"b", at(7));
        assert!(table.changed_below(b"", b"", at(8)).is_empty());
    }

    #[test]
    fn who_has_the_old_content_open_keeps_its_inode() {
        let table = table();
        let old = table.observe(b"a", Some(&stat("x")), at(1), NOW).unwrap();
        old.state.lock().pins = 1;
        let new = table.observe(b"a", Some(&stat("y")), at(2), NOW).unwrap();
        assert!(old.ino != new.ino && old.state.lock().gone && !new.state.lock().gone);
        assert_eq!(old.state.lock().stat, Some(stat("x")));
        // Nobody has the new one open: it is the same inode with another content, and says so.
        let version = new.state.lock().version;
        let newer = table.observe(b"a", Some(&stat("z")), at(3), NOW).unwrap();
        assert!(newer.ino == new.ino && newer.state.lock().version > version);
        old.state.lock().pins = 0;
        table.forget(&old);
        assert!(table.get(old.ino).is_none() && table.get(new.ino).is_some());
    }

    #[test]
    fn what_nobody_needs_is_forgotten_and_the_rest_stays() {
        let table = table();
        let open = table.observe(b"open", Some(&stat("x")), at(1), NOW).unwrap();
        open.state.lock().pins = 1;
        for number in 0..KEPT * 2 {
            table.observe(number.to_string().as_bytes(), Some(&stat("x")), at(1), NOW);
        }
        let inner = table.inner.lock();
        assert!(inner.nodes.len() <= KEPT + KEPT / 8 && inner.by_key.len() == inner.nodes.len());
        drop(inner);
        assert!(table.by_key(b"open").is_some() && table.get(Ino::ROOT).is_some());
    }
}
