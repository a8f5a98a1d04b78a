//! The demo's story, step by step the same, with a smaller file.

use anyhow::Result;
use mooring_tests::story::{self, Scale, Teller};

#[tokio::test]
async fn two_tenants_two_vms_the_whole_path() -> Result<()> {
    let scale = Scale::TEST;
    println!("the large file has {} MiB here; the demo's has {}", scale.big_mib, Scale::DEMO.big_mib);
    story::tell(scale, &mut Teller::default()).await
}
