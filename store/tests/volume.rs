//! What is particular to a volume on disk: packs, reopening, sharing of extents.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod volumes;

use bytes::Bytes;
use mooring_protocol::types::{Ino, NewNode, RenameMode};
use mooring_store::api::{Tree, WriteAt};
use volumes::{directory, name, open, owner};

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_is_there_after_reopening() {
    let dir = directory();
    let cx = owner();
    let data: Bytes = (0..3_000_000_u32).flat_map(|n| n.to_le_bytes()).collect();
    {
        let volume = open(dir.path()).await;
        let sub = volume.create(&cx, Ino::ROOT, &name("sub"), 0o755, (1, 2), &NewNode::Dir).await.unwrap();
        let file = volume
            .create(&cx, sub.ino, &name("file"), 0o644, (1, 2), &NewNode::File { open: None })
            .await
            .unwrap();
        let mut at = 0;
        for chunk in data.chunks(1_000_000) {
            let (offset, attr) =
                volume.write(&cx, file.ino, WriteAt::End, data.slice_ref(chunk), None, false).await.unwrap();
            assert_eq!(offset, at);
            at += chunk.len() as u64;
            assert_eq!(attr.size, at);
        }
        volume
            .rename(&cx, Ino::ROOT, &name("sub"), Ino::ROOT, &name("dir"), RenameMode::Replace)
            .await
            .unwrap();
        volume.close().await.unwrap();
    }
    let volume = open(dir.path()).await;
    let found = volume.resolve(b"dir").await.unwrap();
    let file = volume.lookup(&cx, found.ino, &name("file")).await.unwrap();
    let mut back = Vec::new();
    while (back.len() as u64) < file.size {
        let (parts, _) = volume.read(&cx, file.ino, back.len() as u64, 777_777).await.unwrap();
        parts.iter().for_each(|part| back.extend_from_slice(part));
    }
    assert!(back == data);
    volume.unlink(&cx, found.ino, &name("file")).await.unwrap();
    volume.rmdir(&cx, Ino::ROOT, &name("dir")).await.unwrap();
    assert!(volume.readdir(&cx, Ino::ROOT, b"", 10, true).await.unwrap().0.is_empty());
    assert_eq!(volume.check().await.unwrap().findings, []);
    volume.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_and_files_are_one_tree() {
    use mooring_store::api::{Condition, ListQuery, ObjectMeta, Objects};
    let dir = directory();
    let cx = owner();
    let volume = open(dir.path()).await;
    for (key, size) in
        [("a/b/c", 10_usize), ("a//b", 5), ("a/b", 70_000), ("z", 3_000_000), ("d/", 0), (".", 1)]
    {
        let staged = volume.stage(&cx).await.unwrap();
        volume.stage_write(&cx, staged, Bytes::from(vec![7; size])).await.unwrap();
        let put = volume
            .put(&cx, staged, key.as_bytes(), "etag".into(), ObjectMeta::default(), &Condition::default())
            .await;
        assert_eq!(put.unwrap().object.size, size as u64);
        assert_eq!(volume.head(&cx, key.as_bytes()).await.unwrap().size, size as u64);
    }
    let page = volume.list(&cx, &ListQuery { limit: 100, ..ListQuery::default() }).await.unwrap();
    let keys: Vec<_> = page.objects.iter().map(|object| object.key.clone()).collect();
    assert_eq!(keys, [".", "a//b", "a/b", "a/b/c", "d/", "z"]);
    assert_eq!(volume.check().await.unwrap().findings, []);
    for key in keys {
        assert!(volume.delete(&cx, &key, &Condition::default()).await.unwrap().is_some());
    }
    assert!(volume.readdir(&cx, Ino::ROOT, b"", 10, true).await.unwrap().0.is_empty());
    assert_eq!(volume.check().await.unwrap().findings, []);
}
