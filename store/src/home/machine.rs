//! The two sides of a home record as plain values: one holds it, others watch it. No I/O, no clock of their own; `now` is
//! each gateway's own time that only moves forward.

use std::time::Duration;

/// How long a holder may serve after it began its last confirmed beat.
pub const TTL: Duration = Duration::from_secs(5);

/// How often a holder renews.
pub const RENEW: Duration = Duration::from_millis(1_250);

/// How long a watcher waits since it first saw the last beat.
pub const PATIENCE: Duration = Duration::from_millis(5_300);

/// The name of the object that lets go.
pub(super) const FREE: &str = "free";

/// A number as a name: in order, and of one length.
pub(super) fn number(number: u64) -> String {
    format!("{number:020}")
}

pub(super) fn beat_name(beat: u64) -> String {
    number(beat)
}

/// What the records said at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// The highest epoch that was claimed.
    pub epoch: u64,
    /// Its highest beat; 0 before the first.
    pub beat: u64,
    /// Its holder has let go.
    pub free: bool,
    /// Everything that was there.
    found: Vec<(u64, String)>,
}

impl Look {
    /// From the names that were found: epoch, and what is below it. `None` when nothing was ever claimed.
    pub fn at(names: impl Iterator<Item = (u64, String)>) -> Option<Self> {
        let found: Vec<(u64, String)> = names.collect();
        let epoch = found.iter().filter(|(_, what)| what == "claim").map(|(epoch, _)| *epoch).max()?;
        let of = |(at, what): &(u64, String)| (*at == epoch).then(|| what.parse::<u64>().ok()).flatten();
        let beat = found.iter().filter_map(of).max().unwrap_or(0);
        let free = found.iter().any(|(at, what)| *at == epoch && what == FREE);
        Some(Self { epoch, beat, free, found })
    }

    /// Names that mean nothing any more: all but the last `keep` beats, and epochs before the one before.
    pub(super) fn useless(&self, keep: u64) -> Vec<(u64, String)> {
        let gone = |(epoch, what): &&(u64, String)| match what.parse::<u64>() {
            Ok(beat) if *epoch == self.epoch => beat + keep <= self.beat,
            _ => *epoch + 1 < self.epoch,
        };
        self.found.iter().filter(gone).cloned().collect()
    }
}

/// What a watcher may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nobody has it: take this epoch.
    Take(u64),
    /// Somebody has it; look again at this moment at the latest, even if nothing seems to happen.
    Held {
        /// Whose it is.
        epoch: u64,
        /// When it will have been silent for too long.
        until: Duration,
    },
}

/// Who would like to have it.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    seen: Option<(u64, u64, Duration)>,
}

impl Watch {
    /// Takes note of a look that was asked for and answered by `answered`.
    pub fn looked(&mut self, answered: Duration, look: Option<&Look>) -> Verdict {
        let Some(look) = look else { return Verdict::Take(1) };
        // Only what is new begins the time anew: an answer of before this one brings nothing new.
        let is_new = self.seen.is_none_or(|(epoch, beat, _)| (look.epoch, look.beat) > (epoch, beat));
        if is_new {
            self.seen = Some((look.epoch, look.beat, answered));
        }
        let (epoch, _, since) = self.seen.unwrap_or((look.epoch, look.beat, answered));
        if look.epoch == epoch && look.free || answered >= since + PATIENCE {
            return Verdict::Take(epoch + 1);
        }
        Verdict::Held { epoch, until: since + PATIENCE }
    }

    /// Whether the holder of the epoch before `ours`, which we have claimed, may still serve at `answered`: `None` when it
    /// may not, else when it will not. `names` are of a look after the claim.
    pub fn is_over(&mut self, ours: u64, answered: Duration, look: &Look) -> Option<Duration> {
        let before = ours - 1;
        let theirs = look.found.iter().filter(|(epoch, _)| *epoch == before);
        let last = theirs.clone().filter_map(|(_, what)| what.parse::<u64>().ok()).max().unwrap_or(0);
        let claimed = theirs.clone().any(|(_, what)| what == "claim");
        if !claimed || theirs.clone().any(|(_, what)| what == FREE) {
            return None;
        }
        let is_new = self.seen.is_none_or(|(epoch, beat, _)| (before, last) > (epoch, beat));
        if is_new {
            self.seen = Some((before, last, answered));
        }
        let since = self.seen.map_or(answered, |(_, _, since)| since);
        (answered < since + PATIENCE).then_some(since + PATIENCE)
    }
}

/// A beat on its way.
#[derive(Clone, Copy, Debug)]
pub struct Renewal {
    /// Its number.
    pub beat: u64,
    begun: Duration,
}

/// Who has it.
#[derive(Clone, Debug)]
pub struct Tenure {
    epoch: u64,
    beat: u64,
    until: Duration,
}

impl Tenure {
    /// Has claimed `epoch`; may not serve before a beat was confirmed.
    #[must_use]
    pub fn new(epoch: u64) -> Self {
        Self { epoch, beat: 0, until: Duration::ZERO }
    }

    /// Its epoch.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Begins a beat. Each has a number of its own, whatever became of those before.
    pub fn begin(&mut self, now: Duration) -> Renewal {
        self.beat += 1;
        Renewal { beat: self.beat, begun: now }
    }

    /// The beat is there, and then this was seen. False when another gateway has taken over.
    #[must_use]
    pub fn confirm(&mut self, renewal: Renewal, look: Option<&Look>) -> bool {
        match look {
            Some(look) if look.epoch == self.epoch && !look.free => {
                self.until = self.until.max(renewal.begun + TTL);
                true
            }
            // Records that vanish say nothing; the engine's fence decides.
            None => true,
            Some(_) => false,
        }
    }

    /// Until when it may serve.
    #[must_use]
    pub fn until(&self) -> Duration {
        self.until
    }
}
