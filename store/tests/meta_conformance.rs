//! One suite for every engine behind `Meta`, and the promises only the real one makes.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use bytes::Bytes;
use mooring_store::backend::BackendError;
use mooring_store::meta::{Batch, MAX_BATCH_BYTES, MAX_KEY_BYTES, MemoryMeta, Meta, MetaError, Seq, after};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

async fn put(meta: &dyn Meta, key: &'static str, value: &'static str) -> Seq {
    let mut batch = Batch::new();
    batch.put(key, value);
    meta.commit(batch).await.unwrap()
}

/// Everything the trait promises, on a fresh engine.
async fn conformance(meta: Arc<dyn Meta>) {
    assert_eq!(meta.get(b"a").await.unwrap(), None);
    assert!(meta.scan(b"", b"", 10).await.unwrap().is_empty());

    let first = put(&*meta, "b", "1").await;
    let second = put(&*meta, "a", "2").await;
    assert!(second > first);
    assert_eq!(meta.get(b"b").await.unwrap().as_deref(), Some(&b"1"[..]));
    assert_eq!(meta.watermarks().received, second);
    assert!(meta.watermarks().journalled <= second);
    assert_eq!(meta.sync().await.unwrap(), second);
    assert_eq!(meta.watermarks().journalled, second);

    // A batch is one: the last change of a key counts, and nothing of a refused one shows.
    let mut batch = Batch::new();
    batch.put("c", "x").put("c", "3").put("d", "4").delete("b").delete("not there");
    let third = meta.commit(batch).await.unwrap();
    assert_eq!(meta.get(b"c").await.unwrap().as_deref(), Some(&b"3"[..]));
    assert_eq!(meta.get(b"b").await.unwrap(), None);
    let mut batch = Batch::new();
    batch.put("e", "5").put(vec![b'k'; MAX_KEY_BYTES + 1], "6");
    assert!(matches!(meta.commit(batch).await, Err(MetaError::Batch(_))));
    let mut batch = Batch::new();
    batch.put("e", vec![0; MAX_BATCH_BYTES]);
    assert!(matches!(meta.commit(batch).await, Err(MetaError::Batch(_))));
    assert_eq!(meta.get(b"e").await.unwrap(), None);
    assert_eq!(meta.commit(Batch::new()).await.unwrap(), third);

    // Ranges: half open, ordered, paged.
    let keys = |rows: Vec<(Bytes, Bytes)>| rows.into_iter().map(|(key, _)| key).collect::<Vec<_>>();
    assert_eq!(keys(meta.scan(b"a", b"d", 10).await.unwrap()), ["a", "c"]);
    assert_eq!(keys(meta.scan(b"", b"", 10).await.unwrap()), ["a", "c", "d"]);
    assert_eq!(keys(meta.scan(&after(b"a"), b"", 1).await.unwrap()), ["c"]);
    assert!(meta.scan(b"d", b"a", 10).await.unwrap().is_empty());
    assert!(meta.scan(b"a", b"", 0).await.unwrap().is_empty());

    // The largest key and an empty value.
    let mut batch = Batch::new();
    batch.put(vec![b'z'; MAX_KEY_BYTES], "");
    meta.commit(batch).await.unwrap();
    assert_eq!(meta.get(&vec![b'z'; MAX_KEY_BYTES]).await.unwrap().as_deref(), Some(&b""[..]));

    // A page ends by bytes too, and never without a row.
    for index in 0..6_u8 {
        let mut batch = Batch::new();
        batch.put(vec![b'p', index], vec![index; 400 << 10]);
        meta.commit(batch).await.unwrap();
    }
    let page = meta.scan(b"p", b"q", 100).await.unwrap();
    assert_eq!(page.len(), 3);
    let rest = meta.scan(&after(&page[2].0), b"q", 100).await.unwrap();
    assert_eq!(rest.len(), 3);

    Arc::clone(&meta).close().await.unwrap();
    assert!(matches!(meta.get(b"a").await, Err(MetaError::Closed { .. })));
    assert!(matches!(meta.scan(b"a", b"b", 1).await, Err(MetaError::Closed { .. })));
    let mut batch = Batch::new();
    batch.put("a", "b");
    assert!(matches!(meta.commit(batch).await, Err(MetaError::Closed { .. })));
    assert!(matches!(meta.sync().await, Err(MetaError::Closed { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_conforms() {
    conformance(Arc::new(MemoryMeta::new())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slate_conforms() {
    let dir = tempfile::tempdir().unwrap();
    conformance(common::open(dir.path()).await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_and_sequence_survive_close_and_drop() {
    let dir = tempfile::tempdir().unwrap();
    let meta = common::open(dir.path()).await.unwrap();
    put(&*meta, "a", "1").await;
    meta.close().await.unwrap();

    let meta = common::open(dir.path()).await.unwrap();
    let before = meta.watermarks();
    assert_eq!(before.received, before.journalled);
    let second = put(&*meta, "b", "2").await;
    assert!(second > before.received && before.received > Seq(0));
    drop(meta); // As a stop without closing does: only the journal has it.

    let meta = common::open(dir.path()).await.unwrap();
    assert_eq!(meta.watermarks().received, second);
    assert_eq!(meta.get(b"a").await.unwrap().as_deref(), Some(&b"1"[..]));
    assert_eq!(meta.get(b"b").await.unwrap().as_deref(), Some(&b"2"[..]));
    assert!(put(&*meta, "c", "3").await > second);
    meta.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_opener_is_refused_and_told_who_holds_it() {
    let dir = tempfile::tempdir().unwrap();
    let meta = common::open(dir.path()).await.unwrap();
    match common::open(dir.path()).await.err().unwrap() {
        MetaError::Backend(error @ BackendError::Locked { .. }) => {
            let text = error.to_string();
            assert!(text.contains(&std::process::id().to_string()) && text.contains("LOCK"), "{text}");
        }
        other => panic!("{other}"),
    }
    Arc::clone(&meta).close().await.unwrap();
    drop(meta);
    common::open(dir.path()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_syncs_share_fdatasyncs() {
    let dir = tempfile::tempdir().unwrap();
    let meta = common::open(dir.path()).await.unwrap();
    let before = meta.fdatasyncs();
    let tasks: Vec<_> = (0..64_u8)
        .map(|task| {
            let meta = Arc::clone(&meta);
            tokio::spawn(async move {
                for index in 0..16_u8 {
                    let mut batch = Batch::new();
                    batch.put(vec![task, index], "x");
                    let seq = meta.commit(batch).await.unwrap();
                    assert!(meta.sync().await.unwrap() >= seq);
                    assert!(meta.watermarks().journalled >= seq);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let fdatasyncs = meta.fdatasyncs() - before;
    println!("1024 durable commits of 64 tasks: {fdatasyncs} fdatasyncs");
    assert!((1..512).contains(&fdatasyncs), "{fdatasyncs}");
    meta.sync().await.unwrap();
    let idle = meta.fdatasyncs();
    meta.sync().await.unwrap();
    assert_eq!(meta.fdatasyncs(), idle, "nothing to sync costs nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_commit_leaves_the_volume_usable() {
    let dir = tempfile::tempdir().unwrap();
    let meta = common::open(dir.path()).await.unwrap();
    for index in 0..2000_u32 {
        let mut batch = Batch::new();
        batch.put(index.to_be_bytes().to_vec(), vec![7; 4000]);
        let commit = meta.commit(batch);
        if index % 3 == 0 {
            // Polled once, then dropped: the batch is with the engine or not.
            let mut commit = std::pin::pin!(commit);
            let _ = futures::poll!(commit.as_mut());
        } else {
            commit.await.unwrap();
        }
    }
    for index in (0..2000_u32).filter(|index| index % 3 != 0) {
        assert!(meta.get(&index.to_be_bytes()).await.unwrap().is_some(), "{index}");
    }
    meta.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_set_back_stops_nothing() {
    use mooring_policy::time::{ManualClock, Timestamp};
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(Timestamp::from_secs(2_000_000_000)));
    let open = || async {
        let mut options = common::slate_options(dir.path()).unwrap();
        options.clock = clock.clone();
        mooring_store::meta::SlateMeta::open(options).await.unwrap()
    };
    let meta = open().await;
    put(&*meta, "a", "1").await;
    clock.set(Timestamp::from_secs(1_900_000_000));
    put(&*meta, "b", "2").await;
    drop(meta);
    let meta = open().await;
    put(&*meta, "c", "3").await;
    meta.flush().await.unwrap();
    meta.close().await.unwrap();
    let meta = open().await;
    put(&*meta, "d", "4").await;
    assert_eq!(meta.scan(b"", b"", 10).await.unwrap().len(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn journal_files_go_once_the_tables_hold_their_rows() {
    let dir = tempfile::tempdir().unwrap();
    let meta = common::open(dir.path()).await.unwrap();
    for index in 0..100_u32 {
        let mut batch = Batch::new();
        batch.put(index.to_be_bytes().to_vec(), vec![7; 100_000]);
        meta.commit(batch).await.unwrap();
    }
    let files = || std::fs::read_dir(dir.path().join("volume/journal")).unwrap().count();
    let before = files();
    assert!(before > 8, "{before}");
    meta.flush().await.unwrap();
    let mut look = tokio::time::interval(std::time::Duration::from_millis(100));
    let gone = async {
        while files() > 3 {
            look.tick().await;
        }
    };
    let waited = tokio::time::timeout(std::time::Duration::from_secs(60), gone).await;
    assert!(waited.is_ok(), "{} of {before} journal files are still there", files());
    drop(meta);
    let meta = common::open(dir.path()).await.unwrap();
    let rows = meta.scan(b"", b"", 1000).await.unwrap();
    assert!(!rows.is_empty());
    for index in 0..100_u32 {
        assert_eq!(meta.get(&index.to_be_bytes()).await.unwrap().unwrap().len(), 100_000);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_no_journal_file_takes_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let meta = common::open(dir.path()).await.unwrap();
    // By its bytes, and by its rows' overhead.
    let mut large = Batch::new();
    large.put("large", vec![0; common::JOURNAL_FILE as usize]);
    let mut many = Batch::new();
    for index in 0..50_000_u32 {
        many.put(index.to_be_bytes().to_vec(), "");
    }
    for batch in [large, many] {
        assert!(matches!(meta.commit(batch).await, Err(MetaError::Batch(_))));
    }
    put(&*meta, "a", "1").await;
    assert_eq!(meta.scan(b"", b"", 9).await.unwrap().len(), 1);
}

#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<(u8, Option<u8>)>),
    Scan(u8, u8, usize),
    Flush,
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let change = (0..32_u8, proptest::option::of(any::<u8>()));
    let step = prop_oneof![
        8 => proptest::collection::vec(change, 1..8).prop_map(Step::Commit),
        4 => (0..34_u8, 0..34_u8, 1..40_usize).prop_map(|(start, end, limit)| Step::Scan(start, end, limit)),
        1 => Just(Step::Flush),
        1 => Just(Step::Reopen),
    ];
    proptest::collection::vec(step, 1..24)
}

/// Runs the same steps on both engines and compares every answer and, at the end, every row.
async fn compare(steps: Vec<Step>) {
    let dir = tempfile::tempdir().unwrap();
    let mut slate = common::open(dir.path()).await.unwrap();
    let memory = MemoryMeta::new();
    for step in steps {
        match step {
            Step::Commit(changes) => {
                let mut batch = Batch::new();
                for (key, value) in changes {
                    match value {
                        Some(value) => batch.put(vec![key], vec![value; 3]),
                        None => batch.delete(vec![key]),
                    };
                }
                slate.commit(batch.clone()).await.unwrap();
                memory.commit(batch).await.unwrap();
            }
            Step::Scan(start, end, limit) => {
                let found = slate.scan(&[start], &[end], limit).await.unwrap();
                assert_eq!(found, memory.scan(&[start], &[end], limit).await.unwrap());
            }
            Step::Flush => slate.flush().await.unwrap(),
            Step::Reopen => {
                drop(slate);
                slate = common::open(dir.path()).await.unwrap();
            }
        }
    }
    let all = |rows: Vec<(Bytes, Bytes)>| rows.into_iter().collect::<BTreeMap<_, _>>();
    assert_eq!(all(slate.scan(b"", b"", 99).await.unwrap()), all(memory.scan(b"", b"", 99).await.unwrap()));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn slate_answers_as_memory_does(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(compare(steps));
    }
}
