//! The store's question "may the caller do this", answered over the grants in force at that moment.

use std::sync::Arc;

use arc_swap::ArcSwap;
use mooring_policy::action::Action;
use mooring_policy::decide::decide;
use mooring_policy::ids::{BucketName, TenantId};
use mooring_policy::resource::{Prefix, Target};
use mooring_policy::time::Clock;
use mooring_store::api::{Authority, Result};
use mooring_store::error::StoreError;

use super::identity::Who;
use super::registry::Registry;

/// What one principal may do in one bucket, seen from a root: the bucket's own or a share's prefix.
pub struct DoorAuthority {
    /// Who asks.
    pub who: Who,
    /// Whose bucket.
    pub owner: TenantId,
    /// Which.
    pub bucket: BucketName,
    /// Where the caller's keys begin.
    pub prefix: Prefix,
    /// The grants of the moment.
    pub registry: Arc<ArcSwap<Registry>>,
    /// The moment.
    pub clock: Arc<dyn Clock>,
}

impl Authority for DoorAuthority {
    fn check(&self, action: Action, key: Option<&[u8]>) -> Result<()> {
        let joined;
        let key = match (key, self.prefix.is_whole_bucket()) {
            (None, _) => self.prefix.as_bytes(),
            (Some(key), true) => key,
            (Some(key), false) => {
                joined = self.prefix.join(key);
                &joined[..]
            }
        };
        let target = Target { owner: &self.owner, bucket: &self.bucket, key };
        let registry = self.registry.load();
        let scope = self.who.scope.as_ref();
        let decision = decide(&self.who.principal, action, target, &registry.grants, scope, self.clock.now());
        match decision.require() {
            Ok(_) => Ok(()),
            Err(denied) if denied.visible => Err(StoreError::AccessDenied(denied.rule.to_string())),
            Err(denied) => {
                tracing::debug!(who = %self.who.principal, %action, rule = %denied.rule, "refused as not found");
                Err(StoreError::NotFound)
            }
        }
    }
}
