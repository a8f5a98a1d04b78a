//! VMs and the channels they are known by.

use mooring_policy::ids::{Generation, TenantId, VmId};
use mooring_protocol::api::Channel;

use super::rows::{self, VmRecord};
use super::{Realm, RealmError};
use crate::meta::Batch;

impl Realm {
    /// Makes a VM known by a channel. Attaching again (a new boot, another channel) raises its generation.
    ///
    /// # Errors
    /// [`RealmError::NoTenant`], [`RealmError::ChannelTaken`] when another VM is known by it.
    pub async fn vm_attach(
        &self,
        tenant: &TenantId,
        vm: &VmId,
        channel: Channel,
    ) -> Result<VmRecord, RealmError> {
        let _turn = self.writing.lock().await;
        let generation = {
            let state = self.state.read();
            state.tenant(tenant)?;
            // Any number of VMs come by TCP: there a token tells who it is.
            let shared = channel == Channel::Tcp;
            let other = state.vms.values().find(|v| {
                v.channel.as_ref() == Some(&channel) && !shared && !(v.tenant == *tenant && v.vm == *vm)
            });
            if let Some(other) = other {
                return Err(RealmError::ChannelTaken { tenant: other.tenant.clone(), vm: other.vm.clone() });
            }
            state
                .vms
                .get(&(tenant.clone(), vm.clone()))
                .map_or(1, |old| old.generation.get().saturating_add(1))
        };
        let row = VmRecord {
            tenant: tenant.clone(),
            vm: vm.clone(),
            channel: Some(channel),
            generation: Generation(generation),
        };
        self.put_vm(row.clone()).await?;
        Ok(row)
    }

    /// Forgets a VM's channel. Its generation is raised and remembered.
    ///
    /// # Errors
    /// [`RealmError::NoVm`].
    pub async fn vm_detach(&self, tenant: &TenantId, vm: &VmId) -> Result<VmRecord, RealmError> {
        let _turn = self.writing.lock().await;
        let old = self.vm(tenant, vm)?;
        let generation = Generation(old.generation.get().saturating_add(1));
        self.put_vm(VmRecord { channel: None, generation, ..old.clone() }).await?;
        Ok(old)
    }

    /// One attached VM.
    ///
    /// # Errors
    /// [`RealmError::NoVm`].
    pub fn vm(&self, tenant: &TenantId, vm: &VmId) -> Result<VmRecord, RealmError> {
        let found = self.state.read().vms.get(&(tenant.clone(), vm.clone())).cloned();
        found
            .filter(|v| v.channel.is_some())
            .ok_or_else(|| RealmError::NoVm { tenant: tenant.clone(), vm: vm.clone() })
    }

    /// All attached VMs.
    pub fn vms(&self) -> Vec<VmRecord> {
        self.state.read().vms.values().filter(|v| v.channel.is_some()).cloned().collect()
    }

    async fn put_vm(&self, row: VmRecord) -> Result<(), RealmError> {
        let mut batch = Batch::new();
        batch.put(rows::vm_key(&row.tenant, &row.vm), rows::encode("vm", &row)?);
        self.write(batch, |state| {
            state.vms.insert((row.tenant.clone(), row.vm.clone()), row);
        })
        .await
    }
}
