//! The lease table where one inode's model does not reach: several inodes, bounds, deadlines, promises.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::time::Duration;

use mooring_protocol::caps;
use mooring_protocol::lease::{Effects, Go, LeaseError, LeaseTable, Tell, Ticket};
use mooring_protocol::session::SessionId;
use mooring_protocol::types::{Ino, LeaseGrant, LeaseMode};

const A: SessionId = SessionId(1);
const B: SessionId = SessionId(2);
const C: SessionId = SessionId(3);
const T0: Duration = Duration::ZERO;

fn ino(n: u64) -> Ino {
    Ino::new(n).unwrap()
}

fn table() -> LeaseTable {
    let mut table = LeaseTable::new();
    for session in [A, B, C] {
        table.join(session, caps::RECALL_DEADLINE);
    }
    table
}

/// Runs one call and gives what it brought about.
fn fx(call: impl FnOnce(&mut Effects)) -> Effects {
    let mut effects = Effects::default();
    call(&mut effects);
    effects
}

fn hold(table: &mut LeaseTable, session: SessionId, n: u64, mode: LeaseMode) -> LeaseGrant {
    let grant = table.offer(session, ino(n), mode).unwrap();
    assert_eq!(fx(|e| table.announced(session, grant, T0, e)), Effects::default());
    grant
}

fn recalls(effects: &Effects) -> Vec<(SessionId, Ino, LeaseMode)> {
    let recall = |t: &(SessionId, Tell)| match t {
        (session, Tell::Recall { ino, to, .. }) => Some((*session, *ino, *to)),
        _ => None,
    };
    effects.tell.iter().filter_map(recall).collect()
}

#[test]
fn a_recall_waits_until_the_grant_is_on_its_way() {
    let mut table = table();
    let grant = table.offer(A, ino(5), LeaseMode::Write).unwrap();
    let asked = fx(|e| table.acquire(Ticket(1), B, ino(5), LeaseMode::Read, T0, e).unwrap());
    assert_eq!(asked, Effects::default(), "the reply with the grant is not queued yet");
    let sent = fx(|e| table.announced(A, grant, T0, e));
    assert_eq!(recalls(&sent), [(A, ino(5), LeaseMode::Read)]);
    let done = fx(|e| table.recalled(A, ino(5), grant.seq, T0, e));
    assert!(matches!(done.ready[..], [(Ticket(1), Go::Granted(g))] if g.mode == LeaseMode::Read));
    assert_eq!(table.leases_of(A)[0].mode, LeaseMode::Read);
}

#[test]
fn a_grant_withdrawn_lets_the_next_go_on() {
    let mut table = table();
    let grant = table.offer(A, ino(5), LeaseMode::Write).unwrap();
    fx(|e| table.write(Ticket(1), Some(B), &[ino(5)], T0, e).unwrap());
    let gone = fx(|e| table.withdrawn(A, grant, T0, e));
    assert_eq!(gone.ready, [(Ticket(1), Go::Run)]);
    assert!(gone.tell.is_empty());
}

#[test]
fn an_answer_given_twice_does_not_pass_for_the_next() {
    let mut table = table();
    let grant = hold(&mut table, A, 5, LeaseMode::Write);
    let read = fx(|e| table.acquire(Ticket(1), B, ino(5), LeaseMode::Read, T0, e).unwrap());
    assert_eq!(recalls(&read), [(A, ino(5), LeaseMode::Read)]);
    let granted = fx(|e| table.recalled(A, ino(5), grant.seq, T0, e));
    let Go::Granted(to_b) = granted.ready[0].1 else { panic!("{granted:?}") };
    fx(|e| table.announced(B, to_b, T0, e));
    let write = fx(|e| table.write(Ticket(2), Some(C), &[ino(5)], T0, e).unwrap());
    assert_eq!(recalls(&write).len(), 2);
    assert_eq!(fx(|e| table.recalled(A, ino(5), grant.seq, T0, e)), Effects::default());
    assert_eq!(table.leases_of(A).len(), 1, "the old sequence means nothing any more");
}

#[test]
fn new_readers_do_not_overtake_a_waiting_writer() {
    let mut table = table();
    let a = hold(&mut table, A, 5, LeaseMode::Read);
    fx(|e| table.acquire(Ticket(1), B, ino(5), LeaseMode::Write, T0, e).unwrap());
    assert_eq!(table.offer(C, ino(5), LeaseMode::Read), None);
    let late = fx(|e| table.acquire(Ticket(2), C, ino(5), LeaseMode::Read, T0, e).unwrap());
    assert_eq!(late, Effects::default());
    let first = fx(|e| table.recalled(A, ino(5), a.seq, T0, e));
    assert!(matches!(first.ready[..], [(Ticket(1), Go::Granted(_))]), "{first:?}");
}

#[test]
fn what_a_holder_has_issued_runs_before_its_recall() {
    let mut table = table();
    let a = hold(&mut table, A, 5, LeaseMode::Write);
    fx(|e| table.write(Ticket(1), Some(B), &[ino(5)], T0, e).unwrap());
    let own = fx(|e| table.write(Ticket(2), Some(A), &[ino(5)], T0, e).unwrap());
    assert_eq!(own.ready, [(Ticket(2), Go::Run)]);
    assert_eq!(fx(|e| table.recalled(A, ino(5), a.seq, T0, e)).ready, [], "A's change is not applied yet");
    assert_eq!(fx(|e| table.finish(Ticket(2), T0, e)).ready, [(Ticket(1), Go::Run)]);
}

#[test]
fn renames_that_cross_between_two_held_directories_do_not_wait_for_ever() {
    let mut table = table();
    let a = hold(&mut table, A, 5, LeaseMode::Write);
    let b = hold(&mut table, B, 6, LeaseMode::Write);
    let first = fx(|e| table.write(Ticket(1), Some(A), &[ino(5), ino(6)], T0, e).unwrap());
    assert_eq!((first.ready.len(), recalls(&first).len()), (0, 1));
    let second = fx(|e| table.write(Ticket(2), Some(B), &[ino(5), ino(6)], T0, e).unwrap());
    assert_eq!(second.ready, [(Ticket(2), Go::Retry)], "its kernel lets go, and asks again");
    let gave = fx(|e| table.recalled(B, ino(6), b.seq, T0, e));
    assert_eq!(gave.ready, [(Ticket(1), Go::Run)]);
    fx(|e| table.finish(Ticket(1), T0, e));
    let again = fx(|e| table.write(Ticket(3), Some(B), &[ino(5), ino(6)], T0, e).unwrap());
    assert_eq!(recalls(&again), [(A, ino(5), LeaseMode::None)]);
    assert_eq!(fx(|e| table.recalled(A, ino(5), a.seq, T0, e)).ready, [(Ticket(3), Go::Run)]);
}

#[test]
fn creates_that_cross_under_read_leases_both_run() {
    let mut table = table();
    let a = hold(&mut table, A, 5, LeaseMode::Read);
    let b = hold(&mut table, B, 5, LeaseMode::Read);
    fx(|e| table.write(Ticket(1), Some(A), &[ino(5)], T0, e).unwrap());
    fx(|e| table.write(Ticket(2), Some(B), &[ino(5)], T0, e).unwrap());
    let one = fx(|e| table.recalled(B, ino(5), b.seq, T0, e));
    let two = fx(|e| table.recalled(A, ino(5), a.seq, T0, e));
    let ready: Vec<_> = one.ready.into_iter().chain(two.ready).collect();
    assert_eq!(ready, [(Ticket(1), Go::Run), (Ticket(2), Go::Run)]);
}

#[test]
fn a_listing_asks_each_writer_once_and_sees_what_is_under_way() {
    let mut table = table();
    hold(&mut table, A, 5, LeaseMode::Write);
    hold(&mut table, A, 6, LeaseMode::Write);
    hold(&mut table, B, 7, LeaseMode::Read);
    let asked = fx(|e| table.read(Ticket(1), None, None, T0, e));
    let [(A, Tell::Barrier { id, ino: None, .. })] = asked.tell[..] else { panic!("{asked:?}") };
    fx(|e| table.write(Ticket(2), Some(A), &[ino(6)], T0, e).unwrap());
    assert_eq!(fx(|e| table.barrier_done(A, id, T0, e)).ready, [], "handed over, not yet applied");
    assert_eq!(fx(|e| table.finish(Ticket(2), T0, e)).ready, [(Ticket(1), Go::Run)]);
}

#[test]
fn who_does_not_answer_is_named_and_dropped() {
    let mut table = table();
    table.join(SessionId(9), caps::FOREIGN_RECALL_DEADLINE);
    hold(&mut table, SessionId(9), 5, LeaseMode::Read);
    fx(|e| table.write(Ticket(1), Some(A), &[ino(5)], T0, e).unwrap());
    assert_eq!(table.next_deadline(), Some(caps::FOREIGN_RECALL_DEADLINE));
    assert!(table.overdue(Duration::from_millis(199)).is_empty());
    assert!(table.overdue(caps::FOREIGN_RECALL_DEADLINE).contains(&SessionId(9)));
    let dropped = fx(|e| table.drop_session(SessionId(9), T0, e));
    assert_eq!(dropped.ready, [(Ticket(1), Go::Run)]);
    fx(|e| table.finish(Ticket(1), T0, e));
    assert!(table.is_idle() && table.next_deadline().is_none());
}

#[test]
fn conflicting_and_mad_claims_are_not_kept() {
    let mut table = LeaseTable::recovering();
    table.join(A, caps::RECALL_DEADLINE);
    table.join(B, caps::RECALL_DEADLINE);
    let claim = |seq| LeaseGrant { ino: ino(5), mode: LeaseMode::Write, seq };
    assert!(table.reclaim(A, &[claim(u64::MAX)]).is_empty());
    let kept = table.reclaim(A, &[claim(7), claim(7)]);
    assert!(kept.len() == 1 && kept[0].seq > 7);
    assert!(table.reclaim(B, &[claim(3)]).is_empty());
    assert_eq!(table.offer(B, ino(6), LeaseMode::Read), None, "nothing new in grace");
    fx(|e| table.end_grace(T0, e));
    assert!(table.reclaim(B, &[LeaseGrant { ino: ino(6), ..claim(3) }]).is_empty());
    assert!(table.offer(B, ino(6), LeaseMode::Read).is_some());
}

#[test]
fn waiters_are_bounded() {
    let mut table = table();
    hold(&mut table, A, 5, LeaseMode::Read);
    for n in 0..caps::MAX_LEASE_WAITERS as u64 {
        fx(|e| table.acquire(Ticket(n), B, ino(5), LeaseMode::Write, T0, e).unwrap());
    }
    let more = table.write(Ticket(9999), Some(C), &[ino(5)], T0, &mut Effects::default());
    assert_eq!(more, Err(LeaseError::TooManyWaiters { limit: caps::MAX_LEASE_WAITERS }));
}

/// A table in which sessions may hold 64 leases, and shed from 63 on.
fn small() -> LeaseTable {
    table().with_max_leases(64)
}

/// Grants without end; what is recalled meanwhile is answered `late` grants later.
fn read_many(table: &mut LeaseTable, files: u64, late: usize) -> Vec<Ino> {
    let mut order = Vec::new();
    let mut unanswered = std::collections::VecDeque::new();
    for n in 1..=files {
        let grant = table.offer(A, ino(n), LeaseMode::Read).unwrap_or_else(|| panic!("no lease on file {n}"));
        for (session, tell) in fx(|e| table.announced(A, grant, T0, e)).tell {
            let Tell::Recall { ino, seq, to: LeaseMode::None, .. } = tell else { panic!("{tell:?}") };
            assert_eq!(session, A);
            order.push(ino);
            unanswered.push_back((ino, seq));
        }
        while unanswered.len() > late {
            let (ino, seq) = unanswered.pop_front().unwrap();
            assert_eq!(fx(|e| table.recalled(A, ino, seq, T0, e)).ready, []);
        }
        assert!(table.leases_of(A).len() <= 64);
    }
    order
}

#[test]
fn who_reads_more_files_than_the_bound_goes_on_with_the_newest() {
    let mut table = small();
    let order = read_many(&mut table, 1000, 0);
    assert!(order.iter().map(|i| i.get()).eq(1..=1000 - 63), "the oldest first, each once");
    let held: Vec<u64> = table.leases_of(A).iter().map(|g| g.ino.get()).collect();
    assert_eq!(held, (938..=1000).collect::<Vec<_>>());
    assert_eq!(table.next_deadline(), None);
    fx(|e| table.drop_session(A, T0, e));
    assert!(table.is_idle());
}

#[test]
fn what_is_asked_for_again_is_not_the_oldest() {
    let mut table = small();
    read_many(&mut table, 60, 0);
    hold(&mut table, A, 1, LeaseMode::Read);
    for n in 61..=63 {
        hold(&mut table, A, n, LeaseMode::Read);
    }
    let grant = table.offer(A, ino(64), LeaseMode::Read).unwrap();
    assert_eq!(recalls(&fx(|e| table.announced(A, grant, T0, e))), [(A, ino(2), LeaseMode::None)]);
}

#[test]
fn who_never_answers_reaches_the_bound_and_is_not_cut_off_for_that() {
    let mut table = small();
    let mut recalled = Vec::new();
    for n in 1..=64 {
        let grant = table.offer(A, ino(n), LeaseMode::Read).unwrap();
        recalled.extend(recalls(&fx(|e| table.announced(A, grant, T0, e))));
    }
    assert_eq!(recalled, [(A, ino(1), LeaseMode::None)]);
    assert_eq!(table.offer(A, ino(65), LeaseMode::Read), None);
    let refused = table.acquire(Ticket(1), A, ino(65), LeaseMode::Read, T0, &mut Effects::default());
    assert_eq!(refused, Err(LeaseError::TooManyLeases { limit: 64 }));
    assert!(table.overdue(Duration::from_secs(1 << 40)).is_empty());
    assert_eq!(table.unanswered(A, T0).len(), 1, "it is said again after a reconnect");
    assert!(table.offer(B, ino(65), LeaseMode::Read).is_some(), "others have their own bound");
}

#[test]
fn a_shed_lease_gets_a_deadline_when_somebody_waits_for_it() {
    let mut table = small();
    let first = hold(&mut table, A, 1, LeaseMode::Write);
    assert_eq!(recalls(&fx(|e| assert!(table.shed(A, ino(1), T0, e)))), [(A, ino(1), LeaseMode::None)]);
    let mut again = Effects::default();
    assert!(!table.shed(A, ino(1), T0, &mut again) && again == Effects::default(), "once is enough");
    let now = Duration::from_secs(100);
    let asked = fx(|e| table.acquire(Ticket(1), B, ino(1), LeaseMode::Read, now, e).unwrap());
    let [(A, Tell::Recall { within: caps::RECALL_DEADLINE, to: LeaseMode::None, .. })] = asked.tell[..]
    else {
        panic!("{asked:?}")
    };
    assert_eq!(table.next_deadline(), Some(now + caps::RECALL_DEADLINE));
    let more = fx(|e| table.write(Ticket(2), Some(C), &[ino(1)], now, e).unwrap());
    assert_eq!(more, Effects::default(), "it is said once");
    let done = fx(|e| table.recalled(A, ino(1), first.seq, now, e));
    assert!(matches!(done.ready[..], [(Ticket(1), Go::Granted(_))]), "{done:?}");
    assert_eq!(table.next_deadline(), None);
}

#[test]
fn who_waits_behind_a_holder_that_waits_for_itself_waits_no_longer_than_a_deadline() {
    let mut table = small();
    hold(&mut table, A, 1, LeaseMode::Read);
    fx(|e| assert!(table.shed(A, ino(1), T0, e)));
    fx(|e| table.acquire(Ticket(1), A, ino(1), LeaseMode::Write, T0, e).unwrap());
    fx(|e| table.write(Ticket(2), Some(B), &[ino(1)], T0, e).unwrap());
    assert_eq!(table.next_deadline(), Some(caps::RECALL_DEADLINE));
    assert_eq!(fx(|e| table.drop_session(A, T0, e)).ready, [(Ticket(2), Go::Run)]);
}

#[test]
fn what_is_in_use_is_not_shed() {
    let mut table = small();
    hold(&mut table, A, 1, LeaseMode::Write);
    fx(|e| table.write(Ticket(1), Some(A), &[ino(1)], T0, e).unwrap());
    fx(|e| assert!(!table.shed(A, ino(1), T0, e), "it is being changed"));
    fx(|e| table.finish(Ticket(1), T0, e));
    let promised = table.offer(A, ino(1), LeaseMode::Write).unwrap();
    fx(|e| assert!(!table.shed(A, ino(1), T0, e), "it is on its way"));
    fx(|e| table.announced(A, promised, T0, e));
    fx(|e| assert!(table.shed(A, ino(1), T0, e)));
    fx(|e| assert!(!table.shed(B, ino(1), T0, e), "B holds nothing"));
}

#[test]
fn slow_answers_are_no_reason_to_flood_or_to_stop() {
    let mut table = table().with_max_leases(64 << 10);
    let mut most = 0;
    let mut unanswered = std::collections::VecDeque::new();
    for n in 1..=200_000 {
        let Some(grant) = table.offer(A, ino(n), LeaseMode::Read) else { panic!("no lease on file {n}") };
        for (_, tell) in fx(|e| table.announced(A, grant, T0, e)).tell {
            let Tell::Recall { ino, seq, .. } = tell else { panic!("{tell:?}") };
            unanswered.push_back((ino, seq));
        }
        most = most.max(unanswered.len());
        if n % 900 == 0 {
            for (ino, seq) in unanswered.drain(..) {
                fx(|e| table.recalled(A, ino, seq, T0, e));
            }
        }
    }
    assert!(most <= caps::MAX_SHEDDING, "{most}");
}
