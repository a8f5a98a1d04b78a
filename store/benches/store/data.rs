//! Bytes: streams, random places, durable commits.

use crate::sheet::Sheet;
use crate::system::{disk_bytes, drop_caches, space};
use crate::volumes::{name, owner};
use crate::{MIB, SMALL, Sizes, noise, open, open_with, places, timed};
use bytes::Bytes;
use mooring_protocol::types::{Ino, NewNode};
use mooring_store::api::{Tree, WriteAt};
use mooring_store::volume::Volume;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What one core can hash and seal, MiB/s: the limit of everything that stores bytes it has not seen.
pub fn ceiling(sheet: &mut Sheet) -> f64 {
    use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &[7; 32]).unwrap());
    let data = noise(MIB, 1);
    let mut buffer = data.to_vec();
    let begun = Instant::now();
    const ROUNDS: usize = 512;
    for _ in 0..ROUNDS {
        std::hint::black_box(blake3::keyed_hash(&[9; 32], &data));
        let nonce = Nonce::assume_unique_for_key([0; 12]);
        let _tag =
            std::hint::black_box(key.seal_in_place_separate_tag(nonce, Aad::empty(), &mut buffer).unwrap());
    }
    let rate = ROUNDS as f64 / begun.elapsed().as_secs_f64();
    sheet.rate("hash and seal, one core", "MiB/s", rate, None);
    rate
}

async fn make(volume: &Volume, called: &str) -> Ino {
    let file = NewNode::File { open: None };
    volume.create(&owner(), Ino::ROOT, &name(called), 0o644, (0, 0), &file).await.unwrap().ino
}

/// A file from front to back, then cold again.
pub async fn stream(sheet: &mut Sheet, home: &Path, sizes: &Sizes, ceiling: f64) {
    let (cx, count) = (owner(), sizes.stream_mib);
    // Few distinct blocks would be stored once; as many as there are would be the generator's speed.
    let chunks: Vec<Bytes> = (0..64).map(|n| noise(MIB, n)).collect();
    let distinct = |n: usize| {
        let mut chunk = chunks[n % 64].to_vec();
        for block in chunk.chunks_mut(SMALL) {
            block[..8].copy_from_slice(&(n as u64).to_le_bytes());
        }
        Bytes::from(chunk)
    };
    let data: Vec<Bytes> = (0..count).map(distinct).collect();
    let volume = open(home).await;
    let made = make(&volume, "stream").await;
    let (_, before) = disk_bytes();
    let (ours, ()) = timed(async {
        for (n, chunk) in data.iter().enumerate() {
            let at = WriteAt::Offset((n * MIB) as u64);
            volume.write(&cx, made, at, chunk.clone(), None, false).await.unwrap();
        }
        volume.sync().await.unwrap();
    })
    .await;
    let written = disk_bytes().1 - before;
    volume.close().await.unwrap();
    let plain = home.join("plain");
    let (theirs, ()) = timed(async {
        let mut file = File::create(&plain).unwrap();
        data.iter().for_each(|chunk| file.write_all(chunk).unwrap());
        file.sync_all().unwrap();
    })
    .await;
    let disk = count as f64 / theirs;
    let limit = if disk < ceiling { (disk, "disk") } else { (ceiling, "one core") };
    sheet.rate("write in order, sync", "MiB/s", count as f64 / ours, Some(limit));
    sheet.number("  bytes written for each byte", "x", written as f64 / (count * MIB) as f64);
    sheet.number(
        "  bytes stored for each byte",
        "x",
        space(&home.join("volume")) as f64 / (count * MIB) as f64,
    );

    let cold = drop_caches();
    let volume = open(home).await;
    let (ours, ()) = timed(async {
        for n in 0..count {
            let (parts, _) = volume.read(&cx, made, (n * MIB) as u64, MIB as u32).await.unwrap();
            assert_eq!(parts.iter().map(Bytes::len).sum::<usize>(), MIB);
        }
    })
    .await;
    let (theirs, ()) = timed(async {
        drop_caches();
        let (mut file, mut buffer) = (File::open(&plain).unwrap(), vec![0; MIB]);
        (0..count).for_each(|_| file.read_exact(&mut buffer).unwrap());
    })
    .await;
    let disk = count as f64 / theirs;
    let limit = if disk < ceiling { (disk, "disk") } else { (ceiling, "one core") };
    let what = if cold { "read in order, cold" } else { "read in order" };
    sheet.rate(what, "MiB/s", count as f64 / ours, Some(limit));
    volume.close().await.unwrap();
    // What was just read in order is still in memory: other caches, small ones.
    let volume = open_with(home, mooring_store::memory::Memory::new(64 << 20)).await;
    random(sheet, &volume, &plain, made, sizes).await;
    volume.close().await.unwrap();
    std::fs::remove_file(plain).unwrap();
}

/// 4 KiB here and there in a file that was written from front to back.
async fn random(sheet: &mut Sheet, volume: &Arc<Volume>, plain: &Path, made: Ino, sizes: &Sizes) {
    let cx = owner();
    let places = places(sizes.random, sizes.stream_mib * MIB / SMALL);
    let plain = File::options().read(true).write(true).open(plain).unwrap();
    drop_caches();
    let (before, _) = disk_bytes();
    let (ours, ()) = timed(async {
        for place in &places {
            volume.read(&cx, made, place * SMALL as u64, SMALL as u32).await.unwrap();
        }
    })
    .await;
    let read = disk_bytes().0 - before;
    drop_caches();
    let (theirs, ()) = timed(async {
        let mut buffer = vec![0; SMALL];
        places.iter().for_each(|place| plain.read_exact_at(&mut buffer, place * SMALL as u64).unwrap());
    })
    .await;
    let count = places.len() as f64;
    sheet.rate("read 4 KiB at random, cold", "/s", count / ours, Some((count / theirs, "disk")));
    sheet.number("  bytes read for each byte", "x", read as f64 / (places.len() * SMALL) as f64);
    let data: Vec<Bytes> = (0..places.len()).map(|n| noise(SMALL, (1 << 40) + n as u64)).collect();
    let (_, before) = disk_bytes();
    let (ours, ()) = timed(async {
        for (place, data) in places.iter().zip(&data) {
            let at = WriteAt::Offset(place * SMALL as u64);
            volume.write(&cx, made, at, data.clone(), None, false).await.unwrap();
        }
        volume.fsync(&cx, made).await.unwrap();
    })
    .await;
    let written = disk_bytes().1 - before;
    let (theirs, ()) = timed(async {
        for (place, data) in places.iter().zip(&data) {
            plain.write_all_at(data, place * SMALL as u64).unwrap();
        }
        plain.sync_data().unwrap();
    })
    .await;
    sheet.rate("overwrite 4 KiB at random, one fsync", "/s", count / ours, Some((count / theirs, "disk")));
    sheet.number("  bytes written for each byte", "x", written as f64 / (places.len() * SMALL) as f64);
}

/// Each task overwrites its own file's 4 KiB and waits for fsync; the disk's fdatasync of as many files beside it.
pub async fn commits(sheet: &mut Sheet, home: &Path, sizes: &Sizes, tasks: usize) {
    let volume = open(home).await;
    let each = (sizes.commits / tasks).max(20);
    let mut files = Vec::new();
    for task in 0..tasks {
        files.push(make(&volume, &format!("commit-{tasks}-{task}")).await);
    }
    let begun = Instant::now();
    let running = files.into_iter().enumerate().map(|(task, file)| {
        let volume = volume.clone();
        tokio::spawn(async move {
            let (cx, mut times) = (owner(), Vec::with_capacity(each));
            for n in 0..each {
                let data = noise(SMALL, (task * each + n) as u64 | 1 << 50);
                let begun = Instant::now();
                volume.write(&cx, file, WriteAt::Offset(0), data, None, false).await.unwrap();
                volume.fsync(&cx, file).await.unwrap();
                times.push(begun.elapsed());
            }
            times
        })
    });
    let mut ours: Vec<Duration> = Vec::new();
    for task in running.collect::<Vec<_>>() {
        ours.extend(task.await.unwrap());
    }
    let rate = ours.len() as f64 / begun.elapsed().as_secs_f64();
    volume.close().await.unwrap();
    let begun = Instant::now();
    let mut theirs: Vec<Duration> = std::thread::scope(|scope| {
        let syncing: Vec<_> = (0..tasks)
            .map(|task| {
                let path = home.join(format!("sync-{task}"));
                scope.spawn(move || {
                    let file = File::create(path).unwrap();
                    let data = noise(SMALL, 3);
                    let once = |_| {
                        let begun = Instant::now();
                        file.write_all_at(&data, 0).unwrap();
                        file.sync_data().unwrap();
                        begun.elapsed()
                    };
                    (0..each).map(once).collect::<Vec<_>>()
                })
            })
            .collect();
        syncing.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let disk = theirs.len() as f64 / begun.elapsed().as_secs_f64();
    sheet.rate(&format!("durable 4 KiB, {tasks} at once"), "/s", rate, Some((disk, "fdatasync")));
    sheet.times(&format!("durable 4 KiB, {tasks} at once"), &mut ours, &mut theirs, "fdatasync");
}
