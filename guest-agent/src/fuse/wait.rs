//! The wait table: every request that could not be answered at once.
//!
//! A thread in a system call on this mount sleeps in the kernel until we answer. If it is killed, the kernel
//! tells us by `FUSE_INTERRUPT`, which `fuser` does not pass on; the thread would stay unkillable for as long
//! as the far side is away. So a request that has waited 100 ms has the pending signals of its thread looked
//! up in `/proc`, and is answered `EINTR` when one of them will end it. A wait for a lock ends on any signal
//! that the thread takes, as `fcntl(2)` promises. Every other wait has a deadline.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// From this age on the signals of a waiting thread are looked up.
const LOOK_AFTER: Duration = Duration::from_millis(100);
/// How often.
const TICK: Duration = Duration::from_millis(100);

/// Why a wait was ended before the answer came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The thread is being killed, or (for a lock) has a signal to take.
    Signal,
    /// The deadline passed.
    Deadline,
}

/// Which signals end a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndedBy {
    /// Those that end the thread.
    Fatal,
    /// Any that the thread will take.
    Any,
}

struct Waiter {
    tid: u32,
    by: EndedBy,
    since: Instant,
    deadline: Option<Instant>,
    end: oneshot::Sender<Ended>,
}

/// All waiting requests of one process. Cheap to clone.
#[derive(Clone, Default)]
pub struct WaitTable {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    waiters: Mutex<HashMap<u64, Waiter>>,
    next: AtomicU64,
}

/// Leaves the table when dropped.
pub struct Place {
    table: Arc<Inner>,
    id: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.table.waiters.lock().remove(&self.id);
    }
}

impl WaitTable {
    /// A table, and the task that looks after it until the table is dropped. Must be called in a runtime.
    #[must_use]
    pub fn start() -> WaitTable {
        let table = WaitTable::default();
        let weak = Arc::downgrade(&table.inner);
        tokio::spawn(async move {
            let mut tick = tokio::time::interval(TICK);
            tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                tick.tick().await;
                let Some(inner) = weak.upgrade() else { return };
                inner.sweep(Instant::now());
            }
        });
        table
    }

    /// Enters a request. The receiver gives the reason when the wait has to end.
    #[must_use]
    pub fn enter(&self, tid: u32, by: EndedBy, limit: Option<Duration>) -> (Place, oneshot::Receiver<Ended>) {
        let (end, ended) = oneshot::channel();
        let id = self.inner.next.fetch_add(1, Ordering::Relaxed);
        let since = Instant::now();
        let deadline = limit.map(|l| since + l);
        self.inner.waiters.lock().insert(id, Waiter { tid, by, since, deadline, end });
        (Place { table: self.inner.clone(), id }, ended)
    }

    /// How many requests wait, and for how long the oldest has.
    #[must_use]
    pub fn waiting(&self) -> (usize, Duration) {
        let waiters = self.inner.waiters.lock();
        let oldest = waiters.values().map(|w| w.since.elapsed()).max().unwrap_or_default();
        (waiters.len(), oldest)
    }
}

impl Inner {
    fn sweep(&self, now: Instant) {
        // The files of /proc are read without the lock: their number is that of slow requests.
        let old: Vec<(u64, u32, EndedBy)> = {
            let waiters = self.waiters.lock();
            let old = waiters.iter().filter(|(_, w)| now.duration_since(w.since) >= LOOK_AFTER);
            old.map(|(&id, w)| (id, w.tid, w.by)).collect()
        };
        for (id, tid, by) in old {
            let signalled = tid != 0 && signal_ends(tid, by);
            let mut waiters = self.waiters.lock();
            let late = waiters.get(&id).is_some_and(|w| w.deadline.is_some_and(|d| now >= d));
            if (signalled || late)
                && let Some(waiter) = waiters.remove(&id)
            {
                // The request may have been answered in this moment; then nobody listens, rightly.
                let _ = waiter.end.send(if signalled { Ended::Signal } else { Ended::Deadline });
            }
        }
    }
}

/// Whether the thread has a pending signal that ends its wait. A thread that is gone needs no answer.
fn signal_ends(tid: u32, by: EndedBy) -> bool {
    match std::fs::read_to_string(format!("/proc/{tid}/status")) {
        Ok(status) => parse_status(&status).is_some_and(|s| s.ends_wait(by)),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}

/// Signal masks of a thread; bit `n - 1` is signal `n`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Signals {
    pending: u64,
    blocked: u64,
    ignored: u64,
    caught: u64,
}

const KILL: u64 = 1 << (libc::SIGKILL - 1);

/// Signals whose default does not end a process (signal(7)): CHLD, CONT, STOP, TSTP, TTIN, TTOU, URG, WINCH.
const HARMLESS: u64 = 1 << (libc::SIGCHLD - 1)
    | 1 << (libc::SIGCONT - 1)
    | 1 << (libc::SIGSTOP - 1)
    | 1 << (libc::SIGTSTP - 1)
    | 1 << (libc::SIGTTIN - 1)
    | 1 << (libc::SIGTTOU - 1)
    | 1 << (libc::SIGURG - 1)
    | 1 << (libc::SIGWINCH - 1);

impl Signals {
    fn ends_wait(self, by: EndedBy) -> bool {
        if self.pending & KILL != 0 {
            return true;
        }
        let taken = self.pending & !self.blocked & !self.ignored;
        match by {
            EndedBy::Fatal => taken & !self.caught & !HARMLESS != 0,
            EndedBy::Any => taken & (self.caught | !HARMLESS) != 0,
        }
    }
}

fn parse_status(text: &str) -> Option<Signals> {
    let mut signals = Signals::default();
    for line in text.lines() {
        let Some((key, value)) = line.split_once(':') else { continue };
        let mask = || u64::from_str_radix(value.trim(), 16).ok();
        match key {
            "SigPnd" | "ShdPnd" => signals.pending |= mask()?,
            "SigBlk" => signals.blocked = mask()?,
            "SigIgn" => signals.ignored = mask()?,
            "SigCgt" => signals.caught = mask()?,
            _ => {}
        }
    }
    Some(signals)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn bit(signal: i32) -> u64 {
        1 << (signal - 1)
    }

    #[test]
    fn the_masks_are_read_from_proc() {
        let s = parse_status(
            "Name:\tcat\nSigPnd:\t0000000000000100\nShdPnd:\t0000000000000002\nSigBlk:\t0000000000010000\n",
        );
        let s = s.unwrap();
        assert_eq!(s.pending, bit(libc::SIGKILL) | bit(libc::SIGINT));
        assert_eq!(s.blocked, 0x10000);
        assert!(parse_status(&std::fs::read_to_string("/proc/self/status").unwrap()).is_some());
    }

    #[test]
    fn a_kill_ends_every_wait_and_a_handled_signal_only_that_for_a_lock() {
        let killed = Signals { pending: bit(libc::SIGKILL), blocked: u64::MAX, ..Signals::default() };
        assert!(killed.ends_wait(EndedBy::Fatal));
        let alarm = Signals { pending: bit(libc::SIGALRM), caught: bit(libc::SIGALRM), ..Signals::default() };
        assert!(!alarm.ends_wait(EndedBy::Fatal));
        assert!(alarm.ends_wait(EndedBy::Any));
        let blocked =
            Signals { pending: bit(libc::SIGINT), blocked: bit(libc::SIGINT), ..Signals::default() };
        assert!(!blocked.ends_wait(EndedBy::Any));
        let child = Signals { pending: bit(libc::SIGCHLD), ..Signals::default() };
        assert!(!child.ends_wait(EndedBy::Any));
    }

    #[tokio::test]
    async fn a_wait_past_its_deadline_is_ended() {
        let table = WaitTable::start();
        let (_place, ended) = table.enter(0, EndedBy::Fatal, Some(Duration::from_millis(150)));
        let why = tokio::time::timeout(Duration::from_secs(10), ended).await.unwrap().unwrap();
        assert_eq!(why, Ended::Deadline);
        assert_eq!(table.waiting().0, 0);
    }
}
