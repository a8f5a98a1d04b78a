//! What packs tell by themselves.

use super::super::scrub::id_of;
use crate::api::Result;
use crate::keys::map::ExtentId;
use crate::pack::{Entry, ExtentRef, PackError, PackId, PackInfo, PackStore};
use futures::{FutureExt, StreamExt, TryStreamExt};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Packs whose lists are read at a time.
const READERS: usize = 8;

/// An extent in a pack, and the epoch of who wrote it.
#[derive(Clone, Copy)]
pub(super) struct Late {
    pub(super) epoch: u64,
    pub(super) entry: Entry,
}

impl Late {
    pub(super) fn start(&self) -> u64 {
        self.entry.owner.1
    }

    pub(super) fn end(&self) -> u64 {
        self.start().saturating_add(u64::from(self.entry.extent.raw_len))
    }
}

/// What packs have: every extent by its place and by its name.
pub(super) struct Stored {
    pub(super) all: Vec<Late>,
    pub(super) places: HashSet<(PackId, u32)>,
    pub(super) by_id: HashMap<ExtentId, ExtentRef>,
}

pub(super) async fn stored(packs: &Arc<PackStore>) -> Result<Stored> {
    let mut stored = Stored { all: Vec::new(), places: HashSet::new(), by_id: HashMap::new() };
    let reads: Vec<_> = packs.list().into_iter().map(|pack| entries(packs, pack).boxed()).collect();
    let mut reads = futures::stream::iter(reads).buffered(READERS);
    while let Some((pack, entries)) = reads.try_next().await? {
        for entry in entries {
            stored.places.insert((pack.id, entry.extent.offset));
            stored.by_id.insert(id_of(&entry), entry.extent);
            stored.all.push(Late { epoch: pack.epoch, entry });
        }
    }
    Ok(stored)
}

/// What a pack has: by its list, or by its extents themselves when that is damaged.
async fn entries(packs: &Arc<PackStore>, pack: PackInfo) -> Result<(PackInfo, Vec<Entry>)> {
    match packs.entries(pack.id).await {
        Err(PackError::Corrupt { .. }) => {
            let kept = Arc::new(packs.kept(pack.id).await?);
            Ok((pack, packs.kept_entries(&kept).await?.0))
        }
        entries => Ok((pack, entries?)),
    }
}
