//! Buckets and the volumes behind them.

use super::{Attach, External, Realm, RealmError, rows};
use crate::keys::HeadId;
use crate::meta::Batch;
use crate::volume::Quota;
use mooring_policy::ids::{BucketName, TenantId, VolumeId};
use mooring_policy::time::Timestamp;
use serde::{Deserialize, Serialize};

/// When a reply says durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// When it is in the volume's store. On the local-directory store the journal is the store's.
    #[default]
    Store,
    /// When it is in this host's journal.
    Host,
}

/// A bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bucket {
    /// Who owns it.
    pub owner: TenantId,
    /// Its name, unique within the owner.
    pub name: BucketName,
    /// Its number, by which sessions, doors and limits know it; and the volume where its files are, unless it is a clone.
    pub volume: VolumeId,
    /// A clone's: the volume it is a head of, which it shares with the bucket it was cloned from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<VolumeId>,
    /// When it was created.
    pub created: Timestamp,
    /// Its durability class.
    #[serde(default)]
    pub durability: Durability,
    /// Where it is, when it lies in another S3 service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<External>,
    /// What it may take.
    #[serde(default)]
    pub quota: Quota,
    /// Snapshots that are taken by themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshots: Option<Schedule>,
    /// Seconds for which what is removed is kept; none: it is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trash_seconds: Option<u64>,
}

impl Bucket {
    /// The volume where its files are.
    #[must_use]
    pub fn place(&self) -> VolumeId {
        self.within.unwrap_or(self.volume)
    }

    /// The head of that volume it is.
    #[must_use]
    pub fn head(&self) -> HeadId {
        head_of(self.volume, self.within)
    }
}

fn head_of(volume: VolumeId, within: Option<VolumeId>) -> HeadId {
    within.map_or(HeadId::FIRST, |_| HeadId(volume.get()))
}

/// When snapshots are taken, and how many stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// Seconds between two.
    pub every_seconds: u64,
    /// How many stay.
    pub keep: u32,
}

/// What is left of a bucket that is gone and is to be removed: its volume, or its head where others lie in that too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doomed {
    /// Whose it was.
    pub owner: TenantId,
    /// The bucket's number.
    pub volume: VolumeId,
    /// As [`Bucket::within`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<VolumeId>,
}

impl Doomed {
    /// What a bucket leaves.
    #[must_use]
    pub fn of(bucket: &Bucket) -> Doomed {
        Doomed { owner: bucket.owner.clone(), volume: bucket.volume, within: bucket.within }
    }

    /// The volume where its files are.
    #[must_use]
    pub fn place(&self) -> VolumeId {
        self.within.unwrap_or(self.volume)
    }

    /// The head of that volume it was.
    #[must_use]
    pub fn head(&self) -> HeadId {
        head_of(self.volume, self.within)
    }
}

fn key(owner: &TenantId, name: &BucketName) -> Vec<u8> {
    rows::key(b'B', &[owner.as_str().as_bytes(), name.as_str().as_bytes()])
}

fn doomed_key(volume: VolumeId) -> Vec<u8> {
    rows::key(b'D', &[&volume.get().to_be_bytes()])
}

impl Realm {
    /// Creates a bucket with a volume of its own. The volume's directory is made when it is first opened.
    pub async fn bucket_create(
        &self,
        owner: &TenantId,
        name: &BucketName,
        durability: Durability,
    ) -> Result<Bucket, RealmError> {
        self.bucket_make(owner, name, durability, None).await
    }

    /// Attaches a bucket of another S3 service, which is served as it is.
    pub async fn bucket_attach(
        &self,
        owner: &TenantId,
        name: &BucketName,
        attach: Attach,
    ) -> Result<Bucket, RealmError> {
        self.bucket_make(owner, name, Durability::Store, Some(attach)).await
    }

    async fn bucket_make(
        &self,
        owner: &TenantId,
        name: &BucketName,
        durability: Durability,
        attach: Option<Attach>,
    ) -> Result<Bucket, RealmError> {
        let turn = self.turn().await?;
        self.refuse_taken(owner, name).await?;
        let mut batch = Batch::new();
        let volume = VolumeId(self.next("volume", (1 << 48) - 1, &mut batch).await?);
        let created = self.clock.now();
        let external = match attach {
            None => None,
            Some(Attach { external, secret }) => {
                let secret = self.seal_secret(owner, volume, &secret).await?;
                Some(External { secret, ..external })
            }
        };
        let bucket = Bucket {
            owner: owner.clone(),
            name: name.clone(),
            volume,
            within: None,
            created,
            durability,
            external,
            quota: Quota::default(),
            snapshots: None,
            trash_seconds: None,
        };
        rows::put(&mut batch, key(owner, name), &bucket)?;
        self.apply(&turn, batch).await?;
        Ok(bucket)
    }

    /// Begins to clone a bucket: the row that [`Self::clone_finish`] puts there, once the head is made. Until then the head
    /// is noted as doomed. What the source keeps as trash is the clone's too, so it is kept for as long.
    pub async fn clone_begin(
        &self,
        source: &Bucket,
        name: &BucketName,
        quota: Quota,
    ) -> Result<Bucket, RealmError> {
        let turn = self.turn().await?;
        self.refuse_taken(&source.owner, name).await?;
        let mut batch = Batch::new();
        let bucket = Bucket {
            name: name.clone(),
            volume: VolumeId(self.next("volume", (1 << 48) - 1, &mut batch).await?),
            within: Some(source.place()),
            created: self.clock.now(),
            quota,
            snapshots: None,
            ..source.clone()
        };
        rows::put(&mut batch, doomed_key(bucket.volume), &Doomed::of(&bucket))?;
        self.apply(&turn, batch).await?;
        Ok(bucket)
    }

    /// The head of a clone is made: it is a bucket from now on.
    pub async fn clone_finish(&self, bucket: &Bucket) -> Result<(), RealmError> {
        let turn = self.turn().await?;
        self.refuse_taken(&bucket.owner, &bucket.name).await?;
        let mut batch = Batch::new();
        rows::put(&mut batch, key(&bucket.owner, &bucket.name), bucket)?;
        batch.delete(doomed_key(bucket.volume));
        self.apply(&turn, batch).await
    }

    async fn refuse_taken(&self, owner: &TenantId, name: &BucketName) -> Result<(), RealmError> {
        self.tenant(owner).await?;
        match rows::get::<Bucket>(&*self.meta, &key(owner, name)).await? {
            Some(_) => Err(RealmError::BucketExists(owner.clone(), name.clone())),
            None => Ok(()),
        }
    }

    /// Changes a bucket's limits.
    pub async fn bucket_set_quota(
        &self,
        owner: &TenantId,
        name: &BucketName,
        change: impl FnOnce(Quota) -> Quota,
    ) -> Result<Bucket, RealmError> {
        let turn = self.turn().await?;
        let mut bucket = self.bucket(owner, name).await?;
        bucket.quota = change(bucket.quota);
        let mut batch = Batch::new();
        rows::put(&mut batch, key(owner, name), &bucket)?;
        self.apply(&turn, batch).await?;
        Ok(bucket)
    }

    /// Removes a bucket and every grant on it. Its volume is listed by [`Self::doomed_volumes`] until
    /// [`Self::volume_removed`], so that a stop in between leaves no files behind.
    pub async fn bucket_rm(&self, owner: &TenantId, name: &BucketName) -> Result<Bucket, RealmError> {
        let turn = self.turn().await?;
        let bucket = self.bucket(owner, name).await?;
        let mut batch = Batch::new();
        self.doom(&bucket, &mut batch).await?;
        self.apply(&turn, batch).await?;
        Ok(bucket)
    }

    /// Sets when snapshots of a bucket are taken; `None` for never.
    pub async fn bucket_schedule(
        &self,
        owner: &TenantId,
        name: &BucketName,
        snapshots: Option<Schedule>,
    ) -> Result<Bucket, RealmError> {
        let turn = self.turn().await?;
        let bucket = Bucket { snapshots, ..self.bucket(owner, name).await? };
        let mut batch = Batch::new();
        rows::put(&mut batch, key(owner, name), &bucket)?;
        self.apply(&turn, batch).await?;
        Ok(bucket)
    }

    /// Sets for how long what is removed from a bucket is kept; `None`: not at all.
    pub async fn bucket_trash(
        &self,
        owner: &TenantId,
        name: &BucketName,
        trash_seconds: Option<u64>,
    ) -> Result<Bucket, RealmError> {
        let turn = self.turn().await?;
        let bucket = Bucket { trash_seconds, ..self.bucket(owner, name).await? };
        let mut batch = Batch::new();
        rows::put(&mut batch, key(owner, name), &bucket)?;
        self.apply(&turn, batch).await?;
        Ok(bucket)
    }

    /// Puts the removal of a bucket into `batch`.
    pub(super) async fn doom(&self, bucket: &Bucket, batch: &mut Batch) -> Result<(), RealmError> {
        let Bucket { owner, name, .. } = bucket;
        self.forget_grants_on(owner, name, batch).await?;
        batch.delete(key(owner, name));
        rows::put(batch, doomed_key(bucket.volume), &Doomed::of(bucket))
    }

    /// A bucket.
    pub async fn bucket(&self, owner: &TenantId, name: &BucketName) -> Result<Bucket, RealmError> {
        let found = rows::get(&*self.meta, &key(owner, name)).await?;
        found.ok_or_else(|| RealmError::NoSuchBucket(owner.clone(), name.clone()))
    }

    /// The buckets of one tenant, or all, by owner and name.
    pub async fn buckets(&self, owner: Option<&TenantId>) -> Result<Vec<Bucket>, RealmError> {
        let prefix =
            owner.map_or_else(|| b"B".to_vec(), |owner| rows::below(b'B', owner.as_str().as_bytes()));
        rows::all(&*self.meta, &prefix).await
    }

    /// Buckets that are gone and whose files are still to be removed.
    pub async fn doomed_volumes(&self) -> Result<Vec<Doomed>, RealmError> {
        rows::all(&*self.meta, b"D").await
    }

    /// The files of a volume are gone.
    pub async fn volume_removed(&self, volume: VolumeId) -> Result<(), RealmError> {
        let (turn, mut batch) = (self.turn().await?, Batch::new());
        batch.delete(doomed_key(volume));
        self.apply(&turn, batch).await
    }
}
