//! A volume on disk against the definition of right: random operations through both doors, with crashes.
//!
//! Each run is one seed. `MOORING_SEED=<n> cargo test -p mooring-store --test model` replays one; `MOORING_RUNS=<n>`
//! makes more of them. After every few operations both trees are compared as a whole and the volume's checker must
//! find nothing. Crashes are of two kinds: the process dies (all that returned is kept), or the power goes (what is
//! left is the state after some operation not before the last sync).
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod files;
mod heads;
mod objects;
mod snapshots;
#[path = "../volumes/mod.rs"]
mod volumes;

use bytes::Bytes;
use mooring_policy::rng::{Random, SeededRandom, SystemRandom};
use mooring_protocol::types::{
    Allocate, Attr, FileKind, Ino, Name, NewNode, RenameMode, Seek, SetAttr, SetTime, Time, XattrMode,
};
use mooring_store::api::{
    Caller, Condition, ListQuery, ObjectMeta, Objects, PartInfo, Result, Snapshots, Staged, Tree, WriteAt,
};
use mooring_store::error::StoreError;
use mooring_store::keys::HeadId;
use mooring_store::oracle::Oracle;
use mooring_store::volume::{Config, GcConfig, LocalOptions, Volume};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use volumes::dump::{Known, attr_line, dump};
use volumes::medium::{Fate, Loss, Recorder};
use volumes::{at, name, options};

const NAMES: [&str; 7] = ["a", "b", "a.b", "a0", "c", "%:b%2Fc", "dir"];
const KEYS: [&str; 22] = [
    "a", "b", "a/b", "a/b/c", "a/", "a/b/", "a//b", "/", "//", "a/.", "../a", "a/../b", "a.b/c", "a0",
    "c/a/b/a0", "dir/", "dir/a", "dir//", "dir/a/", "b/c", "c", "%:b%2Fc",
];
const MIN_PART: u64 = 5000;

/// Two of everything: the volume's and the oracle's.
type Pair = (Ino, Ino);

struct Run {
    random: SeededRandom,
    dir: PathBuf,
    copies: u32,
    volume: Arc<Volume>,
    oracle: Arc<Oracle>,
    /// The heads that are not looked at now.
    others: Vec<heads::Head>,
    /// Every number of a head there was.
    heads: Vec<HeadId>,
    now: i64,
    nodes: Vec<Pair>,
    pins: Vec<Pair>,
    staged: Vec<(Staged, Staged)>,
    uploads: Vec<(String, String, String)>,
    known: Known,
    log: Vec<String>,
    /// How often garbage was collected.
    collected: u64,
}

fn with_small_parts(dir: &Path) -> LocalOptions {
    let small = Config {
        min_part_bytes: MIN_PART,
        // The oracle knows no time: what loses its name is gone at once.
        linger: std::time::Duration::ZERO,
        stream_bytes: 64 << 10,
        extent_bytes: 16 << 10,
        // Small, so that files have many.
        window_bytes: 32 << 10,
        // So are maps.
        few_rows: 2,
        // And chains.
        layers: 3,
        // Small, so that packs die and are rewritten; when, the run decides.
        pack_bytes: 256 << 10,
        gc: GcConfig { interval: std::time::Duration::ZERO, bytes_per_second: 0 },
        ..Config::default()
    };
    LocalOptions { config: small, ..options(dir) }
}

fn same<A, B>(one: &Result<A>, two: &Result<B>, what: &str) -> bool {
    match (one, two) {
        (Ok(_), Ok(_)) => true,
        (Err(one), Err(two)) => {
            let kind = std::mem::discriminant::<StoreError>;
            assert_eq!(kind(one), kind(two), "{what}: the volume says {one:?}, the oracle {two:?}");
            false
        }
        (one, two) => {
            panic!("{what}: the volume says {:?}, the oracle {:?}", one.as_ref().err(), two.as_ref().err())
        }
    }
}

fn same_attr(one: &Attr, two: &Attr, what: &str) {
    assert_eq!(attr_line(one), attr_line(two), "{what}");
}

impl Run {
    async fn new(seed: u64, dir: &Path) -> Run {
        let home = dir.join("0");
        std::fs::create_dir(&home).unwrap();
        let volume = Volume::open_local(with_small_parts(&home)).await.unwrap();
        // The root's times are of the machine's clock; bring both to one.
        let born = volume.getattr(&at(0), Ino::ROOT).await.unwrap().btime;
        let oracle = Arc::new(Oracle::new(born).with_min_part_bytes(MIN_PART));
        let times = SetAttr {
            mode: Some(0o755),
            atime: Some(SetTime::At(Time::default())),
            mtime: Some(SetTime::At(Time::default())),
            ..SetAttr::default()
        };
        let now = 4_000_000_000;
        volume.setattr(&at(now), Ino::ROOT, &times).await.unwrap();
        oracle.setattr(&at(now), Ino::ROOT, &times).await.unwrap();
        Run {
            random: SeededRandom::new(seed),
            dir: dir.to_owned(),
            copies: 0,
            volume,
            oracle,
            others: Vec::new(),
            heads: vec![HeadId::FIRST],
            now,
            nodes: vec![(Ino::ROOT, Ino::ROOT)],
            pins: Vec::new(),
            staged: Vec::new(),
            uploads: Vec::new(),
            known: Known::new(),
            log: Vec::new(),
            collected: 0,
        }
    }

    fn below(&self, bound: u64) -> u64 {
        let mut bytes = [0; 8];
        self.random.fill(&mut bytes);
        u64::from_le_bytes(bytes) % bound
    }

    fn pick<'a, T>(&self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len() as u64) as usize]
    }

    /// Mostly the youngest nodes, so that trees grow deep.
    fn node(&self) -> Pair {
        let recent = self.nodes.len().min(12) as u64;
        match self.below(4) {
            0 => self.nodes[self.below(self.nodes.len() as u64) as usize],
            1 => (Ino::ROOT, Ino::ROOT),
            _ => self.nodes[self.nodes.len() - 1 - self.below(recent) as usize],
        }
    }

    fn name(&self) -> Name {
        name(self.pick::<&str>(&NAMES))
    }

    fn bytes(&self) -> Bytes {
        let len = match self.below(6) {
            0 => 0,
            1 => self.below(100),
            2 => 4096,
            3 => 8192 * (1 + self.below(4)),
            4 => self.below(9000),
            _ => self.below(200_000),
        };
        // Few distinct contents, so that extents are shared and unshared often.
        let fill = self.below(3) as u8;
        Bytes::from((0..len).map(|at| fill.wrapping_add((at / 4096) as u8)).collect::<Vec<_>>())
    }

    fn offset(&self) -> u64 {
        match self.below(4) {
            0 => 0,
            1 => 4096 * self.below(40),
            2 => self.below(10_000),
            _ => self.below(300_000),
        }
    }

    fn callers(&mut self) -> (Caller, Caller) {
        self.now += 1;
        let cx = at(self.now);
        if self.below(8) != 0 {
            return (cx.clone(), cx);
        }
        let (one, two) = self.node();
        let confined = |root| Caller { root, confined: true, ..cx.clone() };
        (confined(one), confined(two))
    }

    fn learn(&mut self, one: Ino, two: Ino) {
        if !self.nodes.contains(&(one, two)) {
            self.nodes.push((one, two));
        }
    }

    async fn step(&mut self) {
        self.step_but(None).await;
    }

    async fn step_but(&mut self, leave_out: Option<std::ops::RangeInclusive<u64>>) {
        match self.below(100) {
            out if leave_out.is_some_and(|range| range.contains(&out)) => {}
            0..=13 => self.create().await,
            14..=18 => self.remove().await,
            19..=27 => self.rename().await,
            28..=31 => self.link().await,
            32..=47 => self.write().await,
            48..=53 => self.setattr().await,
            54..=58 => self.allocate().await,
            59..=62 => self.copy().await,
            63..=66 => self.xattr().await,
            67..=69 => self.pin().await,
            70..=80 => self.put().await,
            81..=82 => self.snapshot().await,
            83..=85 => self.change_snapshots().await,
            86..=89 => self.delete().await,
            90..=93 => self.list().await,
            94..=96 => self.multipart().await,
            97 => self.collect().await,
            98 => self.change_heads().await,
            _ => self.look().await,
        }
    }

    async fn look(&mut self) {
        let (cx, cy) = self.callers();
        let ((i, j), offset) = (self.node(), self.offset());
        for what in [Seek::Data, Seek::Hole] {
            let text = format!("seek {i:?} {offset} {what:?} confined {}", cx.confined);
            let one = self.volume.seek(&cx, i, offset, what).await;
            let two = self.oracle.seek(&cy, j, offset, what).await;
            if same(&one, &two, &text) {
                assert_eq!(one.unwrap(), two.unwrap(), "{text}");
            }
        }
        let text = format!("read {i:?} {offset} confined {}", cx.confined);
        let one = self.volume.read(&cx, i, offset, 50_000).await;
        let two = self.oracle.read(&cy, j, offset, 50_000).await;
        if same(&one, &two, &text) {
            assert_eq!(one.unwrap().0.concat(), two.unwrap().0.concat(), "{text}");
        }
        let key = self.pick(&KEYS).as_bytes();
        let (one, two) =
            (self.volume.head(&at(self.now), key).await, self.oracle.head(&at(self.now), key).await);
        same(&one, &two, &format!("head {}", key.escape_ascii()));
    }

    /// Shows nothing: what the volume holds stays as it is.
    async fn collect(&mut self) {
        let done = self.volume.collect_garbage().await.unwrap();
        self.log.push(format!("garbage: {done:?}"));
        self.collected += 1;
    }

    async fn compare(&self) {
        let (one, two) = (dump(&*self.volume, &self.known).await, dump(&*self.oracle, &self.known).await);
        for (one, two) in one.iter().zip(&two) {
            assert_eq!(one, two);
        }
        assert_eq!(one.len(), two.len());
        self.compare_snapshots().await;
        self.compare_heads().await;
        let report = self.volume.check().await.unwrap();
        assert_eq!(report.findings, []);
    }

    /// Goes on with what a process that dies now leaves behind.
    async fn die(&mut self) {
        let copy = self.left_behind();
        self.log.push("the process dies".into());
        let ids = self.close_all().await;
        self.reopen(&copy, &ids).await;
        self.oracle.restart();
        self.others.iter().for_each(|head| head.oracle.restart());
        self.compare().await;
    }

    fn left_behind(&mut self) -> PathBuf {
        let from = self.dir.join(self.copies.to_string());
        self.copies += 1;
        let to = self.dir.join(self.copies.to_string());
        let done = std::process::Command::new("cp").arg("-a").arg(from).arg(&to).status().unwrap();
        assert!(done.success());
        to
    }
}

/// Prints the last operations when a run fails.
impl Drop for Run {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let from = self.log.len().saturating_sub(25);
            eprintln!("last operations:\n  {}", self.log[from..].join("\n  "));
        }
    }
}

async fn run(seed: u64) {
    let dir = volumes::directory();
    let mut run = Run::new(seed, dir.path()).await;
    for round in 0..12 {
        for _ in 0..15 {
            run.step().await;
        }
        run.compare().await;
        run.switch();
        if round % 4 == 3 {
            run.die().await;
        }
    }
    run.close_all().await;
}

/// Bytes of each journal file up to its last that is not zero.
fn journal(dir: &Path) -> BTreeMap<std::ffi::OsString, u64> {
    let files = std::fs::read_dir(dir.join("volume/journal")).unwrap().map(|entry| entry.unwrap());
    let used =
        |path: &Path| std::fs::read(path).unwrap().iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
    files.map(|file| (file.file_name(), used(&file.path()) as u64)).collect()
}

/// A run that ends with the power going: what was synced is on the medium. Of the rest, once any beginning of the journal
/// and all of the packs, then what [`volumes::medium`] makes of both apart.
async fn lose_power(seed: u64) {
    let dir = volumes::directory();
    let mut run = Run::new(seed, dir.path()).await;
    for _ in 0..40 {
        run.step().await;
    }
    run.volume.sync().await.unwrap();
    let mut synced = journal(&dir.path().join("0"));
    let recorder = Recorder::start(&dir.path().join("0"));
    let mut states = vec![run.oracles().await];
    for _ in 0..20 {
        // A copy that is cut off may have copied a beginning; everything else is one commit.
        let copies = 59..=62;
        let collected = run.collected;
        run.step_but(Some(copies)).await;
        if run.collected > collected {
            // It has synced, and may have deleted what the journal named before.
            synced = journal(&dir.path().join("0"));
        }
        states.push(run.oracles().await);
        if run.below(4) == 0 {
            run.switch();
        }
    }
    let left = run.left_behind();
    for (file, end) in journal(&left) {
        let least = synced.get(&file).copied().unwrap_or(0).min(end);
        let keep = least + run.below(end - least + 1);
        let file = std::fs::File::options().write(true).open(left.join("volume/journal").join(file)).unwrap();
        let len = file.metadata().unwrap().len();
        file.set_len(keep).unwrap();
        file.set_len(len).unwrap();
    }
    let mut images = vec![(left, "a beginning of the journal".to_owned())];
    let losses = Loss::all();
    let chance = (0..2).map(|_| losses[run.below(losses.len() as u64) as usize]).collect::<Vec<_>>();
    let worst = Loss { journal: Fate::Kept, packs: Fate::Lost };
    for (number, loss) in [worst].into_iter().chain(chance).enumerate() {
        let image = dir.path().join(format!("image{number}"));
        recorder.image(&image, loss, &run.random);
        images.push((image, format!("{loss:?}")));
    }
    run.close_all().await;
    drop(recorder);
    for (image, what) in images {
        run.log.push(format!("the power goes: {what}"));
        let (found, heads) = run.trees_of(&image).await;
        assert!(states.contains(&found), "{what}: the trees are none that were: {found:#?}");
        for head in &heads {
            assert_eq!(head.check().await.unwrap().findings, []);
            head.close().await.unwrap();
        }
    }
}

fn environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

/// Runs one seed on a runtime of its own and tells how to repeat it.
fn replayable(seed: u64, run: impl Future<Output = ()>) {
    struct Tell(u64);
    impl Drop for Tell {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("replay with: MOORING_SEED={} cargo test -p mooring-store --test model", self.0);
            }
        }
    }
    let _tell = Tell(seed);
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(run);
}

fn seeds(runs: u64) -> Vec<u64> {
    match environment("MOORING_SEED") {
        Some(seed) => vec![seed],
        None => (0..environment("MOORING_RUNS").unwrap_or(runs))
            .map(|_| {
                let mut bytes = [0; 4];
                SystemRandom.fill(&mut bytes);
                u64::from(u32::from_le_bytes(bytes))
            })
            .collect(),
    }
}

#[test]
fn a_volume_does_what_the_oracle_does() {
    for seed in seeds(12) {
        replayable(seed, run(seed));
    }
}

#[test]
fn after_a_power_cut_a_volume_is_as_it_once_was() {
    for seed in seeds(12) {
        replayable(seed, lose_power(seed));
    }
}
