//! Names, as they become more: ten and a hundred times as many must cost the same, each.

use crate::sheet::Sheet;
use crate::system::{memory_mib, processor_time};
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

/// Look-ups here and there; how long they took.
async fn look(volume: &Volume, parent: Ino, among: u64) -> (usize, Spent) {
    let places = places(LOOKUPS.min(among as usize), among as usize);
    let spent = Spent::by(async {
        for n in &places {
            volume.lookup(&owner(), parent, &called(*n)).await.unwrap();
        }
    })
    .await;
    (places.len(), spent)
}

/// Time that something took, seconds: on the clock, and of the processors, which other work on the machine does not
/// change as much.
struct Spent {
    clock: f64,
    processors: f64,
}

impl Spent {
    async fn by(work: impl Future<Output = ()>) -> Spent {
        let (before, (clock, ())) = (processor_time(), timed(work).await);
        Spent { clock, processors: processor_time() - before }
    }
}

/// What each of some sizes cost: the table of how it grows.
#[derive(Default)]
struct Growth(Vec<(&'static str, Vec<String>)>);

impl Growth {
    fn add(&mut self, what: &'static str, value: String) {
        match self.0.iter_mut().find(|(known, _)| *known == what) {
            Some((_, values)) => values.push(value),
            None => self.0.push((what, vec![value])),
        }
    }

    /// `count` of something.
    fn cost(&mut self, (rate, each): (&'static str, &'static str), count: usize, spent: &Spent) {
        self.add(rate, format!("{:.0}", count as f64 / spent.clock));
        self.add(each, format!("{:.1}", spent.processors * 1e6 / count as f64));
    }

    fn print(&self, sizes: &[u64]) {
        let sizes: Vec<String> = sizes.iter().map(u64::to_string).collect();
        println!("\n| names | {} |\n|---|{}", sizes.join(" | "), "---|".repeat(sizes.len()));
        for (what, values) in &self.0 {
            println!("| {what} | {} |", values.join(" | "));
        }
        println!();
    }
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

/// What creating, looking up, listing and memory are at each size; then opening after a kill.
pub async fn names(sheet: &mut Sheet, home: &Path, sizes: &Sizes) {
    let (mut before, mut growth) = (0, Growth::default());
    let counts = [sizes.names / 100, sizes.names / 10, sizes.names];
    for count in counts {
        let volume = open(home).await;
        let parent = folder(&volume).await;
        let spent = Spent::by(fill(&volume, parent, (before, count))).await;
        let made = (count - before) as usize;
        let each = format!("create, {TASKS} at once, up to {count}");
        sheet.rate(&each, "/s", made as f64 / spent.clock, None);
        growth.cost(("create, /s", "create, processor us each"), made, &spent);
        volume.close().await.unwrap();
        let volume = open(home).await;
        for (times, row) in [
            ("first time", ("look up, first time, /s", "look up, first time, processor us each")),
            ("again", ("look up, again, /s", "look up, again, processor us each")),
        ] {
            let (looked, spent) = look(&volume, parent, count).await;
            sheet.rate(&format!("look up, {times}, of {count}"), "/s", looked as f64 / spent.clock, None);
            growth.cost(row, looked, &spent);
        }
        let mut seen = 0;
        let spent = Spent::by(async { seen = list(&volume, parent).await }).await;
        assert_eq!(seen as u64, count);
        sheet.number(&format!("list {seen} with attributes"), "s", spent.clock);
        growth.cost(("list with attributes, entries/s", "list, processor us each"), seen, &spent);
        sheet.number(&format!("memory of the process at {count}"), "MiB", memory_mib());
        growth.add("memory of the process, MiB", format!("{:.0}", memory_mib()));
        before = count;
        volume.close().await.unwrap();
    }
    growth.print(&counts);
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
