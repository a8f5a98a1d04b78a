//! Metadata is lost: from a checkpoint, the journal and the packs a volume comes back.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod volumes;

use bytes::Bytes;
use mooring_policy::rng::{Random, SeededRandom};
use mooring_protocol::types::{Ino, NewNode, RenameMode};
use mooring_store::api::{Tree, WriteAt};
use mooring_store::error::StoreError;
use mooring_store::volume::{CheckOptions, Progress, Rebuilt, Volume};
use std::path::{Path, PathBuf};
use std::process::Command;
use volumes::dump::{Known, content, dump};
use volumes::{directory, name, open, options, owner};

fn noise(seed: u64, len: usize) -> Bytes {
    let mut data = vec![0; len];
    SeededRandom::new(seed).fill(&mut data);
    data.into()
}

async fn make(volume: &Volume, parent: Ino, called: &str, data: Bytes) -> Ino {
    let node = NewNode::File { open: None };
    let made = volume.create(&owner(), parent, &name(called), 0o640, (7, 8), &node).await.unwrap().ino;
    volume.write(&owner(), made, WriteAt::End, data, None, false).await.unwrap();
    made
}

/// A tree of every kind of file; `round` tells its bytes from another's.
async fn tree(volume: &Volume, round: u64) {
    let cx = owner();
    let called = name(&format!("dir{round}"));
    let dir = volume.create(&cx, Ino::ROOT, &called, 0o755, (1, 2), &NewNode::Dir).await.unwrap().ino;
    for (index, len) in [0, 100, 5_000, 300_000].into_iter().enumerate() {
        let file = make(volume, dir, &format!("f{index}"), noise(round * 100 + index as u64, len)).await;
        volume.setxattr(&cx, file, b"user.x", b"y", mooring_protocol::types::XattrMode::Set).await.unwrap();
    }
    let target = NewNode::Symlink { target: b"f1".to_vec() };
    volume.create(&cx, dir, &name("link"), 0o777, (0, 0), &target).await.unwrap();
    volume
        .rename(&cx, dir, &name("f2"), Ino::ROOT, &name(&format!("moved{round}")), RenameMode::Replace)
        .await
        .unwrap();
}

fn home(dir: &Path) -> PathBuf {
    dir.join("volume")
}

fn lose(dir: &Path, parts: &[&str]) {
    parts.iter().for_each(|part| std::fs::remove_dir_all(home(dir).join(part)).unwrap());
}

async fn rebuild(dir: &Path) -> Rebuilt {
    Volume::rebuild(options(dir)).await.unwrap()
}

async fn shown(volume: &Volume) -> Vec<String> {
    dump(volume, &Known::new()).await
}

async fn sound(volume: &Volume) {
    let report = volume.check_with(&CheckOptions { data: true }, &Progress::default()).await.unwrap();
    assert_eq!(report.findings, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_metadata_a_volume_does_not_open_and_nothing_is_lost_by_trying() {
    let dir = directory();
    let volume = open(dir.path()).await;
    tree(&volume, 1).await;
    volume.checkpoint().await.unwrap();
    let wanted = shown(&volume).await;
    volume.close().await.unwrap();
    lose(dir.path(), &["meta"]);
    for _ in 0..2 {
        let refused = Volume::open_local(options(dir.path())).await.unwrap_err();
        let StoreError::Store(why) = refused else { panic!("{refused}") };
        assert!(why.to_string().contains("bucket rebuild"), "{why}");
    }
    let report = rebuild(dir.path()).await;
    assert!(report.checkpoint.is_some() && report.findings == 0 && report.lost == 0, "{report:?}");
    let volume = open(dir.path()).await;
    assert_eq!(shown(&volume).await, wanted);
    sound(&volume).await;
    // And it is a volume like any other.
    tree(&volume, 9).await;
    sound(&volume).await;
    volume.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn with_checkpoint_and_journal_nothing_is_missing() {
    let (dir, killed) = (directory(), directory());
    let volume = open(dir.path()).await;
    tree(&volume, 1).await;
    volume.checkpoint().await.unwrap();
    tree(&volume, 2).await;
    let file = volume.resolve(b"dir1").await.unwrap().ino;
    let file = volume.lookup(&owner(), file, &name("f3")).await.unwrap().ino;
    volume.write(&owner(), file, WriteAt::Offset(100_000), noise(77, 50_000), None, false).await.unwrap();
    volume.unlink(&owner(), Ino::ROOT, &name("moved1")).await.unwrap();
    volume.sync().await.unwrap();
    let wanted = shown(&volume).await;
    // The machine stops here, and its tables are lost.
    let copied =
        Command::new("cp").args(["-a", "--sparse=always"]).arg(home(dir.path())).arg(killed.path()).status();
    assert!(copied.unwrap().success());
    volume.close().await.unwrap();
    lose(killed.path(), &["meta"]);
    let report = rebuild(killed.path()).await;
    assert!(report.journal && report.found == 0 && report.findings == 0, "{report:?}");
    let volume = open(killed.path()).await;
    volume.purge_orphans().await.unwrap();
    assert_eq!(shown(&volume).await, wanted);
    sound(&volume).await;
    volume.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_journal_newer_bytes_go_to_their_files_and_new_files_are_found() {
    let dir = directory();
    let volume = open(dir.path()).await;
    tree(&volume, 1).await;
    let log = make(&volume, Ino::ROOT, "log", noise(50, 262_144)).await;
    volume.checkpoint().await.unwrap();
    volume.close().await.unwrap();
    let volume = open(dir.path()).await;
    volume.write(&owner(), log, WriteAt::End, noise(51, 131_072), None, false).await.unwrap();
    volume.write(&owner(), log, WriteAt::Offset(131_072), noise(52, 131_072), None, false).await.unwrap();
    let fresh = make(&volume, Ino::ROOT, "fresh", noise(53, 400_000)).await;
    volume.close().await.unwrap();
    lose(dir.path(), &["meta", "journal"]);
    let report = rebuild(dir.path()).await;
    assert!(!report.journal && (report.extended, report.found, report.findings) == (1, 1, 0), "{report:?}");
    let volume = open(dir.path()).await;
    let found = volume.lookup(&owner(), Ino::ROOT, &name("log")).await.unwrap().ino;
    let wanted = [&noise(50, 262_144)[..131_072], &noise(52, 131_072), &noise(51, 131_072)].concat();
    assert!(content(&*volume, found).await == wanted);
    let beside = volume.resolve(b"lost+found").await.unwrap().ino;
    let found = volume.lookup(&owner(), beside, &name(&format!("map-{}", fresh.get()))).await.unwrap().ino;
    assert!(content(&*volume, found).await == noise(53, 400_000));
    sound(&volume).await;
    // Numbers that were handed out are not handed out again.
    assert!(make(&volume, Ino::ROOT, "next", noise(1, 10)).await > fresh);
    volume.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_any_checkpoint_every_file_that_packs_hold_is_found() {
    let dir = directory();
    let volume = open(dir.path()).await;
    let files = [
        make(&volume, Ino::ROOT, "a", noise(1, 700_000)).await,
        make(&volume, Ino::ROOT, "b", noise(2, 90_000)).await,
    ];
    volume.close().await.unwrap();
    lose(dir.path(), &["meta", "journal"]);
    let report = rebuild(dir.path()).await;
    assert_eq!((report.checkpoint, report.found, report.findings), (None, 2, 0), "{report:?}");
    let volume = open(dir.path()).await;
    let beside = volume.resolve(b"lost+found").await.unwrap().ino;
    for (file, data) in files.into_iter().zip([noise(1, 700_000), noise(2, 90_000)]) {
        let found = volume.lookup(&owner(), beside, &name(&format!("map-{}", file.get()))).await.unwrap().ino;
        assert!(content(&*volume, found).await == data);
    }
    sound(&volume).await;
    volume.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_checkpoint_is_named_and_the_one_before_it_is_taken() {
    let dir = directory();
    let volume = open(dir.path()).await;
    tree(&volume, 1).await;
    volume.checkpoint().await.unwrap();
    tree(&volume, 2).await;
    volume.checkpoint().await.unwrap();
    tree(&volume, 3).await;
    volume.checkpoint().await.unwrap();
    let wanted = shown(&volume).await;
    volume.close().await.unwrap();
    let kept = || {
        let entries = std::fs::read_dir(home(dir.path()).join("checkpoints")).unwrap();
        let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    };
    let files = kept();
    assert_eq!(files.len(), 2, "{files:?}");
    let random = SeededRandom::new(4);
    let whole = std::fs::read(&files[1]).unwrap();
    for _ in 0..200 {
        let mut at = [0; 8];
        random.fill(&mut at);
        let mut bytes = whole.clone();
        bytes[u64::from_le_bytes(at) as usize % whole.len()] ^= 1 << (at[0] % 8);
        std::fs::write(&files[1], bytes).unwrap();
        let read = mooring_store::checkpoint::verify(&files[1], &volumes::keys());
        assert!(read.unwrap_err().to_string().contains(files[1].to_str().unwrap()));
    }
    // Cut at any chunk it is no shorter checkpoint.
    std::fs::write(&files[1], &whole[..whole.len() - 28]).unwrap();
    assert!(mooring_store::checkpoint::verify(&files[1], &volumes::keys()).is_err());
    lose(dir.path(), &["meta"]);
    let report = rebuild(dir.path()).await;
    assert_eq!(report.unreadable.len(), 1);
    assert!(report.journal, "the journal goes back to the one before: {report:?}");
    let volume = open(dir.path()).await;
    assert_eq!(shown(&volume).await, wanted);
    sound(&volume).await;
    volume.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_that_was_stopped_begins_again() {
    let dir = directory();
    let volume = open(dir.path()).await;
    tree(&volume, 1).await;
    volume.checkpoint().await.unwrap();
    tree(&volume, 2).await;
    let wanted = shown(&volume).await;
    volume.close().await.unwrap();
    // As a stop leaves it: put aside, and a new engine half filled.
    let (at, aside) = (home(dir.path()), home(dir.path()).join("rebuilding"));
    std::fs::create_dir(&aside).unwrap();
    lose(dir.path(), &["meta"]);
    std::fs::rename(at.join("journal"), aside.join("journal")).unwrap();
    std::fs::create_dir(aside.join("meta")).unwrap();
    let refused = Volume::open_local(options(dir.path())).await.unwrap_err();
    assert!(std::error::Error::source(&refused).unwrap().to_string().contains("stopped"), "{refused}");
    let report = rebuild(dir.path()).await;
    assert!(report.journal && report.findings == 0, "{report:?}");
    assert!(report.aside.join("journal").exists());
    let volume = open(dir.path()).await;
    assert_eq!(shown(&volume).await, wanted);
    volume.close().await.unwrap();
}
