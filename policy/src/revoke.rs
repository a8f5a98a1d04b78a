//! What ends a session before its time.
//!
//! Three ways, from coarse to fine: raise the epoch of a tenant (all its tokens and S3 credentials), raise the
//! generation of a VM (all that an earlier boot was given), or list one token. The first two are one number each;
//! the list is bounded, because a listed token is dropped when it would have expired anyway.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::ids::{Epoch, Generation, TenantId, TokenId, VmId};
use crate::principal::Principal;
use crate::time::Timestamp;
use crate::token::{SESSION_LIFE, Session};

/// Why a genuine session token is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Revoked {
    /// The VM was started again since.
    #[error("the VM is at generation {required}, the token is of generation {found}")]
    Generation {
        /// The generation of the token.
        found: Generation,
        /// The lowest that is accepted.
        required: Generation,
    },
    /// The keys of its tenant were changed since.
    #[error("the key epoch is {required}, the token is of epoch {found}")]
    Epoch {
        /// The epoch of the token.
        found: Epoch,
        /// The lowest that is accepted.
        required: Epoch,
    },
    /// It was revoked by itself.
    #[error("the token {0} is revoked")]
    Token(TokenId),
}

/// All that was revoked.
#[derive(Debug, Clone, Default)]
pub struct Revocations {
    generations: HashMap<TenantId, HashMap<VmId, Generation>>,
    epochs: HashMap<TenantId, Epoch>,
    realm_epoch: Epoch,
    tokens: HashSet<TokenId>,
    tokens_by_end: BTreeSet<(Timestamp, TokenId)>,
}

impl Revocations {
    /// Nothing was revoked.
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on a VM's tokens are of this generation or a later one. Never goes back.
    pub fn require_generation(&mut self, tenant: &TenantId, vm: &VmId, generation: Generation) {
        let required = self.generations.entry(tenant.clone()).or_default().entry(vm.clone()).or_default();
        *required = generation.max(*required);
    }

    /// From now on a tenant's tokens are of this epoch or a later one. Never goes back. For a tenant that is
    /// removed, require `u64::MAX`.
    pub fn require_epoch(&mut self, tenant: &TenantId, epoch: Epoch) {
        let required = self.epochs.entry(tenant.clone()).or_default();
        *required = epoch.max(*required);
    }

    /// From now on the operator's tokens are of this epoch or a later one. Never goes back.
    pub fn require_realm_epoch(&mut self, epoch: Epoch) {
        self.realm_epoch = epoch.max(self.realm_epoch);
    }

    /// Revokes one token, which ends at `expires`. Drops from the list what has ended at `now`.
    pub fn revoke_token(&mut self, id: TokenId, expires: Timestamp, now: Timestamp) {
        self.drop_ended(now);
        // No token ends later than this, whatever the caller believes: so the list cannot be made to last.
        let expires = expires.min(now.saturating_add(SESSION_LIFE));
        if now < expires && self.tokens.insert(id) {
            self.tokens_by_end.insert((expires, id));
        }
    }

    /// Forgets listed tokens that have ended.
    pub fn drop_ended(&mut self, now: Timestamp) {
        while let Some((end, id)) = self.tokens_by_end.first().copied().filter(|(end, _)| *end <= now) {
            self.tokens_by_end.remove(&(end, id));
            self.tokens.remove(&id);
        }
    }

    /// How many tokens are listed.
    pub fn listed_tokens(&self) -> usize {
        self.tokens.len()
    }

    /// Whether a verified session is still accepted.
    ///
    /// # Errors
    /// [`Revoked`] says what ended it.
    pub fn check(&self, session: &Session) -> Result<(), Revoked> {
        let required = self.required_epoch(&session.principal);
        if session.epoch < required {
            return Err(Revoked::Epoch { found: session.epoch, required });
        }
        if let Principal::Vm { tenant, vm, generation } = &session.principal {
            let required =
                self.generations.get(tenant).and_then(|vms| vms.get(vm)).copied().unwrap_or_default();
            if *generation < required {
                return Err(Revoked::Generation { found: *generation, required });
            }
        }
        if self.tokens.contains(&session.id) {
            return Err(Revoked::Token(session.id));
        }
        Ok(())
    }

    fn required_epoch(&self, principal: &Principal) -> Epoch {
        match principal.tenant() {
            Some(tenant) => self.epochs.get(tenant).copied().unwrap_or_default(),
            None => self.realm_epoch,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::time::Duration;

    use super::*;
    use crate::rng::SeededRandom;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn session(principal: Principal, epoch: u64) -> Session {
        Session {
            id: TokenId::random(&SeededRandom::new(1)),
            principal,
            epoch: Epoch(epoch),
            issued: NOW,
            not_before: NOW,
            expires: NOW.saturating_add(SESSION_LIFE),
            scope: None,
            holder: None,
        }
    }

    fn vm(tenant: &str, vm: &str, generation: u64) -> Session {
        let generation = Generation(generation);
        session(Principal::Vm { tenant: tenant.parse().unwrap(), vm: vm.parse().unwrap(), generation }, 1)
    }

    #[test]
    fn a_new_boot_ends_what_the_old_one_was_given_and_nothing_else() {
        let mut revocations = Revocations::new();
        revocations.require_generation(&"acme".parse().unwrap(), &"web".parse().unwrap(), Generation(4));
        revocations.require_generation(&"acme".parse().unwrap(), &"web".parse().unwrap(), Generation(2));
        let refused = Revoked::Generation { found: Generation(3), required: Generation(4) };
        assert_eq!(revocations.check(&vm("acme", "web", 3)), Err(refused));
        for other in [vm("acme", "web", 4), vm("acme", "web", 5), vm("acme", "db", 1), vm("globex", "web", 1)]
        {
            assert_eq!(revocations.check(&other), Ok(()));
        }
    }

    #[test]
    fn an_epoch_ends_everything_of_its_tenant() {
        let mut revocations = Revocations::new();
        revocations.require_epoch(&"acme".parse().unwrap(), Epoch(2));
        let refused = Revoked::Epoch { found: Epoch(1), required: Epoch(2) };
        let tenant = |name: &str, epoch| session(Principal::Tenant { tenant: name.parse().unwrap() }, epoch);
        assert_eq!(revocations.check(&vm("acme", "web", 9)), Err(refused));
        assert_eq!(revocations.check(&tenant("acme", 1)), Err(refused));
        assert_eq!(revocations.check(&tenant("acme", 2)), Ok(()));
        assert_eq!(revocations.check(&tenant("globex", 1)), Ok(()));
        assert_eq!(revocations.check(&session(Principal::Admin, 1)), Ok(()));
        revocations.require_realm_epoch(Epoch(2));
        assert_eq!(revocations.check(&session(Principal::Admin, 1)), Err(refused));
    }

    #[test]
    fn the_list_of_tokens_stays_as_short_as_tokens_live() {
        let random = SeededRandom::new(2);
        let mut revocations = Revocations::new();
        let revoked = vm("acme", "web", 1);
        revocations.revoke_token(revoked.id, revoked.expires, NOW);
        assert_eq!(revocations.check(&revoked), Err(Revoked::Token(revoked.id)));
        for second in 0..10_000 {
            let now = NOW.saturating_add(Duration::from_secs(second));
            revocations.revoke_token(TokenId::random(&random), Timestamp::MAX, now);
            assert!(revocations.listed_tokens() <= 601);
        }
        revocations.drop_ended(Timestamp::MAX);
        assert_eq!((revocations.listed_tokens(), revocations.tokens_by_end.len()), (0, 0));
    }

    #[test]
    fn a_token_that_has_ended_is_not_listed() {
        let mut revocations = Revocations::new();
        revocations.revoke_token(TokenId::random(&SeededRandom::new(3)), NOW, NOW);
        assert_eq!(revocations.listed_tokens(), 0);
    }
}
