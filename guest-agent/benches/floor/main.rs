//! The floor: what FUSE itself costs, with a file system that does nothing, beside the disk's own file system.
//!
//! Later figures are held against these: an agent cannot be faster than the null file system on the same layer.
//! `cargo bench -p mooring-agent --bench floor`; sizes by `FLOOR_FILES` and `FLOOR_MIB`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a bench ends at the first failure")]

mod null;

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use mooring_agent::fuse::wait::WaitTable;
use mooring_agent::fuse::{Counters, Mount, MountOptions};

const SMALL: usize = 4096;
const CHUNK: usize = 1 << 20;

fn size(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

struct Figure {
    what: &'static str,
    /// Operations, or bytes for streams.
    amount: usize,
    time: Duration,
    requests: u64,
}

/// Runs every phase in `dir`.
fn measure(dir: &Path, files: usize, mib: usize, counters: Option<&Counters>) -> Vec<Figure> {
    let mut figures = Vec::new();
    let mut phase = |what, amount, work: &mut dyn FnMut()| {
        let before = counters.map_or(0, Counters::total);
        let began = Instant::now();
        work();
        let time = began.elapsed();
        figures.push(Figure { what, amount, time, requests: counters.map_or(0, Counters::total) - before });
    };
    let path = |i: usize| dir.join(format!("file-{i:06}"));
    let small = vec![7u8; SMALL];
    let mut buffer = vec![0u8; CHUNK];

    phase("create 4 KiB file", files, &mut || {
        for i in 0..files {
            File::create_new(path(i)).unwrap().write_all(&small).unwrap();
        }
    });
    phase("stat", files, &mut || {
        (0..files).for_each(|i| assert_eq!(path(i).metadata().unwrap().len(), SMALL as u64))
    });
    phase("open, read, close", files, &mut || {
        for i in 0..files {
            assert_eq!(File::open(path(i)).unwrap().read(&mut buffer[..SMALL]).unwrap(), SMALL);
        }
    });
    phase("list one entry", files, &mut || assert_eq!(std::fs::read_dir(dir).unwrap().count(), files));
    phase("unlink", files, &mut || (0..files).for_each(|i| std::fs::remove_file(path(i)).unwrap()));

    let large = dir.join("large");
    let bytes = mib << 20;
    let chunk = vec![7u8; CHUNK];
    phase("stream write", bytes, &mut || {
        let mut file = File::create(&large).unwrap();
        (0..mib).for_each(|_| file.write_all(&chunk).unwrap());
    });
    drop_pages(&large);
    let mut read = || {
        let mut file = File::open(&large).unwrap();
        while file.read(&mut buffer).unwrap() > 0 {}
    };
    phase("stream read, not cached", bytes, &mut read);
    phase("stream read, cached", bytes, &mut read);
    std::fs::remove_file(&large).unwrap();
    figures
}

/// Writes out and drops the pages of a file.
fn drop_pages(path: &Path) {
    let file = File::open(path).unwrap();
    file.sync_all().unwrap();
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
}

fn main() {
    let (files, mib) = (size("FLOOR_FILES", 20_000), size("FLOOR_MIB", 512));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let disk = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let (mountpoint, plain) = (disk.path().join("fuse"), disk.path().join("disk"));
    std::fs::create_dir_all(&mountpoint).unwrap();
    std::fs::create_dir_all(&plain).unwrap();

    let waits = runtime.block_on(async { WaitTable::start() });
    let mount =
        Mount::new(null::Null::new(), &mountpoint, &MountOptions::default(), runtime.handle(), &waits)
            .unwrap();
    let floor = measure(&mountpoint, files, mib, Some(mount.counters()));
    mount.unmount().unwrap();
    let native = measure(&plain, files, mib, None);

    let mut table = comfy_table::Table::new();
    table.set_header(["", "requests each", "us each request", "null file system", "disk's own", "ratio"]);
    for (f, n) in floor.iter().zip(&native) {
        let stream = f.what.starts_with("stream");
        let count = if stream { f.amount / CHUNK } else { f.amount };
        let rate = |x: &Figure| {
            let per_second = x.amount as f64 / x.time.as_secs_f64();
            if stream { format!("{:.0} MiB/s", per_second / 1048576.0) } else { format!("{per_second:.0}/s") }
        };
        let each = f.time.as_secs_f64() * 1e6 / f.requests.max(1) as f64;
        table.add_row([
            f.what.to_owned(),
            format!("{:.2}{}", f.requests as f64 / count as f64, if stream { " per MiB" } else { "" }),
            if f.requests == 0 { "-".to_owned() } else { format!("{each:.1}") },
            rate(f),
            rate(n),
            format!("{:.2}", n.time.as_secs_f64() / f.time.as_secs_f64()),
        ]);
    }
    println!("{files} files of {SMALL} bytes, one stream of {mib} MiB, one thread\n{table}");
}
