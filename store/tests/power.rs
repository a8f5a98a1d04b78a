//! The power goes at any moment: a row that survives never names bytes that did not.
//!
//! Writers overwrite blocks of their files side by side and fsync now and then. At some moments the image that the power
//! would leave is made, for every combination of what becomes of journal and packs (see [`volumes::medium`]). Each
//! image must open, and each file must be as it was after some write not before its last fsync: never an error, never
//! bytes that nobody wrote.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod volumes;

use bytes::Bytes;
use mooring_policy::rng::{Random, SeededRandom, SystemRandom};
use mooring_protocol::types::{Ino, NewNode};
use mooring_store::api::{Tree, WriteAt};
use mooring_store::volume::Volume;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::RwLock;
use volumes::medium::{Fate, Loss, Recorder};
use volumes::{directory, name, open, owner};

const WRITERS: usize = 3;
const BLOCK: usize = 4096;
/// Blocks of each file.
const BLOCKS: usize = 48;

/// A write of number `n` (from 1 on) to some blocks.
#[derive(Clone, Copy)]
struct Written {
    first: usize,
    count: usize,
}

/// One file and what was done to it.
struct File {
    ino: Ino,
    history: parking_lot::Mutex<Vec<Written>>,
    /// Writes that an fsync returned for.
    synced: AtomicUsize,
}

/// A block tells who wrote it and where.
fn block(writer: usize, number: usize, at: usize) -> Vec<u8> {
    let tag = [writer as u64, number as u64, at as u64].map(u64::to_le_bytes).concat();
    let mut filler = vec![0; BLOCK - tag.len()];
    SeededRandom::new((writer * 1_000_003 + number * 1009 + at) as u64).fill(&mut filler);
    [tag, filler].concat()
}

fn below(random: &SeededRandom, bound: usize) -> usize {
    let mut bytes = [0; 8];
    random.fill(&mut bytes);
    (u64::from_le_bytes(bytes) % bound as u64) as usize
}

async fn write(volume: &Volume, writer: usize, file: &File, random: &SeededRandom) {
    let count = 1 + below(random, 16);
    let first = below(random, BLOCKS - count + 1);
    let number = file.history.lock().len() + 1;
    let data: Vec<u8> = (first..first + count).flat_map(|at| block(writer, number, at)).collect();
    let at = WriteAt::Offset((first * BLOCK) as u64);
    volume.write(&owner(), file.ino, at, Bytes::from(data), None, false).await.unwrap();
    file.history.lock().push(Written { first, count });
}

async fn make(volume: &Volume, writer: usize) -> File {
    let node = NewNode::File { open: None };
    let called = name(&format!("file{writer}"));
    let ino = volume.create(&owner(), Ino::ROOT, &called, 0o644, (0, 0), &node).await.unwrap().ino;
    let data: Vec<u8> = (0..BLOCKS).flat_map(|at| block(writer, 0, at)).collect();
    volume.write(&owner(), ino, WriteAt::Offset(0), Bytes::from(data), None, false).await.unwrap();
    volume.fsync(&owner(), ino).await.unwrap();
    File { ino, history: parking_lot::Mutex::default(), synced: AtomicUsize::new(0) }
}

/// What each block of a file says of its writing. Fails on bytes that nobody wrote.
async fn numbers(volume: &Volume, writer: usize) -> Vec<usize> {
    let attr = volume.lookup(&owner(), Ino::ROOT, &name(&format!("file{writer}"))).await.unwrap();
    let read = volume.read(&owner(), attr.ino, 0, (BLOCKS * BLOCK) as u32).await;
    let bytes = read.expect("a file that was synced can be read").0.concat();
    assert_eq!(bytes.len(), BLOCKS * BLOCK);
    bytes
        .chunks(BLOCK)
        .enumerate()
        .map(|(at, found)| {
            let number = u64::from_le_bytes(found[8..16].try_into().unwrap()) as usize;
            assert!(found == block(writer, number, at), "block {at} of file {writer} was never written so");
            number
        })
        .collect()
}

/// After which write the file looked so.
fn position(history: &[Written], found: &[usize]) -> Option<usize> {
    let mut state = vec![0; BLOCKS];
    let mut last = (state == found).then_some(0);
    for (index, written) in history.iter().enumerate() {
        state[written.first..written.first + written.count].fill(index + 1);
        if state == found {
            last = Some(index + 1);
        }
    }
    last
}

/// Opens an image and holds it to the promise. `least` and `most` bound each file's position.
async fn verify(image: &Path, files: &[(Vec<Written>, usize)]) -> (Arc<Volume>, Vec<usize>) {
    let volume = open(image).await;
    let mut positions = Vec::new();
    for (writer, (history, synced)) in files.iter().enumerate() {
        let found = numbers(&volume, writer).await;
        let at = position(history, &found).expect("a state that was");
        assert!(at >= *synced, "file {writer} is as after write {at}; {synced} were synced");
        positions.push(at);
    }
    assert_eq!(volume.check().await.unwrap().findings, []);
    (volume, positions)
}

/// The power goes again: before each sync that opening the image makes, and after it was opened and synced.
async fn again(image: &Path, files: &[(Vec<Written>, usize)], seed: u64) {
    let random = SeededRandom::new(seed);
    let work = directory();
    let mut number = 0;
    loop {
        let (copy, second) =
            (work.path().join(format!("copy{number}")), work.path().join(format!("{number}")));
        assert!(
            std::process::Command::new("cp")
                .args(["-a", "--sparse=always"])
                .arg(image)
                .arg(&copy)
                .status()
                .unwrap()
                .success()
        );
        let all = Loss::all();
        let loss = all[below(&random, all.len())];
        let recorder = Recorder::start_with(&copy, number, &second, loss, seed + number);
        let (volume, positions) = verify(&copy, files).await;
        volume.sync().await.unwrap();
        let reached = recorder.syncs();
        let third = work.path().join(format!("third{number}"));
        recorder.image(&third, Loss { journal: Fate::Lost, packs: Fate::Lost }, &random);
        drop(recorder);
        volume.close().await.unwrap();
        let (volume, found) = verify(&third, files).await;
        assert_eq!(found, positions, "what was recovered and synced stays");
        volume.close().await.unwrap();
        if number >= reached {
            return;
        }
        let (volume, _) = verify(&second, files).await;
        volume.close().await.unwrap();
        // Over many runs each of them.
        number += 1 + below(&random, 2) as u64;
    }
}

async fn write_more(total: &impl Fn() -> usize, more: usize) {
    let enough = total() + more;
    while total() < enough {
        tokio::task::yield_now().await;
    }
}

async fn run(seed: u64, captures: usize) {
    let dir = directory();
    let recorder = Recorder::start(dir.path());
    let volume = open(dir.path()).await;
    let mut files = Vec::new();
    for writer in 0..WRITERS {
        files.push(Arc::new(make(&volume, writer).await));
    }
    // Held shared by a write, exclusively while an image is made. Syncs go on meanwhile.
    let gate = Arc::new(RwLock::new(()));
    let over = Arc::new(AtomicBool::new(false));
    // Nobody fsyncs: the journal sees to itself.
    let quiet = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = files
        .iter()
        .cloned()
        .enumerate()
        .map(|(writer, file)| {
            let (volume, gate, over, quiet) = (volume.clone(), gate.clone(), over.clone(), quiet.clone());
            let random = SeededRandom::new(seed + 1 + writer as u64);
            tokio::spawn(async move {
                while !over.load(Ordering::Acquire) {
                    let shared = gate.read().await;
                    write(&volume, writer, &file, &random).await;
                    drop(shared);
                    if below(&random, 4) == 0 && !quiet.load(Ordering::Acquire) {
                        let done = file.history.lock().len();
                        volume.fsync(&owner(), file.ino).await.unwrap();
                        file.synced.store(done, Ordering::Release);
                    }
                }
            })
        })
        .collect();
    let random = SeededRandom::new(seed);
    let twice = if below(&random, 2) == 0 { Fate::Lost } else { Fate::Torn };
    for capture in 0..captures {
        let total = || files.iter().map(|file| file.history.lock().len()).sum::<usize>();
        quiet.store(capture % 2 == 0, Ordering::Release);
        let busy = async {
            write_more(&total, 5 + below(&random, 40)).await;
            if quiet.load(Ordering::Acquire) {
                let synced = recorder.journal_syncs() + 2;
                while recorder.journal_syncs() < synced {
                    tokio::task::yield_now().await;
                }
                // Records that know of that sync.
                write_more(&total, 5).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), busy).await.expect("the writers write");
        let stopped = gate.write().await;
        // Before the images: what is synced while they are made is durable in them or not.
        let synced: Vec<_> = files.iter().map(|file| file.synced.load(Ordering::Acquire)).collect();
        let states: Vec<_> = files.iter().map(|file| file.history.lock().clone()).zip(synced).collect();
        let images = directory();
        let losses = Loss::all();
        for (number, loss) in losses.iter().enumerate() {
            recorder.image(&images.path().join(number.to_string()), *loss, &random);
        }
        drop(stopped);
        for (number, loss) in losses.iter().enumerate() {
            let image = images.path().join(number.to_string());
            if capture == 0 && (loss.journal, loss.packs) == (Fate::Kept, twice) {
                again(&image, &states, seed).await;
            }
            let (found, positions) = verify(&image, &states).await;
            found.close().await.unwrap();
            if (loss.journal, loss.packs) == (Fate::Kept, Fate::Kept) {
                let all: Vec<_> = states.iter().map(|(history, _)| history.len()).collect();
                assert_eq!(positions, all, "nothing was lost, so nothing is dropped");
            }
        }
    }
    over.store(true, Ordering::Release);
    for writer in writers {
        writer.await.unwrap();
    }
    volume.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_survives_never_names_bytes_that_did_not() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let seed = number("MOORING_SEED").unwrap_or_else(|| {
        let mut bytes = [0; 4];
        SystemRandom.fill(&mut bytes);
        u64::from(u32::from_le_bytes(bytes))
    });
    eprintln!("replay the choices with: MOORING_SEED={seed} cargo test -p mooring-store --test power");
    run(seed, number("MOORING_RUNS").unwrap_or(2) as usize).await;
}
