//! Whose channels each gateway listens on. The registry is the home's; the others hear from it which VMs run on their
//! hosts, and say when they listen.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use mooring_store::realm::Vm;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::hail::{MAX_ROSTER, hear, say};
use crate::core::{Core, Elsewhere};

/// How long a gateway may take until it listens.
const LISTEN_LIMIT: Duration = Duration::from_secs(5);

/// The VMs of one host.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Roster {
    /// Raised with each.
    pub number: u64,
    /// All of them.
    pub vms: Vec<Vm>,
}

/// What a gateway did about one.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Heard {
    /// Which it was.
    pub number: u64,
    /// VMs that cannot be listened for, and why: `tenant/vm: reason`.
    pub failed: Vec<(String, String)>,
}

struct Link {
    number: u64,
    wanted: watch::Sender<u64>,
    heard: watch::Sender<Heard>,
}

/// The gateways that are connected.
pub struct Rosters {
    own: String,
    epoch: u64,
    core: Mutex<Weak<Core>>,
    links: Mutex<HashMap<String, Link>>,
}

impl Rosters {
    /// At the gateway called `own`, which is home in `epoch`.
    pub fn new(own: &str, epoch: u64) -> Arc<Rosters> {
        Arc::new(Rosters { own: own.to_owned(), epoch, core: Mutex::default(), links: Mutex::default() })
    }

    /// Whose registry it is.
    pub fn set_core(&self, core: &Arc<Core>) {
        *self.core.lock() = Arc::downgrade(core);
    }

    /// Tells `gateway` of its VMs until the stream ends.
    ///
    /// # Errors
    /// Of the stream.
    pub async fn tell<S>(&self, gateway: &str, stream: S, stop: &CancellationToken) -> std::io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (mut read, mut write) = tokio::io::split(stream);
        let (wanted, heard) = (watch::channel(1).0, watch::channel(Heard::default()).0);
        let (mut wishes, answers) = (wanted.subscribe(), heard.clone());
        self.links.lock().insert(gateway.to_owned(), Link { number: 1, wanted, heard });
        tracing::info!(gateway, "a gateway is connected");
        let speak = async {
            loop {
                let number = *wishes.borrow_and_update();
                let core = self.core.lock().upgrade();
                let Some(core) = core else { return Ok(()) };
                let all = core.realm().vms(None).await.map_err(std::io::Error::other)?;
                let vms = all.into_iter().filter(|vm| vm.gateway.as_deref() == Some(gateway)).collect();
                drop(core);
                say(&mut write, &Roster { number, vms }).await?;
                if wishes.changed().await.is_err() {
                    // A newer connection of this gateway has taken its place.
                    return Ok(());
                }
            }
        };
        let listen = async {
            loop {
                let heard: Heard = hear(&mut read, MAX_ROSTER).await?;
                answers.send_replace(heard);
            }
        };
        let end = tokio::select! {
            () = stop.cancelled() => Ok(()),
            end = speak => end,
            end = listen => end,
        };
        let mut links = self.links.lock();
        if links.get(gateway).is_some_and(|link| link.heard.same_channel(&answers)) {
            links.remove(gateway);
        }
        tracing::info!(gateway, "a gateway has gone");
        end
    }

    /// Asks for a new look at the registry, and gives what to wait for.
    fn ask(&self, gateway: &str) -> Option<(u64, watch::Receiver<Heard>)> {
        let mut links = self.links.lock();
        let link = links.get_mut(gateway)?;
        link.number += 1;
        link.wanted.send_replace(link.number);
        Some((link.number, link.heard.subscribe()))
    }
}

#[async_trait]
impl Elsewhere for Rosters {
    fn own(&self) -> &str {
        &self.own
    }

    fn epoch(&self) -> u64 {
        self.epoch
    }

    fn connected(&self) -> Vec<String> {
        let mut names: Vec<String> = self.links.lock().keys().cloned().collect();
        names.sort();
        names
    }

    async fn refresh(&self, gateway: &str, vm: &Vm) -> Result<(), String> {
        let Some((number, mut heard)) = self.ask(gateway) else {
            return Err("it is not connected to this one; it learns of its VMs when it is".to_owned());
        };
        let done = heard.wait_for(|heard| heard.number >= number);
        let heard = match tokio::time::timeout(LISTEN_LIMIT, done).await {
            Ok(Ok(heard)) => heard.clone(),
            Ok(Err(_)) => return Err("its connection to this one ended".to_owned()),
            Err(_) => return Err(format!("no answer in {} s", LISTEN_LIMIT.as_secs())),
        };
        let name = name(vm);
        match heard.failed.into_iter().find(|(failed, _)| *failed == name) {
            Some((_, why)) => Err(why),
            None => Ok(()),
        }
    }
}

/// How a VM is called between gateways.
pub fn name(vm: &Vm) -> String {
    format!("{}/{}", vm.tenant, vm.name)
}
