#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use super::*;
use crate::seal::TenantKey;
use bytes::Bytes;
use mooring_policy::ids::VolumeId;
use mooring_policy::rng::{Random, SeededRandom, SystemRandom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(super) async fn open(dir: &Path, pack_bytes: u32) -> Arc<PackStore> {
    open_as(dir, pack_bytes, 1).await.unwrap()
}

async fn open_as(dir: &Path, pack_bytes: u32, tenant: u64) -> Result<Arc<PackStore>, PackError> {
    let keys = TenantKey::generate(&SeededRandom::new(tenant)).volume(VolumeId(1));
    // No cache: every read is from the disk.
    let (dir, random) = (dir.to_path_buf(), Arc::new(SystemRandom));
    PackStore::open(PackOptions { dir, keys, epoch: 3, random, cache: ExtentCache::new(0), pack_bytes }).await
}

pub(super) fn noise(seed: u64, len: usize) -> Bytes {
    let mut data = vec![0; len];
    SeededRandom::new(seed).fill(&mut data);
    data.into()
}

pub(super) fn extent(store: &Arc<PackStore>, data: &Bytes, owner: (u64, u64)) -> ExtentIn {
    ExtentIn { domain: Domain(5), owner, data: data.clone(), hash: store.hash(data) }
}

pub(super) async fn put(store: &Arc<PackStore>, data: &Bytes) -> ExtentRef {
    store.append(vec![extent(store, data, (1, 0))]).await.unwrap()[0]
}

async fn get(store: &Arc<PackStore>, extent: &ExtentRef) -> Result<Bytes, PackError> {
    store.read(extent, 0..extent.raw_len).await
}

pub(super) fn only_file(dir: &Path) -> PathBuf {
    let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files.remove(0)
}

#[test]
fn references_have_one_fixed_form() {
    let extent = ExtentRef {
        pack: PackId(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10),
        offset: 0x1112_1314,
        stored_len: 0x1516_1718,
        raw_len: 0x191a_1b1c,
        flags: FLAG_LZ4,
        hash: *b"0123456789abcdef",
    };
    let encoded = extent.encode();
    let golden = "0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c0130313233343536373839616263646566";
    assert_eq!(hex::encode(encoded), golden);
    assert_eq!(ExtentRef::decode(&encoded), Some(extent));
    assert_eq!(ExtentRef::decode(&encoded[1..]), None);
    let mut unknown = encoded;
    unknown[28] = 4;
    assert_eq!(ExtentRef::decode(&unknown), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn extents_read_back_whole_in_part_and_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), 1 << 20).await;
    let text = Bytes::from(b"a rope, a ring, ".repeat(20_000));
    let mut kept = Vec::new();
    for (seed, len) in [1, 100, 4096, 32 << 10, 128 << 10, 1 << 20, 3 << 20].into_iter().enumerate() {
        let data = noise(seed as u64, len);
        kept.push((put(&store, &data).await, data));
    }
    kept.push((put(&store, &text).await, text.clone()));
    let batch: Vec<_> = (0..40).map(|index| noise(100 + index, 64 << 10)).collect();
    let ins = batch.iter().enumerate().map(|(at, data)| extent(&store, data, (9, at as u64))).collect();
    kept.extend(store.append(ins).await.unwrap().into_iter().zip(batch));
    let (packed, _) = kept[7];
    assert!(packed.flags == FLAG_LZ4 | FLAG_SEGMENTS && packed.stored_len < packed.raw_len / 10);
    for round in 0..3 {
        let store = if round == 0 { Arc::clone(&store) } else { open(dir.path(), 1 << 20).await };
        for (extent, data) in &kept {
            assert_eq!(get(&store, extent).await.unwrap(), data);
            let (from, to) = (extent.raw_len / 3, extent.raw_len / 2);
            assert_eq!(store.read(extent, from..to).await.unwrap(), data[from as usize..to as usize]);
            assert!(store.read(extent, 0..extent.raw_len + 1).await.is_err());
        }
        if round == 0 {
            store.sync().await.unwrap();
            store.seal_current().await.unwrap();
            assert!(store.list().len() > 4 && store.list().iter().all(|pack| pack.sealed && pack.epoch == 3));
        }
    }
    assert!(matches!(
        store.append(vec![extent(&store, &Bytes::new(), (0, 0))]).await,
        Err(PackError::Size { .. })
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_reverse_map_names_every_extent() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), 16 << 20).await;
    let mut wanted = Vec::new();
    for at in 0..50 {
        let data = noise(at, 1000 + at as usize);
        let owner = (7, at * 4096);
        let placed = store.append(vec![extent(&store, &data, owner)]).await.unwrap()[0];
        wanted.push(Entry { extent: placed, domain: Domain(5), owner });
    }
    let pack = wanted[0].extent.pack;
    assert_eq!(store.entries(pack).await.unwrap(), wanted);
    assert!(matches!(store.delete(pack).await, Err(PackError::Busy { .. })));
    store.seal_current().await.unwrap();
    assert_eq!(store.entries(pack).await.unwrap(), wanted);
    store.delete(pack).await.unwrap();
    assert!(matches!(get(&store, &wanted[0].extent).await, Err(PackError::Missing { .. })));
    assert!(matches!(store.delete(pack).await, Err(PackError::Missing { .. })));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_flipped_bit_is_an_error_that_names_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), 1 << 20).await;
    let (noisy, text) = (noise(1, 60), Bytes::from(b"mooring ".repeat(100)));
    let extents = [(put(&store, &noisy).await, noisy), (put(&store, &text).await, text)];
    store.seal_current().await.unwrap();
    let entries = store.entries(extents[0].0.pack).await.unwrap();
    let file = only_file(dir.path());
    let whole = std::fs::read(&file).unwrap();
    for bit in 0..whole.len() * 8 {
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(&file, &flipped).unwrap();
        for (extent, data) in &extents {
            let body = extent.offset as usize + format::EXTENT_HEAD;
            let hit = (body..body + extent.stored_len as usize).contains(&(bit / 8));
            match get(&store, extent).await {
                Ok(read) => assert!(!hit && read == *data, "bit {bit}"),
                Err(PackError::Corrupt { pack, offset, .. }) => {
                    assert!(hit && pack == extent.pack && offset == u64::from(extent.offset), "bit {bit}");
                }
                Err(other) => panic!("bit {bit}: {other}"),
            }
        }
        // The reverse map is right or an error.
        if let Ok(read) = store.entries(extents[0].0.pack).await {
            assert_eq!(read, entries, "bit {bit}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_moved_or_under_another_key_do_not_open() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), 1 << 20).await;
    let (first, second) = (put(&store, &noise(1, 500)).await, put(&store, &noise(2, 500)).await);
    store.seal_current().await.unwrap();
    let file = only_file(dir.path());
    let mut image = std::fs::read(&file).unwrap();
    let size = first.pack_bytes() as usize;
    image.copy_within(second.offset as usize..second.offset as usize + size, first.offset as usize);
    std::fs::write(&file, image).unwrap();
    assert!(matches!(get(&store, &first).await, Err(PackError::Corrupt { .. })));
    let lie = ExtentRef { raw_len: 499, ..second };
    assert!(matches!(get(&store, &lie).await, Err(PackError::Corrupt { .. })));
    let other = open_as(dir.path(), 1 << 20, 2).await.unwrap();
    assert!(matches!(get(&other, &second).await, Err(PackError::Corrupt { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_pack_cut_at_any_byte_keeps_its_whole_extents() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), 1 << 20).await;
    let data: Vec<_> = (0..3).map(|seed| noise(seed, 90)).collect();
    let mut placed = Vec::new();
    for data in &data {
        placed.push(put(&store, data).await);
    }
    let image = std::fs::read(only_file(dir.path())).unwrap();
    let name = only_file(dir.path()).file_name().unwrap().to_owned();
    for cut in 0..=image.len() {
        for zeros in [0, 200] {
            let place = tempfile::tempdir().unwrap();
            let mut torn = image[..cut].to_vec();
            torn.resize(cut + zeros, 0);
            std::fs::write(place.path().join(&name), torn).unwrap();
            let store = open(place.path(), 1 << 20).await;
            for (extent, data) in placed.iter().zip(&data) {
                let whole = (u64::from(extent.offset) + extent.pack_bytes()) as usize <= cut;
                match get(&store, extent).await {
                    Ok(read) => assert!(whole && read == data),
                    Err(PackError::Corrupt { .. } | PackError::Missing { .. }) => {
                        assert!(!whole, "cut at {cut}")
                    }
                    Err(other) => panic!("{other}"),
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appends_go_side_by_side_and_share_syncs() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), 256 << 10).await;
    let tasks: Vec<_> = (0..32_u64)
        .map(|task| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let mut kept = Vec::new();
                for index in 0..20 {
                    let data = noise(task * 1000 + index, 100 + (index as usize * 2477) % 50_000);
                    kept.push((put(&store, &data).await, data));
                    store.sync().await.unwrap();
                }
                kept
            })
        })
        .collect();
    let mut all = Vec::new();
    for task in tasks {
        all.extend(task.await.unwrap());
    }
    println!("640 durable appends of 32 tasks: {} fdatasyncs", store.fdatasyncs());
    store.seal_current().await.unwrap();
    let store = open(dir.path(), 256 << 10).await;
    for (extent, data) in all {
        assert_eq!(get(&store, &extent).await.unwrap(), data);
    }
}
