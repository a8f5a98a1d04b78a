//! The process dies at every named point, and the claim of each point is held to.
//!
//! A child does one operation after the other on a volume and says so after each; what it does follows from a number, so
//! the parent knows what every state looks like. The child is killed at the point. Then the volume must be as it was
//! after the last operation that was acknowledged, or after the one that was under way, and nothing in between; the
//! checker must find nothing; and life must go on.
//!
//! The table of points and claims is `failpoints::Point`. A point that the work never comes by fails the test, so a new
//! one is covered or noticed. `MOORING_SEED` replays the choices, `MOORING_RUNS` makes more of them.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod volumes;
#[path = "points/work.rs"]
mod work;

use mooring_policy::rng::{Random, SystemRandom};
use mooring_store::failpoints::{Point, Strike, arm, arm_both};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use work::{LAST, State, Worker, number};

const CHILD: &str = "MOORING_POINT_CHILD";
/// Operations a life has to come by its point.
const LIFE: u64 = 400;
/// The most passings of a point that a child survives.
const PASSINGS: u64 = 3;

/// What has to go wrong for a point to be passed at all.
enum Needs {
    Nothing,
    /// This fails first.
    Failure(Point),
    /// Bytes are lost that journal records name.
    LostBytes,
}

fn needs(point: Point) -> Needs {
    match point {
        Point::JournalMidRepair => Needs::Failure(Point::JournalBeforeSync),
        Point::PackMidRepair => Needs::Failure(Point::PackBeforeSync),
        Point::JournalMidCut => Needs::LostBytes,
        _ => Needs::Nothing,
    }
}

/// `dir`, seed, first operation, and what to arm, as a child is told.
async fn child(told: &str) {
    let words: Vec<&str> = told.split('\n').collect();
    let [dir, seed, first, point, nth] = words[..] else { panic!("{told}") };
    let (point, first, seed) = (Point::parse(point).unwrap(), first.parse().unwrap(), seed.parse().unwrap());
    if let Needs::Failure(before) = needs(point) {
        let worker = Worker::open(Path::new(dir), seed).await;
        arm_both((before, Strike::Broken), (point, Strike::Kill));
        return worker.sync_in_vain().await;
    }
    arm(point, Strike::Kill, nth.parse().unwrap());
    let mut worker = Worker::open(Path::new(dir), seed).await;
    for number in first..first + LIFE {
        worker.step(number).await;
        let mut out = std::io::stdout().lock();
        writeln!(out, "\n@{number}").unwrap();
        out.flush().unwrap();
    }
    worker.volume().close().await.unwrap();
}

/// Runs a child until it dies. Returns the last operation it acknowledged.
fn live(dir: &Path, seed: u64, first: u64, point: Point, nth: u64) -> u64 {
    let told = format!("{}\n{seed}\n{first}\n{point:?}\n{nth}", dir.display());
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "killed_at_every_point_a_volume_keeps_its_claims"])
        .env(CHILD, told)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let last = lines.filter_map(|line| line.unwrap().strip_prefix('@')?.parse().ok()).last();
    let ended = child.wait().unwrap();
    assert!(ended.code() != Some(0), "{point:?} was not passed {nth} times in {LIFE} operations");
    assert_eq!(ended.signal(), Some(9), "{point:?}: the child failed before its point: {ended}");
    last.unwrap_or(first - 1)
}

fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").args(["-a", "--sparse=always"]).arg(from).arg(to).status().unwrap();
    assert!(done.success());
}

/// The open packs and how long they are.
fn open_packs(dir: &Path) -> BTreeMap<OsString, u64> {
    let packs = std::fs::read_dir(dir.join("volume/packs")).unwrap().map(|entry| entry.unwrap());
    let packs = packs.filter(|pack| pack.path().extension().is_some_and(|end| end == "open"));
    packs.map(|pack| (pack.file_name(), pack.metadata().unwrap().len())).collect()
}

/// Loses what was written to open packs since they had these lengths, as a power cut may.
fn lose_bytes(dir: &Path, synced: &BTreeMap<OsString, u64>) {
    for name in open_packs(dir).keys() {
        let file = std::fs::File::options().write(true).open(dir.join("volume/packs").join(name)).unwrap();
        file.set_len(synced.get(name).copied().unwrap_or(0)).unwrap();
    }
}

/// The state that the volume in `dir` shows after it was opened.
async fn found(dir: &Path, seed: u64, point: Point) -> (Worker, State) {
    let worker = Worker::open(dir, seed).await;
    let state = worker.state().await;
    worker.must_check(&format!("{point:?}, {}", point.claim())).await;
    (worker, state)
}

/// What the first life left behind.
struct Base {
    dir: PathBuf,
    /// Its open packs when it synced last.
    synced: BTreeMap<OsString, u64>,
}

async fn hold_to(point: Point, (seed, nth): (u64, u64), base: &Base, work: &Path) {
    let dir = work.join(format!("{point:?}"));
    copy(&base.dir, &dir);
    let lost = matches!(needs(point), Needs::LostBytes);
    if lost {
        lose_bytes(&dir, &base.synced);
    }
    let last = live(&dir, seed, LAST + 1, point, nth);
    let states: BTreeMap<u64, State> = (0..=last + 1).zip(work::states(seed)).collect();
    let (mut worker, state) = found(&dir, seed, point).await;
    // Everything before the last operation of the first life was synced.
    let least = if lost { LAST - 1 } else { last };
    let at = states.range(least..).find(|(_, known)| **known == state).map(|(at, _)| *at);
    let Some(at) = at else {
        let known = states.get(&last).unwrap();
        panic!(
            "{point:?}: {}\nas after no operation from {least} on: {}",
            point.claim(),
            state.differs(known)
        );
    };
    println!("{point:?}, passing {nth}: {last} acknowledged, as after {at}");
    // And life goes on, from whatever operation it was as after.
    let mut expected = state;
    for number in last + 2..last + 12 {
        worker.step(number).await;
        expected.apply(seed, number);
    }
    assert!(worker.state().await == expected, "{point:?}: what came after is wrong");
    worker.volume().close().await.unwrap();
    drop(worker);
    let (worker, state) = found(&dir, seed, point).await;
    assert!(state == expected, "{point:?}: what came after was not kept");
    worker.volume().close().await.unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
}

/// Choices of a run that passes every point.
const COMES_BY_ALL: u64 = 2;

async fn run(seed: u64) {
    let work = volumes::directory();
    let (live, base) = (work.path().join("live"), work.path().join("base"));
    std::fs::create_dir(&live).unwrap();
    let mut worker = Worker::open(&live, seed).await;
    // A life before the one that is cut short, so that opening has something to recover.
    for number in 0..LAST {
        worker.step(number).await;
    }
    mooring_store::api::Tree::sync(&**worker.volume()).await.unwrap();
    let synced = open_packs(&live);
    worker.step(LAST).await;
    // What a process that dies now leaves behind.
    copy(&live, &base);
    let base = Base { dir: base, synced };
    worker.volume().close().await.unwrap();
    for (index, point) in Point::ALL.iter().enumerate().filter(|(_, point)| !of_the_key_ring(**point)) {
        let nth = 1 + number(seed, index as u64) % PASSINGS;
        hold_to(*point, (seed, most(*point).min(nth)), &base, work.path()).await;
    }
}

/// Nothing that is done on a volume comes by these. `keys.rs` fails each of them, and holds it to its claim.
fn of_the_key_ring(point: Point) -> bool {
    matches!(
        point,
        Point::KeyRingBeforeRename
            | Point::KeyRingBeforeCopy
            | Point::KeyRingBeforeMigration
            | Point::KeyRingMidMigration
    )
}

/// How often a life passes a point for certain.
fn most(point: Point) -> u64 {
    match point {
        Point::JournalMidRecover | Point::PackMidRecover | Point::JournalMidCut => 1,
        Point::JournalMidRepair | Point::PackMidRepair => 1,
        _ => PASSINGS,
    }
}

#[test]
fn killed_at_every_point_a_volume_keeps_its_claims() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    if let Ok(told) = std::env::var(CHILD) {
        return runtime.block_on(child(&told));
    }
    let given = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    for round in 0..given("MOORING_RUNS").unwrap_or(1) {
        let mut bytes = [0; 4];
        SystemRandom.fill(&mut bytes);
        // Whether every point is passed depends on the choices: the first ones are known to come by all of them.
        let chosen = if round == 0 { COMES_BY_ALL } else { u64::from(u32::from_le_bytes(bytes)) };
        let seed = given("MOORING_SEED").unwrap_or(chosen);
        eprintln!("replay with: MOORING_SEED={seed} cargo test -p mooring-store --test points");
        runtime.block_on(run(seed));
    }
}
