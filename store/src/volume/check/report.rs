//! What a check is asked, how far it is, and what it found.

use super::All;
use super::repair::Repairs;
use mooring_protocol::types::Ino;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

/// Findings that are kept with their words; more are only counted.
const MAX_FINDINGS: usize = 1000;
/// Files that are named for one finding.
const MAX_PATHS: usize = 10;

/// What to check.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckOptions {
    /// Also read every extent from its pack and hold its bytes against its hash.
    pub data: bool,
}

/// How far a check is, for who watches it.
#[derive(Debug, Default)]
pub struct Progress {
    done: AtomicU64,
    total: AtomicU64,
}

impl Progress {
    /// Bytes read of bytes to be read; both 0 while rows are read.
    #[must_use]
    pub fn bytes(&self) -> (u64, u64) {
        (self.done.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed))
    }

    pub(crate) fn begin(&self, total: u64) {
        self.done.store(0, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
    }

    pub(crate) fn add(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// What part of the volume a finding is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// A row that cannot be read.
    #[default]
    Rows,
    /// Names, inodes, links.
    Namespace,
    /// Maps and references to extents.
    Extents,
    /// Totals.
    Counters,
    /// Packs and their reverse maps.
    Packs,
    /// Bytes of extents.
    Data,
}

impl Kind {
    /// The word for it in tables and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Rows => "rows",
            Kind::Namespace => "namespace",
            Kind::Extents => "extents",
            Kind::Counters => "counters",
            Kind::Packs => "packs",
            Kind::Data => "data",
        }
    }
}

/// Something that does not agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What part of the volume it is about.
    pub kind: Kind,
    /// What does not agree.
    pub what: String,
    /// Paths of the files it hurts; at most ten.
    pub paths: Vec<String>,
    inos: BTreeSet<Ino>,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.kind.as_str(), self.what)?;
        if self.paths.is_empty() { Ok(()) } else { write!(f, " ({})", self.paths.join(", ")) }
    }
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What does not agree; empty for a sound volume. At most a thousand.
    pub findings: Vec<Finding>,
    /// How many there were in all.
    pub total: u64,
    /// Inodes that the head shows.
    pub inodes: u64,
    /// Inodes without a name.
    pub orphans: u64,
    /// Names that no object key can hold: not UTF-8 (nor is anything below such a directory).
    pub invisible: u64,
    /// Extents there are.
    pub extents: u64,
    /// Packs there are.
    pub packs: u64,
    /// Bytes of extents that were read and hashed.
    pub bytes_read: u64,
    pub(super) kind: Kind,
    pub(super) repairs: Repairs,
}

impl Report {
    /// Findings that [`super::Volume::repair`] would mend.
    #[must_use]
    pub fn repairable(&self) -> u64 {
        self.repairs.len()
    }

    pub(super) fn say(&mut self, what: String) {
        self.hurts(BTreeSet::new(), what);
    }

    pub(super) fn of(&mut self, ino: Ino, what: String) {
        self.hurts(BTreeSet::from([ino]), what);
    }

    pub(super) fn of_some(&mut self, ino: Option<Ino>, what: String) {
        self.hurts(ino.into_iter().collect(), what);
    }

    /// A row of an inode that is not there: repair removes it.
    pub(super) fn stray(&mut self, what: String) {
        self.repairs.stray();
        self.say(what);
    }

    pub(super) fn hurts(&mut self, inos: BTreeSet<Ino>, what: String) {
        self.total += 1;
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(Finding { kind: self.kind, what, paths: Vec::new(), inos });
        }
    }

    /// Turns inodes into paths.
    pub(super) fn name_files(&mut self, all: &All) {
        if self.findings.is_empty() {
            return;
        }
        let names = all.names();
        for finding in &mut self.findings {
            let paths = finding.inos.iter().take(MAX_PATHS);
            let shown =
                |ino: &Ino| all.path(*ino, &names).unwrap_or_else(|| format!("inode {ino}, without a name"));
            finding.paths = paths.map(shown).collect();
        }
    }
}
