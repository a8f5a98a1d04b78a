//! A mount is a file system like any other. Every check runs on this host's own disk first, so that what is asked of
//! the mount is what Linux does and not what somebody remembers.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};
use mooring_tests::e2e::{Pattern, Site, refused, work};
use rustix::fs::{CWD, FallocateFlags, FileType, Mode, RenameFlags, SeekFrom as Place, XattrFlags};
use rustix::io::Errno;

/// Runs a check on a disk and on a mount.
async fn like_on_a_disk(check: fn(&Path) -> Result<()>) -> Result<()> {
    let disk = tempfile::tempdir_in(mooring_tests::artifacts::target_dir()?)?;
    check(disk.path()).context("on this host's own disk")?;
    let site = Site::with_acme().await?;
    let mut vm = site.machine("acme", "one").await?;
    let data = vm.bucket("data").await?;
    work(move || check(&data)).await.context("on the mount")
}

#[tokio::test]
async fn files_are_made_written_and_removed() -> Result<()> {
    like_on_a_disk(|dir| {
        let path = dir.join("note");
        fs::write(&path, "first")?;
        refused("creating what exists", File::create_new(&path), Errno::EXIST)?;
        let mut append = OpenOptions::new().append(true).open(&path)?;
        append.write_all(b", second")?;
        append.seek(SeekFrom::Start(0))?;
        append.write_all(b", third")?;
        ensure!(fs::read(&path)? == b"first, second, third", "appending goes to the end");
        fs::write(&path, "short")?;
        ensure!(fs::read(&path)? == b"short", "O_TRUNC empties");
        ensure!(fs::metadata(&path)?.len() == 5);
        fs::remove_file(&path)?;
        refused("opening what is gone", File::open(&path), Errno::NOENT)?;
        refused("removing what is gone", fs::remove_file(&path), Errno::NOENT)?;
        refused("a file as a folder", File::open(dir.join("note/below")), Errno::NOENT)?;

        let pattern = Pattern(1);
        pattern.write(&dir.join("large"), (20 << 20) + 5)?.sync_all()?;
        pattern.verify(&dir.join("large"), (20 << 20) + 5)?;
        let large = OpenOptions::new().read(true).write(true).open(dir.join("large"))?;
        large.write_all_at(&[0xee; 5000], 3_000_001)?;
        let mut around = [0; 5002];
        large.read_exact_at(&mut around, 3_000_000)?;
        ensure!(around[1..5001] == [0xee; 5000], "a write in the middle");
        ensure!(around[5001] == pattern.bytes(3_005_000, 2)[1], "and not a byte further");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_listing_disturbs_nobody_who_reads() -> Result<()> {
    like_on_a_disk(|dir| {
        let path = dir.join("read");
        fs::write(&path, "sixteen bytes...")?;
        fs::set_permissions(&path, Permissions::from_mode(0o751))?;
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let lister = scope.spawn(|| {
                while !over.load(Ordering::Acquire) {
                    ensure!(fs::read_dir(dir)?.count() == 1);
                }
                Ok(())
            });
            let read = (0..2000).try_for_each(|_| {
                let file = File::open(&path)?;
                let now = file.metadata()?;
                ensure!(now.len() == 16 && now.mode() & 0o7777 == 0o751, "{now:?}");
                let mut bytes = [0; 64];
                ensure!(file.read_at(&mut bytes, 0)? == 16, "the file's end has moved");
                Ok(())
            });
            over.store(true, Ordering::Release);
            lister.join().map_err(|_| anyhow::anyhow!("the lister panicked"))?.and(read)
        })
    })
    .await
}

#[tokio::test]
async fn folders_are_made_listed_and_removed() -> Result<()> {
    like_on_a_disk(|dir| {
        fs::create_dir_all(dir.join("a/b/c"))?;
        refused("making what exists", fs::create_dir(dir.join("a")), Errno::EXIST)?;
        refused("removing a full folder", fs::remove_dir(dir.join("a")), Errno::NOTEMPTY)?;
        refused("unlinking a folder", rustix::fs::unlink(dir.join("a")).map_err(Into::into), Errno::ISDIR)?;
        ensure!(fs::metadata(dir.join("a"))?.nlink() >= 2);
        fs::remove_dir_all(dir.join("a"))?;
        ensure!(fs::read_dir(dir)?.next().is_none(), "something is left");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_listing_of_ten_thousand_is_complete_while_it_changes() -> Result<()> {
    like_on_a_disk(|dir| {
        const COUNT: usize = 10_000;
        let many = dir.join("many");
        fs::create_dir(&many)?;
        for number in 0..COUNT {
            File::create_new(many.join(format!("entry-{number:05}")))?;
        }
        // What stays through the whole listing must be seen exactly once, whatever comes and goes meanwhile.
        let mut seen = Vec::new();
        for (at, entry) in fs::read_dir(&many)?.enumerate() {
            let name = entry?.file_name().into_string().ok().context("a name that is not text")?;
            if at % 100 == 0 && at / 100 < 50 {
                fs::write(many.join(format!("new-{at}")), "")?;
                fs::remove_file(many.join(format!("entry-{:05}", COUNT - 1 - at / 100)))?;
            }
            seen.push(name);
        }
        let mut stayed: Vec<_> =
            seen.iter().filter(|n| n.starts_with("entry") && n.as_str() < "entry-09950").collect();
        stayed.sort();
        let unique = stayed.windows(2).all(|pair| pair[0] != pair[1]);
        ensure!(stayed.len() == COUNT - 50 && unique, "{} of {} seen", stayed.len(), COUNT - 50);
        let now = fs::read_dir(&many)?.count();
        ensure!(now == COUNT, "{now} entries");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn renames_are_atomic_for_files_and_folders() -> Result<()> {
    like_on_a_disk(|dir| {
        fs::write(dir.join("old"), "old")?;
        fs::write(dir.join("new"), "new")?;
        let held = File::open(dir.join("old"))?;
        fs::rename(dir.join("new"), dir.join("old"))?;
        ensure!(fs::read(dir.join("old"))? == b"new" && !dir.join("new").exists());
        ensure!(std::io::read_to_string(held)? == "old", "an open file keeps its bytes");

        fs::create_dir_all(dir.join("tree/deep"))?;
        for number in 0..500 {
            fs::write(dir.join(format!("tree/deep/{number}")), number.to_string())?;
        }
        fs::create_dir_all(dir.join("elsewhere"))?;
        fs::rename(dir.join("tree"), dir.join("elsewhere/moved"))?;
        ensure!(fs::read(dir.join("elsewhere/moved/deep/499"))? == b"499" && !dir.join("tree").exists());
        let into_itself = fs::rename(dir.join("elsewhere"), dir.join("elsewhere/moved/deep/loop"));
        refused("a folder into itself", into_itself, Errno::INVAL)?;
        let over_full = fs::rename(dir.join("elsewhere/moved/deep"), dir.join("elsewhere"));
        refused("over a full folder", over_full, Errno::NOTEMPTY)?;
        refused("a folder over a file", fs::rename(dir.join("elsewhere"), dir.join("old")), Errno::NOTDIR)?;

        let renameat = |from: &str, to: &str, flags| {
            rustix::fs::renameat_with(CWD, dir.join(from), CWD, dir.join(to), flags)
                .map_err(std::io::Error::from)
        };
        fs::write(dir.join("left"), "l")?;
        fs::write(dir.join("right"), "r")?;
        refused("NOREPLACE", renameat("left", "right", RenameFlags::NOREPLACE), Errno::EXIST)?;
        renameat("left", "right", RenameFlags::EXCHANGE)?;
        ensure!(fs::read(dir.join("left"))? == b"r" && fs::read(dir.join("right"))? == b"l", "exchange");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn links_and_symlinks_lead_where_they_should() -> Result<()> {
    like_on_a_disk(|dir| {
        fs::write(dir.join("file"), "body")?;
        fs::hard_link(dir.join("file"), dir.join("same"))?;
        let (one, two) = (fs::metadata(dir.join("file"))?, fs::metadata(dir.join("same"))?);
        ensure!(one.ino() == two.ino() && one.nlink() == 2);
        OpenOptions::new().append(true).open(dir.join("same"))?.write_all(b"!")?;
        ensure!(fs::read(dir.join("file"))? == b"body!", "both names are one file");
        fs::remove_file(dir.join("file"))?;
        ensure!(fs::metadata(dir.join("same"))?.nlink() == 1);
        refused("linking a folder", fs::hard_link(dir, dir.join("loop")), Errno::PERM)?;

        symlink("same", dir.join("soft"))?;
        symlink("nowhere", dir.join("broken"))?;
        symlink("round", dir.join("round"))?;
        ensure!(fs::read_link(dir.join("soft"))? == Path::new("same"));
        ensure!(fs::symlink_metadata(dir.join("soft"))?.len() == 4, "a symlink is as long as its target");
        ensure!(fs::read(dir.join("soft"))? == b"body!");
        refused("a broken symlink", File::open(dir.join("broken")), Errno::NOENT)?;
        refused("a round symlink", File::open(dir.join("round")), Errno::LOOP)?;
        let no_follow = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(dir.join("soft"));
        refused("O_NOFOLLOW", no_follow, Errno::LOOP)?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn sizes_and_holes_are_kept() -> Result<()> {
    like_on_a_disk(|dir| {
        let path = dir.join("sparse");
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
        file.write_all_at(b"begin", 0)?;
        file.write_all_at(b"end", 1 << 30)?;
        file.sync_all()?;
        ensure!(file.metadata()?.len() == (1 << 30) + 3);
        ensure!(file.metadata()?.blocks() < 2048, "a hole takes {} blocks", file.metadata()?.blocks());
        let mut middle = [1; 4096];
        file.read_exact_at(&mut middle, 1 << 29)?;
        ensure!(middle == [0; 4096], "a hole reads as zeros");
        let data = rustix::fs::seek(&file, Place::Data(1 << 20))?;
        ensure!(data > 1 << 29 && data <= 1 << 30, "SEEK_DATA finds {data}");
        let hole = rustix::fs::seek(&file, Place::Hole(0))?;
        ensure!((5..=1 << 20).contains(&hole), "SEEK_HOLE finds {hole}");

        // What was cut off must not come back.
        file.set_len(3)?;
        file.set_len(10)?;
        ensure!(fs::read(&path)? == b"beg\0\0\0\0\0\0\0");
        rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, 100_000)?;
        ensure!(file.metadata()?.len() == 100_000);
        file.write_all_at(&[7; 100_000], 0)?;
        let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        rustix::fs::fallocate(&file, punch, 8192, 8192)?;
        let bytes = fs::read(&path)?;
        let zeros = bytes.iter().filter(|byte| **byte == 0).count();
        ensure!(bytes.len() == 100_000 && zeros == 8192 && bytes[8192] == 0, "{zeros} bytes punched");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_unlinked_file_lives_until_it_is_closed() -> Result<()> {
    like_on_a_disk(|dir| {
        let path = dir.join("ghost");
        let mut file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
        file.write_all(b"still ")?;
        fs::remove_file(&path)?;
        file.write_all(b"here")?;
        file.sync_all()?;
        file.rewind()?;
        ensure!(std::io::read_to_string(&file)? == "still here");
        ensure!(file.metadata()?.nlink() == 0 && file.metadata()?.len() == 10);
        file.set_len(2)?;
        ensure!(file.metadata()?.len() == 2);
        ensure!(fs::read_dir(dir)?.count() == 0, "nothing of it is listed");

        let nameless = OpenOptions::new().read(true).write(true).custom_flags(libc::O_CREAT).open(&path)?;
        fs::write(dir.join("other"), "other")?;
        fs::rename(dir.join("other"), &path)?;
        ensure!(nameless.metadata()?.nlink() == 0, "replaced is unlinked too");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn permissions_times_and_attributes_are_kept() -> Result<()> {
    like_on_a_disk(|dir| {
        let path = dir.join("file");
        let file = OpenOptions::new().write(true).create_new(true).mode(0o4755).open(&path)?;
        ensure!(file.metadata()?.mode() & 0o7777 == 0o4755);
        std::os::unix::fs::chown(&path, Some(1234), Some(4321))?;
        ensure!((file.metadata()?.uid(), file.metadata()?.gid()) == (1234, 4321));
        ensure!(file.metadata()?.mode() & 0o4000 == 0, "a new owner drops setuid");
        fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        ensure!(fs::metadata(&path)?.mode() & 0o7777 == 0o600);

        let then = std::time::UNIX_EPOCH + std::time::Duration::new(1_000_000_000, 123_456_789);
        file.set_times(fs::FileTimes::new().set_modified(then).set_accessed(then))?;
        let meta = fs::metadata(&path)?;
        ensure!(meta.modified()? == then && meta.accessed()? == then, "nanoseconds are kept");
        let before = (meta.ctime(), meta.ctime_nsec());
        file.write_all_at(b"x", 0)?;
        file.sync_all()?;
        let meta = fs::metadata(&path)?;
        ensure!(meta.modified()? > then, "a write is a change");
        ensure!((meta.ctime(), meta.ctime_nsec()) > before, "the change time only grows");

        let value = |name: &str| {
            let mut bytes = vec![0; 1 << 16];
            let size = rustix::fs::getxattr(&path, name, &mut bytes)?;
            Ok::<_, Errno>(bytes[..size].to_vec())
        };
        rustix::fs::setxattr(&path, "user.colour", b"blue", XattrFlags::CREATE)?;
        let again = rustix::fs::setxattr(&path, "user.colour", b"red", XattrFlags::CREATE);
        refused("XATTR_CREATE", again.map_err(Into::into), Errno::EXIST)?;
        rustix::fs::setxattr(&path, "user.empty", b"", XattrFlags::empty())?;
        ensure!(value("user.colour")? == b"blue" && value("user.empty")?.is_empty());
        let mut names = vec![0; 4096];
        let size = rustix::fs::listxattr(&path, &mut names)?;
        let names = String::from_utf8_lossy(&names[..size]).into_owned();
        ensure!(names.contains("user.colour\0") && names.contains("user.empty\0"), "{names:?}");
        rustix::fs::removexattr(&path, "user.colour")?;
        refused("a removed attribute", value("user.colour").map_err(Into::into), Errno::NODATA)?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn sockets_pipes_and_devices_can_be_named() -> Result<()> {
    like_on_a_disk(|dir| {
        rustix::fs::mknodat(CWD, dir.join("pipe"), FileType::Fifo, Mode::from_raw_mode(0o600), 0)?;
        ensure!(fs::symlink_metadata(dir.join("pipe"))?.file_type().is_fifo());
        let pipe = dir.join("pipe");
        let writer = std::thread::spawn(move || fs::write(pipe, "through"));
        ensure!(fs::read(dir.join("pipe"))? == b"through");
        writer.join().ok().context("the writer panicked")??;

        // A socket's path is short; the folder is entered by its descriptor.
        let folder = File::open(dir)?;
        let path = format!("/proc/self/fd/{}/s", std::os::fd::AsRawFd::as_raw_fd(&folder));
        let listener = UnixListener::bind(&path)?;
        UnixStream::connect(&path)?.write_all(b"hi")?;
        let mut got = String::new();
        listener.accept()?.0.read_to_string(&mut got)?;
        ensure!(got == "hi" && fs::symlink_metadata(dir.join("s"))?.file_type().is_socket());

        let null = rustix::fs::makedev(1, 3);
        rustix::fs::mknodat(
            CWD,
            dir.join("null"),
            FileType::CharacterDevice,
            Mode::from_raw_mode(0o666),
            null,
        )?;
        let meta = fs::symlink_metadata(dir.join("null"))?;
        ensure!(meta.file_type().is_char_device() && meta.rdev() == null);
        Ok(())
    })
    .await
}

/// Made, written and let go of: what the gateway is asked for each. Looks at the folder in between cost nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_file_costs_three_requests_to_make_and_one_to_remove() -> Result<()> {
    const FILES: u64 = 500;
    let site = Site::start().await?;
    site.tenant("acme", &["data"]).await?;
    let mut vm = site.machine("acme", "one").await?;
    let mount = vm.bucket("data").await?;
    let dir = mount.join("dir");
    let into = dir.clone();
    work(move || Ok(std::fs::create_dir(into)?)).await?;
    let asked = async || -> Result<u64> {
        let status = site.gateway.json(&["status"]).await?;
        status["sessions"][0]["requests"].as_u64().context("no count of requests")
    };
    let before = asked().await?;
    let into = dir.clone();
    work(move || {
        for number in 0..FILES {
            std::fs::write(into.join(format!("file-{number}")), [7; 4096])?;
            std::fs::metadata(&into)?;
        }
        Ok(rustix::fs::syncfs(std::fs::File::open(&into)?)?)
    })
    .await?;
    let made = asked().await? - before;
    // Besides: what is asked once, and files whose bytes were on their way while they were let go of.
    ensure!(made <= 3 * FILES + FILES / 10, "{made} requests for {FILES} files");
    let from = dir.clone();
    work(move || {
        for number in 0..FILES {
            std::fs::remove_file(from.join(format!("file-{number}")))?;
            std::fs::metadata(&from)?;
        }
        Ok(())
    })
    .await?;
    let removed = asked().await? - before - made;
    ensure!(removed <= FILES + FILES / 10, "{removed} requests to remove {FILES} files");
    println!("{made} requests to make {FILES} files, {removed} to remove them");
    Ok(())
}
