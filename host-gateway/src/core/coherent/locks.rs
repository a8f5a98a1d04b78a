//! fcntl locks of a volume: the pure table behind one mutex, and those who wait for it.

use std::collections::HashMap;

use mooring_protocol::lease::Ticket;
use mooring_protocol::lock::{Lock, LockTable, Owner, Waited};
use mooring_protocol::session::SessionId;
use mooring_protocol::status::Status;
use mooring_protocol::types::{Ino, LockKind};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::Patience;

/// The locks of one volume.
#[derive(Debug, Default)]
pub struct Locks(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    table: LockTable,
    waiters: HashMap<Ticket, (SessionId, oneshot::Sender<()>)>,
    next: u64,
}

impl State {
    fn wake(&mut self, ready: Vec<Ticket>) {
        for ticket in ready {
            if let Some((_, waiter)) = self.waiters.remove(&ticket) {
                // Its receiver lives until it took itself out of the waiters, under this lock.
                let _ = waiter.send(());
            }
        }
    }
}

/// Someone in the queue; leaves it, or gives back what it was given and never took.
struct Waiting<'a> {
    locks: &'a Locks,
    ticket: Ticket,
    ino: Ino,
    lock: Lock,
    granted: oneshot::Receiver<()>,
    taken: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.taken {
            return;
        }
        let mut state = self.locks.0.lock();
        state.waiters.remove(&self.ticket);
        if !state.table.cancel(self.ino, self.ticket) && self.granted.try_recv().is_ok() {
            let release = Lock { kind: LockKind::Unlock, ..self.lock };
            match state.table.set(self.ino, release) {
                Ok(ready) => state.wake(ready),
                Err(error) => tracing::warn!(%error, "a lock nobody waits for could not be given back"),
            }
        }
    }
}

impl Locks {
    /// A lock that stands in the way.
    pub fn get(&self, ino: Ino, wanted: &Lock) -> Option<Lock> {
        self.0.lock().table.get(ino, wanted)
    }

    /// Takes or releases a lock, waiting for it when there is patience.
    pub async fn set(&self, ino: Ino, lock: Lock, patience: Option<&Patience>) -> Result<(), Status> {
        let Some(patience) = patience else {
            let mut state = self.0.lock();
            let ready = state.table.set(ino, lock).map_err(|e| e.status())?;
            state.wake(ready);
            return Ok(());
        };
        let (tx, granted) = oneshot::channel();
        let ticket = {
            let mut state = self.0.lock();
            state.next += 1;
            let ticket = Ticket(state.next);
            let (waited, ready) = state.table.set_wait(ticket, ino, lock).map_err(|e| e.status())?;
            state.wake(ready);
            if waited == Waited::Taken {
                return Ok(());
            }
            state.waiters.insert(ticket, (lock.owner.session, tx));
            ticket
        };
        let mut waiting = Waiting { locks: self, ticket, ino, lock, granted, taken: false };
        // Its sender is dropped unused when the session is.
        let granted = patience.wait(&mut waiting.granted).await?;
        waiting.taken = true;
        granted.map_err(|_| Status::Fenced)
    }

    /// An owner closed the file: its locks on it end.
    pub fn close(&self, ino: Ino, owner: Owner) {
        let mut state = self.0.lock();
        let ready = state.table.close(ino, owner);
        state.wake(ready);
    }

    /// A session is gone with all its locks.
    pub(super) fn drop_holder(&self, session: SessionId) {
        let mut state = self.0.lock();
        let ready = state.table.drop_session(session);
        state.wake(ready);
        state.waiters.retain(|_, (s, _)| *s != session);
    }
}
