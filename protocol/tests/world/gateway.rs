//! The gateway: table, sessions, and a store that survives it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use mooring_protocol::lease::{Effects, Go, LeaseTable, Tell, Ticket};
use mooring_protocol::message::Resumed;
use mooring_protocol::session::{Admit, Grace, Session, SessionId, SessionRecord};
use mooring_protocol::status::Status;
use mooring_protocol::types::{LeaseGrant, LeaseMode};

use super::{Bug, DOOR, Down, INO, LATER, NOW, Request, Rules, Up, World};

/// An operation at the gateway, and what it may do.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Work {
    pub who: Option<(usize, u64)>,
    pub request: Request,
    pub go: Option<Granted>,
}

type Granted = Option<(LeaseMode, u64)>;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Gateway {
    pub table: LeaseTable,
    pub sessions: Vec<Session>,
    /// What is persisted of them.
    pub records: Vec<SessionRecord>,
    pub work: BTreeMap<Ticket, Work>,
    pub grace: Option<Grace>,
    /// The counter as stored: survives a restart.
    pub store: u8,
    pub doors: u64,
}

fn sid(a: usize) -> SessionId {
    SessionId(a as u64)
}

fn ticket(a: usize, id: u64) -> Ticket {
    Ticket(a as u64 * 100 + id)
}

impl Gateway {
    pub fn new(agents: usize) -> Gateway {
        let mut table = LeaseTable::new();
        let mut sessions = Vec::new();
        for a in 0..agents {
            table.join(sid(a), mooring_protocol::caps::RECALL_DEADLINE);
            let mut session = Session::new(sid(a), vec![a as u8]);
            session.connect(&[a as u8], 0);
            sessions.push(session);
        }
        let records = sessions.iter().map(Session::record).collect();
        let (work, grace) = (BTreeMap::new(), None);
        Gateway { table, sessions, records, work, grace, store: 0, doors: 0 }
    }

    pub fn is_overdue(&self, a: usize) -> bool {
        let missing = self.grace.as_ref().is_some_and(|g| g.missing().contains(&sid(a)));
        missing || self.table.overdue(LATER).contains(&sid(a))
    }

    pub fn runnable(&self) -> impl Iterator<Item = Ticket> + '_ {
        self.work.iter().filter(|(_, w)| w.go.is_some()).map(|(t, _)| *t)
    }

    pub fn may_end_grace(&self) -> bool {
        self.grace.as_ref().is_some_and(|g| g.is_over(NOW))
    }
}

impl World {
    pub fn gateway_hears(&mut self, a: usize, up: Up) {
        let mut fx = Effects::default();
        match up {
            Up::Recalled { seq } => self.gateway.table.recalled(sid(a), INO, seq, NOW, &mut fx),
            Up::Barrier { id } => self.gateway.table.barrier_done(sid(a), id, NOW, &mut fx),
            Up::Request { id, request } => self.request(a, id, request, &mut fx),
        }
        self.effect(fx);
    }

    fn request(&mut self, a: usize, id: u64, request: Request, fx: &mut Effects) {
        let changes = matches!(request, Request::Change | Request::Flush(_));
        let epoch = self.gateway.sessions[a].epoch();
        match self.gateway.sessions[a].admit(epoch, id, changes) {
            Admit::Run => {
                let work = Work { who: Some((a, id)), request, go: None };
                self.gateway.work.insert(ticket(a, id), work);
                self.begin(ticket(a, id), Some(sid(a)), request, fx);
            }
            Admit::Replay(_, body) => self.tell(a, Down::Reply { id, value: body[0], grant: None }),
            // The reply is lost: what it would say now is at least what it said then.
            Admit::Applied => self.tell(a, Down::Reply { id, value: self.gateway.store, grant: None }),
            Admit::Running | Admit::Refuse(_) => {}
        }
    }

    fn begin(&mut self, ticket: Ticket, who: Option<SessionId>, request: Request, fx: &mut Effects) {
        let table = &mut self.gateway.table;
        let queued = match request {
            Request::Acquire(mode) => match who {
                Some(session) => table.acquire(ticket, session, INO, mode, NOW, fx),
                None => Ok(()),
            },
            Request::Change | Request::Flush(_) => table.write(ticket, who, &[INO], NOW, fx),
            Request::Look => {
                table.read(ticket, who, Some(INO), NOW, fx);
                Ok(())
            }
        };
        if queued.is_err() {
            self.wrong = Some("refused although far from any bound");
        }
    }

    fn effect(&mut self, fx: Effects) {
        for (session, tell) in fx.tell {
            self.tell(session.0 as usize, down(tell));
        }
        for (ticket, go) in fx.ready {
            let granted = match go {
                Go::Run => None,
                Go::Granted(grant) => Some((grant.mode, grant.seq)),
                Go::Retry => {
                    self.wrong = Some("retry with a single inode");
                    return;
                }
            };
            if let Some(work) = self.gateway.work.get_mut(&ticket) {
                work.go = Some(granted);
            }
        }
    }

    fn tell(&mut self, a: usize, down: Down) {
        if self.connected[a] {
            self.down[a].push_back(down);
        }
    }

    /// Carries out what may run: the store changes, the table is told, the reply is queued.
    pub fn run(&mut self, ticket: Ticket) {
        let Some(Work { who, request, go: Some(granted) }) = self.gateway.work.remove(&ticket) else {
            return;
        };
        let mut fx = Effects::default();
        match request {
            Request::Change => self.gateway.store += 1,
            Request::Flush(value) => self.gateway.store = value,
            Request::Look | Request::Acquire(_) => {}
        }
        let value = self.gateway.store;
        if let Some((a, id)) = who {
            self.gateway.sessions[a].finish(id, Status::Ok, Bytes::from(vec![value]));
            // The applied ids travel in the change's own commit.
            if !self.gateway.records[a].evicted {
                self.gateway.records[a].applied = self.gateway.sessions[a].record().applied;
            }
            self.tell(a, Down::Reply { id, value, grant: granted });
            if let Some((mode, seq)) = granted {
                self.gateway.table.announced(sid(a), LeaseGrant { ino: INO, mode, seq }, NOW, &mut fx);
            }
        } else {
            self.door_done(ticket, request, value);
        }
        if matches!(request, Request::Change | Request::Flush(_)) {
            self.gateway.table.finish(ticket, NOW, &mut fx);
        }
        self.effect(fx);
    }

    fn door_done(&mut self, ticket: Ticket, request: Request, value: u8) {
        let Some(at) = self.door.iter().position(|(t, _)| *t == ticket) else { return };
        let (_, floor) = self.door.remove(at);
        if request == Request::Change {
            self.completed = self.completed.max(value);
        } else {
            self.saw(value, floor);
        }
    }

    fn door_begin(&mut self, request: Request) -> Ticket {
        let ticket = Ticket(DOOR + self.gateway.doors);
        self.gateway.doors += 1;
        self.door.push((ticket, self.completed));
        self.gateway.work.insert(ticket, Work { who: None, request, go: None });
        ticket
    }

    pub fn door_look(&mut self, rules: &Rules) {
        self.door_looks -= 1;
        let ticket = self.door_begin(Request::Look);
        let mut fx = Effects::default();
        if rules.bug == Bug::NoBarrier {
            fx.ready.push((ticket, Go::Run));
        } else {
            self.begin(ticket, None, Request::Look, &mut fx);
        }
        self.effect(fx);
    }

    pub fn door_change(&mut self) {
        self.door_changes -= 1;
        let ticket = self.door_begin(Request::Change);
        let mut fx = Effects::default();
        self.begin(ticket, None, Request::Change, &mut fx);
        self.effect(fx);
    }

    /// A new connection: greeting, reclaim if need be, and everything unanswered again.
    pub fn connect(&mut self, rules: &Rules, a: usize) {
        let known = self.gateway.sessions[a].epoch();
        let resumed = self.gateway.sessions[a].connect(&[a as u8], known);
        self.gateway.records[a].epoch = self.gateway.sessions[a].epoch();
        self.connected[a] = true;
        let mut again = self.agents[a].link.welcomed(resumed);
        match resumed {
            Resumed::Lost => return self.lose(a),
            Resumed::Reclaim => {
                if rules.bug != Bug::KeepWithoutReclaim {
                    self.reclaim(a);
                }
                self.gateway.sessions[a].reclaimed();
                if let Some(grace) = &mut self.gateway.grace {
                    grace.done(sid(a));
                }
                again = self.agents[a].link.reclaimed();
            }
            Resumed::Kept | Resumed::Fresh => {
                for tell in self.gateway.table.unanswered(sid(a), NOW) {
                    self.tell(a, down(tell));
                }
            }
        }
        self.up[a].extend(again.into_iter().map(|(id, request)| Up::Request { id, request }));
    }

    fn reclaim(&mut self, a: usize) {
        let holder = &mut self.agents[a].holder;
        if holder.mode() == LeaseMode::None {
            return;
        }
        let claim = LeaseGrant { ino: INO, mode: holder.mode(), seq: holder.seq() };
        let kept = self.gateway.table.reclaim(sid(a), &[claim]);
        holder.reclaimed(kept.first().map(|g| g.seq));
        if kept.is_empty() && self.gateway.grace.is_some() {
            self.wrong = Some("an honest claim was refused");
        }
    }

    /// Evicted: what it had not handed over is refused, and its programs are told so.
    fn lose(&mut self, a: usize) {
        self.agents[a].over = true;
    }

    pub fn evict(&mut self, rules: &Rules, a: usize) {
        self.evictions -= 1;
        self.gateway.sessions[a].evict();
        if rules.bug != Bug::ForgetEviction {
            self.gateway.records[a].evicted = true;
        }
        if let Some(grace) = &mut self.gateway.grace {
            grace.done(sid(a));
        }
        let mut fx = Effects::default();
        let table = &mut self.gateway.table;
        table.drop_session(sid(a), NOW, &mut fx);
        self.gateway.work.retain(|_, w| !(w.who.is_some_and(|(s, _)| s == a) && w.go.is_none()));
        // Its changes that had returned but are not stored are refused at its next fsync: they do not count.
        let kept = self.gateway.store;
        self.completed = self.completed.min(kept);
        for (_, floor) in &mut self.door {
            *floor = (*floor).min(kept);
        }
        for agent in &mut self.agents {
            if let Some(look) = &mut agent.look {
                look.floor = look.floor.min(kept);
            }
        }
        self.disconnect(a);
        if rules.bug != Bug::ForgetEviction {
            self.lose(a);
        }
        self.effect(fx);
    }

    /// The gateway wants room: a lease that is not in use is recalled, although nobody waits for it.
    pub fn shed(&mut self, rules: &Rules, a: usize) {
        self.sheds -= 1;
        let mut fx = Effects::default();
        if rules.bug == Bug::ShedUnasked {
            for held in self.gateway.table.leases_of(sid(a)) {
                self.gateway.table.returned(sid(a), INO, held.seq, NOW, &mut fx);
            }
        } else {
            self.gateway.table.shed(sid(a), INO, NOW, &mut fx);
        }
        self.effect(fx);
    }

    pub fn restart(&mut self, rules: &Rules) {
        self.restarts -= 1;
        let gateway = &mut self.gateway;
        gateway.work.clear();
        gateway.sessions = gateway.records.iter().map(|r| Session::from_record(r.clone(), NOW)).collect();
        let live: BTreeSet<SessionId> = gateway.records.iter().filter(|r| !r.evicted).map(|r| r.id).collect();
        gateway.grace = Some(Grace::new(live.iter().copied(), NOW));
        gateway.table = LeaseTable::recovering();
        for session in live {
            gateway.table.join(session, mooring_protocol::caps::RECALL_DEADLINE);
        }
        for a in 0..self.agents.len() {
            if !self.agents[a].over {
                self.disconnect(a);
            }
        }
        // The door's callers see their connection end.
        self.door.clear();
        if rules.bug == Bug::NoGrace {
            self.end_grace();
        }
    }

    pub fn end_grace(&mut self) {
        self.gateway.grace = None;
        let mut fx = Effects::default();
        self.gateway.table.end_grace(NOW, &mut fx);
        self.effect(fx);
    }
}

fn down(tell: Tell) -> Down {
    match tell {
        Tell::Recall { seq, to, .. } => Down::Recall { seq, to },
        Tell::Barrier { id, .. } => Down::Barrier { id },
    }
}
