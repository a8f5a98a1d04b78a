//! The registry of one installation: who exists, what belongs to whom, who was granted what.
//!
//! One small metadata database of its own. Every change is durable when its method returns. Changes are made one
//! at a time: each reads, decides and commits in its [`turns`], which no data path takes.
//!
//! Grants belong in the database of the bucket they open, whose home then protects them with its own fence; with
//! one gateway there is one fence, and until buckets move between hosts the signed statements live here.
//!
//! Rows are sealed like everything else: the realm has a data key of its own. It and the tenants' keys are in the key
//! ring beside the database, wrapped by the master key; [`ring`] says why there.

mod bucket;
mod error;
mod external;
mod grant;
mod keys;
mod migrate;
mod open;
mod ring;
mod rows;
mod tenant;
mod turns;
mod vm;

pub use bucket::{Bucket, Doomed, Durability, Schedule};
pub use error::RealmError;
pub use external::{Attach, External, SealedSecret};
pub use grant::GrantRow;
pub use open::RealmOptions;
pub use ring::KeyInfo;
pub use tenant::{Tenant, TenantState};
pub use turns::Changes;
pub use vm::{Channel, Vm};

use crate::meta::{Batch, Meta};
use mooring_policy::ids::VolumeId;
use mooring_policy::rng::Random;
use mooring_policy::time::Clock;
use std::sync::Arc;

/// The registry. See the module documentation.
pub struct Realm {
    meta: Arc<dyn Meta>,
    ring: Arc<ring::Ring>,
    random: Arc<dyn Random>,
    clock: Arc<dyn Clock>,
    turns: turns::Turns,
}

impl Realm {
    /// The next number of a counter, noted in `batch`. Never given twice: the number is spent with the batch.
    async fn next(&self, name: &'static str, limit: u64, batch: &mut Batch) -> Result<u64, RealmError> {
        let key = rows::key(b'S', &[b"next", name.as_bytes()]);
        let next: u64 = rows::get(&*self.meta, &key).await?.unwrap_or(1);
        if next > limit {
            return Err(RealmError::Exhausted(name));
        }
        rows::put(batch, key, &(next + 1))?;
        Ok(next)
    }

    /// A volume id that was never used: 48 bits.
    pub async fn volume_id(&self) -> Result<VolumeId, RealmError> {
        let turn = self.turn().await?;
        let mut batch = Batch::new();
        let id = self.next("volume", (1 << 48) - 1, &mut batch).await?;
        self.apply(&turn, batch).await?;
        Ok(VolumeId(id))
    }

    /// A 16-bit id that was never used, for what must fit the upper bits of a node id. 0 is not given: it means
    /// the head.
    pub async fn view_id(&self) -> Result<u16, RealmError> {
        let turn = self.turn().await?;
        let mut batch = Batch::new();
        let id = self.next("view", u64::from(u16::MAX), &mut batch).await?;
        self.apply(&turn, batch).await?;
        u16::try_from(id).map_err(|_| RealmError::Exhausted("view"))
    }

    /// Waits until another gateway has taken the registry over; for ever where none can.
    pub async fn taken(&self) {
        self.meta.taken().await;
    }

    /// Lets go of the registry.
    pub async fn close(&self) -> Result<(), RealmError> {
        Ok(Arc::clone(&self.meta).close().await?)
    }
}
