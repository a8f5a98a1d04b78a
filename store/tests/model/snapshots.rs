//! Random operations on snapshots.

use super::*;
use mooring_store::api::SnapshotInfo;

const SNAPSHOTS: [&str; 4] = ["daily", "weekly", "a", ".."];

/// What both tell alike. Totals count bytes on their way to an object, which each keeps in its own way; the checker holds
/// them against the rows.
fn told(info: SnapshotInfo) -> (u16, String, Time) {
    (info.view, info.name, info.created)
}

impl Run {
    pub(super) async fn snapshot(&mut self) {
        let (cx, cy) = self.callers();
        let name = *self.pick(&SNAPSHOTS);
        let what = format!("snapshot {name} confined {}", cx.confined);
        self.log.push(what.clone());
        let one = self.volume.snapshot_create(&cx, name).await;
        let two = self.oracle.snapshot_create(&cy, name).await;
        if same(&one, &two, &what) {
            assert_eq!(told(one.unwrap()), told(two.unwrap()), "{what}");
        }
    }

    pub(super) async fn change_snapshots(&mut self) {
        let (cx, cy) = self.callers();
        let name = *self.pick(&SNAPSHOTS);
        match self.below(3) {
            0 => {
                let what = format!("remove snapshot {name} confined {}", cx.confined);
                self.log.push(what.clone());
                let view = self.volume.snapshot_view(&at(self.now), name).await;
                let one = self.volume.snapshot_remove(&cx, name).await;
                if same(&one, &self.oracle.snapshot_remove(&cy, name).await, &what) {
                    let gone = view.unwrap().getattr(&at(self.now), Ino::ROOT).await;
                    assert!(matches!(gone, Err(StoreError::Stale(_))), "{what}: {gone:?}");
                }
            }
            1 => self.restore(name).await,
            _ => {
                self.log.push("layers are merged".into());
                self.volume.settle_layers().await.unwrap();
            }
        }
    }

    async fn restore(&mut self, name: &str) {
        let cx = at(self.now);
        // What is open or on its way is the caller's to keep, not a snapshot's.
        for (one, two) in std::mem::take(&mut self.pins) {
            self.volume.unpin(one).await.unwrap();
            self.oracle.unpin(two).await.unwrap();
        }
        for (one, two) in std::mem::take(&mut self.staged) {
            self.volume.stage_abort(&cx, one).await.unwrap();
            self.oracle.stage_abort(&cx, two).await.unwrap();
        }
        let what = format!("restore {name}");
        self.log.push(what.clone());
        let one = self.volume.snapshot_restore(&cx, name).await;
        if same(&one, &self.oracle.snapshot_restore(&cx, name).await, &what) {
            self.uploads.clear();
        }
        self.compare().await;
    }

    /// Each shows what was, and refuses to be changed.
    pub(super) async fn compare_snapshots(&self) {
        let cx = at(self.now);
        let all = self.volume.snapshots(&cx).await.unwrap();
        let known = self.oracle.snapshots(&cx).await.unwrap();
        assert_eq!(
            all.iter().cloned().map(told).collect::<Vec<_>>(),
            known.into_iter().map(told).collect::<Vec<_>>()
        );
        for info in all {
            let one = self.volume.snapshot_view(&cx, &info.name).await.unwrap();
            let two = self.oracle.snapshot_view(&cx, &info.name).await.unwrap();
            let (one, two) = (dump(&*one, &self.known).await, dump(&*two, &self.known).await);
            for (one, two) in one.iter().zip(&two) {
                assert_eq!(one, two, "snapshot {}", info.name);
            }
            assert_eq!(one.len(), two.len(), "snapshot {}", info.name);
        }
    }
}
