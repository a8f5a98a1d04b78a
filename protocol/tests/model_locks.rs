//! Every order of lock requests in a small world: three owners in two sessions, two files of two bytes.
//!
//! What must hold is said here anew, byte by byte, and not by asking the table. The second half plants one mistake at a
//! time in how answers are taken and expects the checker to find it: a check that cannot fail proves nothing.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};

use mooring_protocol::lease::Ticket;
use mooring_protocol::lock::{Lock, LockError, LockTable, Owner, Waited};
use mooring_protocol::session::SessionId;
use mooring_protocol::types::{Ino, LockKind, LockRange};
use stateright::{Checker, HasDiscoveries, Model, Property};

const OWNERS: u64 = 3;
const FILES: [u64; 2] = [5, 6];
const RANGES: [(u64, u64); 3] = [(0, 0), (1, 1), (0, 1)];

/// A mistake in how the table's answers are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    None,
    /// Who got its lock is not told.
    LoseReady,
    /// Who was refused for a circle waits all the same.
    WaitInCircle,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Action {
    Take { owner: u64, file: u64, range: (u64, u64), write: bool },
    Release { owner: u64, file: u64, range: (u64, u64) },
    Close { owner: u64, file: u64 },
    GiveUp { owner: u64 },
    Gone { session: u64 },
}

#[derive(Clone, Debug)]
struct World {
    table: LockTable,
    /// What each owner waits for, and the number of its wait.
    waits: [Option<(u64, Lock, u64)>; OWNERS as usize],
    next: u64,
    wrong: Option<&'static str>,
}

impl World {
    /// All that decides what can happen next; the numbers of waits do so only by their order.
    fn essence(&self) -> impl PartialEq + Hash + use<> {
        let row =
            |lock: &Lock| (lock.owner.id, lock.range.start, lock.range.end, lock.kind == LockKind::Write);
        let held: Vec<Vec<_>> =
            FILES.iter().map(|file| self.table.held(ino(*file)).iter().map(row).collect()).collect();
        let mut waits: Vec<_> = self.waits.iter().flatten().collect();
        waits.sort_by_key(|(.., number)| *number);
        let waits: Vec<_> = waits.into_iter().map(|(file, lock, _)| (*file, row(lock))).collect();
        (held, waits, self.wrong)
    }

    fn waiting(&self, owner: u64) -> Option<&(u64, Lock, u64)> {
        self.waits[owner as usize].as_ref()
    }

    /// Owners whose locks stand in the way.
    fn blockers(&self, file: u64, wanted: &Lock) -> BTreeSet<u64> {
        let held = self.table.held(ino(file)).iter();
        held.filter(|lock| conflict(lock, wanted)).map(|lock| lock.owner.id).collect()
    }

    /// Whether somebody waits, over others, for itself, with `more` waiting as well.
    fn has_circle(&self, more: Option<(u64, Lock)>) -> bool {
        let waits: Vec<(u64, Lock)> =
            self.waits.iter().flatten().map(|(file, lock, _)| (*file, *lock)).chain(more).collect();
        let next = |owner: u64| -> BTreeSet<u64> {
            let its = waits.iter().filter(|(_, lock)| lock.owner.id == owner);
            its.flat_map(|(file, lock)| self.blockers(*file, lock)).collect()
        };
        (0..OWNERS).any(|start| {
            let mut reached = next(start);
            for _ in 0..OWNERS {
                reached =
                    reached.iter().flat_map(|owner| next(*owner)).chain(reached.iter().copied()).collect();
            }
            reached.contains(&start)
        })
    }

    fn told(&mut self, ready: Vec<Ticket>, bug: Bug) {
        for Ticket(number) in ready {
            let waiter = self.waits.iter().position(|w| w.is_some_and(|(.., n)| n == number));
            let Some(waiter) = waiter else {
                self.wrong = Some("told who does not wait");
                continue;
            };
            if let Some((file, lock, _)) = self.waits[waiter]
                && !self.has(file, &lock)
            {
                self.wrong = Some("told that it has what it has not");
            }
            if bug != Bug::LoseReady {
                self.waits[waiter] = None;
            }
        }
    }

    /// Whether an owner has a lock of this kind on each byte.
    fn has(&self, file: u64, wanted: &Lock) -> bool {
        let mine = |byte: u64| {
            self.table.held(ino(file)).iter().any(|lock| {
                lock.owner == wanted.owner
                    && lock.kind == wanted.kind
                    && (lock.range.start..=lock.range.end).contains(&byte)
            })
        };
        (wanted.range.start..=wanted.range.end).all(mine)
    }

    fn take(&mut self, file: u64, lock: Lock, bug: Bug) {
        let circle = self.has_circle(Some((file, lock)));
        let free = self.blockers(file, &lock).is_empty();
        let number = self.next;
        self.next += 1;
        match self.table.set_wait(Ticket(number), ino(file), lock) {
            Ok((Waited::Taken, ready)) => {
                if !free || !self.has(file, &lock) {
                    self.wrong = Some("taken though it was not free, or not taken");
                }
                self.told(ready, bug);
            }
            Ok((Waited::Waiting, ready)) => {
                if free || circle || !ready.is_empty() {
                    self.wrong = Some("waits though it was free, or would wait for ever");
                }
                self.waits[lock.owner.id as usize] = Some((file, lock, number));
            }
            Err(LockError::Deadlock) if bug == Bug::WaitInCircle => {
                self.waits[lock.owner.id as usize] = Some((file, lock, number));
            }
            Err(LockError::Deadlock) if circle => {}
            Err(_) => self.wrong = Some("refused without a reason"),
        }
    }
}

impl PartialEq for World {
    fn eq(&self, other: &World) -> bool {
        self.essence() == other.essence()
    }
}

impl Hash for World {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.essence().hash(state);
    }
}

fn ino(file: u64) -> Ino {
    Ino::new(file).unwrap()
}

/// Owners 0 and 1 are programs of one guest.
fn owner(id: u64) -> Owner {
    Owner { session: SessionId(id / 2), id }
}

fn lock(id: u64, (start, end): (u64, u64), kind: LockKind) -> Lock {
    Lock { owner: owner(id), pid: 1, range: LockRange { start, end }, kind }
}

fn conflict(a: &Lock, b: &Lock) -> bool {
    let overlap = a.range.start <= b.range.end && b.range.start <= a.range.end;
    a.owner != b.owner && overlap && (a.kind == LockKind::Write || b.kind == LockKind::Write)
}

struct Rules {
    bug: Bug,
    /// Files in use.
    files: usize,
}

impl Model for Rules {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World { table: LockTable::new(), waits: [None; OWNERS as usize], next: 1, wrong: None }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        for owner in 0..OWNERS {
            if world.waiting(owner).is_some() {
                actions.push(Action::GiveUp { owner });
                continue;
            }
            for &file in &FILES[..self.files] {
                for range in RANGES {
                    actions.extend([false, true].map(|write| Action::Take { owner, file, range, write }));
                }
                actions.push(Action::Release { owner, file, range: RANGES[0] });
                actions.push(Action::Close { owner, file });
            }
        }
        actions.extend((0..=owner(OWNERS - 1).session.0).map(|session| Action::Gone { session }));
    }

    fn next_state(&self, before: &World, action: Action) -> Option<World> {
        let mut world = before.clone();
        match action {
            Action::Take { owner, file, range, write } => {
                let kind = if write { LockKind::Write } else { LockKind::Read };
                world.take(file, lock(owner, range, kind), self.bug);
            }
            Action::Release { owner, file, range } => {
                let ready = world.table.set(ino(file), lock(owner, range, LockKind::Unlock)).unwrap();
                world.told(ready, self.bug);
            }
            Action::Close { owner: id, file } => {
                let ready = world.table.close(ino(file), owner(id));
                world.told(ready, self.bug);
            }
            Action::GiveUp { owner } => {
                let (file, _, number) = world.waits[owner as usize].take()?;
                if !world.table.cancel(ino(file), Ticket(number)) && self.bug == Bug::None {
                    world.wrong = Some("gave up what it did not wait for");
                }
            }
            Action::Gone { session } => {
                for (id, waits) in world.waits.iter_mut().enumerate() {
                    if owner(id as u64).session.0 == session {
                        *waits = None;
                    }
                }
                let ready = world.table.drop_session(SessionId(session));
                world.told(ready, self.bug);
                let left = FILES.iter().flat_map(|file| world.table.held(ino(*file)));
                if left.into_iter().any(|lock| lock.owner.session.0 == session) {
                    world.wrong = Some("a session that is gone holds a lock");
                }
            }
        }
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Rules>> {
        vec![
            Property::always("no two locks conflict", |_, world: &World| {
                FILES.iter().all(|file| {
                    let held = world.table.held(ino(*file));
                    held.iter().all(|a| held.iter().all(|b| !conflict(a, b)))
                })
            }),
            Property::always("nobody waits for nothing", |_, world: &World| {
                world.waits.iter().flatten().all(|(file, lock, _)| !world.blockers(*file, lock).is_empty())
            }),
            Property::always("nobody waits for itself", |_, world: &World| !world.has_circle(None)),
            Property::always("every answer is true", |_, world: &World| world.wrong.is_none()),
            Property::sometimes("two wait", |_, world: &World| world.waits.iter().flatten().count() == 2),
        ]
    }
}

#[test]
fn one_file_in_every_order() {
    let checker = Rules { bug: Bug::None, files: 1 }.checker().spawn_bfs().join();
    println!("{} states, {} distinct", checker.state_count(), checker.unique_state_count());
    checker.assert_properties();
}

#[test]
fn circles_over_two_files_in_every_order_of_six_steps() {
    let checker = Rules { bug: Bug::None, files: 2 }.checker().target_max_depth(6).spawn_bfs().join();
    println!("{} states, {} distinct", checker.state_count(), checker.unique_state_count());
    checker.assert_properties();
}

#[test]
fn planted_mistakes_are_found() {
    for bug in [Bug::LoseReady, Bug::WaitInCircle] {
        let checker =
            Rules { bug, files: 2 }.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
        let found = checker.discoveries().into_keys().any(|name| name != "two wait");
        assert!(found, "{bug:?} was not noticed");
    }
}
