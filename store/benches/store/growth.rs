//! Names, as they become more: ten and a hundred times as many must cost the same, each.

use crate::sheet::Sheet;
use crate::system::memory_mib;
use crate::volumes::{name, owner};
use crate::{Sizes, open, places, timed};
use mooring_protocol::types::{Ino, NewNode};
use mooring_store::api::Tree;
use mooring_store::volume::Volume;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

/// Tasks that create at once.
const TASKS: u64 = 16;
/// Lookups of one measurement.
const LOOKUPS: usize = 20_000;

async fn folder(volume: &Volume) -> Ino {
    match volume.lookup(&owner(), Ino::ROOT, &name("many")).await {
        Ok(found) => found.ino,
        Err(_) => {
            let made = volume.create(&owner(), Ino::ROOT, &name("many"), 0o755, (0, 0), &NewNode::Dir).await;
            made.unwrap().ino
        }
    }
}

/// Makes the entries `from..to`.
async fn fill(volume: &Arc<Volume>, parent: Ino, (from, to): (u64, u64)) {
    let making = (0..TASKS).map(|task| {
        let volume = volume.clone();
        tokio::spawn(async move {
            let (cx, file) = (owner(), NewNode::File { open: None });
            for n in (from + task..to).step_by(TASKS as usize) {
                volume.create(&cx, parent, &called(n), 0o644, (0, 0), &file).await.unwrap();
            }
        })
    });
    for task in making.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    volume.sync().await.unwrap();
}

fn called(n: u64) -> mooring_protocol::types::Name {
    name(&format!("file-{n:09}"))
}

async fn look(volume: &Volume, parent: Ino, among: u64) -> f64 {
    let places = places(LOOKUPS.min(among as usize), among as usize);
    let (time, ()) = timed(async {
        for n in &places {
            volume.lookup(&owner(), parent, &called(*n)).await.unwrap();
        }
    })
    .await;
    places.len() as f64 / time
}

async fn list(volume: &Volume, parent: Ino) -> usize {
    let (mut cursor, mut seen) = (Vec::new(), 0);
    loop {
        let (page, end) = volume.readdir(&owner(), parent, &cursor, 1000, true).await.unwrap();
        seen += page.len();
        if end {
            return seen;
        }
        cursor = page.last().map_or_else(Vec::new, |last| last.cursor().to_vec());
    }
}

/// What creating, looking up and memory are at each size; then the whole list, and opening after a kill.
pub async fn names(sheet: &mut Sheet, home: &Path, sizes: &Sizes) {
    let mut before = 0;
    for count in [sizes.names / 100, sizes.names / 10, sizes.names] {
        let volume = open(home).await;
        let parent = folder(&volume).await;
        let (time, ()) = timed(fill(&volume, parent, (before, count))).await;
        sheet.rate(
            &format!("create, {TASKS} at once, up to {count}"),
            "/s",
            (count - before) as f64 / time,
            None,
        );
        volume.close().await.unwrap();
        let volume = open(home).await;
        sheet.rate(
            &format!("look up, first time, of {count}"),
            "/s",
            look(&volume, parent, count).await,
            None,
        );
        sheet.rate(&format!("look up, again, of {count}"), "/s", look(&volume, parent, count).await, None);
        sheet.number(&format!("memory of the process at {count}"), "MiB", memory_mib());
        before = count;
        volume.close().await.unwrap();
    }
    let volume = open(home).await;
    let parent = folder(&volume).await;
    let (time, seen) = timed(list(&volume, parent)).await;
    assert_eq!(seen as u64, sizes.names);
    sheet.number(&format!("list {seen} with attributes"), "s", time);
    sheet.number("memory of the process after it", "MiB", memory_mib());
    volume.close().await.unwrap();
    after_a_kill(sheet, home, sizes.names).await;
}

/// A child opens the volume, makes entries and is killed in the middle.
async fn after_a_kill(sheet: &mut Sheet, home: &Path, count: u64) {
    let mut child = Command::new(std::env::current_exe().unwrap());
    let mut child = child.arg("churn").arg(home).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = [0; 1];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut said).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let begun = Instant::now();
    let volume = open(home).await;
    let parent = folder(&volume).await;
    volume.lookup(&owner(), parent, &called(count / 2)).await.unwrap();
    sheet.number(&format!("open after a kill, {count} entries"), "ms", begun.elapsed().as_secs_f64() * 1e3);
    volume.close().await.unwrap();
}

/// The child: makes entries until it is killed; says when there is much to recover.
pub async fn churn(home: &Path) {
    let volume = open(home).await;
    let parent = folder(&volume).await;
    let base = 1 << 32;
    fill(&volume, parent, (base, base + 20_000)).await;
    println!("x");
    fill(&volume, parent, (base + 20_000, base + 2_000_000)).await;
}
