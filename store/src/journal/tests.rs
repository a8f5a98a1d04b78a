#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use super::*;
use crate::seal::TenantKey;
use mooring_policy::ids::VolumeId;
use mooring_policy::rng::SeededRandom;
use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

const FILE: u64 = 8 << 10;

fn options(dir: &Path) -> JournalOptions {
    let random = SeededRandom::new(1);
    JournalOptions {
        dir: dir.to_path_buf(),
        keys: TenantKey::generate(&random).volume(VolumeId(1)),
        // Salts of two runs must differ.
        random: Arc::new(mooring_policy::rng::SystemRandom),
        data: None,
        file_bytes: FILE,
        background_sync: Duration::from_secs(3600),
    }
}

async fn start(dir: &Path, after: u64) -> JournalWriter {
    let (options, epoch) = (options(dir), 1);
    let recovery = tokio::task::spawn_blocking(move || recover(options, after)).await.unwrap().unwrap();
    JournalWriter::start(recovery, epoch)
}

/// Appends one record and gives its id.
async fn append(writer: &mut JournalWriter, body: &[u8]) -> u64 {
    let room = writer.journal().reserve(body.len()).await.unwrap();
    let id = writer.append(1, |out| out.extend_from_slice(body)).unwrap();
    drop(room);
    id
}

fn body(id: u64) -> Vec<u8> {
    let len = 20 + (id * 37 % 700) as usize;
    id.to_be_bytes().iter().copied().cycle().take(len).collect()
}

/// Reopens and reads everything after `after`.
fn read(dir: &Path, after: u64) -> Result<Vec<(u64, Vec<u8>)>, JournalError> {
    let recovery = recover(options(dir), after)?;
    let (mut replay, mut found) = (recovery.replay(after), Vec::new());
    while let Some(record) = replay.next_record()? {
        found.push(record);
    }
    assert!(found.last().is_none_or(|(id, _)| id + 1 == recovery.next_id()));
    Ok(found)
}

fn expected(ids: std::ops::RangeInclusive<u64>) -> Vec<(u64, Vec<u8>)> {
    ids.map(|id| (id, body(id))).collect()
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// A copy of a directory whose files can be damaged.
fn copy(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    for file in files(from) {
        std::fs::copy(&file, to.path().join(file.file_name().unwrap())).unwrap();
    }
    to
}

#[tokio::test]
async fn records_come_back_over_many_files_and_runs() {
    let dir = tempfile::tempdir().unwrap();
    let mut next = 1;
    for run in 0..4 {
        let mut writer = start(dir.path(), 0).await;
        for _ in 0..60 {
            assert_eq!(append(&mut writer, &body(next)).await, next);
            next += 1;
        }
        if run % 2 == 0 {
            writer.journal().close().await.unwrap();
        } else {
            writer.journal().abandon();
        }
        assert_eq!(read(dir.path(), 0).unwrap(), expected(1..=next - 1));
    }
    assert!(files(dir.path()).len() > 8);
    assert_eq!(read(dir.path(), 100).unwrap(), expected(101..=next - 1));
}

#[tokio::test]
async fn a_tail_torn_at_any_byte_is_dropped_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = start(dir.path(), 0).await;
    for id in 1..=5 {
        append(&mut writer, &body(id)).await;
    }
    let file = files(dir.path()).remove(0);
    let before = std::fs::read(&file).unwrap();
    let from = before.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    append(&mut writer, &body(6)).await;
    let whole = std::fs::read(&file).unwrap();
    let to = whole.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    for cut in from..to {
        // As a stop in the middle of a write leaves it: zeros follow. And as a shortened file: nothing follows.
        let mut zeroed = whole.clone();
        zeroed[cut..].fill(0);
        for torn in [&zeroed[..], &whole[..cut]] {
            std::fs::write(&file, torn).unwrap();
            assert_eq!(read(dir.path(), 0).unwrap(), expected(1..=5), "cut at {cut}");
        }
    }
    std::fs::write(&file, &whole).unwrap();
    assert_eq!(read(dir.path(), 0).unwrap(), expected(1..=6));

    // After a torn tail the sequence goes on, and reads back.
    std::fs::write(&file, &whole[..to - 3]).unwrap();
    let mut writer = start(dir.path(), 0).await;
    assert_eq!(append(&mut writer, &body(6)).await, 6);
    assert_eq!(append(&mut writer, &body(7)).await, 7);
    assert_eq!(read(dir.path(), 0).unwrap(), expected(1..=7));
}

#[tokio::test]
async fn every_flipped_bit_is_detected() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = start(dir.path(), 0).await;
    for id in 1..=4 {
        append(&mut writer, &body(id)[..16]).await;
    }
    writer.journal().close().await.unwrap();
    let file = files(dir.path()).remove(0);
    let whole = std::fs::read(&file).unwrap();
    let used = whole.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let zeros = 16; // Behind the last record a flip is noise that no record can be confused with.
    for bit in 0..(used + zeros) * 8 {
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(&file, &flipped).unwrap();
        match read(dir.path(), 0) {
            Err(JournalError::Corrupt { path, offset, .. }) => {
                assert_eq!(path, file);
                assert!(offset as usize <= bit / 8, "bit {bit} found at {offset}");
            }
            Ok(found) if bit / 8 >= used => assert_eq!(found.len(), 4),
            other => panic!("bit {bit}: {other:?}"),
        }
    }
}

/// What loss of power can do: any sectors written since the last sync are missing.
#[tokio::test]
async fn sectors_lost_with_the_power_cost_only_what_was_not_synced() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = start(dir.path(), 0).await;
    for id in 1..=8 {
        append(&mut writer, &body(id)).await;
    }
    writer.journal().sync().await.unwrap();
    let file = files(dir.path()).remove(0);
    let synced = std::fs::read(&file).unwrap();
    for id in 9..=13 {
        append(&mut writer, &body(id)).await;
    }
    assert_eq!(files(dir.path()).len(), 1, "this test is about one file");
    let whole = std::fs::read(&file).unwrap();
    let dirty: Vec<usize> =
        (0..whole.len() / 512).filter(|at| whole[at * 512..][..512] != synced[at * 512..][..512]).collect();
    assert!(dirty.len() >= 3);
    for lost in 0..1_u32 << dirty.len() {
        let mut image = whole.clone();
        for (index, sector) in dirty.iter().enumerate().filter(|(index, _)| lost & (1 << index) != 0) {
            let _ = index;
            image[sector * 512..][..512].copy_from_slice(&synced[sector * 512..][..512]);
        }
        let place = copy(dir.path());
        std::fs::write(place.path().join(file.file_name().unwrap()), image).unwrap();
        let found = read(place.path(), 0).unwrap_or_else(|error| panic!("lost {lost:b}: {error}"));
        assert!(found.len() >= 8, "lost {lost:b}: {}", found.len());
        assert_eq!(found, expected(1..=found.len() as u64));
    }
}

#[tokio::test]
async fn losing_what_was_synced_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = start(dir.path(), 0).await;
    for id in 1..=4 {
        append(&mut writer, &body(id)).await;
    }
    writer.journal().sync().await.unwrap();
    append(&mut writer, &body(5)).await;
    let file = files(dir.path()).remove(0);
    let mut image = std::fs::read(&file).unwrap();
    // Zeros over the beginning of record 2: alone it would look torn.
    let second = format::HEAD_BYTES + record_bytes(body(1).len());
    image[second..second + 40].fill(0);
    std::fs::write(&file, image).unwrap();
    assert!(matches!(read(dir.path(), 0), Err(JournalError::Corrupt { .. })));
}

#[tokio::test]
async fn a_missing_or_foreign_file_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = start(dir.path(), 0).await;
    let mut next = 1;
    while files(dir.path()).len() < 4 {
        append(&mut writer, &body(next)).await;
        writer.journal().sync().await.unwrap();
        next += 1;
    }
    for index in 0..2 {
        let place = copy(dir.path());
        std::fs::remove_file(&files(place.path())[index]).unwrap();
        assert!(read(place.path(), 0).is_err(), "file {index} removed");
    }
    let mut foreign = options(dir.path());
    foreign.keys = TenantKey::generate(&SeededRandom::new(1)).volume(VolumeId(2));
    assert!(matches!(recover(foreign, 0), Err(JournalError::Gap { .. })));
    let mut other_key = options(dir.path());
    other_key.keys = TenantKey::generate(&SeededRandom::new(2)).volume(VolumeId(1));
    let recovery = recover(other_key, 0).unwrap();
    assert!(matches!(recovery.replay(0).next_record(), Err(JournalError::Corrupt { .. })));
}

#[tokio::test]
async fn old_files_go_when_nobody_needs_them() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = start(dir.path(), 0).await;
    let mut next = 1;
    while files(dir.path()).len() < 6 {
        append(&mut writer, &body(next)).await;
        next += 1;
    }
    let journal = Arc::clone(writer.journal());
    assert_eq!(journal.collect(&[]).unwrap(), 0, "unsynced files stay");
    journal.sync().await.unwrap();
    let keep = next - 3;
    assert!(journal.collect(&[keep..=u64::MAX]).unwrap() >= 2);
    assert_eq!(read(dir.path(), keep - 1).unwrap(), expected(keep..=next - 1));
    // What a checkpoint needs stays as well.
    let before = files(dir.path()).len();
    assert_eq!(journal.collect(&[keep..=u64::MAX, 1..=2]).unwrap(), 0);
    assert_eq!(files(dir.path()).len(), before);
}

#[tokio::test]
async fn reserved_room_is_always_there() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = start(dir.path(), 0).await;
    let journal = Arc::clone(writer.journal());
    // Many reservations at once, appended in another order, with sizes that waste the ends of files.
    for round in 0..40_usize {
        let sizes: Vec<usize> = (0..3).map(|index| 100 + (round * 577 + index * 997) % 2300).collect();
        let mut rooms = Vec::new();
        for size in &sizes {
            rooms.push(journal.reserve(*size).await.unwrap());
        }
        for size in sizes.iter().rev() {
            writer.append(1, |out| out.resize(out.len() + size, 7)).unwrap();
        }
        drop(rooms);
    }
    // One who wants more than there is waits, and goes on when room is given back.
    let held = journal.reserve(options(dir.path()).max_body()).await.unwrap();
    let waiting = tokio::spawn({
        let journal = Arc::clone(&journal);
        async move { journal.reserve(5000).await.map(|_| ()) }
    });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    drop(held);
    tokio::time::timeout(Duration::from_secs(10), waiting).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_full_disk_is_told_before_anything_is_promised() {
    let dir = tempfile::tempdir().unwrap();
    let recovery = recover(options(dir.path()), 0).unwrap();
    let writer = JournalWriter::start(recovery, 1);
    std::fs::remove_dir(dir.path()).unwrap();
    std::fs::write(dir.path(), b"in the way").unwrap();
    assert!(matches!(writer.journal().reserve(10).await, Err(JournalError::Io { .. })));
    std::fs::remove_file(dir.path()).unwrap();
    std::fs::create_dir(dir.path()).unwrap();
    writer.journal().reserve(10).await.unwrap();
}

#[tokio::test]
async fn concurrent_syncs_share_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = start(dir.path(), 0).await;
    for id in 1..=10 {
        append(&mut writer, &body(id)).await;
    }
    let journal = Arc::clone(writer.journal());
    let before = journal.fdatasyncs();
    let syncs: Vec<_> = (0..50).map(|_| journal.sync()).collect();
    let ids: HashSet<u64> = futures::future::join_all(syncs).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(ids, HashSet::from([10]));
    assert!((1..=2).contains(&(journal.fdatasyncs() - before)));
}

/// What records name: counts syncs, and fails when told to.
#[derive(Default)]
struct Named {
    syncs: std::sync::atomic::AtomicU64,
    broken: std::sync::atomic::AtomicBool,
}

impl Data for Named {
    fn sync(&self) -> Result<(), DataError> {
        self.syncs.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        if self.broken.load(std::sync::atomic::Ordering::SeqCst) {
            return Err(Arc::new(std::io::Error::other("the disk of the data is broken")));
        }
        Ok(())
    }
}

#[tokio::test]
async fn what_records_name_is_synced_first_and_its_failure_holds_the_journal_up() {
    let dir = tempfile::tempdir().unwrap();
    let named = Arc::new(Named::default());
    let options = JournalOptions { data: Some(named.clone()), ..options(dir.path()) };
    let mut writer = JournalWriter::start(recover(options, 0).unwrap(), 1);
    append(&mut writer, &body(1)).await;
    writer.journal().sync().await.unwrap();
    assert_eq!(named.syncs.load(std::sync::atomic::Ordering::SeqCst), 1);
    named.broken.store(true, std::sync::atomic::Ordering::SeqCst);
    append(&mut writer, &body(2)).await;
    let failed = writer.journal().sync().await.unwrap_err();
    assert!(failed.to_string().contains("the disk of the data is broken"), "{failed}");
    assert_eq!(writer.journal().synced(), 1, "a record is not durable before what it names");
    assert!(matches!(writer.journal().reserve(10).await, Err(JournalError::Fault { .. })));
    named.broken.store(false, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(writer.journal().sync_patiently().await.unwrap(), 2);
    append(&mut writer, &body(3)).await;
}

#[tokio::test]
async fn a_cut_drops_a_record_and_all_behind_it_for_good() {
    for cut in [1, 2, 9, 30, 31, 60] {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = start(dir.path(), 0).await;
        for id in 1..=60 {
            append(&mut writer, &body(id)).await;
        }
        writer.journal().abandon();
        let mut recovery = recover(options(dir.path()), 0).unwrap();
        assert_eq!(recovery.cut(cut).unwrap(), 61 - cut);
        assert_eq!(recovery.next_id(), cut);
        // The dropped records do not come back, whether or not the sequence goes on.
        assert_eq!(read(dir.path(), 0).unwrap(), expected(1..=cut - 1));
        let mut writer = JournalWriter::start(recovery, 2);
        for id in cut..cut + 20 {
            assert_eq!(append(&mut writer, &body(id)).await, id);
        }
        writer.journal().close().await.unwrap();
        assert_eq!(read(dir.path(), 0).unwrap(), expected(1..=cut + 19), "cut at {cut}");
    }
}

#[tokio::test]
async fn recovery_knows_up_to_where_later_records_vouch() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = start(dir.path(), 0).await;
    append(&mut writer, &body(1)).await;
    append(&mut writer, &body(2)).await;
    assert_eq!(recover(options(dir.path()), 0).unwrap().synced(), 0);
    writer.journal().sync().await.unwrap();
    append(&mut writer, &body(3)).await;
    assert_eq!(recover(options(dir.path()), 0).unwrap().synced(), 2);
    assert_eq!(recover(options(dir.path()), 3).unwrap().synced(), 3);
}
