//! What the table knows, for those who choose how to ask.

use crate::session::SessionId;
use crate::types::{Ino, LeaseMode};

use super::LeaseTable;

impl LeaseTable {
    /// Whether another session than this (any, when it is none) may be changing this inode locally. Then a look needs a recall or a barrier.
    #[must_use]
    pub fn is_written_by_another(&self, session: Option<SessionId>, ino: Ino) -> bool {
        self.inodes.get(&ino).is_some_and(|inode| {
            inode.held.iter().any(|held| Some(held.session) != session && held.reach() == LeaseMode::Write)
        })
    }
}
