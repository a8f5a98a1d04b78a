//! Named points where a test stops the process, or makes the disk fail, between two steps whose order matters.
//!
//! Each point states the claim it attacks. They are compiled in always: a point that is not armed is one relaxed
//! load. Only tests arm them, through [`arm`]; a process serves one armed point at a time.

use parking_lot::RwLock;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, Ordering};
use std::sync::{Arc, Weak};

macro_rules! points {
    ($($(#[doc = $claim:literal])+ $name:ident),+ $(,)?) => {
        /// Where a test can strike.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Point {
            $($(#[doc = $claim])+ $name),+
        }

        impl Point {
            /// Every point, for tests that go through all of them.
            pub const ALL: &'static [Point] = &[$(Point::$name),+];

            /// What would be false if stopping here lost or tore something.
            #[must_use]
            pub fn claim(self) -> &'static str {
                match self { $(Point::$name => concat!($($claim),+).trim_ascii()),+ }
            }

            /// The point with this name.
            #[must_use]
            pub fn parse(name: &str) -> Option<Point> {
                Self::ALL.iter().copied().find(|point| format!("{point:?}") == name)
            }
        }
    };
}

points! {
    /// A record that is not in the file yet is not acknowledged.
    JournalBeforeWrite,
    /// A record in the file is replayed even when the engine has never seen it.
    JournalAfterWrite,
    /// Half a record is a torn tail and is dropped.
    JournalMidWrite,
    /// A prepared but unused journal file is no gap.
    JournalRotateBeforeHeader,
    /// A journal file with a head and no record continues the sequence.
    JournalRotateAfterHeader,
    /// Stopping before fdatasync loses nothing that was in the file, as long as the machine stays up.
    JournalBeforeSync,
    /// A crash while old files are being removed leaves a journal that opens.
    JournalMidCollect,
    /// A crash during recovery leaves what recovery began with.
    JournalMidRecover,
    /// Space taken in a pack by an append that never happened harms no later reader.
    PackBeforeWrite,
    /// Extents no row points to are garbage, not damage.
    PackAfterWrite,
    /// Half an extent is a torn tail and is cut off.
    PackMidWrite,
    /// A pack without its footer is finished by the next open.
    PackBeforeFooter,
    /// A pack whose footer is not synced is finished again by the next open.
    PackAfterFooter,
    /// Recovery of packs can be repeated.
    PackMidRecover,
    /// A pack that is deleted is named by nothing that the next open may look at.
    PackBeforeDelete,
}

/// What happens at an armed point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strike {
    /// The process gets SIGKILL: nothing is flushed, no destructor runs.
    Kill,
    /// The operation fails as if the disk were full.
    NoSpace,
    /// The operation fails as if the disk were broken.
    Broken,
}

const OFF: u8 = u8::MAX;
static ARMED: AtomicU8 = AtomicU8::new(OFF);
static STRIKE: AtomicU8 = AtomicU8::new(0);
static LEFT: AtomicI64 = AtomicI64::new(0);

/// Strikes at `point` once, when it is passed for the `nth` time from now (1 is the next).
pub fn arm(point: Point, strike: Strike, nth: u32) {
    LEFT.store(i64::from(nth), Ordering::SeqCst);
    STRIKE.store(strike as u8, Ordering::SeqCst);
    ARMED.store(point as u8, Ordering::SeqCst);
}

/// Disarms whatever is armed.
pub fn disarm() {
    ARMED.store(OFF, Ordering::SeqCst);
}

/// Whether a strike is due at `point`: lets an operation do its first half only.
pub(crate) fn due(point: Point) -> bool {
    ARMED.load(Ordering::Relaxed) == point as u8 && LEFT.load(Ordering::SeqCst) <= 1
}

/// Passes `point`.
pub(crate) fn pass(point: Point) -> std::io::Result<()> {
    if ARMED.load(Ordering::Relaxed) != point as u8 || LEFT.fetch_sub(1, Ordering::SeqCst) != 1 {
        return Ok(());
    }
    disarm();
    match STRIKE.load(Ordering::SeqCst) {
        strike if strike == Strike::NoSpace as u8 => Err(rustix::io::Errno::NOSPC.into()),
        strike if strike == Strike::Broken as u8 => Err(rustix::io::Errno::IO.into()),
        _ => {
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
            // The signal is on its way; nothing may happen until it arrives.
            loop {
                std::thread::park();
            }
        }
    }
}

/// Stands between the store and the disk where files and directories are made durable, so that a test can tell what
/// loss of power would leave.
pub trait Medium: Send + Sync {
    /// Called in the place of `sync`, which makes durable what `path` holds now.
    fn sync(&self, path: &Path, sync: &mut dyn FnMut() -> std::io::Result<()>) -> std::io::Result<()>;
}

static WATCHED: AtomicBool = AtomicBool::new(false);
static MEDIA: RwLock<Vec<(PathBuf, Weak<dyn Medium>)>> = RwLock::new(Vec::new());

/// Shows `medium` all that is made durable below `dir` from now on, as long as somebody keeps it.
pub fn watch(dir: &Path, medium: &Arc<dyn Medium>) {
    let mut media = MEDIA.write();
    media.retain(|(_, known)| known.strong_count() > 0);
    media.push((dir.to_path_buf(), Arc::downgrade(medium)));
    WATCHED.store(true, Ordering::SeqCst);
}

/// Makes durable what `path` holds, before the eyes of who watches.
pub(crate) fn sync(path: &Path, mut sync: impl FnMut() -> std::io::Result<()>) -> std::io::Result<()> {
    if !WATCHED.load(Ordering::Relaxed) {
        return sync();
    }
    let media = MEDIA.read();
    let medium = media.iter().find(|(dir, _)| path.starts_with(dir)).and_then(|(_, medium)| medium.upgrade());
    drop(media);
    match medium {
        Some(medium) => medium.sync(path, &mut sync),
        None => sync(),
    }
}
