//! Files as memory, names at their limits, space, and locks between VMs.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mooring_tests::e2e::{Pattern, Site, lock_range, locked_by, refused, unlock_range, work};
use mooring_tests::wait::{self, Look};
use rustix::io::Errno;
use rustix::mm::{MapFlags, MsyncFlags, ProtFlags};

/// A file in memory, shared with everybody who maps it.
struct Mapping {
    start: *mut u8,
    length: usize,
}

impl Mapping {
    fn new(file: &File, length: usize) -> Result<Mapping> {
        let both = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address that the kernel picks touches no memory of ours.
        let start =
            unsafe { rustix::mm::mmap(std::ptr::null_mut(), length, both, MapFlags::SHARED, file, 0) };
        Ok(Mapping { start: start.context("mapping the file")?.cast(), length })
    }

    fn byte(&self, at: usize) -> u8 {
        assert!(at < self.length, "outside of the mapping");
        // SAFETY: inside the mapping, which lives as long as `self`; others may change the byte, so it is volatile.
        unsafe { self.start.add(at).read_volatile() }
    }

    fn set(&self, at: usize, byte: u8) {
        assert!(at < self.length, "outside of the mapping");
        // SAFETY: as in `byte`; the mapping is writable.
        unsafe { self.start.add(at).write_volatile(byte) }
    }

    fn sync(&self) -> Result<()> {
        // SAFETY: exactly this mapping.
        unsafe { rustix::mm::msync(self.start.cast(), self.length, MsyncFlags::SYNC) }.context("msync")
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly this mapping, and nothing refers to it any more.
        let _ = unsafe { rustix::mm::munmap(self.start.cast(), self.length) };
    }
}

#[tokio::test]
async fn a_mapped_file_is_the_file() -> Result<()> {
    const LENGTH: usize = 3 << 20;
    let site = Site::with_acme().await?;
    let (mut one, mut two) = (site.machine("acme", "one").await?, site.machine("acme", "two").await?);
    let (here, there) = (one.bucket("data").await?.join("mapped"), two.bucket("data").await?.join("mapped"));
    work(move || {
        let file = Pattern(5).write(&here, LENGTH as u64)?;
        drop(file);
        let file = OpenOptions::new().read(true).write(true).open(&here)?;
        let map = Mapping::new(&file, LENGTH)?;
        ensure!(
            map.byte(LENGTH - 1) == Pattern(5).bytes(LENGTH as u64 - 8, 8)[7],
            "reads come from the file"
        );
        for at in (0..LENGTH).step_by(64 << 10) {
            map.set(at, 0xaa);
        }
        map.sync()?;
        let bytes = fs::read(&here)?;
        ensure!(
            (0..LENGTH).step_by(64 << 10).all(|at| bytes[at] == 0xaa),
            "the same VM reads what was stored"
        );
        ensure!(fs::read(&there)? == bytes, "and so does the other VM");

        // A write through a descriptor shows in the mapping, from here and from the other VM.
        std::os::unix::fs::FileExt::write_all_at(&file, b"here", 100)?;
        ensure!(map.byte(100) == b'h');
        let other = OpenOptions::new().write(true).open(&there)?;
        std::os::unix::fs::FileExt::write_all_at(&other, b"there", 200)?;
        ensure!(map.byte(200) == b't', "a page that was mapped is stale");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn names_may_be_any_255_bytes() -> Result<()> {
    let site = Site::with_acme().await?;
    let mut vm = site.machine("acme", "one").await?;
    let data = vm.bucket("data").await?;
    let sdk = site.sdk("acme").await?;
    work(move || {
        let longest = "n".repeat(255);
        fs::write(data.join(&longest), "long")?;
        ensure!(fs::read(data.join(&longest))? == b"long");
        refused("256 bytes", File::create(data.join("n".repeat(256))), Errno::NAMETOOLONG)?;

        let odd: Vec<&[u8]> = vec![b"\xff\xfe not utf-8", b"new\nline", b" ", b"*?[", b"back\\slash", b"-rf"];
        for name in &odd {
            fs::write(data.join(OsStr::from_bytes(name)), name)?;
        }
        let listed: Vec<_> =
            fs::read_dir(&data)?.map(|entry| entry.map(|e| e.file_name())).collect::<Result<_, _>>()?;
        for name in &odd {
            let name = OsStr::from_bytes(name);
            ensure!(listed.iter().any(|listed| listed == name), "{name:?} is not listed");
            ensure!(fs::read(data.join(name))? == name.as_bytes());
        }
        deep(&data)
    })
    .await?;

    let keys = sdk.keys("data", "").await?;
    ensure!(
        keys.iter().any(|key| key == "new\nline") && keys.iter().any(|key| key == "back\\slash"),
        "{keys:?}"
    );
    ensure!(!keys.iter().any(|key| key.contains("not utf-8")), "a key that is not UTF-8 is no key");
    Ok(())
}

/// Paths longer than one system call takes work step by step.
fn deep(root: &Path) -> Result<()> {
    let mut folder = File::open(root)?;
    for _ in 0..60 {
        rustix::fs::mkdirat(
            &folder,
            "a-folder-of-some-length-that-adds-up-to-more-than-4096-bytes-in-all",
            0o755.into(),
        )?;
        let below = rustix::fs::openat(
            &folder,
            "a-folder-of-some-length-that-adds-up-to-more-than-4096-bytes-in-all",
            rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::RDONLY,
            rustix::fs::Mode::empty(),
        )?;
        folder = File::from(below);
    }
    Ok(())
}

#[tokio::test]
async fn space_is_that_of_the_host() -> Result<()> {
    let site = Site::with_acme().await?;
    let mut vm = site.machine("acme", "one").await?;
    let data = vm.bucket("data").await?;
    let host = rustix::fs::statvfs(site.gateway.data_dir().as_path())?;
    work(move || {
        let space = rustix::fs::statvfs(data.as_path())?;
        ensure!(space.f_blocks > 0 && space.f_bavail > 0 && space.f_files > 0, "no space or no inodes");
        let (here, there) = (space.f_bavail * space.f_frsize, host.f_bavail * host.f_frsize);
        ensure!(here <= there + (1 << 30), "more room ({here}) than the host has ({there})");
        ensure!(space.f_namemax == 255, "names of {}", space.f_namemax);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_lock_holds_between_vms() -> Result<()> {
    let site = Site::with_acme().await?;
    let (mut one, mut two) = (site.machine("acme", "one").await?, site.machine("acme", "two").await?);
    let (here, there) = (one.bucket("data").await?.join("db"), two.bucket("data").await?.join("db"));
    fs::write(&here, [0; 100])?;
    let open = |path: &Path| OpenOptions::new().read(true).write(true).open(path);
    let (ours, theirs) = (open(&here)?, open(&there)?);

    let theirs = work(move || {
        lock_range(&ours, 10, 20, false)?;
        ensure!(locked_by(&theirs, 0, 10)?.is_none(), "the bytes before are free");
        lock_range(&theirs, 30, 10, false).context("the bytes behind are free")?;
        let holder = locked_by(&theirs, 0, 100)?.context("nobody seems to hold it")?;
        ensure!((holder.start, holder.length, holder.exclusive) == (10, 20, true), "{holder:?}");
        refused("a lock that is held", lock_range(&theirs, 29, 1, false), Errno::AGAIN)?;
        unlock_range(&ours, 10, 10)?;
        lock_range(&theirs, 10, 10, false).context("half was given back")?;

        // Closing any descriptor of the file gives the rest back, as POSIX has it.
        drop(ours);
        lock_range(&theirs, 20, 10, false).context("closing gives locks back")?;
        Ok(theirs)
    })
    .await?;

    // Who waits gets it when it is free, and not before.
    let ours = open(&here)?;
    let waiter = tokio::task::spawn_blocking(move || lock_range(&ours, 10, 1, true).map(|()| ours));
    wait::until("the waiter to arrive", Duration::from_secs(10), || async {
        let waits = site.gateway.cli(&["--json", "status"]).await.and_then(|o| o.text());
        let waits = waits.and_then(|t| Ok(serde_json::from_str::<serde_json::Value>(&t)?));
        let busy = |s: &serde_json::Value| s["in_flight"].as_u64().is_some_and(|n| n > 0);
        let seen = waits.map(|s| s["sessions"].as_array().is_some_and(|all| all.iter().any(busy)));
        Look::if_true(seen.as_ref().is_ok_and(|seen| *seen), format!("{seen:?}"))
    })
    .await?;
    ensure!(!waiter.is_finished(), "two hold one lock");
    work(move || unlock_range(&theirs, 0, 100).map_err(Into::into)).await?;
    tokio::time::timeout(Duration::from_secs(10), waiter).await.context("the waiter was forgotten")???;
    Ok(())
}
