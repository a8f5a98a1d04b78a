//! Who asks, and in whose name.

use axum::Json;
use axum::extract::{FromRequestParts, Query, State};
use http::header::AUTHORIZATION;
use http::request::Parts;
use mooring_policy::ids::{TenantId, VmId};
use mooring_policy::principal::Principal;
use mooring_protocol::api::WhoAmI;
use serde::Deserialize;

use super::Api;
use super::error::ApiFailure;
use crate::core::identity::{Peer, Who};
use crate::shares::failure;
use crate::tokens;

/// Who asks.
#[derive(Clone, Debug)]
pub struct Asker {
    who: Who,
    /// In whose name the operator asks.
    on_behalf: Option<TenantId>,
}

#[derive(Deserialize)]
struct OnBehalf {
    tenant: Option<TenantId>,
}

impl Asker {
    /// The operator, on the admin socket.
    pub fn operator() -> Asker {
        Asker { who: Who::new(Principal::Admin), on_behalf: None }
    }

    /// The tenant whose rights are used.
    ///
    /// # Errors
    /// The operator must name one.
    pub fn tenant(&self) -> Result<&TenantId, ApiFailure> {
        let tenant = self.on_behalf.as_ref().or(self.who.tenant());
        tenant.ok_or_else(|| {
            ApiFailure::invalid("say in whose name: --tenant NAME").try_next("mooring-gateway tenant ls")
        })
    }

    /// The tenant, if one is named at all.
    pub fn tenant_if_any(&self) -> Option<&TenantId> {
        self.on_behalf.as_ref().or(self.who.tenant())
    }

    /// Whom tokens are made for: the asker itself, or the tenant in whose name the operator asks.
    pub fn principal(&self) -> Principal {
        match &self.on_behalf {
            Some(tenant) => Principal::Tenant { tenant: tenant.clone() },
            None => self.who.principal.clone(),
        }
    }

    /// One of a tenant's VMs, as only the operator may speak for it.
    ///
    /// # Errors
    /// Somebody else asks, or there is no such VM.
    pub async fn vm(&self, api: &Api, vm: VmId) -> Result<Principal, ApiFailure> {
        let Some(tenant) = &self.on_behalf else {
            return Err(ApiFailure::denied(
                "a VM's token is made by the operator: mooring-gateway token --vm VM",
            ));
        };
        let known = api.core.realm().vm(tenant, &vm).await;
        let known = known.map_err(|e| failure(e).try_next("mooring-gateway vm ls"))?;
        Ok(Principal::Vm { tenant: tenant.clone(), vm, generation: known.generation })
    }

    /// Whether the operator asks, in whose name ever.
    pub fn is_operator(&self) -> bool {
        self.who.principal == Principal::Admin
    }

    /// What the asker's own token is narrowed to.
    pub fn scope(&self) -> Option<&mooring_policy::scope::Scope> {
        self.who.scope.as_ref()
    }

    /// Refuses whoever came with a narrowed token: managing is no part of any scope.
    ///
    /// # Errors
    /// Denied.
    pub fn whole(&self) -> Result<&TenantId, ApiFailure> {
        match self.who.scope {
            Some(_) => Err(ApiFailure::denied("a token narrowed to a scope cannot manage buckets or shares")),
            None => self.tenant(),
        }
    }
}

impl FromRequestParts<Api> for Asker {
    type Rejection = ApiFailure;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Asker, ApiFailure> {
        if let Some(operator) = parts.extensions.get::<Asker>() {
            let Query(query) = Query::<OnBehalf>::try_from_uri(&parts.uri).map_err(ApiFailure::invalid)?;
            if let Some(tenant) = &query.tenant {
                let known = api.core.realm().tenant(tenant).await;
                known.map_err(|e| failure(e).try_next("mooring-gateway tenant ls"))?;
            }
            return Ok(Asker { on_behalf: query.tenant, ..operator.clone() });
        }
        let peer = parts.extensions.get::<Peer>().and_then(|p| p.who.clone());
        let bearer = parts
            .headers
            .get(AUTHORIZATION)
            .and_then(|v| v.to_str().ok())
            .and_then(|v| v.strip_prefix("Bearer "));
        let who = match (peer, bearer) {
            (Some(who), None) => who,
            (peer, Some(token)) => from_token(api, token, peer.as_ref())?,
            (None, None) => {
                return Err(ApiFailure::unauthenticated("show a token: Authorization: Bearer TOKEN"));
            }
        };
        Ok(Asker { who, on_behalf: None })
    }
}

/// A token can only say less than the channel it comes over: it must be of the same VM or tenant.
fn from_token(api: &Api, token: &str, peer: Option<&Who>) -> Result<Who, ApiFailure> {
    let refused = || ApiFailure::unauthenticated("the token is not valid here");
    let session = tokens::verify(&api.core, token).map_err(|_| refused())?;
    let same = peer.is_none_or(|p| match &session.principal {
        Principal::Vm { .. } => session.principal == p.principal,
        other => other.tenant().is_some() && other.tenant() == p.tenant(),
    });
    if same { Ok(Who { principal: session.principal, scope: session.scope }) } else { Err(refused()) }
}

pub(super) async fn whoami(State(api): State<Api>, asker: Asker) -> Json<WhoAmI> {
    let vm = asker.who.vm().cloned().filter(|_| asker.on_behalf.is_none());
    Json(WhoAmI { tenant: asker.tenant_if_any().cloned(), vm, now: api.core.now().to_string() })
}

pub(super) async fn nothing(uri: http::Uri) -> ApiFailure {
    ApiFailure::not_found(uri.path())
}
