//! Random operations on several heads: one is worked with at a time, all are compared.

use super::*;
use mooring_store::volume::Quota;

/// More heads than this are not made.
const MOST: usize = 4;

/// What belongs to one head.
pub(super) struct Head {
    pub(super) volume: Arc<Volume>,
    pub(super) oracle: Arc<Oracle>,
    nodes: Vec<Pair>,
    pins: Vec<Pair>,
    staged: Vec<(Staged, Staged)>,
    uploads: Vec<(String, String, String)>,
}

/// Every head and what it shows.
type Trees = BTreeMap<HeadId, Vec<String>>;

fn config(head: HeadId) -> Config {
    Config { head, ..with_small_parts(Path::new("")).config }
}

impl Run {
    pub(super) async fn change_heads(&mut self) {
        match self.below(5) {
            0 | 1 => self.clone_head().await,
            2 => self.remove_head().await,
            3 => self.close_and_open().await,
            _ => self.switch(),
        }
    }

    async fn clone_head(&mut self) {
        if self.others.len() + 1 >= MOST {
            return;
        }
        let (cx, cy) = self.callers();
        let from = (self.below(2) == 0).then(|| *self.pick(&["daily", "weekly", "a", ".."]));
        let id = HeadId(self.heads.len() as u64 + 100);
        let what = format!("clone {:?} {from:?} to {id} confined {}", self.volume.head_id(), cx.confined);
        self.log.push(what.clone());
        let one = self.volume.clone_head(&cx, from, id, Quota::default()).await;
        let two = self.oracle.clone_tree(&cy, from);
        if !same(&one, &two, &what) {
            return;
        }
        self.heads.push(id);
        let volume = self.volume.open_head(config(id)).await.unwrap();
        assert_eq!(volume.used(), one.unwrap(), "{what}");
        volume.purge_orphans().await.unwrap();
        self.others.push(Head {
            volume,
            oracle: Arc::new(two.unwrap_or_else(|_| unreachable!())),
            nodes: self.nodes.clone(),
            pins: Vec::new(),
            staged: Vec::new(),
            uploads: Vec::new(),
        });
    }

    async fn remove_head(&mut self) {
        if self.others.is_empty() {
            assert!(self.volume.remove_head(self.volume.head_id()).await.is_err());
            return;
        }
        let at = self.below(self.others.len() as u64) as usize;
        let head = self.others.swap_remove(at);
        let id = head.volume.head_id();
        self.log.push(format!("remove head {id}"));
        assert!(self.volume.remove_head(id).await.is_err(), "it is open");
        head.volume.close().await.unwrap();
        assert!(self.volume.remove_head(id).await.unwrap());
        assert!(!self.volume.remove_head(id).await.unwrap());
        assert!(matches!(self.volume.open_head(config(id)).await, Err(StoreError::NoSuchHead(_))));
    }

    async fn close_and_open(&mut self) {
        let Some(mut head) = self.others.pop() else { return };
        let id = head.volume.head_id();
        self.log.push(format!("close head {id} and open it again"));
        head.volume.close().await.unwrap();
        assert!(head.volume.getattr(&at(self.now), Ino::ROOT).await.is_err());
        if self.below(2) == 0 {
            self.volume.settle_layers().await.unwrap();
        }
        head.volume = self.volume.open_head(config(id)).await.unwrap();
        head.volume.purge_orphans().await.unwrap();
        head.oracle.restart();
        head.pins.clear();
        head.staged.clear();
        self.others.push(head);
    }

    /// Another head is worked with from now on.
    pub(super) fn switch(&mut self) {
        if self.others.is_empty() {
            return;
        }
        let mut head = self.others.remove(0);
        std::mem::swap(&mut head.volume, &mut self.volume);
        std::mem::swap(&mut head.oracle, &mut self.oracle);
        std::mem::swap(&mut head.nodes, &mut self.nodes);
        std::mem::swap(&mut head.pins, &mut self.pins);
        std::mem::swap(&mut head.staged, &mut self.staged);
        std::mem::swap(&mut head.uploads, &mut self.uploads);
        self.others.push(head);
        self.log.push(format!("head {}", self.volume.head_id()));
    }

    pub(super) async fn compare_heads(&self) {
        for head in &self.others {
            let id = head.volume.head_id();
            let (one, two) = (dump(&*head.volume, &self.known).await, dump(&*head.oracle, &self.known).await);
            for (one, two) in one.iter().zip(&two) {
                assert_eq!(one, two, "head {id}");
            }
            assert_eq!(one.len(), two.len(), "head {id}");
        }
        // Each is looked at first in its turn.
        if let Some(head) = self.others.first() {
            assert_eq!(
                head.volume.check().await.unwrap().findings,
                [],
                "seen from {}",
                head.volume.head_id()
            );
        }
    }

    pub(super) async fn oracles(&self) -> Trees {
        let mut all = Trees::from([(self.volume.head_id(), dump(&*self.oracle, &self.known).await)]);
        for head in &self.others {
            all.insert(head.volume.head_id(), dump(&*head.oracle, &self.known).await);
        }
        all
    }

    /// Closes every head; the one that is worked with comes first in what is returned.
    pub(super) async fn close_all(&self) -> Vec<HeadId> {
        let mut ids = vec![self.volume.head_id()];
        self.volume.close().await.unwrap();
        for head in &self.others {
            ids.push(head.volume.head_id());
            head.volume.close().await.unwrap();
        }
        ids
    }

    pub(super) async fn reopen(&mut self, dir: &Path, ids: &[HeadId]) {
        let local = with_small_parts(dir);
        self.volume = Volume::open_local(LocalOptions { config: config(ids[0]), ..local }).await.unwrap();
        let mut found = self.volume.heads().await.unwrap();
        found.sort_unstable();
        let mut wanted = ids.to_vec();
        wanted.sort_unstable();
        assert_eq!(found, wanted);
        self.volume.purge_orphans().await.unwrap();
        self.pins.clear();
        self.staged.clear();
        for (head, id) in self.others.iter_mut().zip(&ids[1..]) {
            head.volume = self.volume.open_head(config(*id)).await.unwrap();
            head.volume.purge_orphans().await.unwrap();
            head.pins.clear();
            head.staged.clear();
        }
    }

    /// What a medium holds: which heads that are, it alone knows.
    pub(super) async fn trees_of(&self, dir: &Path) -> (Trees, Vec<Arc<Volume>>) {
        let mut heads: Vec<Arc<Volume>> = Vec::new();
        for id in &self.heads {
            let opened = match heads.first() {
                None => {
                    Volume::open_local(LocalOptions { config: config(*id), ..with_small_parts(dir) }).await
                }
                Some(open) => open.open_head(config(*id)).await,
            };
            match opened {
                Ok(head) => heads.push(head),
                Err(StoreError::NoSuchHead(_)) => {}
                Err(error) => panic!("head {id}: {error}"),
            }
        }
        let mut trees = Trees::new();
        for head in &heads {
            head.purge_orphans().await.unwrap();
            trees.insert(head.head_id(), dump(&**head, &self.known).await);
        }
        (trees, heads)
    }
}
