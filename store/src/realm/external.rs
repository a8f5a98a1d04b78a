//! Buckets that lie in another S3 service and are served as they are.

use super::{Bucket, Realm, RealmError};
use crate::seal::{SealError, TenantKeys};
use mooring_policy::ids::{TenantId, VolumeId};
use mooring_policy::rng::Random;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use zeroize::Zeroizing;

/// Where such a bucket is, who we are there, and how it looks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct External {
    /// The service's endpoint; none: AWS, by the region.
    pub endpoint: Option<String>,
    /// The region.
    pub region: String,
    /// The bucket's name there.
    pub bucket: String,
    /// What every key begins with: empty, or ending with `/`.
    pub prefix: String,
    /// The bucket's name is part of the path, not of the host's name.
    pub path_style: bool,
    /// Whose rights are used.
    pub access_key: String,
    /// The secret of that key.
    pub secret: SealedSecret,
    /// Nothing may be changed.
    pub read_only: bool,
    /// Milliseconds after which a change made behind our back is seen.
    pub refresh_ms: u64,
    /// Owner and group of everything.
    pub owner: (u32, u32),
    /// Permission bits of files and of directories.
    pub modes: (u16, u16),
    /// Bytes that may wait here to be uploaded.
    pub spool_bytes: u64,
}

/// A secret under the tenant's key, bound to the volume it is for.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedSecret {
    salt: [u8; 32],
    sealed: Vec<u8>,
}

impl std::fmt::Debug for SealedSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SealedSecret(..)")
    }
}

impl SealedSecret {
    fn seal(
        key: &Arc<TenantKeys>,
        volume: VolumeId,
        secret: &str,
        random: &dyn Random,
    ) -> Result<Self, SealError> {
        let mut salt = [0; 32];
        random.fill(&mut salt);
        let mut sealed = secret.as_bytes().to_vec();
        key.volume(volume).secret(&salt)?.seal_tail(0, &volume.get().to_be_bytes(), &mut sealed, 0)?;
        Ok(SealedSecret { salt, sealed })
    }

    fn open(&self, key: &Arc<TenantKeys>, volume: VolumeId) -> Result<Zeroizing<String>, SealError> {
        let mut sealed = Zeroizing::new(self.sealed.clone());
        let plain = key.volume(volume).secret(&self.salt)?;
        let plain = plain.open(0, &volume.get().to_be_bytes(), &mut sealed)?;
        let plain = std::str::from_utf8(plain).map_err(|_| SealError::Open)?;
        Ok(Zeroizing::new(plain.to_owned()))
    }
}

impl Realm {
    /// The secret of an external bucket's access key, sealed for `volume`.
    pub(super) async fn seal_secret(
        &self,
        owner: &TenantId,
        volume: VolumeId,
        secret: &str,
    ) -> Result<SealedSecret, RealmError> {
        let key = self.tenant_key(owner).await?;
        Ok(SealedSecret::seal(&key, volume, secret, self.random.as_ref())?)
    }

    /// The secret of an external bucket's access key, in clear. None: the bucket is our own.
    pub async fn external_secret(&self, bucket: &Bucket) -> Result<Option<Zeroizing<String>>, RealmError> {
        let Some(external) = &bucket.external else { return Ok(None) };
        let key = self.tenant_key(&bucket.owner).await?;
        Ok(Some(external.secret.open(&key, bucket.volume)?))
    }
}

/// An external bucket to be attached: all but the sealing.
#[derive(Clone)]
pub struct Attach {
    /// The row, with an empty secret.
    pub external: External,
    /// The secret.
    pub secret: Zeroizing<String>,
}

impl SealedSecret {
    /// None yet.
    pub fn none() -> SealedSecret {
        SealedSecret { salt: [0; 32], sealed: Vec::new() }
    }
}
