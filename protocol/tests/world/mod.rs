//! A world for the model checker: the real machines of gateway and agents, joined by queues that keep
//! order, around one inode that holds a counter.
//!
//! A change adds one; its *position* is the counter after it. A look must see at least the position of
//! every change that had returned when the look began: that is the promise of coherence, and lost
//! changes break it as well. Everything that can happen in another order is an action of its own: messages
//! arriving, the gateway running what it may run, a kernel's invalidation beginning and ending.
#![allow(dead_code, reason = "each model uses a part")]

mod agent;
mod gateway;

use std::collections::VecDeque;
use std::time::Duration;

use mooring_protocol::lease::Ticket;
use mooring_protocol::types::{Ino, LeaseMode};
use stateright::{Model, Property};

pub use agent::Agent;
pub use gateway::Gateway;

pub const INO: Ino = Ino::ROOT;
pub const NOW: Duration = Duration::ZERO;
pub const LATER: Duration = Duration::from_secs(100);
/// Tickets of the door without a session (S3) begin here.
pub const DOOR: u64 = 1000;

/// A rule left out on purpose: the checker must notice each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bug {
    None,
    /// The agent acknowledges once it has published, before the kernel is empty.
    AckBeforeInvalidate,
    /// Reads answered while the kernel is being emptied are not dropped again.
    ForgetReads,
    /// A reader at the door does not ask writers for what they have.
    NoBarrier,
    /// After a restart leases are granted at once.
    NoGrace,
    /// An eviction is not persisted.
    ForgetEviction,
    /// Agents do not reclaim after a restart, and think they still hold everything.
    KeepWithoutReclaim,
    /// A session that is being recalled parks its reads until the recall is over.
    ParkReads,
    /// A request waits on for the lease it asked for, although another has brought one meanwhile.
    LeaveWaiting,
    /// For room, the gateway forgets a lease and does not ask for it back.
    ShedUnasked,
}

/// What the world may do, and how often.
#[derive(Debug, Clone)]
pub struct Rules {
    pub bug: Bug,
    pub agents: usize,
    /// Looks and changes each agent's programs make.
    pub looks: u8,
    pub changes: u8,
    /// Without a lease, may an agent send a change as it is, instead of asking for the lease first?
    pub direct: bool,
    pub door_looks: u8,
    pub door_changes: u8,
    pub disconnects: u8,
    pub restarts: u8,
    pub evictions: u8,
    /// Leases recalled for room, whoever holds them.
    pub sheds: u8,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules {
            bug: Bug::None,
            agents: 2,
            looks: 1,
            changes: 1,
            direct: false,
            door_looks: 0,
            door_changes: 0,
            disconnects: 0,
            restarts: 0,
            evictions: 0,
            sheds: 0,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Request {
    Acquire(LeaseMode),
    Look,
    Change,
    /// Handing over: the counter is now this.
    Flush(u8),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Up {
    Request { id: u64, request: Request },
    Recalled { seq: u64 },
    Barrier { id: u64 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Down {
    /// The counter as of the answer, and a grant.
    Reply {
        id: u64,
        value: u8,
        grant: Option<(LeaseMode, u64)>,
    },
    Recall {
        seq: u64,
        to: LeaseMode,
    },
    Barrier {
        id: u64,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct World {
    pub gateway: Gateway,
    pub agents: Vec<Agent>,
    pub up: Vec<VecDeque<Up>>,
    pub down: Vec<VecDeque<Down>>,
    pub connected: Vec<bool>,
    /// Position of the newest change that has returned.
    pub completed: u8,
    pub door: Vec<(Ticket, u8)>,
    pub door_looks: u8,
    pub door_changes: u8,
    pub disconnects: u8,
    pub restarts: u8,
    pub evictions: u8,
    pub sheds: u8,
    pub wrong: Option<&'static str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Action {
    Look(usize),
    Change(usize),
    AnswerLook(usize),
    ArriveUp(usize),
    ArriveDown(usize),
    Step(usize),
    KernelEmpty(usize),
    KernelReturns(usize),
    Run(Ticket),
    DoorLook,
    DoorChange,
    Disconnect(usize),
    Connect(usize),
    Evict(usize),
    Shed(usize),
    Restart,
    EndGrace,
}

impl Model for Rules {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let agents = (0..self.agents).map(|_| Agent::new(self.looks, self.changes)).collect();
        vec![World {
            gateway: Gateway::new(self.agents),
            agents,
            up: vec![VecDeque::new(); self.agents],
            down: vec![VecDeque::new(); self.agents],
            connected: vec![true; self.agents],
            completed: 0,
            door: Vec::new(),
            door_looks: self.door_looks,
            door_changes: self.door_changes,
            disconnects: self.disconnects,
            restarts: self.restarts,
            evictions: self.evictions,
            sheds: self.sheds,
            wrong: None,
        }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if world.wrong.is_some() {
            return;
        }
        world.progress(actions);
        for (a, agent) in world.agents.iter().enumerate().filter(|(_, agent)| !agent.over) {
            if agent.looks > 0 && agent.look.is_none() {
                actions.push(Action::Look(a));
            }
            if agent.changes > 0 && agent.change.is_none() {
                actions.push(Action::Change(a));
            }
            if world.disconnects > 0 && world.connected[a] {
                actions.push(Action::Disconnect(a));
            }
            if world.evictions > 0 && world.gateway.is_overdue(a) {
                actions.push(Action::Evict(a));
            }
            if world.sheds > 0 {
                actions.push(Action::Shed(a));
            }
        }
        if world.door_looks > 0 {
            actions.push(Action::DoorLook);
        }
        if world.door_changes > 0 {
            actions.push(Action::DoorChange);
        }
        if world.restarts > 0 {
            actions.push(Action::Restart);
        }
    }

    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        let mut world = last.clone();
        world.act(self, action);
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("every look sees every change that has returned", |_, world: &World| {
                world.wrong.is_none()
            }),
            Property::always("a write lease is held alone", |_, world: &World| world.is_exclusive()),
            Property::always("nobody waits for ever", |_, world: &World| !world.is_stuck()),
            Property::sometimes("everything is done", |_, world: &World| {
                world.agents.iter().all(|a| a.looks + a.changes == 0 && a.is_quiet()) && world.door.is_empty()
            }),
        ]
    }
}

impl World {
    /// What must happen by itself, without new requests or failures.
    fn progress(&self, actions: &mut Vec<Action>) {
        for (a, agent) in self.agents.iter().enumerate() {
            if agent.over {
                continue;
            }
            if !self.connected[a] {
                actions.push(Action::Connect(a));
            }
            if !self.up[a].is_empty() {
                actions.push(Action::ArriveUp(a));
            }
            if !self.down[a].is_empty() {
                actions.push(Action::ArriveDown(a));
            }
            agent.progress(a, actions);
        }
        actions.extend(self.gateway.runnable().map(Action::Run));
        if self.gateway.may_end_grace() {
            actions.push(Action::EndGrace);
        }
    }

    fn act(&mut self, rules: &Rules, action: Action) {
        match action {
            Action::Look(a) => self.look(rules, a),
            Action::Change(a) => self.change(rules, a),
            Action::AnswerLook(a) => {
                let value = self.agents[a].value;
                self.look_done(rules, a, value);
            }
            Action::ArriveUp(a) => {
                if let Some(up) = self.up[a].pop_front() {
                    self.gateway_hears(a, up);
                }
            }
            Action::ArriveDown(a) => {
                if let Some(down) = self.down[a].pop_front() {
                    self.agent_hears(rules, a, down);
                }
            }
            Action::Step(a) => self.step(rules, a),
            Action::KernelEmpty(a) => self.agents[a].kernel_empties(),
            Action::KernelReturns(a) => {
                self.agents[a].kernel_returns();
                self.begin_again(rules, a);
            }
            Action::Run(ticket) => self.run(ticket),
            Action::DoorLook => self.door_look(rules),
            Action::DoorChange => self.door_change(),
            Action::Disconnect(a) => {
                self.disconnects -= 1;
                self.disconnect(a);
            }
            Action::Connect(a) => self.connect(rules, a),
            Action::Evict(a) => self.evict(rules, a),
            Action::Shed(a) => self.shed(rules, a),
            Action::Restart => self.restart(rules),
            Action::EndGrace => self.end_grace(),
        }
    }

    pub fn disconnect(&mut self, a: usize) {
        self.connected[a] = false;
        self.up[a].clear();
        self.down[a].clear();
        self.agents[a].link.disconnected();
    }

    pub fn saw(&mut self, value: u8, floor: u8) {
        if value < floor {
            self.wrong = Some("stale");
        }
    }

    fn is_exclusive(&self) -> bool {
        let modes: Vec<LeaseMode> = self.agents.iter().filter(|a| !a.over).map(|a| a.holder.mode()).collect();
        let writers = modes.iter().filter(|m| **m == LeaseMode::Write).count();
        let holders = modes.iter().filter(|m| **m != LeaseMode::None).count();
        writers == 0 || holders == 1
    }

    fn is_stuck(&self) -> bool {
        let mut actions = Vec::new();
        self.progress(&mut actions);
        let waiting = !self.door.is_empty() || self.agents.iter().any(|a| !a.over && !a.is_quiet());
        actions.is_empty() && waiting && self.wrong.is_none()
    }
}
