//! Every order of events in small worlds: no stale look, no lease held twice, nobody left waiting.
//!
//! The second half plants one known mistake at a time and expects the checker to find it: a check that
//! cannot fail proves nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod world;

use stateright::{Checker, HasDiscoveries, Model};
use world::{Bug, Rules};

fn holds(name: &str, rules: Rules) {
    let checker = rules.checker().spawn_bfs().join();
    println!("{name}: {} states explored, {} distinct", checker.state_count(), checker.unique_state_count());
    checker.assert_properties();
}

fn is_found(rules: Rules) {
    let bug = rules.bug;
    let checker = rules.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    println!("{bug:?}: found after {} states", checker.state_count());
    let found = checker.discoveries().into_keys().any(|name| name != "everything is done");
    assert!(found, "{bug:?} was not noticed");
}

#[test]
fn two_agents_look_and_change_under_leases() {
    holds("leases", Rules { looks: 2, ..Rules::default() });
}

#[test]
fn changes_cross_without_leases() {
    holds("direct", Rules { looks: 2, direct: true, ..Rules::default() });
}

#[test]
fn a_door_looks_and_changes_beside_an_agent() {
    holds(
        "door",
        Rules { agents: 1, looks: 1, changes: 2, door_looks: 2, door_changes: 1, ..Rules::default() },
    );
}

#[test]
fn a_connection_is_lost_at_any_moment() {
    holds("disconnect", Rules { disconnects: 1, ..Rules::default() });
}

#[test]
fn the_gateway_restarts_at_any_moment() {
    holds("restart", Rules { restarts: 1, ..Rules::default() });
}

#[test]
fn a_session_that_does_not_answer_is_evicted() {
    holds("evict", Rules { evictions: 1, restarts: 1, ..Rules::default() });
}

#[test]
fn leases_are_shed_at_any_moment() {
    holds("shed", Rules { sheds: 1, ..Rules::default() });
    holds(
        "shed beside a door",
        Rules { agents: 1, door_looks: 1, door_changes: 1, sheds: 2, ..Rules::default() },
    );
}

#[test]
fn connection_and_gateway_are_lost_while_leases_are_shed() {
    let rules = Rules { agents: 1, door_changes: 1, sheds: 1, ..Rules::default() };
    holds("shed, disconnect", Rules { disconnects: 1, ..rules.clone() });
    holds("shed, restart", Rules { restarts: 1, ..rules });
}

#[test]
fn a_lease_shed_without_asking_is_found() {
    is_found(Rules { bug: Bug::ShedUnasked, looks: 2, sheds: 1, ..Rules::default() });
}

#[test]
fn an_early_acknowledgement_is_found() {
    is_found(Rules { bug: Bug::AckBeforeInvalidate, looks: 2, ..Rules::default() });
}

#[test]
fn a_forgotten_read_is_found() {
    is_found(Rules { bug: Bug::ForgetReads, looks: 3, ..Rules::default() });
}

#[test]
fn a_missing_barrier_is_found() {
    is_found(Rules { bug: Bug::NoBarrier, agents: 1, door_looks: 1, ..Rules::default() });
}

#[test]
fn a_missing_grace_is_found() {
    is_found(Rules { bug: Bug::NoGrace, restarts: 1, ..Rules::default() });
}

#[test]
fn an_eviction_not_persisted_is_found() {
    is_found(Rules { bug: Bug::ForgetEviction, evictions: 1, restarts: 1, ..Rules::default() });
}

#[test]
fn a_lease_kept_without_reclaim_is_found() {
    is_found(Rules { bug: Bug::KeepWithoutReclaim, looks: 2, restarts: 1, ..Rules::default() });
}

#[test]
fn reads_parked_behind_a_recall_are_found() {
    is_found(Rules { bug: Bug::ParkReads, looks: 2, ..Rules::default() });
}

#[test]
fn a_request_left_waiting_for_its_lease_is_found() {
    is_found(Rules { bug: Bug::LeaveWaiting, looks: 2, ..Rules::default() });
}
