//! A guest's clock, told in this host's time.
//!
//! Two machines' clocks are compared as NTP does it: ask, and take the answer's moment to lie between asking and being
//! answered. The quickest of many answers bounds the error. Without this, "no byte after the revocation had returned"
//! could only be said of one machine's own moments.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::guest::Running;

/// Questions asked; the quickest answer counts.
const QUESTIONS: usize = 25;
/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a moment of the guest is on this host.
#[derive(Debug, Clone, Copy)]
pub struct GuestClock {
    /// Host minus guest, in milliseconds.
    ahead_ms: f64,
    /// The error is at most this, in milliseconds.
    error_ms: f64,
}

impl GuestClock {
    /// Asks a program in the guest that answers each line `clock` with a line `clock NANOSECONDS` of its monotonic
    /// clock. Host times are milliseconds since `zero`.
    pub async fn ask(program: &Running, zero: Instant) -> Result<GuestClock> {
        let mut best: Option<GuestClock> = None;
        for number in 1..=QUESTIONS {
            let asked = ms(zero);
            program.feed(b"clock\n").await?;
            let answer = answer(program, number).await?;
            let answered = ms(zero);
            let clock = GuestClock {
                ahead_ms: (asked + answered) / 2.0 - answer,
                error_ms: (answered - asked) / 2.0,
            };
            if best.is_none_or(|best| clock.error_ms < best.error_ms) {
                best = Some(clock);
            }
        }
        best.context("no question was asked")
    }

    /// The guest's moment (nanoseconds of its monotonic clock) in host time.
    pub fn on_host(&self, guest_ns: u64) -> f64 {
        guest_ns as f64 / 1e6 + self.ahead_ms
    }

    /// The error of [`on_host`](GuestClock::on_host), in milliseconds.
    pub fn error_ms(&self) -> f64 {
        self.error_ms
    }
}

/// Milliseconds since `zero`.
pub fn ms(zero: Instant) -> f64 {
    zero.elapsed().as_secs_f64() * 1000.0
}

/// The answer to this question, in milliseconds of the guest's clock.
async fn answer(program: &Running, number: usize) -> Result<f64> {
    let began = Instant::now();
    loop {
        let said = program.stdout();
        let said = String::from_utf8_lossy(&said);
        let whole = said.rsplit_once('\n').map_or("", |(whole, _)| whole);
        if let Some(line) = whole.lines().filter(|line| line.starts_with("clock ")).nth(number - 1) {
            let ns: u64 = line.trim_start_matches("clock ").parse().with_context(|| line.to_owned())?;
            return Ok(ns as f64 / 1e6);
        }
        ensure!(!program.has_ended(), "the program that tells the time has ended: {said}");
        ensure!(began.elapsed() < PATIENCE, "no answer to what time it is: {said}");
        // Finer than the harness' waits: the pause is part of the error.
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
}
