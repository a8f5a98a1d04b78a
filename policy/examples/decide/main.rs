//! What a decision costs with 100,000 grants, held against a plain lookup in a hash map in the same run.
//!
//! `cargo run --release -p mooring-policy --example decide`

#[allow(dead_code, reason = "a test shares the file and uses more of it")]
mod population;

use std::collections::HashMap;
use std::hint::black_box;
use std::time::Duration;

use mooring_policy::action::Action;
use mooring_policy::decide::decide;
use mooring_policy::ids::{BucketName, TenantId};
use mooring_policy::index::GrantIndex;
use mooring_policy::principal::Principal;
use mooring_policy::resource::Resource;
use mooring_policy::time::{Clock, SystemClock, Timestamp};
use population::Population;

const GRANTS: usize = 100_000;
const ROUNDS: usize = 200_000;
const NOW: Timestamp = Timestamp::from_secs(1_000);

/// The clock is read once for so many questions: reading it costs as much as a question.
const BATCH: usize = 8;

struct Question {
    principal: Principal,
    resource: Resource,
    key: (TenantId, TenantId, BucketName),
}

fn main() {
    let clock = SystemClock::new();
    let population = Population::new(GRANTS);
    let questions: Vec<Question> = population.grants.iter().map(question).collect();
    let (index, build) = timed(&clock, || GrantIndex::new(population.grants.iter().cloned(), []));
    let plain: HashMap<_, _> = questions.iter().enumerate().map(|(at, q)| (q.key.clone(), at)).collect();
    let (_, revoke) = timed(&clock, || index.with_revoked(population.grants[0].id));
    let (_, expiry) = timed(&clock, || index.next_expiry(NOW));
    println!(
        "{GRANTS} grants: index made in {build:.1?}, one revoked in {revoke:.1?}, next expiry in {expiry:.1?}"
    );

    let lookup = measure(&clock, &questions, |q| plain.contains_key(&q.key));
    let allow = measure(&clock, &questions, |q| ask(&index, q, Action::Read));
    let deny = measure(&clock, &questions, |q| !ask(&index, q, Action::Delete));
    let (p50, p99) = lookup;
    println!("{:<16}{:>10}{:>10}   against the plain lookup", "", "p50", "p99");
    for (name, cost) in [("plain lookup", lookup), ("allow", allow), ("deny", deny)] {
        let ratio = |a: Duration, b: Duration| a.as_secs_f64() / b.as_secs_f64().max(1e-9);
        println!(
            "{name:<16}{:>7} ns{:>7} ns   {:.1}x, {:.1}x",
            cost.0.as_nanos(),
            cost.1.as_nanos(),
            ratio(cost.0, p50),
            ratio(cost.1, p99)
        );
    }
}

fn question(grant: &mooring_policy::grant::Grant) -> Question {
    let key = grant.prefix.join(b"a/picture.jpg");
    Question {
        principal: Principal::Tenant { tenant: grant.grantee.clone() },
        resource: Resource::object(grant.owner.clone(), grant.bucket.clone(), key),
        key: (grant.grantee.clone(), grant.owner.clone(), grant.bucket.clone()),
    }
}

fn ask(index: &GrantIndex, question: &Question, action: Action) -> bool {
    decide(&question.principal, action, &question.resource, index, None, NOW).is_allowed()
}

fn timed<T>(clock: &SystemClock, work: impl FnOnce() -> T) -> (T, Duration) {
    let start = clock.monotonic();
    let value = work();
    (value, clock.monotonic().saturating_sub(start))
}

/// The median and the 99th percentile of the time per question, over batches spread across all questions.
fn measure(
    clock: &SystemClock,
    questions: &[Question],
    work: impl Fn(&Question) -> bool,
) -> (Duration, Duration) {
    let mut costs: Vec<Duration> = Vec::with_capacity(ROUNDS / BATCH);
    for round in 0..ROUNDS / BATCH {
        // A stride prime to the number of questions: neighbours in time are no neighbours in memory.
        let at = |step: usize| &questions[(round * BATCH + step) * 7919 % questions.len()];
        let ((), cost) = timed(clock, || {
            for step in 0..BATCH {
                assert!(black_box(work(black_box(at(step)))), "answered otherwise than expected");
            }
        });
        costs.push(cost / u32::try_from(BATCH).unwrap_or(1));
    }
    costs.sort_unstable();
    (costs[costs.len() / 2], costs[costs.len() * 99 / 100])
}
