//! What happens to the volume beside its clients: upkeep, snapshots, keys, quotas, the clock; and the weather.

use crate::below;
use crate::clients::{Client, Entry, Lines};
use crate::look::{answered, folder, settled};
use crate::world::Life;
use mooring_policy::rng::SeededRandom;
use mooring_store::api::{Result, Snapshots};
use mooring_store::error::StoreError;
use mooring_store::failpoints::{Point, Strike, arm, arm_always, disarm};
use mooring_store::seal::TenantKey;

use mooring_store::volume::{Progress, Quota, ScrubOptions};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

/// What is known of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Snapshot {
    /// Being taken or removed, or that failed: it is there or not.
    Maybe,
    /// The folder of each client in it.
    Known(Rc<Vec<Lines>>),
}

pub type Album = Rc<RefCell<BTreeMap<String, Snapshot>>>;
type Clients = Vec<Rc<RefCell<Client>>>;

const NAMES: [&str; 3] = ["daily", "weekly", "once"];

/// Works until the life is over.
pub async fn keep(life: Rc<Life>, clients: Clients, snapshots: Album, random: SeededRandom) {
    while !life.over.get() {
        let name = NAMES[below(&random, 3) as usize];
        match below(&random, 14) {
            0..=2 => upkeep(&life, "collect", life.volume.collect_garbage().await.map(drop)),
            3 => upkeep(&life, "merge layers", life.volume.settle_layers().await),
            4 => upkeep(&life, "checkpoint", life.volume.checkpoint().await.map(drop)),
            5 => {
                let scrubbed = life.volume.scrub(&ScrubOptions::default(), &Progress::default()).await;
                upkeep(&life, "scrub", scrubbed.map(drop));
            }
            6..=7 => take(&life, &clients, &snapshots, name).await,
            8 => remove(&life, &snapshots, name).await,
            9 => restore(&life, &clients, &snapshots, name).await,
            10 => {
                let generation = life.keys.generation().next().expect("numbers enough");
                life.say(format!("data key {generation}"));
                life.keys.rotate(generation, TenantKey::generate(&random));
            }
            11 => {
                life.say("no room");
                life.volume.set_quota(Quota { bytes: Some(0), files: None });
                pause(&random).await;
                life.volume.set_quota(Quota::default());
            }
            12 => life.clock.jump(below(&random, 7_200_000) as i64 - 3_600_000),
            _ => pause(&random).await,
        }
        life.steps.set(life.steps.get() + 1);
        pause(&random).await;
    }
}

async fn pause(random: &SeededRandom) {
    tokio::time::sleep(Duration::from_micros(500 + below(random, 4000))).await;
}

fn upkeep(life: &Life, what: &str, done: Result<()>) {
    life.say(format!("{what}: {}", done.as_ref().err().map_or("done".to_owned(), ToString::to_string)));
    assert!(done.is_ok() || life.weather.get(), "{what}: {done:?}");
}

fn failed(life: &Life, what: &str, error: &StoreError) {
    life.say(format!("{what} says {error:?}"));
    assert!(life.weather.get(), "{what}: {error:?}");
}

async fn take(life: &Rc<Life>, clients: &Clients, snapshots: &Album, name: &str) {
    if snapshots.borrow().contains_key(name) {
        return;
    }
    snapshots.borrow_mut().insert(name.to_owned(), Snapshot::Maybe);
    let begin = life.stamp();
    life.say(format!("take snapshot {name}"));
    if let Err(error) = life.volume.snapshot_create(&life.caller(), name).await {
        return failed(life, "taking a snapshot", &error);
    }
    let end = life.stamp();
    let mut folders = Vec::new();
    for (number, client) in clients.iter().enumerate() {
        let look = || async {
            let view = life.volume.snapshot_view(&life.caller(), name).await?;
            folder(&*view, number).await
        };
        let lines = answered(life, look).await;
        let client = client.borrow();
        let of_then = client.history.iter().enumerate().any(|(at, entry)| {
            let until = client.history.get(at + 1).and_then(|next| next.end).unwrap_or(u64::MAX);
            entry.lines == lines && entry.begin <= end && until >= begin
        });
        assert!(of_then, "snapshot {name} shows client {number} as it was not then: {lines:?}");
        folders.push(lines);
    }
    snapshots.borrow_mut().insert(name.to_owned(), Snapshot::Known(Rc::new(folders)));
}

async fn remove(life: &Rc<Life>, snapshots: &Album, name: &str) {
    let Some(before) = snapshots.borrow().get(name).cloned() else { return };
    snapshots.borrow_mut().insert(name.to_owned(), Snapshot::Maybe);
    life.say(format!("remove snapshot {name}"));
    match life.volume.snapshot_remove(&life.caller(), name).await {
        Ok(()) => {
            snapshots.borrow_mut().remove(name);
        }
        Err(StoreError::NotFound) if before == Snapshot::Maybe => {
            snapshots.borrow_mut().remove(name);
        }
        Err(error) => failed(life, "removing a snapshot", &error),
    }
}

/// Everybody stands still meanwhile, as a gateway sees to it.
async fn restore(life: &Rc<Life>, clients: &Clients, snapshots: &Album, name: &str) {
    let Some(Snapshot::Known(folders)) = snapshots.borrow().get(name).cloned() else { return };
    let _still = life.gate.write().await;
    let begin = life.stamp();
    life.say(format!("restore {name}"));
    for (client, lines) in clients.iter().zip(folders.iter()) {
        let lines = lines.clone();
        client.borrow_mut().history.push(Entry { lines, begin, end: None });
    }
    let done = life.volume.snapshot_restore(&life.caller(), name).await;
    if let Err(error) = &done {
        failed(life, "restoring", error);
    }
    let mut restored = Vec::new();
    for (number, client) in clients.iter().enumerate() {
        let lines = settled(life, number).await;
        let mut client = client.borrow_mut();
        let at = client.history.len() - 1;
        restored.push((lines == client.history[at].lines, lines == client.history[at - 1].lines));
        let end = Some(life.stamp());
        if done.is_ok() {
            client.history[at].end = end;
            client.synced = at;
        } else {
            client.history.push(Entry { lines, begin, end });
        }
    }
    let all = restored.iter().all(|(now, _)| *now);
    let none = done.is_err() && restored.iter().all(|(_, before)| *before);
    assert!(all || none, "restoring {name} ({done:?}) did a part: {restored:?}");
}

const FAULTS: [(Point, Strike); 19] = [
    (Point::JournalBeforeWrite, Strike::Broken),
    (Point::JournalMidWrite, Strike::Broken),
    (Point::JournalBeforeWrite, Strike::Slow),
    (Point::JournalRotateBeforeHeader, Strike::Broken),
    (Point::JournalRotateAfterHeader, Strike::Broken),
    (Point::JournalSpareBeforeEntry, Strike::Broken),
    (Point::JournalSpareBeforeEntry, Strike::NoSpace),
    (Point::JournalBeforeSync, Strike::Broken),
    (Point::JournalAfterSync, Strike::Broken),
    (Point::JournalBeforeSync, Strike::Slow),
    (Point::PackBeforeHead, Strike::Broken),
    (Point::PackBeforeWrite, Strike::Broken),
    (Point::PackMidWrite, Strike::NoSpace),
    (Point::PackMidWrite, Strike::Broken),
    (Point::PackBeforeSync, Strike::Broken),
    (Point::PackBeforeSync, Strike::Slow),
    (Point::PackBeforeFooter, Strike::Broken),
    (Point::PackBeforeRename, Strike::Broken),
    (Point::PackBeforeRead, Strike::Broken),
];

/// The disk fails now and then, once or for a while.
pub async fn weather(life: Rc<Life>, seed: u64) {
    let random = SeededRandom::new(seed ^ 0x57_0211);
    while !life.over.get() {
        tokio::time::sleep(Duration::from_micros(below(&random, 60_000))).await;
        let (point, strike) = FAULTS[below(&random, FAULTS.len() as u64) as usize];
        if life.over.get() {
            break;
        }
        life.weather.set(true);
        life.say(format!("{point:?} is {strike:?}"));
        if below(&random, 2) == 0 {
            arm(point, strike, 1 + below(&random, 4) as u32);
        } else {
            arm_always(point, strike);
        }
        tokio::time::sleep(Duration::from_micros(1000 + below(&random, 50_000))).await;
        disarm();
        life.say("the disk is well");
    }
    disarm();
}
