//! The disk below the real gateway fails for a while: whoever changes something is told, reads go on, and when it is well
//! again so is everything, without a restart. Nothing that was acknowledged is missing then, nor after a kill.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use mooring_tests::disk::{Disk, Fault};
use mooring_tests::e2e::{Machine, Pattern, Sdk, Site, work};
use mooring_tests::wait::{self, Look};
use rustix::io::Errno;

/// How soon everything works again after the fault. The rest of it is what a loaded host adds.
const WITHIN: Duration = Duration::from_secs(30);
/// How long one attempt is waited for while the disk fails. It goes on by itself when it is well.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often something is attempted until the fault is told.
const ATTEMPTS: u64 = 30;
/// Folders that files are made in, in turn.
const FOLDERS: u64 = 101;

/// A gateway on a disk, a VM, an S3 client, and what must be there.
struct Rig {
    vm: Machine,
    mount: PathBuf,
    sdk: Sdk,
    site: Site,
    // Last: the gateway is gone before its disk.
    disk: Disk,
    /// What was acknowledged.
    kept: BTreeMap<String, (u64, usize)>,
    number: u64,
}

/// How an attempt ended.
#[derive(Debug)]
enum Told {
    Done,
    Errno(i32),
    Status(u16),
    /// It waits for the disk.
    Waits,
}

impl Rig {
    async fn new() -> Result<Rig> {
        let mut site = Site::start().await?;
        site.gateway.stop().await?;
        let disk = Disk::over(&site.gateway.data_dir())?;
        site.gateway.restart().await?;
        site.tenant("acme", &["data"]).await?;
        let mut vm = site.machine("acme", "one").await?;
        let (mount, sdk) = (vm.bucket("data").await?, site.sdk("acme").await?);
        let into = mount.clone();
        work(move || Ok((0..FOLDERS).try_for_each(|n| fs::create_dir(into.join(format!("d{n}"))))?)).await?;
        let mut rig = Rig { vm, mount, sdk, site, disk, kept: BTreeMap::new(), number: 0 };
        for _ in 0..3 {
            ensure!(matches!(rig.write().await?, Told::Done) && matches!(rig.put().await?, Told::Done));
        }
        Ok(rig)
    }

    fn next(&mut self) -> (u64, usize) {
        self.number += 1;
        (self.number, [900, 70_000, 400_000][(self.number / 2) as usize % 3])
    }

    /// A file that is written and synced on the mount.
    async fn write(&mut self) -> Result<Told> {
        let (number, length) = self.next();
        // What waits for the disk holds its folder, in the kernel already.
        let (name, mount) = (format!("d{}/file-{number}", number % FOLDERS), self.mount.clone());
        let into = mount.join(&name);
        let writing = tokio::task::spawn_blocking(move || {
            let mut file = File::create_new(into)?;
            file.write_all(&Pattern(number).bytes(0, length))?;
            file.sync_all()
        });
        match tokio::time::timeout(PATIENCE, writing).await {
            Err(_) => Ok(Told::Waits),
            Ok(done) => match done? {
                Ok(()) => {
                    self.kept.insert(name, (number, length));
                    Ok(Told::Done)
                }
                Err(error) => Ok(Told::Errno(error.raw_os_error().context("no errno")?)),
            },
        }
    }

    /// An object.
    async fn put(&mut self) -> Result<Told> {
        let (number, length) = self.next();
        let (name, body) = (format!("object-{number}"), Pattern(number).bytes(0, length));
        let put = self.sdk.client.put_object().bucket("data").key(&name).body(body.into()).send();
        match tokio::time::timeout(PATIENCE, put).await {
            Err(_) => Ok(Told::Waits),
            Ok(Ok(_)) => {
                self.kept.insert(name, (number, length));
                Ok(Told::Done)
            }
            Ok(Err(error)) => {
                let answer = error.raw_response().with_context(|| format!("no answer: {error}"))?;
                Ok(Told::Status(answer.status().as_u16()))
            }
        }
    }

    /// Every acknowledged byte is there, at both doors.
    async fn whole(&self) -> Result<()> {
        for (name, (number, length)) in &self.kept {
            let body = self.sdk.get("data", name).await?.with_context(|| format!("{name} is lost"))?;
            ensure!(body.len() == *length, "{name} has {} bytes, not {length}", body.len());
            Pattern(*number).check(0, &body).context(name.clone())?;
        }
        let (mount, kept) = (self.mount.clone(), self.kept.clone());
        work(move || {
            kept.iter()
                .try_for_each(|(name, (n, length))| Pattern(*n).verify(&mount.join(name), *length as u64))
        })
        .await
    }

    /// The gateway tells a fault at both doors. A `Done` is kept, whenever it comes.
    async fn until_told(&mut self, errno: Errno, status: u16) -> Result<()> {
        let (mut mount, mut s3) = (false, false);
        for _ in 0..ATTEMPTS {
            if !mount {
                match self.write().await? {
                    Told::Errno(told) if told == errno.raw_os_error() => mount = true,
                    Told::Errno(told) => bail!("the mount says {}", Errno::from_raw_os_error(told)),
                    _ => {}
                }
            }
            if !s3 {
                match self.put().await? {
                    Told::Status(told) if told == status => s3 = true,
                    Told::Status(told) => bail!("S3 says {told}"),
                    _ => {}
                }
            }
            if mount && s3 {
                return Ok(());
            }
        }
        bail!("not told: at the mount {mount}, through S3 {s3}; {} faults", self.disk.struck())
    }

    /// Waits until everything works again, and returns how long that took.
    async fn recovers(&mut self) -> Result<Duration> {
        let began = Instant::now();
        let mut last = Told::Waits;
        for door in 0..2 {
            loop {
                last = if door == 0 { self.write().await? } else { self.put().await? };
                if matches!(last, Told::Done) {
                    break;
                }
                ensure!(began.elapsed() < WITHIN, "still {last:?} after {:?}", began.elapsed());
                // An answer that came at once is no reason to ask without end.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        ensure!(matches!(last, Told::Done));
        Ok(began.elapsed())
    }

    /// The registry lies on the same disk: it answers, whatever that is. Returns the buckets that are to be there, those
    /// whose change waits for the disk included.
    async fn ask_registry(&self, fault: Fault, number: usize) -> Result<Vec<String>> {
        let mut there = Vec::new();
        for name in [format!("asked-{number}"), format!("again-{number}")] {
            let words = ["bucket", "create", "--tenant", "acme", &name];
            let answer = tokio::time::timeout(WITHIN, self.site.gateway.cli(&words)).await;
            let answer = answer.with_context(|| format!("{fault:?}: nobody answers"))??;
            let says = String::from_utf8_lossy(&answer.stderr).trim().to_owned();
            println!("{fault:?}: the registry says {says:?}");
            // A full disk has room that was set aside before.
            let made = says.is_empty() && matches!(fault, Fault::Full);
            ensure!(made || says.contains("disk fails or is full"), "{fault:?}: {says}");
            if made || says.contains("is made once it is well") {
                there.push(name);
            }
        }
        Ok(there)
    }

    async fn registry_works(&self, there: &[String], name: &str) -> Result<()> {
        wait::until("the registry", WITHIN, || async {
            Look::when_ok(self.site.gateway.bucket("acme", name).await)
        })
        .await?;
        for bucket in there.iter().map(String::as_str).chain([name]) {
            self.sdk
                .put(bucket, "used", b"used")
                .await
                .with_context(|| format!("{bucket} cannot be used"))?;
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fails_under_the_gateway_is_told_and_survived() -> Result<()> {
    let mut rig = Rig::new().await?;
    let process = rig.site.gateway.process().id();
    let faults =
        [(Fault::Full, Errno::NOSPC, 507), (Fault::Writes, Errno::IO, 500), (Fault::Syncs, Errno::IO, 500)];
    for (number, (fault, errno, status)) in faults.into_iter().enumerate() {
        rig.disk.set(fault);
        rig.until_told(errno, status).await.with_context(|| format!("{fault:?}"))?;
        let there = rig.ask_registry(fault, number).await?;
        rig.reads_go_on().await.with_context(|| format!("reads during {fault:?}"))?;
        rig.disk.set(Fault::None);
        let took = rig.recovers().await.with_context(|| format!("after {fault:?}"))?;
        println!("{fault:?}: works again after {took:?}");
        rig.registry_works(&there, &format!("made-{number}"))
            .await
            .with_context(|| format!("after {fault:?}"))?;
        rig.whole().await.with_context(|| format!("after {fault:?}"))?;
    }
    for fault in [Fault::Short, Fault::Slow] {
        rig.disk.set(fault);
        for _ in 0..4 {
            let (one, two) = (rig.write().await?, rig.put().await?);
            let fine = |told: &Told| matches!(told, Told::Done | Told::Waits);
            ensure!(fine(&one) && fine(&two), "{fault:?}: {one:?}, {two:?}");
        }
        ensure!(rig.disk.struck() > 0, "{fault:?} never struck");
        rig.disk.set(Fault::None);
        rig.recovers().await.with_context(|| format!("after {fault:?}"))?;
        rig.whole().await.with_context(|| format!("after {fault:?}"))?;
    }
    ensure!(process == rig.site.gateway.process().id());
    let log = rig.site.gateway.process().log().text();
    ensure!(!log.contains("panicked"), "{}", rig.site.gateway.process().log().tail());

    // Only the disk's word counts, not a cache's.
    rig.vm.agent.kill().await?;
    rig.site.gateway.kill().await?;
    rig.site.gateway.restart().await?;
    rig.vm = rig.site.machine("acme", "two").await?;
    rig.mount = rig.vm.bucket("data").await?;
    rig.whole().await.context("after a kill")?;
    let check = ["bucket", "check", "--tenant", "acme", "data", "--data"];
    let found = rig.site.gateway.json(&check).await?;
    ensure!(found["total"] == 0, "{found}");
    println!("{} acknowledged files and objects, none lost", rig.kept.len());
    Ok(())
}

impl Rig {
    /// What was there before the fault can be read, from the disk and through both doors.
    async fn reads_go_on(&self) -> Result<()> {
        let (name, (number, length)) = self.kept.first_key_value().context("nothing kept")?;
        let got = tokio::time::timeout(WITHIN, self.sdk.get("data", name)).await.context("S3 waits")??;
        Pattern(*number).check(0, &got.with_context(|| format!("{name} is lost"))?)?;
        let (path, number, length) = (self.mount.join(name), *number, *length as u64);
        tokio::time::timeout(WITHIN, work(move || Pattern(number).verify(&path, length)))
            .await
            .context("the mount waits")?
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_that_fail_are_errors_and_nothing_else_is_harmed() -> Result<()> {
    let mut rig = Rig::new().await?;
    // Nothing of it in a cache: bytes come from the disk.
    rig.vm.agent.stop().await?;
    rig.site.gateway.stop().await?;
    rig.site.gateway.restart().await?;
    rig.vm = rig.site.machine("acme", "two").await?;
    rig.mount = rig.vm.bucket("data").await?;
    let name = "object-4";
    ensure!(rig.kept.contains_key(name) && rig.kept[name].1 > 4096, "{:?}", rig.kept);
    let path = rig.mount.join(name);
    // Opened before, so that only the bytes are missing.
    let file = work(move || Ok(File::open(path)?)).await?;
    rig.disk.set(Fault::Reads);
    let file = work(move || {
        let mut file = file;
        let read = std::io::Read::read_to_end(&mut file, &mut Vec::new());
        ensure!(read.as_ref().is_err_and(|e| e.raw_os_error() == Some(Errno::IO.raw_os_error())), "{read:?}");
        Ok(file)
    })
    .await?;
    ensure!(rig.sdk.get("data", name).await.is_err(), "S3 served bytes that could not be read");
    rig.disk.set(Fault::None);
    drop(file);
    rig.recovers().await?;
    rig.whole().await?;
    let damage = rig.site.gateway.json(&["status"]).await?["damage"].clone();
    wait::until("damage to be forgotten", WITHIN, || async {
        match rig.site.gateway.json(&["status"]).await {
            Ok(status) => Look::if_true(status["damage"] == serde_json::json!([]), &status["damage"]),
            Err(error) => Look::NotYet(format!("{error:#}")),
        }
    })
    .await
    .with_context(|| format!("it was {damage}"))?;
    fs::metadata(&rig.mount).map(drop).context("the mount")
}
