//! The one place where results become answers to the kernel: every answer is counted, every unexpected
//! error logged, and a request that was forgotten is answered with `EIO` rather than left hanging.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::filesystem::Result;

macro_rules! ops {
    ($($name:ident),+ $(,)?) => {
        /// The operations of the kernel, for logs and counters.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs)]
        pub enum Op { $($name),+ }

        impl Op {
            /// Every operation.
            pub const ALL: &'static [Op] = &[$(Op::$name),+];

            /// Its name in logs and metrics.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Op::$name => stringify!($name)),+ }
            }
        }
    };
}

ops! {
    Lookup, GetAttr, SetAttr, ReadLink, MkNod, MkDir, Symlink, Link, Unlink, RmDir, Rename, Open, Create, Read,
    Write, Flush, Release, Fsync, OpenDir, ReadDir, ReleaseDir, FsyncDir, StatFs, SetXattr, GetXattr,
    ListXattr, RemoveXattr, GetLk, SetLk, Fallocate, Lseek, CopyFileRange,
}

/// How often each operation was asked for and failed, and how long the answers took in all.
#[derive(Debug)]
pub struct Counters {
    asked: [AtomicU64; Op::ALL.len()],
    failed: [AtomicU64; Op::ALL.len()],
    nanos: [AtomicU64; Op::ALL.len()],
}

impl Default for Counters {
    fn default() -> Counters {
        let zeros = || std::array::from_fn(|_| AtomicU64::new(0));
        Counters { asked: zeros(), failed: zeros(), nanos: zeros() }
    }
}

/// One row of [`Counters::rows`].
#[derive(Clone, Copy, Debug)]
pub struct CounterRow {
    /// The operation.
    pub op: Op,
    /// Times asked.
    pub asked: u64,
    /// Times answered with an error.
    pub failed: u64,
    /// Time from request to answer, summed.
    pub time: Duration,
}

impl Counters {
    /// Requests answered so far.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.asked.iter().map(|n| n.load(Ordering::Relaxed)).sum()
    }

    /// The operations that were asked for.
    #[must_use]
    pub fn rows(&self) -> Vec<CounterRow> {
        let read = |n: &[AtomicU64], op: Op| n[op as usize].load(Ordering::Relaxed);
        Op::ALL
            .iter()
            .map(|&op| CounterRow {
                op,
                asked: read(&self.asked, op),
                failed: read(&self.failed, op),
                time: Duration::from_nanos(read(&self.nanos, op)),
            })
            .filter(|row| row.asked > 0)
            .collect()
    }

    fn count(&self, op: Op, began: Instant, failed: bool) {
        let i = op as usize;
        self.asked[i].fetch_add(1, Ordering::Relaxed);
        self.failed[i].fetch_add(u64::from(failed), Ordering::Relaxed);
        let nanos = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.nanos[i].fetch_add(nanos, Ordering::Relaxed);
    }
}

/// A value that the kernel can be answered with, through `fuser`'s reply object for it.
pub(super) trait Answer: Sized + Send + 'static {
    /// `fuser`'s reply object.
    type Raw: Send + 'static;
    /// Sends the value.
    fn send(self, raw: Self::Raw);
    /// Sends an error.
    fn fail(raw: Self::Raw, errno: fuser::Errno);
    /// The handle it opens, which the kernel closes only when it has heard of it.
    fn handle(&self) -> Option<u64> {
        None
    }
}

/// The right to answer one request, once.
pub(super) struct Reply<A: Answer> {
    raw: Option<A::Raw>,
    op: Op,
    node: u64,
    began: Instant,
    counters: Arc<Counters>,
}

impl<A: Answer> Reply<A> {
    pub(super) fn new(raw: A::Raw, op: Op, node: u64, counters: &Arc<Counters>) -> Reply<A> {
        Reply { raw: Some(raw), op, node, began: Instant::now(), counters: counters.clone() }
    }

    /// Answers. The errno goes out as it is; the kernel checks nothing but its range.
    pub(super) fn send(mut self, result: Result<A>) {
        if let Some(raw) = self.raw.take() {
            self.deliver(raw, result);
        }
    }

    fn deliver(&self, raw: A::Raw, result: Result<A>) {
        let failed = match result {
            Ok(value) => {
                value.send(raw);
                false
            }
            Err(errno) => {
                if unexpected(errno) {
                    tracing::warn!(op = self.op.name(), node = self.node, %errno, "operation failed");
                } else {
                    tracing::trace!(op = self.op.name(), node = self.node, %errno, "answered with an error");
                }
                A::fail(raw, fuser::Errno::from_i32(errno.raw_os_error()));
                true
            }
        };
        self.counters.count(self.op, self.began, failed);
    }
}

impl<A: Answer> Drop for Reply<A> {
    fn drop(&mut self) {
        if let Some(raw) = self.raw.take() {
            tracing::error!(op = self.op.name(), node = self.node, "a request was dropped without an answer");
            self.deliver(raw, Err(Errno::IO));
        }
    }
}

/// Errors that say something broke, as against those that programs provoke all day.
fn unexpected(errno: Errno) -> bool {
    matches!(errno, Errno::IO | Errno::PROTO | Errno::NOMEM | Errno::FAULT | Errno::TIMEDOUT | Errno::BADMSG)
}
