//! A gateway that reaches its store only through the proxy.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::time::Duration;

use anyhow::{Context, Result};
use mooring_stores::proxy::Proxy;
use mooring_tests::e2e::{Sdk, Site};
use mooring_tests::store::Store;
use mooring_tests::wait::{self, Look};

/// A store, the proxy in front of it, and a gateway that knows the proxy only.
pub struct Behind {
    pub site: Site,
    pub proxy: Proxy,
    pub store: Store,
    pub sdk: Sdk,
}

impl Behind {
    pub async fn start(seed: u64, durability: &str) -> Result<Behind> {
        let store = Store::start().await?;
        let proxy = Proxy::start(&store.gateway.s3_endpoint(), seed).await?;
        let site = store.access.site(&proxy.endpoint(), &[]).await?;
        site.gateway.tenant("acme").await?;
        let create = ["bucket", "create", "--tenant", "acme", "data", "--durability", durability];
        site.gateway.cli(&create).await?.ok()?;
        let sdk = site.sdk("acme").await?;
        Ok(Behind { site, proxy, store, sdk })
    }

    /// The marks of the one volume: received, journalled, stored.
    pub async fn marks(&self) -> Result<(u64, u64, u64)> {
        let status = self.site.gateway.json(&["status"]).await?;
        let volume = &status["volumes"][0];
        let mark = |name: &str| volume[name].as_u64().with_context(|| format!("no {name} in {status}"));
        Ok((mark("received")?, mark("journalled")?, mark("stored")?))
    }

    pub async fn all_stored(&self, limit: Duration) -> Result<()> {
        wait::until("the store has everything", limit, || async {
            match self.marks().await {
                Ok((received, _, stored)) if received == stored => Look::Ready(()),
                Ok(marks) => Look::NotYet(format!("{marks:?}")),
                Err(error) => Look::NotYet(format!("{error:#}")),
            }
        })
        .await
    }

    /// The host is lost: only the store is left, and a new process.
    pub async fn lose_the_host(&mut self) -> Result<()> {
        self.site.gateway.kill().await?;
        std::fs::remove_dir_all(self.site.gateway.data_dir())?;
        self.site.gateway.restart().await?;
        Ok(())
    }

    pub fn rss_kib(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.site.gateway.process().id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        line.trim().trim_end_matches(" kB").parse().context("VmRSS is no number")
    }
}
