//! One volume, kept coherent: every door's operation settles leases here before it reaches the store.
//!
//! ```text
//!   session ──► look / acquire / change ──► store ──► finish: grants and reply in one step
//!   S3      ──► barrier (reads), change (writes) ──► store
//! ```
//!
//! The rules live in [`LeaseTable`], a plain value. It stands under one mutex; under that mutex things are only decided
//! and put into queues, every wait and every call of the store happens outside. Grants are decided and the reply that
//! carries them is queued under the same lock under which recalls are queued, so a recall never overtakes its grant on
//! the stream.
//!
//! # Leases that ride on replies
//!
//! Which inode a lookup ends at is known only after the store has answered, and by then the answer may be old. So an
//! operation notes the volume's *clock* before it asks the store; every change moves the clock and leaves it as the
//! stamp of its inodes, when it begins and when it ends. A lease rides on the reply only where no stamp is newer than
//! the noted clock. Inodes share 4,096 stamps by hash: two that meet cost a grant now and then, never a stale answer,
//! and memory stays bounded however many files change.
//!
//! # Deadlines
//!
//! Nobody waits for a guest longer than its deadline, and only once: [`Coherent::watch`] evicts who does not answer.

pub mod grace;
mod held;
pub mod locks;
mod objects;
mod oneshot;
mod pass;
mod state;
mod sweep;
mod tree;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mooring_policy::ids::VolumeId;
use mooring_policy::time::Clock;
use mooring_protocol::caps;
use mooring_protocol::lease::{Effects, Go, LeaseError, Ticket};
use mooring_protocol::message::Notice;
use mooring_protocol::session::SessionId;
use mooring_protocol::status::Status;
use mooring_protocol::types::{Ino, LeaseGrant, LeaseMode};
use mooring_store::api::Objects;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::sync::oneshot as once;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::views::Views;
use locks::Locks;
pub use oneshot::OneShot;
pub use pass::Pass;
use pass::Queued;
use state::{State, slot};

/// How often a change that would close a circle of waiters is tried again when it cannot be refused any more.
const MAX_RETRIES: u32 = 64;

/// The way to a session behind one door. Called under the volume's lock: never blocks.
pub trait HolderLink: Send + Sync {
    /// Queues a notice. An error when its queue is full: the session does not answer at all.
    fn notify(&self, notice: Notice) -> Result<(), NoticesFull>;
    /// How long it may take to answer.
    fn patience(&self) -> Duration;
    /// Ends the session for good: persists that, and refuses what it sends from now on. Called without the lock.
    fn evict(&self, why: &str);
}

/// A session lets its notices pile up.
#[derive(Debug)]
pub struct NoticesFull;

/// Who asks, as far as leases are concerned: a session behind a door, whose own leases stay, or somebody who keeps
/// nothing (S3, an operator's command).
pub type Actor = Option<SessionId>;

/// How long a caller waits for others.
#[derive(Clone, Debug)]
pub struct Patience {
    /// Until then.
    pub until: Instant,
    /// Or until this is cancelled.
    pub cancel: CancellationToken,
}

impl Patience {
    /// As long as the longest deadline there is.
    pub fn longest() -> Patience {
        Patience { until: Instant::now() + caps::MAX_REQUEST_DEADLINE, cancel: CancellationToken::new() }
    }

    pub(crate) async fn wait<T>(&self, what: impl Future<Output = T>) -> Result<T, Status> {
        tokio::select! {
            biased;
            done = what => Ok(done),
            () = self.cancel.cancelled() => Err(Status::Interrupted),
            () = tokio::time::sleep_until(self.until) => Err(Status::TimedOut),
        }
    }
}

/// A volume with its leases and locks.
pub struct Coherent {
    id: VolumeId,
    inner: Arc<dyn Objects>,
    state: Mutex<State>,
    locks: Locks,
    views: Option<Arc<Views>>,
    time: Arc<dyn Clock>,
    /// A deadline was added, or somebody is to be evicted.
    due: Notify,
    leases_granted: AtomicU64,
}

/// A lease to be granted with a reply, if it is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    /// On this inode.
    pub ino: Ino,
    /// Of this kind.
    pub mode: LeaseMode,
}

impl Wish {
    /// To keep what was read.
    pub fn read(ino: Ino) -> Wish {
        Wish { ino, mode: LeaseMode::Read }
    }

    /// To change it locally.
    pub fn write(ino: Ino) -> Wish {
        Wish { ino, mode: LeaseMode::Write }
    }
}

impl Coherent {
    /// A volume on which a session may hold so many leases; `recovering` when sessions of before the start may still
    /// hold something of it.
    pub fn new(
        id: VolumeId,
        (inner, views): (Arc<dyn Objects>, Option<Arc<Views>>),
        time: Arc<dyn Clock>,
        max_leases: usize,
        recovering: bool,
    ) -> Arc<Coherent> {
        Arc::new(Coherent {
            id,
            inner,
            views,
            state: Mutex::new(State::new(max_leases, recovering)),
            locks: Locks::default(),
            time,
            due: Notify::new(),
            leases_granted: AtomicU64::new(0),
        })
    }

    /// The volume's id.
    pub fn id(&self) -> VolumeId {
        self.id
    }

    /// The store, for operations whose leases were settled.
    pub fn store(&self) -> &Arc<dyn Objects> {
        &self.inner
    }

    /// Its snapshots, where it can have some.
    pub fn views(&self) -> Option<&Arc<Views>> {
        self.views.as_ref()
    }

    /// fcntl locks.
    pub fn locks(&self) -> &Locks {
        &self.locks
    }

    /// Lets a session in.
    pub fn attach(&self, link: Arc<dyn HolderLink>) -> SessionId {
        let mut state = self.state.lock();
        let id = SessionId(state.next_holder);
        state.next_holder += 1;
        state.table.join(id, link.patience());
        state.links.insert(id, link);
        id
    }

    /// Forgets a session: its leases and locks are free, whoever waited for it goes on.
    pub fn detach(&self, holder: SessionId) {
        self.with(|state, now, fx| {
            state.links.remove(&holder);
            state.table.drop_session(holder, now, fx);
            state.waiters.retain(|_, (session, _)| *session != Some(holder));
        });
        self.locks.drop_holder(holder);
    }

    /// Evicts who does not answer in time. Runs as long as the volume is open.
    pub async fn watch(self: Arc<Self>, stop: CancellationToken) {
        loop {
            let now = self.time.monotonic();
            let (next, late) = {
                let mut state = self.state.lock();
                let mut late: Vec<SessionId> = state.table.overdue(now).into_iter().collect();
                late.append(&mut state.deaf);
                let late: Vec<_> = late.into_iter().map(|id| (id, state.links.get(&id).cloned())).collect();
                (state.table.next_deadline(), late)
            };
            if !late.is_empty() {
                for (id, link) in late {
                    if let Some(link) = link {
                        link.evict("it did not answer a recall or barrier in time");
                    }
                    // The session leaves all its volumes by itself; whoever waits here need not wait for that.
                    self.detach(id);
                }
                continue;
            }
            let sleep = async {
                match next {
                    Some(at) => tokio::time::sleep(at.saturating_sub(now)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.due.notified() => {}
                () = sleep => {}
            }
        }
    }

    /// The sessions of before have come back or never will: everybody goes on.
    pub fn end_grace(&self) {
        self.with(|state, now, fx| state.table.end_grace(now, fx));
    }

    /// Lets an operation of a session look at one inode: what others changed locally has been handed over by then. A
    /// writer elsewhere is taken down to a read lease, and the reader is promised one, so the next look is free.
    pub async fn look(self: &Arc<Self>, actor: Actor, ino: Ino, patience: &Patience) -> Result<Pass, Status> {
        if let Some(session) = actor
            && self.written_elsewhere(actor, ino)
        {
            match self.acquire(session, ino, LeaseMode::Read, patience).await {
                Err(Status::Overloaded) => {}
                result => return result,
            }
        }
        self.barrier(actor, Some(ino), patience).await
    }

    /// Lets a one-shot operation look: everybody who changed `ino` (or anything at all) locally hands it over and keeps
    /// its lease.
    pub async fn barrier(
        self: &Arc<Self>,
        actor: Actor,
        ino: Option<Ino>,
        patience: &Patience,
    ) -> Result<Pass, Status> {
        let (_, clock) = self
            .queue(actor, patience, |state, ticket, now, fx| {
                state.table.read(ticket, actor, ino, now, fx);
                Ok(())
            })
            .await?;
        Ok(Pass { volume: self.clone(), clock, changes: Vec::new(), promised: Vec::new() })
    }

    /// Whether somebody else may have changed this inode without our knowing.
    pub fn written_elsewhere(&self, actor: Actor, ino: Ino) -> bool {
        self.state.lock().table.is_written_by_another(actor, ino)
    }

    /// Waits for a lease. The pass carries it as a promise; what the reply says is to be read after this.
    pub async fn acquire(
        self: &Arc<Self>,
        session: SessionId,
        ino: Ino,
        mode: LeaseMode,
        patience: &Patience,
    ) -> Result<Pass, Status> {
        let (go, clock) = self
            .queue(Some(session), patience, |state, ticket, now, fx| {
                state.table.acquire(ticket, session, ino, mode, now, fx)
            })
            .await?;
        let promised = match go {
            Go::Granted(grant) => vec![(session, grant)],
            Go::Run => Vec::new(),
            Go::Retry => return Err(Status::Stale),
        };
        Ok(Pass { volume: self.clone(), clock, changes: Vec::new(), promised })
    }

    /// Lets a changing operation through: nobody else keeps anything of `inos`, and nobody is granted anything on them
    /// until the pass is dropped or finished.
    pub async fn change(
        self: &Arc<Self>,
        actor: Actor,
        inos: &[Ino],
        patience: &Patience,
    ) -> Result<Pass, Status> {
        let mut pass = Pass { volume: self.clone(), clock: 0, changes: Vec::new(), promised: Vec::new() };
        self.change_more(actor, &mut pass, inos, patience).await?;
        Ok(pass)
    }

    async fn change_more(
        self: &Arc<Self>,
        actor: Actor,
        pass: &mut Pass,
        inos: &[Ino],
        patience: &Patience,
    ) -> Result<(), Status> {
        let mut mine = None;
        let (go, _) = self
            .queue(actor, patience, |state, ticket, now, fx| {
                mine = Some(ticket);
                state.table.write(ticket, actor, inos, now, fx)
            })
            .await?;
        if go == Go::Retry {
            return Err(Status::Stale);
        }
        let Some(ticket) = mine else { return Err(Status::Io) };
        pass.clock = self.state.lock().stamp(inos);
        pass.changes.push((ticket, inos.to_vec()));
        Ok(())
    }

    /// Adds inodes that turned out to be changed as well. To be called after the store did it and before it is
    /// answered: whoever looks after the answer then sees the change.
    pub async fn also_changed(
        self: &Arc<Self>,
        actor: Actor,
        pass: &mut Pass,
        inos: &[Ino],
        patience: &Patience,
    ) -> Result<(), Status> {
        let known = |ino: &Ino| pass.changes.iter().any(|(_, inos)| inos.contains(ino));
        let fresh: Vec<Ino> = inos.iter().copied().filter(|ino| !known(ino)).collect();
        if fresh.is_empty() {
            return Ok(());
        }
        let clock = pass.clock;
        for _ in 0..MAX_RETRIES {
            match self.change_more(actor, pass, &fresh, patience).await {
                Err(Status::Stale) => tokio::task::yield_now().await,
                result => {
                    // Grants on the inodes foreseen stay justified by the clock of before.
                    pass.clock = clock;
                    return result;
                }
            }
        }
        Err(Status::Io)
    }

    /// Queues a ticket and waits for its turn. Returns the volume's clock of that moment, too.
    async fn queue(
        self: &Arc<Self>,
        actor: Actor,
        patience: &Patience,
        ask: impl FnOnce(&mut State, Ticket, Duration, &mut Effects) -> Result<(), LeaseError>,
    ) -> Result<(Go, u64), Status> {
        let (tx, answer) = once::channel();
        let (ticket, asked) = self.with(|state, now, fx| {
            let ticket = Ticket(state.next_ticket);
            state.next_ticket += 1;
            state.waiters.insert(ticket, (actor, tx));
            let asked = ask(state, ticket, now, fx);
            if asked.is_err() {
                state.waiters.remove(&ticket);
            }
            (ticket, asked)
        });
        asked.map_err(|e| match e {
            LeaseError::TooManyWaiters { .. } | LeaseError::TooManyLeases { .. } => Status::Overloaded,
            LeaseError::NoSession => Status::Fenced,
        })?;
        let mut queued = Queued { volume: self, ticket, session: actor, answer, taken: false };
        let go = match queued.answer.try_recv() {
            Ok(go) => go,
            // The sender is dropped unused only when the session itself was.
            Err(_) => patience.wait(&mut queued.answer).await?.map_err(|_| Status::Fenced)?,
        };
        queued.taken = true;
        Ok((go, self.state.lock().clock))
    }

    /// A holder carried a recall out. What nobody asked for is ignored by the table.
    pub fn recalled(&self, holder: SessionId, ino: Ino, seq: u64) {
        self.with(|state, now, fx| state.table.recalled(holder, ino, seq, now, fx));
    }

    /// A holder carried a barrier out.
    pub fn barrier_done(&self, holder: SessionId, id: u64) {
        self.with(|state, now, fx| state.table.barrier_done(holder, id, now, fx));
    }

    /// A holder gives leases up unasked.
    pub fn give_back(&self, holder: SessionId, grants: &[LeaseGrant]) {
        self.with(|state, now, fx| {
            for grant in grants {
                state.table.returned(holder, grant.ino, grant.seq, now, fx);
            }
        });
    }

    /// Ends an operation: its changes are over, the wishes that are free are granted, and `send` queues the reply with
    /// them, all before anybody can recall one of them. `send` says whether there was anybody to send it to.
    pub fn finish(
        &self,
        holder: SessionId,
        mut pass: Pass,
        wishes: &[Wish],
        send: impl FnOnce(&[LeaseGrant]) -> bool,
    ) {
        self.with(|state, now, fx| {
            let clock = pass.clock;
            // Judged before the operation's own end leaves a newer stamp.
            let current: Vec<&Wish> = wishes.iter().filter(|w| state.stamps[slot(w.ino)] <= clock).collect();
            state.end_changes(&mut pass.changes, now, fx);
            let mut grants: Vec<LeaseGrant> = pass.promised.drain(..).map(|(_, grant)| grant).collect();
            for wish in current {
                if !grants.iter().any(|g| g.ino == wish.ino) && !state.table.is_changing(wish.ino) {
                    grants.extend(state.table.offer(holder, wish.ino, wish.mode));
                }
            }
            self.leases_granted.fetch_add(grants.len() as u64, Ordering::Relaxed);
            let sent = send(&grants);
            for grant in grants {
                if sent {
                    state.table.announced(holder, grant, now, fx);
                } else {
                    state.table.withdrawn(holder, grant, now, fx);
                }
            }
        });
    }

    /// Puts leases back that a session held before this gateway started; the reply is queued in the same step.
    pub fn reclaim(
        &self,
        holder: SessionId,
        held: &[LeaseGrant],
        send: impl FnOnce(Vec<LeaseGrant>) -> bool,
    ) {
        self.with(|state, _, _| {
            let held = &held[..held.len().min(caps::MAX_LEASES)];
            let kept = state.table.reclaim(holder, held);
            send(kept);
        });
    }

    /// Says again, on a new connection, what is still waited for.
    pub fn say_again(&self, holder: SessionId) {
        let state = self.state.lock();
        let Some(link) = state.links.get(&holder) else { return };
        for tell in state.table.unanswered(holder, self.time.monotonic()) {
            // A full queue shows at the deadline of what was not said.
            if link.notify(tell.into()).is_err() {
                return;
            }
        }
    }

    /// Runs `act` on the state and carries out what it brings about: notices into queues, waiters woken. No I/O.
    fn with<T>(&self, act: impl FnOnce(&mut State, Duration, &mut Effects) -> T) -> T {
        let now = self.time.monotonic();
        let mut state = self.state.lock();
        let mut fx = Effects::default();
        let out = act(&mut state, now, &mut fx);
        let told = !fx.tell.is_empty();
        state.carry_out(fx);
        drop(state);
        if told {
            self.due.notify_one();
        }
        out
    }
}
