//! Byte-range locks against the simplest table there is: one cell per byte and owner.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use mooring_protocol::caps;
use mooring_protocol::lease::Ticket;
use mooring_protocol::lock::{Lock, LockError, LockTable, Owner, Waited};
use mooring_protocol::session::SessionId;
use mooring_protocol::types::{Ino, LockKind, LockRange};
use proptest::prelude::*;

const OWNERS: usize = 3;
const BYTES: usize = 16;

fn lock(owner: usize, start: u64, end: u64, kind: LockKind) -> Lock {
    let owner = Owner { session: SessionId(owner as u64 / 2), id: owner as u64 };
    Lock { owner, pid: 1, range: LockRange { start, end }, kind }
}

fn ino(n: u64) -> Ino {
    Ino::new(n).unwrap()
}

fn kinds() -> impl Strategy<Value = LockKind> {
    prop_oneof![Just(LockKind::Read), Just(LockKind::Write), Just(LockKind::Unlock)]
}

type Cells = [[Option<LockKind>; BYTES]; OWNERS];

fn cells_of(table: &LockTable) -> Cells {
    let mut cells = Cells::default();
    for lock in table.held(Ino::ROOT) {
        for byte in lock.range.start..=lock.range.end {
            let cell = &mut cells[lock.owner.id as usize][byte as usize];
            assert_eq!(*cell, None, "ranges of one owner overlap");
            *cell = Some(lock.kind);
        }
    }
    cells
}

proptest! {
    #[test]
    fn ranges_split_and_merge_as_single_bytes_would(
        steps in prop::collection::vec((0..OWNERS, 0..BYTES, 0..BYTES, kinds()), 1..60)
    ) {
        let (mut table, mut cells) = (LockTable::new(), Cells::default());
        for (owner, a, b, kind) in steps {
            let (start, end) = (a.min(b), a.max(b));
            let conflict = kind != LockKind::Unlock && (0..OWNERS).filter(|o| *o != owner).any(|o| {
                cells[o][start..=end].iter().flatten().any(|k| *k == LockKind::Write || kind == LockKind::Write)
            });
            let result = table.set(Ino::ROOT, lock(owner, start as u64, end as u64, kind));
            prop_assert_eq!(result.is_err(), conflict);
            if !conflict {
                let cell = (kind != LockKind::Unlock).then_some(kind);
                cells[owner][start..=end].fill(cell);
            }
            prop_assert_eq!(cells_of(&table), cells);
            let held = table.held(Ino::ROOT);
            for (i, one) in held.iter().enumerate() {
                let neighbour = |two: &Lock| one.owner == two.owner && one.kind == two.kind
                    && one.range.end + 1 == two.range.start;
                prop_assert!(!held[i + 1..].iter().any(neighbour), "not merged");
            }
            let total: usize = (0..2).map(|s| table.count(SessionId(s))).sum();
            prop_assert_eq!(total, held.len());
        }
    }
}

#[test]
fn waiters_get_their_lock_in_order_and_a_cancelled_one_does_not() {
    let mut table = LockTable::new();
    table.set(Ino::ROOT, lock(0, 0, 9, LockKind::Write)).unwrap();
    for (ticket, owner) in [(1, 1), (2, 2)] {
        let waits = table.set_wait(Ticket(ticket), Ino::ROOT, lock(owner, 5, 5, LockKind::Write)).unwrap();
        assert_eq!(waits, (Waited::Waiting, vec![]));
    }
    assert!(table.cancel(Ino::ROOT, Ticket(1)));
    assert!(!table.cancel(Ino::ROOT, Ticket(1)));
    assert_eq!(table.set(Ino::ROOT, lock(0, 5, 5, LockKind::Unlock)).unwrap(), [Ticket(2)]);
    assert_eq!(table.get(Ino::ROOT, &lock(0, 0, 9, LockKind::Read)).unwrap().owner.id, 2);
}

#[test]
fn a_circle_over_two_files_and_two_sessions_is_refused() {
    let mut table = LockTable::new();
    table.set(ino(5), lock(0, 0, 0, LockKind::Write)).unwrap();
    table.set(ino(6), lock(2, 0, 0, LockKind::Write)).unwrap();
    table.set_wait(Ticket(1), ino(6), lock(0, 0, 0, LockKind::Write)).unwrap();
    let closes = table.set_wait(Ticket(2), ino(5), lock(2, 0, 0, LockKind::Read));
    assert_eq!(closes, Err(LockError::Deadlock));
    assert_eq!(
        table.set_wait(Ticket(3), ino(5), lock(1, 0, 0, LockKind::Read)),
        Ok((Waited::Waiting, vec![]))
    );
}

#[test]
fn a_session_that_goes_leaves_nothing_behind() {
    let mut table = LockTable::new();
    table.set(Ino::ROOT, lock(0, 0, u64::MAX, LockKind::Write)).unwrap();
    table.set_wait(Ticket(1), Ino::ROOT, lock(1, 0, 0, LockKind::Write)).unwrap();
    table.set_wait(Ticket(2), Ino::ROOT, lock(2, 0, 0, LockKind::Write)).unwrap();
    assert_eq!(table.drop_session(SessionId(0)), [Ticket(2)], "owners 0 and 1 are of that session");
    assert_eq!(table.close(Ino::ROOT, lock(2, 0, 0, LockKind::Write).owner), []);
    assert!(table.held(Ino::ROOT).is_empty());
}

#[test]
fn locks_are_bounded_and_who_is_at_the_bound_can_still_let_go() {
    let mut table = LockTable::new();
    let mut taken = 0;
    let full = (0..).find_map(|n| {
        taken = n;
        table.set(Ino::ROOT, lock(0, n * 2, n * 2, LockKind::Write)).err()
    });
    assert_eq!(full, Some(LockError::TooMany));
    assert!(taken as usize <= caps::MAX_LOCKS_PER_INODE);
    table.set(Ino::ROOT, lock(0, 0, u64::MAX, LockKind::Unlock)).unwrap();
    assert!(table.held(Ino::ROOT).is_empty());
    let backwards = lock(0, 5, 4, LockKind::Read);
    assert_eq!(table.set(Ino::ROOT, backwards), Err(LockError::EmptyRange));
}
