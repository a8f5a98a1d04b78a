//! Our own S3 as a store: a gateway in front of a local folder, which knows nothing of what is kept there.

mod apart;

use anyhow::Result;
use mooring_tests::store::Store;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_own_s3_is_a_store_like_any_other() -> Result<()> {
    let store = Store::start().await?;
    apart::conforms(&store.access, &store.gateway.s3_endpoint()).await
}
