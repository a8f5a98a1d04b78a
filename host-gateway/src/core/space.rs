//! What buckets take and may take: limits put in force, totals of tenants, garbage.

use std::collections::HashMap;
use std::sync::Arc;

use mooring_policy::ids::{TenantId, VolumeId};
use mooring_store::volume::{Budget, Quota, Volume};
use parking_lot::Mutex;

use super::coherent::Coherent;
use super::registry::Registry;
use super::{Core, CoreError};

/// What each tenant uses and may, over all its buckets.
#[derive(Default)]
pub struct Budgets(Mutex<HashMap<TenantId, Arc<Budget>>>);

impl Budgets {
    /// A tenant's, with the limits that the registry says.
    pub fn of(&self, tenant: &TenantId, registry: &Registry) -> Arc<Budget> {
        let budget = self.0.lock().entry(tenant.clone()).or_default().clone();
        budget.set_quota(registry.quotas.get(tenant).copied().unwrap_or_default());
        budget
    }

    /// A volume is gone.
    pub fn forget(&self, tenant: &TenantId, volume: VolumeId) {
        if let Some(budget) = self.0.lock().get(tenant) {
            budget.forget(volume.get());
        }
    }
}

impl Core {
    /// A bucket's volume itself, opened when it is not. Whoever holds what came with it keeps it open.
    ///
    /// # Errors
    /// No bucket has it, or it cannot be opened.
    pub async fn raw_volume(&self, id: VolumeId) -> Result<(Arc<Coherent>, Arc<Volume>), CoreError> {
        if self.registry().by_volume.get(&id).is_some_and(|bucket| bucket.external.is_some()) {
            return Err(CoreError::External(id));
        }
        // It may be closed between the two steps when it was idle for long.
        loop {
            let coherent = self.volume(id).await?;
            if let Some(volume) = self.doors.volumes.opened(id).await {
                return Ok((coherent, volume));
            }
        }
    }

    /// A volume if it is open.
    pub async fn opened(&self, id: VolumeId) -> Option<Arc<Volume>> {
        self.doors.volumes.opened(id).await
    }

    /// Puts a bucket's limits in force. Call it after [`Core::reload`].
    pub async fn quota_changed(&self, id: VolumeId) {
        let quota = self.registry().by_volume.get(&id).map(|bucket| bucket.quota);
        if let (Some(quota), Some(volume)) = (quota, self.doors.volumes.opened(id).await) {
            volume.set_quota(quota);
        }
    }

    /// Puts a tenant's limits in force, and tells what its buckets use together: those that were not open since the
    /// gateway started are opened for it. Call it after [`Core::reload`].
    ///
    /// # Errors
    /// A bucket cannot be opened. The limits are in force; what is not known counts as nothing.
    pub async fn tenant_budget(&self, tenant: &TenantId) -> Result<Arc<Budget>, CoreError> {
        let registry = self.registry();
        let budget = self.doors.volumes.budgets.of(tenant, &registry);
        let own = registry.by_volume.values();
        let own = own.filter(|bucket| bucket.owner == *tenant && bucket.external.is_none());
        for bucket in own.filter(|bucket| !budget.knows(bucket.volume.get())) {
            self.volume(bucket.volume).await?;
        }
        Ok(budget)
    }

    /// Learns what tenants with a limit use, in the background: at start no bucket is open.
    pub(super) fn learn_budgets(self: &Arc<Self>) {
        let core = Arc::clone(self);
        self.tasks.spawn(async move {
            let limited = core.registry();
            let limited = limited.quotas.iter().filter(|(_, quota)| **quota != Quota::default());
            for (tenant, _) in limited {
                let learnt = core.tenant_budget(tenant);
                tokio::select! {
                    () = core.sessions.stopping().cancelled() => return,
                    learnt = learnt => {
                        if let Err(error) = learnt {
                            tracing::warn!(%tenant, %error, "what a tenant uses is not wholly known");
                        }
                    }
                }
            }
        });
    }
}
