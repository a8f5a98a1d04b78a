//! What a crash left, held to the promises.

use crate::clients::{Client, Lines};
use crate::keeper::Snapshot;
use crate::look::folder;
use crate::volumes::medium::{Fate, Loss};
use crate::volumes::owner;
use crate::world::Life;
use mooring_store::api::Snapshots;
use mooring_store::volume::Volume;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

type Clients = [Rc<RefCell<Client>>];
type Album = BTreeMap<String, Snapshot>;

/// What may be found of each client: not less than it knew to be kept when the machine died, nor more than it had begun.
pub struct Bounds {
    loss: Loss,
    least: Vec<usize>,
    most: Vec<usize>,
    died: (u64, u64),
    snapshots: (Album, Album),
}

impl Bounds {
    /// Right before the machine dies.
    pub fn before(life: &Life, clients: &Clients, loss: Loss, album: &RefCell<Album>) -> Bounds {
        // Who is killed loses nothing that was answered; when the power goes, nothing that was synced.
        let killed = (loss.journal, loss.packs) == (Fate::Kept, Fate::Kept);
        let least = clients.iter().map(|client| {
            let client = client.borrow();
            let answered = client.history.iter().rposition(|entry| entry.end.is_some()).unwrap_or(0);
            if killed { answered } else { client.synced }
        });
        let least = least.collect();
        let snapshots = (album.borrow().clone(), Album::new());
        Bounds { loss, least, most: Vec::new(), died: (life.stamp(), 0), snapshots }
    }

    /// Right after it.
    pub fn after(mut self, life: &Life, clients: &Clients, album: &RefCell<Album>) -> Bounds {
        self.most = clients.iter().map(|client| client.borrow().history.len() - 1).collect();
        self.died.1 = life.stamp();
        self.snapshots.1 = album.borrow().clone();
        self
    }
}

/// All clients' folders.
pub async fn look(volume: &Volume, clients: usize) -> Vec<Lines> {
    let mut folders = Vec::new();
    for number in 0..clients {
        folders.push(folder(volume, number).await.expect("what is left can be read"));
    }
    folders
}

/// Holds what was found to the bounds, and returns the snapshots that there are.
pub async fn judge(volume: &Volume, bounds: &Bounds, clients: &Clients, found: &[Lines]) -> Album {
    let mut moments = Vec::new();
    for (number, client) in clients.iter().enumerate() {
        let client = client.borrow();
        let (least, most) = (bounds.least[number], bounds.most[number]);
        let may_be: Vec<usize> =
            (least..=most).filter(|at| client.history[*at].lines == found[number]).collect();
        assert!(
            !may_be.is_empty(),
            "{:?} between {:?}: client {number} is as it was after none of its operations {least} to {most}: \
             {:?}\nat {least}: {:?}\nat {most}: {:?}",
            bounds.loss,
            bounds.died,
            found[number],
            client.history[least].lines,
            client.history[most].lines
        );
        let spans = may_be.iter().map(|at| {
            let until = client.history.get(at + 1).and_then(|next| next.end).unwrap_or(u64::MAX);
            (client.history[*at].begin, until)
        });
        moments.push(spans.collect::<Vec<_>>());
    }
    // One moment for all: after what each has begun, before the next that it was answered.
    let at_one =
        |now: u64| moments.iter().all(|spans| spans.iter().any(|(from, to)| *from <= now && now < *to));
    let together = moments.iter().flatten().any(|(from, _)| at_one(*from));
    assert!(together, "{:?}: clients are of different moments: {moments:?}", bounds.loss);
    album(volume, bounds, clients.len()).await
}

async fn album(volume: &Volume, bounds: &Bounds, clients: usize) -> Album {
    let mut there = Album::new();
    for info in volume.snapshots(&owner()).await.expect("snapshots are listed") {
        let view = volume.snapshot_view(&owner(), &info.name).await.expect("a snapshot that is listed");
        let mut folders = Vec::new();
        for number in 0..clients {
            folders.push(folder(&*view, number).await.expect("a snapshot can be read"));
        }
        there.insert(info.name, Snapshot::Known(Rc::new(folders)));
    }
    let (before, after) = &bounds.snapshots;
    for name in before.keys().chain(after.keys()).chain(there.keys()) {
        // What was being changed is there or not.
        match (before.get(name), after.get(name)) {
            (Some(Snapshot::Maybe), _) | (_, Some(Snapshot::Maybe)) => {}
            (one, two) if one == two => {
                assert_eq!(there.get(name), one, "{:?}: snapshot {name}", bounds.loss);
            }
            _ => {}
        }
    }
    there
}
