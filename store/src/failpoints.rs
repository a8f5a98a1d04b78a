//! Named points where a test stops the process, or makes the disk fail, between two steps whose order matters.
//!
//! Each point states the claim it attacks, in the one table below. They are compiled in always: a point that is not
//! armed is one relaxed load. Only tests arm them, through [`arm`]; a process serves one armed point at a time.
//!
//! To add one: a line in the table, with the claim that stopping there would disprove; [`pass`] where the order
//! matters; and, if the workload of `tests/points.rs` does not come by, an operation there that does. That test dies at
//! every point of the table and fails for one that it never reached.

use parking_lot::{Mutex, RwLock};
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
    /// A prepared file whose name may be lost with the power is not used yet.
    JournalSpareBeforeEntry,
    /// Bytes are durable before the records that name them: stopping between the two leaves garbage, no dead rows.
    JournalBetweenSyncs,
    /// What is on the medium stays though nobody was told so.
    JournalAfterSync,
    /// Writing unsynced records once more, after a failed fdatasync, changes none of them.
    JournalMidRepair,
    /// Cutting off records whose bytes were lost can be repeated.
    JournalMidCut,
    /// Stopping before fdatasync loses nothing that was in the file, as long as the machine stays up.
    JournalBeforeSync,
    /// A crash while old files are being removed leaves a journal that opens.
    JournalMidCollect,
    /// A crash during recovery leaves what recovery began with.
    JournalMidRecover,
    /// A pack file without a head is finished by the next open.
    PackBeforeHead,
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
    /// A pack that is whole and has the name of an open one is finished again.
    PackBeforeRename,
    /// A pack has one of its two names, whichever the directory kept.
    PackAfterRename,
    /// What was appended before an fdatasync of packs that did not happen is there as long as the machine stays up.
    PackBeforeSync,
    /// Writing unsynced extents once more, after a failed fdatasync, changes none of them.
    PackMidRepair,
    /// Recovery of packs can be repeated.
    PackMidRecover,
    /// A pack that is deleted is named by nothing that the next open may look at.
    PackBeforeDelete,
    /// A read that fails harms only itself.
    PackBeforeRead,
    /// Bytes that were stored and that no row names yet are garbage, not damage.
    CommitBeforeRows,
    /// A change whose rows are in the journal is there, though its caller was never answered.
    CommitAfterRows,
    /// Rows that are on their way to a table are still in the journal.
    TableBeforePut,
    /// A table that no manifest names is garbage, and its rows are in the journal.
    TableAfterPut,
    /// Tables count when the manifest that names them is there, not before.
    ManifestBeforePut,
    /// Journal files that a new manifest makes superfluous may still be there.
    ManifestAfterPut,
    /// A volume that was synced and not closed further lacks nothing.
    CloseAfterSync,
    /// A volume whose packs are complete and whose rows are still in the journal lacks nothing.
    CloseAfterSeal,
    /// A volume that let go of everything but its lock lacks nothing.
    CloseBeforeUnlock,
    /// A key ring that is not renamed into place is not in force, and the one before is whole.
    KeyRingBeforeRename,
    /// Of two copies of the key ring the newer one counts, and the other is made good.
    KeyRingBeforeCopy,
    /// Rows that were copied for the key ring are in force with the ring, not before.
    KeyRingBeforeMigration,
    /// The new engine of the registry takes the old one's place, however often that is begun.
    KeyRingMidMigration,
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
    /// The operation takes a while, as on a disk that is slow.
    Slow,
}

/// How long [`Strike::Slow`] makes an operation wait.
const SLOW: std::time::Duration = std::time::Duration::from_millis(50);

const OFF: u8 = u8::MAX;
static ARMED: AtomicU8 = AtomicU8::new(OFF);
static STRIKE: AtomicU8 = AtomicU8::new(0);
static LEFT: AtomicI64 = AtomicI64::new(0);
static TIMES: AtomicI64 = AtomicI64::new(0);
/// What is armed when the last strike has been done.
static NEXT: Mutex<Option<(Point, Strike)>> = Mutex::new(None);

/// Strikes at `point` once, when it is passed for the `nth` time from now (1 is the next).
pub fn arm(point: Point, strike: Strike, nth: u32) {
    arm_times(point, strike, nth, 1);
}

/// Strikes once at the first of two points and then, when it is next passed, at the second: for what happens only
/// after a failure.
pub fn arm_both(first: (Point, Strike), second: (Point, Strike)) {
    *NEXT.lock() = Some(second);
    arm(first.0, first.1, 1);
}

/// Strikes at `point` from now on, until it is disarmed: a fault that lasts.
pub fn arm_always(point: Point, strike: Strike) {
    arm_times(point, strike, 1, i64::MAX);
}

fn arm_times(point: Point, strike: Strike, nth: u32, times: i64) {
    TIMES.store(times, Ordering::SeqCst);
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
    if ARMED.load(Ordering::Relaxed) != point as u8 || LEFT.fetch_sub(1, Ordering::SeqCst) > 1 {
        return Ok(());
    }
    let left = TIMES.fetch_sub(1, Ordering::SeqCst);
    if left <= 1 {
        disarm();
    }
    let strike = STRIKE.load(Ordering::SeqCst);
    if left == 1
        && let Some((next, strike)) = NEXT.lock().take()
    {
        arm(next, strike, 1);
    }
    if left < 1 {
        // Another thread struck for the last time.
        return Ok(());
    }
    match strike {
        strike if strike == Strike::NoSpace as u8 => Err(rustix::io::Errno::NOSPC.into()),
        strike if strike == Strike::Broken as u8 => Err(rustix::io::Errno::IO.into()),
        strike if strike == Strike::Slow as u8 => {
            std::thread::park_timeout(SLOW);
            Ok(())
        }
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
