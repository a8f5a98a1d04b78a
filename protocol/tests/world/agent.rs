//! An agent and its guest's kernel.

use mooring_protocol::holder::{Holder, OnRecall, Op, Range, Step, Use};
use mooring_protocol::session::Link;
use mooring_protocol::types::LeaseMode;

use super::{Action, Bug, Down, Request, Rules, Up, World};

const PAGE: Op = Op::Look(Some(Range { start: 0, end: 4096 }));

/// A program's request that is under way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pending {
    pub how: Use,
    /// What a look must see.
    pub floor: u8,
    /// Request sent for it.
    pub id: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Agent {
    pub holder: Holder,
    pub link: Link<Request>,
    /// The counter in the agent's cache; means something under a lease.
    pub value: u8,
    pub dirty: bool,
    /// The counter in the kernel's page cache.
    pub kernel: Option<u8>,
    pub look: Option<Pending>,
    pub change: Option<Pending>,
    pub looks: u8,
    pub changes: u8,
    /// An invalidation handed to the kernel, and whether the page is out already.
    pub emptying: Option<(Step, bool)>,
    /// A recall waits for what was handed over to be answered.
    pub flushing: bool,
    /// Hand-overs not answered: never more than one, since two of one inode could overtake each other.
    pub handed_over: u8,
    /// Barriers that wait for that.
    pub barriers: Vec<u64>,
    /// Evicted, and what its programs do no longer counts.
    pub over: bool,
}

impl Agent {
    pub fn new(looks: u8, changes: u8) -> Agent {
        let mut link = Link::new();
        link.welcomed(mooring_protocol::message::Resumed::Fresh);
        Agent {
            holder: Holder::new(),
            link,
            value: 0,
            dirty: false,
            kernel: None,
            look: None,
            change: None,
            looks,
            changes,
            emptying: None,
            flushing: false,
            handed_over: 0,
            barriers: Vec::new(),
            over: false,
        }
    }

    fn is_handing_over(&self) -> bool {
        self.handed_over > 0
    }

    pub fn is_quiet(&self) -> bool {
        self.look.is_none() && self.change.is_none()
    }

    pub fn progress(&self, a: usize, actions: &mut Vec<Action>) {
        if self.look.as_ref().is_some_and(|l| l.how == Use::Lease) {
            actions.push(Action::AnswerLook(a));
        }
        match &self.emptying {
            // The kernel waits for a page whose read is pending.
            Some((_, false)) if self.look.is_none() => actions.push(Action::KernelEmpty(a)),
            Some((_, false)) => {}
            Some((_, true)) => actions.push(Action::KernelReturns(a)),
            None => {
                if !matches!(self.holder.clone().next_step(), Step::Idle | Step::Wait) {
                    actions.push(Action::Step(a));
                }
            }
        }
    }

    pub fn kernel_empties(&mut self) {
        self.kernel = None;
        if let Some((_, out)) = &mut self.emptying {
            *out = true;
        }
    }

    pub fn kernel_returns(&mut self) {
        if let Some((step, _)) = self.emptying.take() {
            self.holder.done(&step);
        }
    }
}

impl World {
    fn send(&mut self, a: usize, up: Up) {
        if self.connected[a] {
            self.up[a].push_back(up);
        }
    }

    pub fn submit(&mut self, a: usize, request: Request) -> Option<u64> {
        let (id, now) = self.agents[a].link.submit(request).ok()?;
        if now {
            self.send(a, Up::Request { id, request });
        }
        Some(id)
    }

    pub fn look(&mut self, rules: &Rules, a: usize) {
        self.agents[a].looks -= 1;
        let floor = self.completed;
        match self.agents[a].kernel {
            Some(value) => self.saw(value, floor),
            None => self.begin_look(rules, a, floor),
        }
    }

    fn begin_look(&mut self, rules: &Rules, a: usize, floor: u8) {
        let mut how = self.agents[a].holder.begin(PAGE);
        if rules.bug == Bug::ParkReads && how == Use::Without {
            self.agents[a].holder.end(Op::Look(None), how);
            how = Use::Hold;
        }
        let id = match how {
            Use::Acquire => self.submit(a, Request::Acquire(LeaseMode::Read)),
            Use::Without => self.submit(a, Request::Look),
            Use::Lease | Use::Hold => None,
        };
        self.agents[a].look = Some(Pending { how, floor, id });
    }

    /// The agent answers the kernel, which keeps the page.
    pub fn look_done(&mut self, rules: &Rules, a: usize, value: u8) {
        let Some(look) = self.agents[a].look.take() else { return };
        self.agents[a].kernel = Some(value);
        let op = if rules.bug == Bug::ForgetReads { Op::Look(None) } else { PAGE };
        self.agents[a].holder.end(op, look.how);
        self.saw(value, look.floor);
    }

    pub fn change(&mut self, rules: &Rules, a: usize) {
        self.agents[a].changes -= 1;
        self.begin_change(rules, a);
    }

    fn begin_change(&mut self, rules: &Rules, a: usize) {
        let how = self.agents[a].holder.begin(Op::Change);
        let id = match how {
            Use::Lease => {
                self.agents[a].holder.end(Op::Change, how);
                let agent = &mut self.agents[a];
                agent.value += 1;
                agent.dirty = true;
                agent.kernel = agent.kernel.map(|_| agent.value);
                agent.change = None;
                self.completed = self.completed.max(agent.value);
                return;
            }
            Use::Acquire if !rules.direct => self.submit(a, Request::Acquire(LeaseMode::Write)),
            Use::Acquire | Use::Without => self.submit(a, Request::Change),
            Use::Hold => None,
        };
        self.agents[a].change = Some(Pending { how, floor: 0, id });
    }

    pub fn begin_again(&mut self, rules: &Rules, a: usize) {
        if let Some(look) = self.agents[a].look.take_if(|l| l.how == Use::Hold) {
            self.begin_look(rules, a, look.floor);
        }
        if self.agents[a].change.take_if(|c| c.how == Use::Hold).is_some() {
            self.begin_change(rules, a);
        }
    }

    /// A grant has come: nobody of this inode stays behind in a wait for a lease.
    fn waiting_begin_again(&mut self, rules: &Rules, a: usize, answered: u64) {
        let waits = |p: &mut Pending| p.how == Use::Acquire && p.id != Some(answered);
        if rules.bug == Bug::LeaveWaiting {
            return;
        }
        if let Some(look) = self.agents[a].look.take_if(waits) {
            self.begin_look(rules, a, look.floor);
        }
        if !rules.direct && self.agents[a].change.take_if(waits).is_some() {
            self.begin_change(rules, a);
        }
    }

    pub fn step(&mut self, rules: &Rules, a: usize) {
        let step = self.agents[a].holder.next_step();
        match &step {
            Step::Idle | Step::Wait => return,
            Step::Invalidate(_) => {
                self.agents[a].emptying = Some((step, false));
                return;
            }
            Step::Flush => {
                if !self.agents[a].is_handing_over() {
                    self.flush(a);
                }
                if self.agents[a].is_handing_over() {
                    self.agents[a].flushing = true;
                    return;
                }
            }
            Step::Publish if rules.bug == Bug::AckBeforeInvalidate => {
                let seq = self.agents[a].holder.seq();
                self.send(a, Up::Recalled { seq });
            }
            Step::Publish => {}
            Step::Finish { ack } => {
                if let Some(seq) = *ack {
                    self.send(a, Up::Recalled { seq });
                }
            }
        }
        self.agents[a].holder.done(&step);
        self.begin_again(rules, a);
    }

    fn flush(&mut self, a: usize) {
        if std::mem::take(&mut self.agents[a].dirty) {
            let value = self.agents[a].value;
            if self.submit(a, Request::Flush(value)).is_some() {
                self.agents[a].handed_over += 1;
            }
        }
    }

    pub fn agent_hears(&mut self, rules: &Rules, a: usize, down: Down) {
        match down {
            Down::Recall { seq, to } => {
                if self.agents[a].holder.recall(seq, to) == OnRecall::AckNow {
                    self.send(a, Up::Recalled { seq });
                }
            }
            Down::Barrier { id } if self.agents[a].is_handing_over() => self.agents[a].barriers.push(id),
            Down::Barrier { id } => {
                self.flush(a);
                self.send(a, Up::Barrier { id });
            }
            Down::Reply { id, value, grant } => self.reply(rules, a, id, value, grant),
        }
    }

    fn reply(&mut self, rules: &Rules, a: usize, id: u64, value: u8, grant: Option<(LeaseMode, u64)>) {
        let agent = &mut self.agents[a];
        let Some(request) = agent.link.answered(id) else { return };
        if let Some((mode, seq)) = grant {
            let had = agent.holder.mode();
            if agent.holder.grant(mode, seq) {
                if had == LeaseMode::None {
                    agent.value = value;
                }
                self.waiting_begin_again(rules, a, id);
            }
        }
        let agent = &mut self.agents[a];
        match request {
            Request::Flush(_) => {
                agent.handed_over -= 1;
                for id in std::mem::take(&mut agent.barriers) {
                    self.flush(a);
                    self.send(a, Up::Barrier { id });
                }
                let agent = &mut self.agents[a];
                if agent.flushing && agent.handed_over == 0 {
                    self.flush(a);
                }
                let agent = &mut self.agents[a];
                if agent.handed_over == 0 && std::mem::take(&mut agent.flushing) {
                    agent.holder.done(&Step::Flush);
                    self.begin_again(rules, a);
                }
            }
            Request::Look => self.look_done(rules, a, value),
            Request::Change => {
                agent.change = None;
                agent.value = agent.value.max(value);
                // The range of a direct change is dropped before it is answered.
                agent.kernel = None;
                self.completed = self.completed.max(value);
            }
            Request::Acquire(_) => {
                if let Some(look) = agent.look.take_if(|l| l.id == Some(id)) {
                    self.begin_look(rules, a, look.floor);
                } else if self.agents[a].change.take_if(|c| c.id == Some(id)).is_some() {
                    self.begin_change(rules, a);
                }
            }
        }
    }
}
