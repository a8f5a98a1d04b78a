//! A look that begins after a change has returned sees the change: in any VM, through S3, with the kernel's caches on.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, ensure};
use mooring_tests::e2e::{Machine, Sdk, Site, seed, work};
use tokio::runtime::Handle;

/// Two VMs of one tenant on one bucket, and S3 beside them.
struct Trio {
    sdk: Sdk,
    here: PathBuf,
    there: PathBuf,
    _vms: [Machine; 2],
    _site: Site,
}

async fn trio() -> Result<Trio> {
    let site = Site::with_acme().await?;
    let mut vms = [site.machine("acme", "one").await?, site.machine("acme", "two").await?];
    let [one, two] = &mut vms;
    let (here, there) = (one.bucket("data").await?, two.bucket("data").await?);
    Ok(Trio { sdk: site.sdk("acme").await?, here, there, _vms: vms, _site: site })
}

#[tokio::test]
async fn each_kind_of_change_is_seen_at_once() -> Result<()> {
    let trio = trio().await?;
    let (here, there) = (trio.here.clone(), trio.there.clone());
    work(move || {
        for round in 0..100 {
            one_change_after_another(&here, &there, round).with_context(|| format!("round {round}"))?;
            one_change_after_another(&there, &here, round)
                .with_context(|| format!("round {round}, swapped"))?;
        }
        Ok(())
    })
    .await
}

/// `here` changes, `there` looks, having looked before, so that every answer was cached.
fn one_change_after_another(here: &Path, there: &Path, round: u32) -> Result<()> {
    let name = format!("file-{round}");
    ensure!(!there.join(&name).exists(), "seen before it was made");
    fs::write(here.join(&name), "one")?;
    ensure!(fs::read(there.join(&name)).context("after create")? == b"one");
    ensure!(names(there)?.contains(&name), "not listed after create");

    let held = File::open(there.join(&name))?;
    let file = OpenOptions::new().write(true).open(here.join(&name))?;
    file.write_all_at(b"two", 0)?;
    let mut bytes = [0; 3];
    held.read_exact_at(&mut bytes, 0)?;
    ensure!(&bytes == b"two", "an open file reads {bytes:?} after a write");
    OpenOptions::new().append(true).open(here.join(&name))?.write_all(b"+++")?;
    ensure!(held.metadata()?.len() == 6 && fs::metadata(there.join(&name))?.len() == 6, "size after append");
    ensure!(fs::read(there.join(&name))? == b"two+++", "bytes after append");
    file.set_len(1)?;
    ensure!(held.metadata()?.len() == 1 && fs::read(there.join(&name))? == b"t", "after truncate");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(here.join(&name), mode)?;
    ensure!(std::os::unix::fs::MetadataExt::mode(&held.metadata()?) & 0o777 == 0o600, "mode after chmod");

    let moved = format!("moved-{round}");
    ensure!(!there.join(&moved).exists());
    fs::rename(here.join(&name), here.join(&moved))?;
    ensure!(!there.join(&name).exists() && fs::read(there.join(&moved))? == b"t", "after rename");
    let listed = names(there)?;
    ensure!(listed.contains(&moved) && !listed.contains(&name), "listing after rename");
    fs::remove_file(here.join(&moved))?;
    ensure!(!there.join(&moved).exists() && !names(there)?.contains(&moved), "after unlink");
    ensure!(held.metadata()?.len() == 1, "a file that is open lives on in the other VM");
    Ok(())
}

/// A VM that asked for names that are not there knows all that are: it must see every way in which one comes.
#[tokio::test]
async fn what_comes_into_a_folder_that_is_known_as_a_whole_is_seen() -> Result<()> {
    let trio = trio().await?;
    let (sdk, here, there) = (trio.sdk.clone(), trio.here.join("dir"), trio.there.join("dir"));
    let known = |folder: &Path, round: u32| {
        // The first that is missed, the second that is asked for as a whole, and those that are known then.
        ensure!((0..4).all(|miss| !folder.join(format!("none-{round}-{miss}")).exists()));
        anyhow::Ok(())
    };
    fs::create_dir(&here)?;
    for round in 0..30 {
        let name = |what: &str| format!("{what}-{round}");
        let (mine, theirs) = (here.clone(), there.clone());
        let (made, linked, moved, swapped) = (name("made"), name("linked"), name("moved"), name("swapped"));
        work(move || {
            known(&theirs, round)?;
            known(&mine, round)?;
            fs::write(mine.join(&made), "made")?;
            ensure!(theirs.join(&made).exists() && mine.join(&made).exists(), "after create");
            known(&theirs, round + 100)?;
            fs::hard_link(mine.join(&made), mine.join(&linked))?;
            ensure!(theirs.join(&linked).exists() && mine.join(&linked).exists(), "after link");
            // Two names of one file: a rename of one to the other does nothing.
            known(&mine, round + 200)?;
            fs::rename(mine.join(&made), mine.join(&linked))?;
            ensure!(
                mine.join(&made).exists() && mine.join(&linked).exists(),
                "after a rename that does nothing"
            );
            known(&theirs, round + 300)?;
            known(&mine, round + 300)?;
            fs::rename(mine.join(&linked), mine.join(&moved))?;
            for folder in [&theirs, &mine] {
                ensure!(folder.join(&moved).exists() && !folder.join(&linked).exists(), "after rename");
            }
            known(&mine, round + 400)?;
            fs::write(mine.join(&swapped), "another")?;
            let both = rustix::fs::RenameFlags::EXCHANGE;
            let cwd = rustix::fs::CWD;
            rustix::fs::renameat_with(cwd, mine.join(&moved), cwd, mine.join(&swapped), both)?;
            for folder in [&theirs, &mine] {
                ensure!(fs::read(folder.join(&swapped))? == b"made", "after an exchange");
                ensure!(fs::read(folder.join(&moved))? == b"another", "after an exchange");
            }
            fs::rename(mine.join(&moved), mine.join(&swapped))?;
            for folder in [&theirs, &mine] {
                ensure!(fs::read(folder.join(&swapped))? == b"another", "after a rename over it");
                ensure!(!folder.join(&moved).exists(), "after a rename over another");
            }
            known(&theirs, round + 500)?;
            known(&mine, round + 500)
        })
        .await
        .with_context(|| format!("round {round}"))?;
        let put = name("put");
        sdk.put("data", &format!("dir/{put}"), b"put").await?;
        let folders = [here.clone(), there.clone()];
        work(move || {
            for folder in folders {
                ensure!(fs::read(folder.join(&put)).context("after a PUT")? == b"put");
            }
            Ok(())
        })
        .await?;
    }
    Ok(())
}

fn names(folder: &Path) -> Result<BTreeSet<String>> {
    let entries = fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    entries.collect()
}

#[tokio::test]
async fn appends_from_two_vms_lose_nothing() -> Result<()> {
    const EACH: usize = 300;
    let trio = trio().await?;
    let append = |path: PathBuf, word: &'static str| {
        work(move || {
            let mut file = OpenOptions::new().append(true).create(true).open(path)?;
            for number in 0..EACH {
                file.write_all(format!("{word}-{number:04}\n").as_bytes())?;
            }
            Ok(())
        })
    };
    let both = tokio::join!(append(trio.here.join("log"), "a"), append(trio.there.join("log"), "b"));
    both.0.and(both.1)?;
    let body = trio.sdk.get("data", "log").await?.context("no such object")?;
    let text = String::from_utf8(body)?;
    for word in ["a", "b"] {
        let lines: Vec<_> = text.lines().filter(|line| line.starts_with(word)).collect();
        let right = lines.iter().enumerate().all(|(at, line)| *line == format!("{word}-{at:04}"));
        ensure!(lines.len() == EACH && right, "{} lines of {word}", lines.len());
    }
    ensure!(text.lines().count() == 2 * EACH);
    Ok(())
}

/// Changes and looks of all kinds by three parties at once. Each name has one counter that only grows; `done` is what
/// has returned, `begun` what may be seen already. A look that finds less than what had returned when it began, or
/// more than what had begun when it ended, is stale or from nowhere.
struct Register {
    kind: Kind,
    name: String,
    writing: std::sync::Mutex<()>,
    begun: AtomicU64,
    done: AtomicU64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The content is the counter, changed in place.
    Place,
    /// The content is the counter; a new file takes the name.
    Swap,
    /// The size tells the counter.
    Log,
    /// The name exists when the counter is odd.
    Name,
}

const RECORD: u64 = 16;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_random_looks_find_nothing_stale() -> Result<()> {
    // By hand, for as long as one likes.
    let limit = std::env::var("MOORING_LOOKS").map_or(Ok(10_000), |looks| looks.parse::<u64>())?;
    let trio = trio().await?;
    let kinds = [Kind::Place, Kind::Swap, Kind::Log, Kind::Name];
    let registers: Vec<Register> = (0..16)
        .map(|number| Register {
            kind: kinds[number % kinds.len()],
            name: format!("dir-{}/{:?}-{number}", number % 2, kinds[number % kinds.len()]),
            writing: std::sync::Mutex::default(),
            begun: AtomicU64::new(0),
            done: AtomicU64::new(0),
        })
        .collect();
    fs::create_dir(trio.here.join("dir-0"))?;
    fs::create_dir(trio.there.join("dir-1"))?;
    for register in registers.iter().filter(|register| register.kind != Kind::Name) {
        let first = if register.kind == Kind::Log { String::new() } else { record(0) };
        fs::write(trio.here.join(&register.name), first)?;
    }
    let (registers, looks, seed) = (Arc::new(registers), Arc::new(AtomicU64::new(0)), seed()?);
    let workers: Vec<_> = (0..6)
        .map(|number| {
            let party = Party {
                folder: [Some(trio.here.clone()), Some(trio.there.clone()), None][number % 3].clone(),
                sdk: trio.sdk.clone(),
                runtime: Handle::current(),
                random: fastrand::Rng::with_seed(seed.wrapping_add(number as u64)),
            };
            let (registers, looks) = (registers.clone(), looks.clone());
            work(move || party.work(&registers, &looks, limit))
        })
        .collect();
    // All of them, so that nobody still works on a mount that goes.
    let mut wrong = Vec::new();
    for worker in workers.into_iter().map(tokio::spawn).collect::<Vec<_>>() {
        wrong.extend(worker.await??);
    }
    let changes: u64 = registers.iter().map(|register| register.done.load(Ordering::SeqCst)).sum();
    println!("{} looks, {changes} changes", looks.load(Ordering::SeqCst));
    ensure!(wrong.is_empty(), "{} of them wrong:\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}

fn record(number: u64) -> String {
    format!("{number:015}\n")
}

/// One of those who change and look: through a mount, or through S3.
struct Party {
    folder: Option<PathBuf>,
    sdk: Sdk,
    runtime: Handle,
    random: fastrand::Rng,
}

impl Party {
    /// Works until there were looks enough; tells what went wrong.
    fn work(mut self, registers: &[Register], looks: &AtomicU64, limit: u64) -> Result<Vec<String>> {
        let who = self.folder.as_deref().unwrap_or(Path::new("S3")).display().to_string();
        let mut wrong = Vec::new();
        while looks.load(Ordering::SeqCst) < limit {
            let register = &registers[self.random.usize(..registers.len())];
            if self.random.u8(..10) == 0 {
                if let Err(error) = self.change(register) {
                    wrong.push(format!("{who}, changing {}: {error:#}", register.name));
                }
                continue;
            }
            let before = register.done.load(Ordering::SeqCst);
            let way = self.random.u8(..3);
            let seen = self.look(register, way);
            let after = register.begun.load(Ordering::SeqCst);
            looks.fetch_add(1, Ordering::SeqCst);
            let fits = match &seen {
                Ok(Seen::Count(seen)) => (before..=after).contains(seen),
                Ok(Seen::There(there)) => before != after || *there == (before % 2 == 1),
                Err(_) => false,
            };
            if !fits {
                let seen = seen.map_or_else(|error| format!("{error:#}"), |seen| format!("{seen:?}"));
                wrong.push(format!("{who}, {} by way {way}: {seen}, not {before}..={after}", register.name));
            }
        }
        Ok(wrong)
    }

    fn change(&mut self, register: &Register) -> Result<()> {
        let Ok(_alone) = register.writing.try_lock() else { return Ok(()) };
        let next = register.begun.load(Ordering::SeqCst) + 1;
        register.begun.store(next, Ordering::SeqCst);
        let temporary = format!("temporary-{}", self.random.u64(..));
        match (register.kind, &self.folder) {
            (Kind::Place, Some(folder)) => {
                let file = OpenOptions::new().write(true).open(folder.join(&register.name))?;
                file.write_all_at(record(next).as_bytes(), 0)?;
            }
            (Kind::Swap, Some(folder)) => {
                fs::write(folder.join(&temporary), record(next))?;
                fs::rename(folder.join(&temporary), folder.join(&register.name))?;
            }
            (Kind::Log, Some(folder)) => {
                let mut file = OpenOptions::new().append(true).open(folder.join(&register.name))?;
                file.write_all(record(next).as_bytes())?;
            }
            (Kind::Name, Some(folder)) if next % 2 == 1 => fs::write(folder.join(&register.name), "")?,
            (Kind::Name, Some(folder)) => fs::remove_file(folder.join(&register.name))?,
            (Kind::Log, None) => self.put(register, &record(next).repeat(usize::try_from(next)?))?,
            (Kind::Name, None) if next.is_multiple_of(2) => {
                self.runtime.block_on(self.sdk.delete("data", &register.name))?;
            }
            (_, None) => self.put(register, &record(next))?,
        }
        register.done.store(next, Ordering::SeqCst);
        Ok(())
    }

    fn put(&self, register: &Register, body: &str) -> Result<()> {
        self.runtime.block_on(self.sdk.put("data", &register.name, body.as_bytes())).map(drop)
    }

    fn look(&self, register: &Register, way: u8) -> Result<Seen> {
        match &self.folder {
            Some(folder) => look_in_mount(&folder.join(&register.name), register.kind, way),
            None => self.runtime.block_on(self.look_in_bucket(register, way)),
        }
    }

    async fn look_in_bucket(&self, register: &Register, way: u8) -> Result<Seen> {
        let key = register.name.as_str();
        Ok(match (register.kind, way) {
            (Kind::Name, 0) => Seen::There(self.sdk.get("data", key).await?.is_some()),
            (Kind::Name, 1) => Seen::There(self.sdk.keys("data", key).await?.iter().any(|k| k == key)),
            (Kind::Name, _) => Seen::There(self.sdk.head("data", key).await?.is_some()),
            (Kind::Log, 0) => Seen::Count(self.sdk.head("data", key).await?.context("gone")?.0 / RECORD),
            (Kind::Log, _) => {
                Seen::Count(self.sdk.get("data", key).await?.context("gone")?.len() as u64 / RECORD)
            }
            _ => Seen::Count(number(&self.sdk.get("data", key).await?.context("gone")?)?),
        })
    }
}

#[derive(Clone, Copy, Debug)]
enum Seen {
    Count(u64),
    There(bool),
}

fn look_in_mount(path: &Path, kind: Kind, way: u8) -> Result<Seen> {
    let folder = path.parent().context("a folder")?;
    let name = path.file_name().context("a name")?.to_string_lossy().into_owned();
    Ok(match (kind, way) {
        (Kind::Name, 0) => Seen::There(names(folder)?.contains(&name)),
        (Kind::Name, 1) => Seen::There(path.try_exists()?),
        (Kind::Name, _) => Seen::There(File::open(path).is_ok()),
        (Kind::Log, 0) => Seen::Count(fs::metadata(path)?.len() / RECORD),
        (Kind::Log, _) => Seen::Count(fs::read(path)?.len() as u64 / RECORD),
        _ => Seen::Count(number(&fs::read(path)?)?),
    })
}

fn number(bytes: &[u8]) -> Result<u64> {
    let text = std::str::from_utf8(bytes).context("garbage")?;
    text.trim().parse().with_context(|| format!("garbage: {text:?}"))
}
