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
        let keys = key.volume(volume);
        let mut sealed = Zeroizing::new(self.sealed.clone());
        let bound = volume.get().to_be_bytes();
        if let Ok(plain) = keys.secret(&self.salt)?.open(0, &bound, &mut sealed) {
            return text(plain);
        }
        // As it was sealed first. The attempt has left no sealed bytes behind.
        sealed.copy_from_slice(&self.sealed);
        text(keys.first_secret(&self.salt)?.open(0, &bound, &mut sealed)?)
    }
}

fn text(plain: &[u8]) -> Result<Zeroizing<String>, SealError> {
    let plain = std::str::from_utf8(plain).map_err(|_| SealError::Open)?;
    Ok(Zeroizing::new(plain.to_owned()))
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::seal::{KeyGeneration, TenantKey};
    use mooring_policy::rng::SeededRandom;
    use std::collections::BTreeMap;

    fn keys(hash: &TenantKey, data: &TenantKey, generation: u16) -> Arc<TenantKeys> {
        let current = (KeyGeneration(generation), data.clone());
        Arc::new(TenantKeys::new(hash.hash_key(), current, BTreeMap::new()))
    }

    #[test]
    fn a_secret_opens_when_the_data_key_of_its_time_is_gone() {
        let random = SeededRandom::new(1);
        let [first, third, other] = [0; 3].map(|_| TenantKey::generate(&random));
        let then = keys(&first, &first, 1);
        let sealed = SealedSecret::seal(&then, VolumeId(7), "s3cr3t", &random).unwrap();
        assert!(!String::from_utf8_lossy(&sealed.sealed).contains("s3cr3t"));
        let now = keys(&first, &third, 3);
        assert_eq!(sealed.open(&now, VolumeId(7)).unwrap().as_str(), "s3cr3t");
        assert!(sealed.open(&now, VolumeId(8)).is_err());
        assert!(sealed.open(&keys(&other, &third, 3), VolumeId(7)).is_err());
        now.destroy();
        assert!(sealed.open(&now, VolumeId(7)).is_err());
    }

    #[test]
    fn what_was_sealed_by_the_first_data_key_opens() {
        let random = SeededRandom::new(2);
        let [first, second] = [0; 2].map(|_| TenantKey::generate(&random));
        let keys = keys(&first, &first, 1);
        let (salt, mut sealed) = ([9; 32], b"s3cr3t".to_vec());
        let cipher = keys.volume(VolumeId(7)).first_secret(&salt).unwrap();
        cipher.seal_tail(0, &VolumeId(7).get().to_be_bytes(), &mut sealed, 0).unwrap();
        keys.rotate(KeyGeneration(2), second);
        assert_eq!(SealedSecret { salt, sealed }.open(&keys, VolumeId(7)).unwrap().as_str(), "s3cr3t");
    }
}
