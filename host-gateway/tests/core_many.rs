//! Many buckets, few of them open at a time; and what is done to buckets by itself.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod core_support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use core_support::{World, bucket, tenant};
use mooring_gateway::core::Core;
use mooring_gateway::core::gate::{Gate, Passage};
use mooring_gateway::core::identity::Who;
use mooring_policy::ids::VolumeId;
use mooring_policy::principal::Principal;
use mooring_protocol::types::{Ino, Name, NewNode};
use mooring_store::api::WriteAt;
use mooring_store::realm::Schedule;

const BUCKETS: usize = 100;
/// Those that may stay open; see the support module.
const OPEN: usize = 64;

/// Every bucket is used in turn. Those that nobody uses any more are closed, what was written to them is there when
/// they are opened again, and one that is being used stays open whatever happens.
#[tokio::test(flavor = "multi_thread")]
async fn buckets_come_and_go_and_few_stay_open() {
    let world = World::new().await;
    let core = &world.core;
    let realm = core.realm();
    let mut volumes = Vec::new();
    for number in 0..BUCKETS {
        let name = bucket(&format!("many-{number}"));
        volumes.push(realm.bucket_create(&tenant("acme"), &name, Default::default()).await.unwrap().volume);
    }
    core.reload().await.unwrap();
    let busy = core.volume(volumes[0]).await.unwrap();
    for (number, volume) in volumes.iter().enumerate() {
        write(core, *volume, number).await;
    }
    let deadline = Instant::now() + Duration::from_secs(30);
    while core.status().await.volumes.len() > OPEN {
        assert!(Instant::now() < deadline, "{} volumes stay open", core.status().await.volumes.len());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(Arc::ptr_eq(&busy, &core.volume(volumes[0]).await.unwrap()), "closed under somebody's hands");
    for (number, volume) in volumes.iter().enumerate() {
        assert_eq!(read(core, *volume).await, format!("bucket {number}"));
    }
}

async fn open(core: &Core, volume: VolumeId) -> Passage {
    core.open(&Who::new(Principal::Tenant { tenant: tenant("acme") }), volume.get()).await.unwrap()
}

fn file() -> Name {
    Name::new(b"file").unwrap()
}

async fn write(core: &Core, volume: VolumeId, number: usize) {
    let passage = open(core, volume).await;
    let (cx, store) = (passage.caller(core.now(), 0), passage.volume.store());
    let node = NewNode::File { open: None };
    let ino = store.create(&cx, Ino::ROOT, &file(), 0o644, (0, 0), &node).await.unwrap().ino;
    let data = Bytes::from(format!("bucket {number}"));
    store.write(&cx, ino, WriteAt::Offset(0), data, None, false).await.unwrap();
}

async fn read(core: &Core, volume: VolumeId) -> String {
    let passage = open(core, volume).await;
    let (cx, store) = (passage.caller(core.now(), 0), passage.volume.store());
    let ino = store.lookup(&cx, Ino::ROOT, &file()).await.unwrap().ino;
    String::from_utf8(store.read(&cx, ino, 0, 100).await.unwrap().0.concat()).unwrap()
}

/// A schedule of a snapshot a second of which two stay, looked at more often than that.
#[tokio::test(flavor = "multi_thread")]
async fn snapshots_are_taken_when_due_and_the_oldest_go() {
    let world = World::new().await;
    let core = &world.core;
    let volume = core.realm().bucket(&tenant("acme"), &bucket("photos")).await.unwrap().volume;
    core.snapshot_create(volume, "mine").await.unwrap();
    let schedule = Schedule { every_seconds: 1, keep: 2 };
    let (mut taken, deadline) = (Vec::new(), Instant::now() + Duration::from_secs(30));
    while taken.len() < 4 {
        assert!(Instant::now() < deadline, "{taken:?}");
        core.snapshot_when_due(volume, schedule).await.unwrap();
        core.snapshot_when_due(volume, schedule).await.unwrap();
        let names: Vec<String> = core.snapshots(volume).await.unwrap().into_iter().map(|s| s.name).collect();
        assert_eq!(names[0], "mine", "a snapshot with a name of its own stays");
        let newest = names.last().unwrap().clone();
        if taken.last() != Some(&newest) {
            taken.push(newest);
        }
        let from = taken.len().saturating_sub(2);
        assert_eq!(names[1..], taken[from..]);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
