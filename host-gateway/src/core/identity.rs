//! Who is at the other end: known from the channel, or from a token where the channel tells nothing.

use std::fmt;

use mooring_policy::ids::{TenantId, VmId};
use mooring_policy::principal::Principal;
use mooring_policy::scope::Scope;

/// Somebody whose identity is established, by the channel or by a verified token. Never by what a message claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    /// Who it is.
    pub principal: Principal,
    /// What its token is narrowed to; `None`: all that its rights allow.
    pub scope: Option<Scope>,
}

impl Who {
    /// Somebody with all its rights.
    pub fn new(principal: Principal) -> Who {
        Who { principal, scope: None }
    }

    /// The tenant on whose rights it acts.
    pub fn tenant(&self) -> Option<&TenantId> {
        self.principal.tenant()
    }

    /// The VM, when it is one.
    pub fn vm(&self) -> Option<&VmId> {
        match &self.principal {
            Principal::Vm { vm, .. } => Some(vm),
            _ => None,
        }
    }
}

/// The other end of a connection, before and after it has said who it is.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Whom the channel belongs to; `None` on TCP, where a token says it.
    pub who: Option<Who>,
    /// The channel, for logs: `hybrid /run/vm1.sock port 5000`, `vsock 5`, `tcp 10.0.0.7:40112`.
    pub channel: String,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.who {
            Some(who) => write!(f, "{} on {}", who.principal, self.channel),
            None => write!(f, "unknown on {}", self.channel),
        }
    }
}
