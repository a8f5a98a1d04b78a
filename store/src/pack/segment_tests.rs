#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use super::format::EXTENT_HEAD;
use super::segments::Layout;
use super::tests::{extent, noise, only_file, open, put};
use super::*;
use crate::seal::TenantKey;
use bytes::Bytes;
use mooring_policy::ids::VolumeId;
use mooring_policy::rng::{SeededRandom, SystemRandom};
use std::path::Path;
use std::sync::Arc;

const SEGMENT: usize = SEGMENT_BYTES as usize;

/// 300,000 bytes: of text, and of text with noise in it.
fn texts() -> [Bytes; 2] {
    let text = b"a rope, a ring, a knot; ".repeat(12_500);
    let mut mixed = text.clone();
    mixed[4 * SEGMENT..9 * SEGMENT].copy_from_slice(&noise(3, 5 * SEGMENT));
    [text.into(), mixed.into()]
}

/// A store with a cache.
async fn open_cached(dir: &Path) -> Arc<PackStore> {
    let keys = TenantKey::generate(&SeededRandom::new(1)).volume(VolumeId(1));
    let (dir, random, cache) = (dir.to_path_buf(), Arc::new(SystemRandom), ExtentCache::new(64 << 20));
    PackStore::open(PackOptions { dir, keys, epoch: 3, random, cache, pack_bytes: 16 << 20 }).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_range_of_a_long_extent_reads_right_in_any_order() {
    let dir = tempfile::tempdir().unwrap();
    let [text, mixed] = texts();
    for cached in [false, true] {
        let store = if cached { open_cached(dir.path()).await } else { open(dir.path(), 16 << 20).await };
        for (data, flags) in [
            (&noise(1, 300_000), FLAG_SEGMENTS),
            (&text, FLAG_SEGMENTS | FLAG_LZ4),
            (&mixed, FLAG_SEGMENTS | FLAG_LZ4),
        ] {
            let place = put(&store, data).await;
            assert_eq!(place.flags, flags);
            let numbers = (1..200_u32).map(|n| n.wrapping_mul(2_654_435_761) % 300_000);
            for (from, len) in
                numbers.zip([1, 100, 4096, 16_384, 16_385, 70_000, 299_999].into_iter().cycle())
            {
                let to = (from + len).min(300_000);
                let read = store.read(&place, from..to).await.unwrap();
                assert_eq!(read, data[from as usize..to as usize], "{from}..{to}");
            }
            for at in (0..300_000).step_by(4096) {
                let to = (at + 4096).min(300_000);
                assert_eq!(store.read(&place, at..to).await.unwrap(), data[at as usize..to as usize]);
            }
            store.verify(&place).await.unwrap();
        }
        store.seal_current().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_segment_fails_and_the_others_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let [_, mixed] = texts();
    for data in [noise(1, 300_000), mixed] {
        let store = open(dir.path(), 16 << 20).await;
        let place = put(&store, &data).await;
        store.seal_current().await.unwrap();
        let file = only_file(dir.path());
        let image = std::fs::read(&file).unwrap();
        let body = place.offset as usize + EXTENT_HEAD;
        let layout = match Layout::plain(&place) {
            Some(layout) => layout,
            None => {
                let index = store.handle(place.pack).unwrap().index(&place).unwrap();
                Layout::indexed(&place, &index).unwrap()
            }
        };
        for bad in 0..layout.count() {
            let sealed = layout.sealed(bad..bad + 1);
            for at in [sealed.start, sealed.start + sealed.len() as u32 / 2, sealed.end - 1] {
                let mut changed = image.clone();
                changed[body + at as usize] ^= 0x10;
                std::fs::write(&file, &changed).unwrap();
                for segment in 0..layout.count() {
                    let raw = layout.raw(segment..segment + 1);
                    let read = store.read(&place, raw.clone()).await;
                    match read {
                        Ok(read) => {
                            assert!(segment != bad && read == data[raw.start as usize..raw.end as usize]);
                        }
                        Err(PackError::Corrupt { .. }) => assert_eq!(segment, bad),
                        Err(other) => panic!("{other}"),
                    }
                }
                let whole = store.read(&place, 0..place.raw_len).await;
                assert!(matches!(whole, Err(PackError::Corrupt { .. })));
                assert!(store.verify(&place).await.is_err());
            }
        }
        // The index, where there is one, is sealed too.
        for at in (0..layout.sealed(0..1).start).step_by(3) {
            let mut changed = image.clone();
            changed[body + at as usize] ^= 0x01;
            std::fs::write(&file, &changed).unwrap();
            assert!(matches!(store.read(&place, 0..10).await, Err(PackError::Corrupt { .. })));
        }
        std::fs::remove_file(&file).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_segment_at_another_place_does_not_open() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), 16 << 20).await;
    let place = put(&store, &noise(1, 4 * SEGMENT)).await;
    store.seal_current().await.unwrap();
    let file = only_file(dir.path());
    let mut image = std::fs::read(&file).unwrap();
    let layout = Layout::plain(&place).unwrap();
    let body = place.offset as usize + EXTENT_HEAD;
    let [first, second] = [0, 1].map(|at| layout.sealed(at..at + 1));
    image.copy_within(body + second.start as usize..body + second.end as usize, body + first.start as usize);
    std::fs::write(&file, image).unwrap();
    assert!(store.read(&place, 0..100).await.is_err());
    assert!(store.read(&place, SEGMENT_BYTES..SEGMENT_BYTES + 100).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_extents_move_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), 16 << 20).await;
    let [text, mixed] = texts();
    let kept = [noise(1, 300_000), text, mixed, noise(2, 100)];
    let ins = kept.iter().map(|data| extent(&store, data, (4, 0))).collect();
    let placed = store.append(ins).await.unwrap();
    store.seal_current().await.unwrap();
    let entries = store.entries(placed[0].pack).await.unwrap();
    let moved = store.relocate(entries).await.unwrap();
    store.delete(placed[0].pack).await.unwrap();
    for ((moved, before), data) in moved.iter().zip(&placed).zip(&kept) {
        let extent = moved.as_ref().unwrap().extent;
        assert_eq!((extent.stored_len, extent.flags), (before.stored_len, before.flags));
        assert!(extent.pack != before.pack);
        assert_eq!(store.read(&extent, 50..extent.raw_len).await.unwrap(), data[50..]);
    }
}
