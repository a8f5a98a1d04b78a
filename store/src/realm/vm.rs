//! VMs and the channels that lead to them.

use super::turns::Turn;
use super::{Realm, RealmError, rows};
use crate::meta::Batch;
use mooring_policy::ids::{Generation, TenantId, VmId};
use mooring_policy::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// How a VM reaches the gateway: its identity, because nobody else can use it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Channel {
    /// Hybrid vsock: guest port P arrives at the unix socket `<path>_P`.
    Hybrid(PathBuf),
    /// Kernel vsock: the context id.
    Cid(u32),
    /// A unix socket of the VM's own.
    Unix(PathBuf),
    /// TCP with TLS; the VM shows a token. Any number of VMs may use it.
    Tcp,
}

/// A VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vm {
    /// Whose it is.
    pub tenant: TenantId,
    /// Its name within the tenant.
    pub name: VmId,
    /// How it reaches the gateway; `None` once detached.
    pub channel: Option<Channel>,
    /// Raised with each attach and detach. The row outlives a detach, so that no number comes twice.
    pub generation: Generation,
    /// When it was last attached.
    pub attached: Timestamp,
    /// The gateway on whose host it runs, where several share a store; `None` when there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
}

fn key(tenant: &TenantId, name: &VmId) -> Vec<u8> {
    rows::key(b'M', &[tenant.as_str().as_bytes(), name.as_str().as_bytes()])
}

impl Realm {
    /// Attaches a VM, or attaches it anew: what its earlier boot was given is refused from now on.
    pub async fn vm_attach(
        &self,
        tenant: &TenantId,
        name: &VmId,
        channel: Channel,
    ) -> Result<Vm, RealmError> {
        self.vm_attach_at(tenant, name, channel, None).await
    }

    /// The same for a VM on the host of the gateway called `gateway`. Paths and context ids are that host's own.
    pub async fn vm_attach_at(
        &self,
        tenant: &TenantId,
        name: &VmId,
        channel: Channel,
        gateway: Option<&str>,
    ) -> Result<Vm, RealmError> {
        let turn = self.turn().await?;
        self.tenant(tenant).await?;
        let same = |vm: &Vm| vm.tenant == *tenant && vm.name == *name;
        let here = |vm: &Vm| vm.gateway.as_deref() == gateway;
        let taken = |vm: &Vm| {
            channel != Channel::Tcp && vm.channel.as_ref() == Some(&channel) && here(vm) && !same(vm)
        };
        let all = self.vms_ever(None).await?;
        if let Some(vm) = all.iter().find(|vm| taken(vm)) {
            return Err(RealmError::ChannelInUse { tenant: vm.tenant.clone(), vm: vm.name.clone() });
        }
        let earlier = all.iter().find(|vm| same(vm)).map_or(Generation(0), |vm| vm.generation);
        let generation = earlier.next().ok_or(RealmError::Exhausted("generation"))?;
        let (tenant, name, attached) = (tenant.clone(), name.clone(), self.clock.now());
        let gateway = gateway.map(str::to_owned);
        let vm = Vm { tenant, name, channel: Some(channel), generation, attached, gateway };
        self.put_vm(&turn, &vm).await?;
        Ok(vm)
    }

    /// Detaches a VM and returns it as it was, with the generation that its tokens are now behind.
    pub async fn vm_detach(&self, tenant: &TenantId, name: &VmId) -> Result<Vm, RealmError> {
        let turn = self.turn().await?;
        let vm = self.vm(tenant, name).await?;
        let generation = vm.generation.next().ok_or(RealmError::Exhausted("generation"))?;
        self.put_vm(&turn, &Vm { channel: None, generation, ..vm.clone() }).await?;
        Ok(Vm { generation, ..vm })
    }

    async fn put_vm(&self, turn: &Turn, vm: &Vm) -> Result<(), RealmError> {
        let mut batch = Batch::new();
        rows::put(&mut batch, key(&vm.tenant, &vm.name), vm)?;
        self.apply(turn, batch).await
    }

    /// An attached VM.
    pub async fn vm(&self, tenant: &TenantId, name: &VmId) -> Result<Vm, RealmError> {
        let found: Option<Vm> = rows::get(&*self.meta, &key(tenant, name)).await?;
        let attached = found.filter(|vm| vm.channel.is_some());
        attached.ok_or_else(|| RealmError::NoSuchVm(tenant.clone(), name.clone()))
    }

    /// The attached VMs of one tenant, or all, by tenant and name.
    pub async fn vms(&self, tenant: Option<&TenantId>) -> Result<Vec<Vm>, RealmError> {
        let mut all = self.vms_ever(tenant).await?;
        all.retain(|vm| vm.channel.is_some());
        Ok(all)
    }

    pub(super) async fn vms_ever(&self, tenant: Option<&TenantId>) -> Result<Vec<Vm>, RealmError> {
        let prefix =
            tenant.map_or_else(|| b"M".to_vec(), |tenant| rows::below(b'M', tenant.as_str().as_bytes()));
        rows::all(&*self.meta, &prefix).await
    }
}
