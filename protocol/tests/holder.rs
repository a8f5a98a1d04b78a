//! The holder's order of steps, and the cases that one page cannot show.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use mooring_protocol::caps;
use mooring_protocol::holder::{Holder, OnRecall, Op, Range, Step, Use};
use mooring_protocol::types::LeaseMode;

fn page(n: u64) -> Range {
    Range { start: n * 4096, end: (n + 1) * 4096 }
}

fn look(n: u64) -> Op {
    Op::Look(Some(page(n)))
}

fn writer() -> Holder {
    let mut holder = Holder::new();
    assert!(holder.grant(LeaseMode::Write, 1));
    holder
}

/// Takes the next step and reports it as done.
fn step(holder: &mut Holder) -> Step {
    let step = holder.next_step();
    holder.done(&step);
    step
}

#[test]
fn steps_come_in_the_order_that_makes_them_right() {
    let mut holder = writer();
    assert_eq!(holder.recall(1, LeaseMode::Read), OnRecall::Begin);
    assert_eq!(holder.begin(Op::Change), Use::Hold, "until what is dirty has been handed over");
    assert_eq!(step(&mut holder), Step::Flush);
    assert_eq!(holder.begin(Op::Change), Use::Without);
    assert_eq!(step(&mut holder), Step::Publish);
    assert_eq!(step(&mut holder), Step::Invalidate(vec![Range::ALL]));
    assert_eq!(step(&mut holder), Step::Finish { ack: Some(1) });
    assert_eq!((holder.mode(), holder.seq(), step(&mut holder)), (LeaseMode::Read, 2, Step::Idle));
}

#[test]
fn changes_under_the_lease_end_before_the_flush() {
    let mut holder = writer();
    assert_eq!(holder.begin(Op::Change), Use::Lease);
    holder.recall(1, LeaseMode::None);
    assert_eq!(step(&mut holder), Step::Wait);
    holder.end(Op::Change, Use::Lease);
    assert_eq!(step(&mut holder), Step::Flush);
}

#[test]
fn what_is_read_while_the_kernel_is_emptied_is_dropped_again_and_only_that() {
    let mut holder = writer();
    holder.recall(1, LeaseMode::None);
    step(&mut holder);
    step(&mut holder);
    let all = holder.next_step();
    assert_eq!(holder.begin(look(3)), Use::Without);
    assert_eq!(holder.next_step(), Step::Wait, "a step is given out once");
    holder.end(look(3), Use::Without);
    holder.done(&all);
    assert_eq!(step(&mut holder), Step::Invalidate(vec![page(3)]));
    assert_eq!(holder.begin(look(4)), Use::Without);
    assert_eq!(step(&mut holder), Step::Wait, "a read under way may still fill the cache");
    holder.end(look(4), Use::Without);
    assert_eq!(step(&mut holder), Step::Invalidate(vec![page(4)]));
    assert_eq!(step(&mut holder), Step::Finish { ack: Some(1) });
}

#[test]
fn a_program_that_reads_without_pause_cannot_keep_the_lease() {
    let mut holder = writer();
    holder.recall(1, LeaseMode::None);
    let mut held = false;
    for _ in 0..caps::MAX_INVALIDATE_ROUNDS * 4 {
        let used = holder.begin(look(0));
        held |= used == Use::Hold;
        let given = holder.next_step();
        holder.end(look(0), used);
        holder.done(&given);
        if matches!(given, Step::Finish { .. }) {
            assert!(held);
            return;
        }
    }
    panic!("the recall never ends");
}

#[test]
fn a_held_read_is_left_out_of_the_last_rounds() {
    let mut holder = writer();
    holder.recall(1, LeaseMode::None);
    step(&mut holder);
    step(&mut holder);
    for _ in 0..caps::MAX_INVALIDATE_ROUNDS {
        assert_eq!(holder.begin(look(0)), Use::Without);
        holder.end(look(0), Use::Without);
        assert!(matches!(step(&mut holder), Step::Invalidate(_)));
    }
    assert_eq!(holder.begin(look(1)), Use::Hold);
    let wide = Op::Look(Some(Range { start: 0, end: 4 * 4096 }));
    holder.end(wide, Use::Without);
    let last = holder.next_step();
    let Step::Invalidate(ranges) = &last else { panic!("{last:?}") };
    assert!(!ranges.contains(&page(1)) && ranges.contains(&page(0)), "its page is locked: {ranges:?}");
    assert_eq!(holder.begin(look(2)), Use::Without, "inside the range that is being dropped");
    holder.end(look(2), Use::Without);
    holder.done(&last);
}

#[test]
fn what_is_read_when_a_recall_has_ended_needs_a_new_lease() {
    let mut holder = writer();
    holder.recall(1, LeaseMode::None);
    for _ in 0..3 {
        step(&mut holder);
    }
    // Looked at before whoever carries the recall out has come to do anything more.
    assert_eq!(holder.next_step(), Step::Finish { ack: Some(1) });
    assert_eq!(holder.begin(look(0)), Use::Acquire, "nobody would drop it any more");
    assert_eq!(holder.next_step(), Step::Idle);
}

#[test]
fn many_ranges_become_the_whole_file() {
    let mut holder = writer();
    holder.recall(1, LeaseMode::None);
    step(&mut holder);
    step(&mut holder);
    step(&mut holder);
    for n in 0..=caps::MAX_TRACKED_RANGES as u64 {
        assert_eq!(holder.begin(look(n)), Use::Without);
        holder.end(look(n), Use::Without);
    }
    assert_eq!(step(&mut holder), Step::Invalidate(vec![Range::ALL]));
}

#[test]
fn recalls_of_what_is_not_held_are_answered_at_once() {
    let mut holder = Holder::new();
    assert_eq!(holder.recall(4, LeaseMode::None), OnRecall::AckNow, "its reply was lost");
    assert!(!holder.grant(LeaseMode::Write, 4), "and must not come back");
    assert!(holder.grant(LeaseMode::Write, 6));
    assert_eq!(holder.recall(4, LeaseMode::None), OnRecall::AckNow);
    assert_eq!(holder.recall(8, LeaseMode::None), OnRecall::Begin, "a newer one replaced what is held");
    assert_eq!(holder.recall(8, LeaseMode::None), OnRecall::UnderWay);
}

#[test]
fn a_fence_hands_nothing_over_and_acknowledges_nothing() {
    let mut holder = writer();
    holder.fence();
    assert_eq!(holder.begin(look(0)), Use::Hold);
    assert_eq!(step(&mut holder), Step::Publish);
    assert_eq!(step(&mut holder), Step::Invalidate(vec![Range::ALL]));
    assert_eq!(step(&mut holder), Step::Finish { ack: None });
    assert_eq!(holder.mode(), LeaseMode::None);
}
