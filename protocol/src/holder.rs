//! The agent's side of one inode's lease: who may use it, and how to give it up in the right order.
//!
//! The kernel caches what the agent answers, so giving a lease up means emptying two caches, the agent's
//! and the kernel's, while programs go on asking. The order is what makes it right:
//!
//! ```text
//! recall -> drain -> flush -> publish -> invalidate -> [again, what was read meanwhile] -> acknowledge
//! ```
//!
//! - *drain*: changes that use the lease end; new ones are held for that moment. They are local and short.
//! - *flush*: everything dirty is handed over, and the gateway has answered. From here on changes and
//!   looks go to the gateway; had it not answered, they could overtake what was handed over.
//! - *publish*: the agent's own cache no longer answers; a kernel that asks again gets the new state.
//! - *invalidate*: the kernel drops what it has. Only now: had it been done before publishing, a read in
//!   between would have put the old state back.
//! - *again*: reads answered meanwhile put pages into the kernel's cache that no lease covers any more.
//!   Their ranges are dropped again, until a round finds none and no read is under way.
//! - *acknowledge* comes last. After it the gateway lets others change the inode.
//!
//! # What must not wait, and why
//!
//! The kernel's invalidation waits for a page whose read is pending, and for a directory whose create,
//! rename or unlink is pending. So while a recall runs, reads and (once flushed) changes go *around* the
//! lease: the gateway runs them before the recall, and nothing is kept of the answers. They are never
//! parked behind an [`Use::Acquire`], which may itself wait for this recall.
//!
//! A program that reads without pause could keep the rounds going for ever. After
//! [`caps::MAX_INVALIDATE_ROUNDS`] new reads are held. A held read keeps its page locked, and an
//! invalidation of that page would wait for it; but a page that is being read is not in the cache, so
//! held ranges are left out, and a read inside a range just being invalidated is not held.

use crate::caps;
use crate::types::LeaseMode;

/// Bytes of a file, end exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Range {
    /// First byte.
    pub start: u64,
    /// First byte after it.
    pub end: u64,
}

impl Range {
    /// The whole file.
    pub const ALL: Range = Range { start: 0, end: u64::MAX };

    fn overlaps(self, other: Range) -> bool {
        self.start < other.end && other.start < self.end
    }
}

/// What a program's request needs of the inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Op {
    /// To look: attributes, entries; or data, which the kernel will keep of this range.
    Look(Option<Range>),
    /// To change something.
    Change,
}

/// How a request is to be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Use {
    /// Under the lease, from the agent's state. Report with [`Holder::end`].
    Lease,
    /// Nothing is held: ask for a lease first (`Acquire`, or a request that may bring one), then begin
    /// again. Data for a handle that the kernel caches must not be served without one.
    Acquire,
    /// Send it to the gateway now and keep nothing of the answer, in the agent or (entries, attributes) in
    /// the kernel. Report with [`Holder::end`].
    Without,
    /// Park it and begin again after the next step is done.
    Hold,
}

/// The next thing to do for a recall. Carry it out, then report it with [`Holder::done`]; all but the last, which is over
/// when it is given out.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Step {
    /// No recall is under way.
    Idle,
    /// Requests under way have to end, or a step given out before has to be reported.
    Wait,
    /// Hand over everything dirty of this inode. Done when the gateway has answered all of it, also what
    /// was handed over before.
    Flush,
    /// Stop answering from the agent's cache.
    Publish,
    /// Drop these ranges, and with [`Range::ALL`] also attributes and entries, from the kernel's cache.
    /// From a thread of its own, holding no lock.
    Invalidate(Vec<Range>),
    /// Done: put the acknowledgement on the stream, if there is one to give; begin parked requests again. The lease is
    /// given up already: were there a moment between this step and its report, what is read in it would belong to no
    /// lease and be dropped by nobody.
    Finish {
        /// Sequence to acknowledge; `None` after a fence.
        ack: Option<u64>,
    },
}

/// What a recall notice asks of this holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OnRecall {
    /// Carry out [`Holder::next_step`] until it is idle.
    Begin,
    /// What it recalls is not held: acknowledge now.
    AckNow,
    /// It is already being carried out, and will be acknowledged once.
    UnderWay,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Stage {
    Drain,
    Publish,
    Invalidate,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Giving {
    seq: u64,
    to: LeaseMode,
    ack: bool,
    stage: Stage,
    /// The first invalidation, of everything, has been done.
    emptied: bool,
    rounds: u32,
    /// Ranges being invalidated now.
    passing: Vec<Range>,
    /// Ranges the kernel may have put into its cache since.
    seen: Vec<Range>,
    /// A step has been given out and not reported.
    out: bool,
}

/// See the [module](self).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Holder {
    mode: LeaseMode,
    seq: u64,
    looking: u32,
    changing: u32,
    held: Vec<Range>,
    giving: Option<Giving>,
}

impl Default for Holder {
    fn default() -> Holder {
        Holder { mode: LeaseMode::None, seq: 0, looking: 0, changing: 0, held: Vec::new(), giving: None }
    }
}

impl Holder {
    /// A holder of nothing.
    #[must_use]
    pub fn new() -> Holder {
        Holder::default()
    }

    /// What is held.
    #[must_use]
    pub const fn mode(&self) -> LeaseMode {
        self.mode
    }

    /// The sequence of the grant that is held, or was last.
    #[must_use]
    pub const fn seq(&self) -> u64 {
        self.seq
    }

    /// A reply brought a grant. True when it holds: then whatever was told [`Use::Acquire`] begins again, so
    /// that no request of a holder is left waiting for a lease (its locked page would stop a recall).
    ///
    /// While a recall runs a grant brings nothing: it can only stem from a gateway that restarted and does
    /// not know of that recall. Its sequence is taken, so that what the gateway now believes is answered.
    pub fn grant(&mut self, mode: LeaseMode, seq: u64) -> bool {
        if seq <= self.seq {
            return false;
        }
        self.seq = seq;
        let holds = self.giving.is_none();
        if holds {
            self.mode = mode;
        }
        self.give_all_up();
        holds
    }

    /// The gateway does not know of the recall that runs, because it restarted. The recall goes on, under the
    /// sequence that the gateway knows, and keeps nothing: what both sides must agree on to keep a part,
    /// the gateway has forgotten. Should it recall again meanwhile, one answer serves both.
    fn give_all_up(&mut self) {
        if let Some(giving) = &mut self.giving {
            giving.seq = self.seq;
            giving.to = LeaseMode::None;
        }
    }

    /// A restarted gateway has taken the claim over under a new sequence; `None`: it has not, and what the
    /// lease covered is to be dropped as by [`fence`](Holder::fence).
    pub fn reclaimed(&mut self, seq: Option<u64>) {
        match seq {
            Some(seq) => {
                self.seq = seq;
                self.give_all_up();
            }
            None => self.fence(),
        }
    }

    /// A request begins.
    pub fn begin(&mut self, op: Op) -> Use {
        let used = self.judge(op);
        match (used, op) {
            (Use::Lease, Op::Change) => self.changing += 1,
            (Use::Lease | Use::Without, Op::Look(_)) => self.looking += 1,
            (Use::Hold, Op::Look(Some(range))) => self.held.push(range),
            _ => {}
        }
        used
    }

    fn judge(&self, op: Op) -> Use {
        let Some(giving) = &self.giving else {
            let need = if op == Op::Change { LeaseMode::Write } else { LeaseMode::Read };
            return if self.mode >= need { Use::Lease } else { Use::Acquire };
        };
        match (op, giving.stage) {
            (Op::Look(_), Stage::Drain | Stage::Publish) if giving.ack => Use::Lease,
            (Op::Look(_), Stage::Drain | Stage::Publish) => Use::Hold,
            (Op::Look(Some(range)), Stage::Invalidate) => {
                let closing = giving.rounds >= caps::MAX_INVALIDATE_ROUNDS;
                let in_the_way = giving.passing.iter().any(|r| r.overlaps(range));
                if closing && !in_the_way { Use::Hold } else { Use::Without }
            }
            (Op::Look(None), Stage::Invalidate) => Use::Without,
            (Op::Change, Stage::Drain) => Use::Hold,
            (Op::Change, Stage::Publish | Stage::Invalidate) => Use::Without,
        }
    }

    /// A request that was served under the lease or without it has been answered to the kernel.
    pub fn end(&mut self, op: Op, used: Use) {
        match (used, op) {
            (Use::Lease, Op::Change) => self.changing = self.changing.saturating_sub(1),
            (Use::Lease | Use::Without, Op::Look(range)) => {
                self.looking = self.looking.saturating_sub(1);
                if let (Some(giving), Some(range)) = (&mut self.giving, range) {
                    giving.see(range);
                }
            }
            _ => {}
        }
    }

    /// The gateway recalls the grant `seq`, down to `to`.
    ///
    /// An older grant than the one held was replaced by it: nothing to give up. A newer one, whose reply got
    /// lost with a connection, has replaced what is held here: that is what the gateway means.
    pub fn recall(&mut self, seq: u64, to: LeaseMode) -> OnRecall {
        if seq < self.seq {
            return OnRecall::AckNow;
        }
        self.seq = seq;
        match &mut self.giving {
            Some(giving) => {
                giving.seq = seq;
                giving.to = giving.to.min(to);
                OnRecall::UnderWay
            }
            None if self.mode <= to => OnRecall::AckNow,
            None => {
                self.giving = Some(Giving::new(seq, to));
                OnRecall::Begin
            }
        }
    }

    /// The session is over: nothing is handed over any more, and everything is dropped.
    pub fn fence(&mut self) {
        // A recall under way goes on from where it is; only flush and acknowledgement fall away.
        let seq = self.seq;
        let giving = self.giving.get_or_insert_with(|| Giving::new(seq, LeaseMode::None));
        giving.ack = false;
        giving.to = LeaseMode::None;
    }

    /// What to do next for the recall. A step is given out once; while it is not reported, this is
    /// [`Step::Wait`].
    pub fn next_step(&mut self) -> Step {
        let Some(giving) = &mut self.giving else { return Step::Idle };
        if giving.out {
            return Step::Wait;
        }
        let step = match giving.stage {
            Stage::Drain if self.changing > 0 => Step::Wait,
            Stage::Drain if self.mode == LeaseMode::Write && giving.ack => Step::Flush,
            Stage::Drain | Stage::Publish => Step::Publish,
            Stage::Invalidate if !giving.emptied => Step::Invalidate(giving.pass(vec![Range::ALL])),
            Stage::Invalidate => giving.next_round(self.looking, &self.held),
        };
        giving.out = step != Step::Wait;
        if let Step::Finish { .. } = step {
            self.mode = self.mode.min(giving.to);
            // What is kept is a grant of its own: a repeated answer to this recall must not pass for the answer to the
            // next.
            if self.mode != LeaseMode::None {
                self.seq += 1;
            }
            self.held.clear();
            self.giving = None;
        }
        step
    }

    /// A step has been carried out.
    pub fn done(&mut self, step: &Step) {
        let Some(giving) = self.giving.as_mut().filter(|g| g.out) else { return };
        giving.out = false;
        match step {
            Step::Flush => giving.stage = Stage::Publish,
            Step::Publish => giving.stage = Stage::Invalidate,
            Step::Invalidate(_) => {
                giving.emptied = true;
                giving.rounds += 1;
                giving.passing.clear();
            }
            Step::Idle | Step::Wait | Step::Finish { .. } => {}
        }
    }
}

impl Giving {
    const fn new(seq: u64, to: LeaseMode) -> Giving {
        Giving {
            seq,
            to,
            ack: true,
            stage: Stage::Drain,
            emptied: false,
            rounds: 0,
            passing: Vec::new(),
            seen: Vec::new(),
            out: false,
        }
    }

    fn see(&mut self, range: Range) {
        if self.seen.contains(&range) || self.seen.contains(&Range::ALL) {
            return;
        }
        if self.seen.len() >= caps::MAX_TRACKED_RANGES {
            self.seen.clear();
            self.seen.push(Range::ALL);
        } else {
            self.seen.push(range);
        }
    }

    fn pass(&mut self, ranges: Vec<Range>) -> Vec<Range> {
        self.passing.clone_from(&ranges);
        ranges
    }

    fn next_round(&mut self, looking: u32, held: &[Range]) -> Step {
        let closing = self.rounds >= caps::MAX_INVALIDATE_ROUNDS;
        if closing && looking > 0 {
            return Step::Wait;
        }
        let mut seen = std::mem::take(&mut self.seen);
        if closing {
            seen = without(&seen, held);
        }
        match (seen.is_empty(), looking) {
            (false, _) => Step::Invalidate(self.pass(seen)),
            (true, 0) => Step::Finish { ack: self.ack.then_some(self.seq) },
            (true, _) => Step::Wait,
        }
    }
}

/// `ranges` less `holes`.
fn without(ranges: &[Range], holes: &[Range]) -> Vec<Range> {
    let mut left = ranges.to_vec();
    for hole in holes {
        left = left
            .into_iter()
            .flat_map(|r| {
                let before = Range { start: r.start, end: r.end.min(hole.start) };
                let after = Range { start: r.start.max(hole.end), end: r.end };
                [before, after]
            })
            .filter(|r| r.start < r.end)
            .collect();
    }
    left
}
