//! Which doors there are for whom, and what is behind them.

use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use mooring_policy::action::Action;
use mooring_policy::ids::{GrantId, TenantId, VolumeId};
use mooring_policy::index::Status as Standing;
use mooring_policy::resource::Prefix;
use mooring_policy::rng::Random;
use mooring_policy::time::{Clock, Timestamp};
use mooring_policy::token;
use mooring_policy::token::{SessionRequest, mint_session, verify_session};
use mooring_protocol::message::{Door, DoorKind};
use mooring_protocol::status::Status;
use mooring_protocol::types::Ino;
use mooring_store::api::Authority;
use mooring_store::error::StoreError;
use mooring_store::realm::Bucket;
use mooring_store::volume::Volume;

use super::access::DoorAuthority;
use super::coherent::Coherent;
use super::coherent::grace::Grace;
use super::error::CoreError;
use super::gate::{Gate, Passage};
use super::identity::Who;
use super::registry::{Registry, door_of, is_share};
use super::volumes::Volumes;

/// What there is to open, and the means to open it.
pub struct Doors {
    /// The registry of the moment.
    pub(super) registry: Arc<ArcSwap<Registry>>,
    pub(super) volumes: Volumes,
    pub(super) grace: Arc<Grace>,
    pub(super) token_realm: token::Realm,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) random: Arc<dyn Random>,
}

#[async_trait]
impl Gate for Doors {
    async fn doors(&self, who: &Who) -> Vec<Door> {
        let Some(tenant) = who.tenant() else { return Vec::new() };
        let registry = self.registry.load_full();
        let own = registry.by_volume.values().filter(|b| b.owner == *tenant);
        let mut doors: Vec<Door> = own
            .map(|b| Door {
                id: b.volume.get(),
                kind: DoorKind::Bucket { name: b.name.clone() },
                root: Ino::ROOT,
                read_only: read_only(b),
            })
            .collect();
        let mine = registry.grants.iter().filter(|g| g.grantee == *tenant).map(|g| g.id);
        for grant in mine.collect::<Vec<_>>() {
            match self.share_door(tenant, grant).await {
                Ok(door) => doors.extend(door),
                Err(error) => tracing::warn!(%grant, %error, "a share cannot be offered now"),
            }
        }
        doors.sort_by_key(|d| d.id);
        doors
    }

    async fn open(&self, who: &Who, door: u64) -> Result<Passage, Status> {
        let tenant = who.tenant().ok_or(Status::NotFound)?;
        if is_share(door) {
            let grant = self.registry.load().by_door.get(&door).copied().ok_or(Status::NotFound)?;
            return self.open_share(who, tenant, grant).await;
        }
        let bucket = self.registry.load().by_volume.get(&VolumeId(door)).cloned();
        let bucket = bucket.filter(|b| b.owner == *tenant).ok_or(Status::NotFound)?;
        let volume = self.volume(bucket.volume).await.map_err(|e| unavailable(&e))?;
        let read_only = read_only(&bucket);
        let authority = DoorAuthority {
            who: who.clone(),
            owner: bucket.owner,
            bucket: bucket.name,
            prefix: Prefix::WHOLE_BUCKET,
            registry: self.registry.clone(),
            clock: self.clock.clone(),
        };
        let root = Ino::ROOT;
        Ok(Passage { volume, root, confined: false, read_only, authority: Arc::new(authority) })
    }

    fn verify(&self, token: &str) -> Result<Who, Status> {
        let registry = self.registry.load();
        let verified = verify_session(
            registry.keys.public(),
            &self.token_realm,
            &registry.revocations,
            token,
            self.clock.now(),
        );
        let session = verified.map_err(|error| {
            tracing::info!(%error, "refused a token");
            Status::Unauthenticated
        })?;
        Ok(Who { principal: session.principal, scope: session.scope })
    }

    fn token(&self, who: &Who) -> Result<(String, Timestamp), Status> {
        let registry = self.registry.load();
        let epoch = match who.tenant() {
            Some(tenant) => registry.epochs.get(tenant).copied().ok_or(Status::Unauthenticated)?,
            None => registry.realm_epoch,
        };
        let request = SessionRequest {
            principal: who.principal.clone(),
            epoch,
            scope: who.scope.clone(),
            holder: None,
        };
        let minted =
            mint_session(&registry.keys, &self.token_realm, request, &*self.random, self.clock.now());
        let (token, session) = minted.map_err(|error| {
            tracing::error!(%error, "a session token could not be issued");
            Status::Io
        })?;
        Ok((token, session.expires))
    }

    fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    fn serves(&self) -> bool {
        self.volumes.standing.serves()
    }

    fn random(&self, bytes: &mut [u8]) {
        self.random.fill(bytes);
    }
}

impl Doors {
    /// The volume of a bucket, opened when it is not.
    ///
    /// # Errors
    /// No bucket has it, or it cannot be opened.
    pub async fn volume(&self, id: VolumeId) -> Result<Arc<Coherent>, CoreError> {
        let bucket = self.registry.load().by_volume.get(&id).cloned();
        self.volumes.get(&bucket.ok_or(CoreError::NoSuchVolume(id))?, &self.grace).await
    }

    /// The engine of a volume, opened when it is not; it stays open as long as the first of the two is held.
    pub(super) async fn engine(&self, id: VolumeId) -> Result<(Arc<Coherent>, Arc<Volume>), CoreError> {
        let bucket = self.registry.load().by_volume.get(&id).cloned();
        self.volumes.engine(&bucket.ok_or(CoreError::NoSuchVolume(id))?, &self.grace).await
    }

    /// The door of a grant, when its grantee can mount it now.
    async fn share_door(&self, grantee: &TenantId, id: GrantId) -> Result<Option<Door>, CoreError> {
        let registry = self.registry.load_full();
        let now = self.clock.now();
        let Some(name) = registry.accepted.get(&id).cloned() else { return Ok(None) };
        let in_force = registry.grants.status(id, now) == Some(Standing::InForce);
        let Some(grant) = registry.grants.get(id).filter(|g| in_force && g.grantee == *grantee) else {
            return Ok(None);
        };
        let Some(standing) = registry.grants.standing(id) else { return Ok(None) };
        let Some(&volume) = registry.volumes.get(&(grant.owner.clone(), grant.bucket.clone())) else {
            return Ok(None);
        };
        let volume = self.volume(volume).await?;
        let root = match root_of(&volume, &grant.prefix).await {
            Ok(root) => root,
            // Its directory was renamed away: the share is empty until there is one of that name again.
            Err(StoreError::NotFound | StoreError::NotDir) => return Ok(None),
            Err(source) => return Err(CoreError::Volume { volume: volume.id(), source }),
        };
        let changes = [Action::Write, Action::Delete].into_iter().any(|a| standing.actions.contains(a));
        Ok(Some(Door {
            id: door_of(id),
            kind: DoorKind::Share { owner: grant.owner.clone(), name },
            root,
            read_only: !changes,
        }))
    }

    async fn open_share(&self, who: &Who, tenant: &TenantId, id: GrantId) -> Result<Passage, Status> {
        let door = self.share_door(tenant, id).await.map_err(|e| unavailable(&e))?.ok_or(Status::NotFound)?;
        let registry = self.registry.load_full();
        let grant = registry.grants.get(id).ok_or(Status::NotFound)?;
        let volume = registry.volumes.get(&(grant.owner.clone(), grant.bucket.clone())).copied();
        let volume = self.volume(volume.ok_or(Status::NotFound)?).await.map_err(|e| unavailable(&e))?;
        let authority = DoorAuthority {
            who: who.clone(),
            owner: grant.owner.clone(),
            bucket: grant.bucket.clone(),
            prefix: grant.prefix.clone(),
            registry: self.registry.clone(),
            clock: self.clock.clone(),
        };
        let authority: Arc<dyn Authority> = Arc::new(authority);
        Ok(Passage { volume, root: door.root, confined: true, read_only: door.read_only, authority })
    }
}

/// Whether nothing can be changed in a bucket, whoever asks.
fn read_only(bucket: &Bucket) -> bool {
    bucket.external.as_ref().is_some_and(|external| external.read_only)
}

async fn root_of(volume: &super::coherent::Coherent, prefix: &Prefix) -> Result<Ino, StoreError> {
    if prefix.is_whole_bucket() {
        return Ok(Ino::ROOT);
    }
    Ok(volume.store().resolve(prefix.as_bytes()).await?.ino)
}

fn unavailable(error: &CoreError) -> Status {
    let chain: Vec<String> = std::iter::successors(Some(error as &dyn std::error::Error), |e| e.source())
        .map(ToString::to_string)
        .collect();
    tracing::error!(error = chain.join(": "), "a volume cannot be opened");
    Status::Unavailable
}
