//! Changes of very many inodes at once: nobody keeps anything of them, whichever they are.

use std::sync::Arc;

use mooring_protocol::status::Status;
use mooring_protocol::types::Ino;

use super::{Coherent, Pass, Patience};

/// Rounds in which leases are looked for that were granted while others were recalled. Each round leaves only those of
/// operations that were under way when it began, and none of them is granted after the stamps.
const ROUNDS: usize = 64;

impl Coherent {
    /// Lets an operation through that changes every inode that is `concerned`, `these` at least: leases on them are
    /// recalled, and none rides on a reply to an operation that began before now. To be ended by [`Self::finish_all`].
    pub async fn change_all(
        self: &Arc<Self>,
        concerned: &(dyn Fn(Ino) -> bool + Sync),
        these: &[Ino],
        patience: &Patience,
    ) -> Result<Pass, Status> {
        self.state.lock().stamp_all();
        let mut pass = self.change(None, these, patience).await?;
        self.sweep(&mut pass, concerned, patience).await?;
        Ok(pass)
    }

    /// To be called when the store has done it and before it is answered: what was granted meanwhile, on what was before,
    /// is taken back.
    pub async fn finish_all(
        self: &Arc<Self>,
        pass: &mut Pass,
        concerned: &(dyn Fn(Ino) -> bool + Sync),
    ) -> Result<(), Status> {
        self.state.lock().stamp_all();
        self.sweep(pass, concerned, &Patience::longest()).await
    }

    async fn sweep(
        self: &Arc<Self>,
        pass: &mut Pass,
        concerned: &(dyn Fn(Ino) -> bool + Sync),
        patience: &Patience,
    ) -> Result<(), Status> {
        for _ in 0..ROUNDS {
            let known = |ino: &Ino| pass.changes.iter().any(|(_, inos)| inos.binary_search(ino).is_ok());
            let held = self.leased().into_iter().filter(|ino| concerned(*ino) && !known(ino));
            let held: Vec<Ino> = held.collect();
            if held.is_empty() {
                return Ok(());
            }
            self.also_changed(None, pass, &held, patience).await?;
        }
        Err(Status::Busy)
    }
}
