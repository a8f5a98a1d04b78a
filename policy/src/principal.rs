//! Who asks.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{Generation, TenantId, VmId};

/// Who asks, as established by the channel, a token or a signature: never by what the message claims.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Principal {
    /// A person or program that speaks for a whole tenant.
    Tenant {
        /// The tenant it speaks for.
        tenant: TenantId,
    },
    /// One boot of a VM of a tenant.
    Vm {
        /// The tenant that owns the VM.
        tenant: TenantId,
        /// The VM.
        vm: VmId,
        /// The boot. What an earlier one was given is worth nothing.
        generation: Generation,
    },
    /// The operator of this host.
    Admin,
    /// A program outside of any VM that holds a static access key of a tenant.
    External {
        /// The tenant that issued the key.
        tenant: TenantId,
        /// The id of the access key.
        key: String,
    },
}

impl Principal {
    /// The tenant on whose rights the principal acts; none for the operator.
    pub fn tenant(&self) -> Option<&TenantId> {
        match self {
            Self::Tenant { tenant } | Self::Vm { tenant, .. } | Self::External { tenant, .. } => Some(tenant),
            Self::Admin => None,
        }
    }
}

/// The form of a token's `sub`: `tenant/T`, `tenant/T/vm/V`, `tenant/T/key/K`, `admin`.
impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tenant { tenant } => write!(f, "tenant/{tenant}"),
            Self::Vm { tenant, vm, .. } => write!(f, "tenant/{tenant}/vm/{vm}"),
            Self::Admin => f.write_str("admin"),
            Self::External { tenant, key } => write!(f, "tenant/{tenant}/key/{key}"),
        }
    }
}
