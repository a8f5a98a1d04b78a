//! VMs' channels, on this host and on those of other gateways.

use std::sync::Arc;

use async_trait::async_trait;
use mooring_store::realm::Vm;

use super::listen::ListenError;
use super::{Core, CoreError};

/// The other gateways on this store, when there may be some.
#[async_trait]
pub trait Elsewhere: Send + Sync {
    /// What this gateway is called.
    fn own(&self) -> &str;
    /// The epoch in which it is home.
    fn epoch(&self) -> u64;
    /// The others that are connected.
    fn connected(&self) -> Vec<String>;
    /// Has `gateway` look at its VMs anew, of which `vm` was attached or detached; returns when it has, or says why not.
    async fn refresh(&self, gateway: &str, vm: &Vm) -> Result<(), String>;
}

impl Core {
    /// Makes a VM's channel.
    ///
    /// # Errors
    /// A socket cannot be made.
    pub async fn listen(&self, vm: &Vm) -> Result<(), ListenError> {
        let Some((there, gateway)) = self.host_of(vm) else { return self.listeners.add(vm).await };
        let failed = |why| ListenError::Elsewhere { gateway: gateway.to_owned(), why };
        there.refresh(gateway, vm).await.map_err(failed)
    }

    /// The gateway on a VM's host, when it is another one.
    fn host_of<'a>(&'a self, vm: &'a Vm) -> Option<(&'a Arc<dyn Elsewhere>, &'a str)> {
        let there = self.elsewhere.get()?;
        vm.gateway.as_deref().filter(|gateway| *gateway != there.own()).map(|gateway| (there, gateway))
    }

    /// Says who the other gateways are. Once, before anything is listened on.
    pub fn set_elsewhere(&self, elsewhere: Arc<dyn Elsewhere>) {
        if self.elsewhere.set(elsewhere).is_err() {
            tracing::error!("the other gateways were named twice; the first stay");
        }
    }

    /// The other gateways.
    pub fn elsewhere(&self) -> Option<&Arc<dyn Elsewhere>> {
        self.elsewhere.get()
    }

    /// Makes the channels of every attached VM. One that fails is logged and does not keep the others away.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub async fn listen_all(&self) -> Result<(), CoreError> {
        for vm in self.realm.vms(None).await? {
            if self.host_of(&vm).is_some() {
                continue;
            }
            if let Err(error) = self.listen(&vm).await {
                let source = std::error::Error::source(&error).map(ToString::to_string);
                tracing::error!(tenant = %vm.tenant, vm = %vm.name, %error, source, "a VM cannot reach the gateway");
            }
        }
        Ok(())
    }

    /// Ends a VM's channel.
    pub async fn unlisten(&self, vm: &Vm) {
        match self.host_of(vm) {
            None => self.listeners.remove(vm).await,
            Some((there, gateway)) => {
                if let Err(why) = there.refresh(gateway, vm).await {
                    tracing::warn!(vm = %vm.name, gateway, why, "a VM's channel is still there; what comes over it is refused");
                }
            }
        }
    }
}
