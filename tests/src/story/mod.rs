//! The whole path on real parts: two tenants, a real VM each, one gateway.
//!
//! One library of steps, told by the demo and proven by the test; only the [`Scale`] differs. Everything is done the
//! way a user would do it: the tenants type commands in their VMs, the operator types commands on the host, and what
//! is compared is what unmodified programs (git, SQLite, boto3) read back. No VM holds a secret; the channel a VM
//! comes in by says whose it is.
//!
//! The steps build on each other, so the first that goes wrong ends the story.

mod cast;
mod clock;
mod data;
mod doors;
mod loss;
mod outage;
mod repository;
mod revoke;
mod sharing;
mod tell;

use anyhow::Result;

use self::cast::Cast;
pub use self::tell::{Teller, Told};

/// How much data the story moves.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    /// The large file, in MiB.
    pub big_mib: u32,
    /// Transactions that fill the database.
    pub transactions: u32,
    /// Rows of each.
    pub rows: u32,
}

impl Scale {
    /// As it is shown to people.
    pub const DEMO: Scale = Scale { big_mib: 200, transactions: 20, rows: 1000 };
    /// For a test: the same steps, in a few minutes on emulated machines.
    pub const TEST: Scale = Scale { big_mib: 32, transactions: 8, rows: 500 };

    /// Bytes of the large file.
    pub fn big_bytes(&self) -> u64 {
        u64::from(self.big_mib) << 20
    }
}

/// Tells the whole story. When it returns, well or not, nothing it started is left.
pub async fn tell(scale: Scale, teller: &mut Teller) -> Result<()> {
    teller.chapter("Two tenants, one VM each");
    let mut cast = Cast::gather(teller).await?;
    let told = scenes(&mut cast, scale, teller).await;
    if told.is_err() {
        cast.keep_agent_logs().await;
    }
    told?;

    teller.chapter("The end");
    cast.leave(teller).await
}

async fn scenes(cast: &mut Cast, scale: Scale, teller: &mut Teller) -> Result<()> {
    teller.chapter("The same bytes through every door");
    let things = data::fill(cast, scale, teller).await?;
    doors::compare(cast, &things, teller).await?;

    teller.chapter("The VM is lost in the middle of writes");
    let promised = loss::kill(cast, &things, teller).await?;
    loss::check(cast, &promised, &things, teller).await?;

    teller.chapter("One prefix for another tenant, and back");
    let share = sharing::share(cast, teller).await?;
    sharing::look(cast, &share, teller).await?;
    revoke::revoke(cast, &share, teller).await?;

    teller.chapter("The gateway is lost during a copy");
    outage::survive(cast, scale, &things, teller).await
}
