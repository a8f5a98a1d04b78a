//! The suite on everything that implements the store's API here.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod volumes;

use mooring_policy::rng::SystemRandom;
use mooring_policy::time::SystemClock;
use mooring_protocol::types::Time;
use mooring_store::api::Objects;
use mooring_store::backend::{Backing, StoreConfig};
use mooring_store::conformance::{all, on_directory, on_store};
use mooring_store::memory::Memory;
use mooring_store::meta::MemoryMeta;
use mooring_store::oracle::Oracle;
use mooring_store::pack::{ExtentCache, PACK_BYTES, PackOptions, PackStore};
use mooring_store::volume::{Config, Parts, Volume};
use std::sync::Arc;

#[tokio::test(flavor = "multi_thread")]
async fn the_oracle() {
    all(|| async { Arc::new(Oracle::new(Time::default())) as Arc<dyn Objects> }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_on_disk() {
    all(|| async {
        let dir = volumes::directory().keep();
        volumes::open(&dir).await as Arc<dyn Objects>
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_with_its_rows_in_memory() {
    all(|| async {
        let options = PackOptions {
            dir: volumes::directory().keep(),
            keys: volumes::keys(),
            epoch: 1,
            random: Arc::new(SystemRandom),
            cache: ExtentCache::new(1 << 20),
            pack_bytes: PACK_BYTES,
        };
        let parts = Parts {
            meta: Arc::new(MemoryMeta::new()),
            packs: PackStore::open(options).await.unwrap(),
            memory: Memory::new(16 << 20),
            clock: Arc::new(SystemClock::new()),
            random: Arc::new(SystemRandom),
            config: Config::default(),
        };
        Volume::open(parts).await.unwrap() as Arc<dyn Objects>
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_in_a_directory() {
    let dir = volumes::directory();
    on_directory(dir.path()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_in_a_directory_that_hosts_share() {
    let (dir, store) = (volumes::directory(), volumes::directory());
    let config =
        StoreConfig { url: format!("file://{}/store", store.path().display()), ..StoreConfig::default() };
    let backing = Backing::open(&config).unwrap().probed(&SystemRandom).await.unwrap();
    on_store(&backing, dir.path()).await;
}
