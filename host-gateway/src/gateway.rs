//! The running gateway: the core, and what the HTTP doors need besides.

use std::sync::Arc;

use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::response::IntoResponse;
use mooring_policy::access::CredentialKey;
use mooring_policy::principal::Principal;
use mooring_policy::time::Timestamp;
use mooring_protocol::api::{CacheDisk, Damage, GatewayStatus, HomeStatus, SessionStatus, VolumeStatus};
use mooring_s3::{S3Config, S3Deps};
use mooring_store::realm::Vm;
use tower::ServiceExt;

use crate::api;
use crate::buckets::RealmBuckets;
use crate::core::identity::Peer;
use crate::core::listen::{HttpDoors, Port};
use crate::core::{Core, CoreError};
use crate::integrity::{self, Integrity};
use crate::metrics::Metrics;
use crate::tokens::RealmCredentials;

/// The running gateway.
pub struct Gateway {
    /// Volumes, sessions, ways in.
    pub core: Arc<Core>,
    credential_key: CredentialKey,
    metrics: Metrics,
    integrity: Integrity,
    started: Timestamp,
}

impl Gateway {
    /// Over an open core.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub async fn new(core: Arc<Core>) -> Result<Arc<Gateway>, CoreError> {
        let credential_key = core.realm().credential_key().await?;
        let started = core.now();
        Ok(Arc::new(Gateway {
            core,
            credential_key,
            metrics: Metrics::default(),
            integrity: Integrity::default(),
            started,
        }))
    }

    /// From which the secrets of session credentials follow.
    pub fn credential_key(&self) -> &CredentialKey {
        &self.credential_key
    }

    /// Checks and scrubs that were asked for.
    pub fn integrity(&self) -> &Integrity {
        &self.integrity
    }

    /// Every metric.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Forgets a VM: its channel goes, then its sessions.
    ///
    /// # Errors
    /// [`CoreError`].
    pub async fn detach(&self, vm: &Vm) -> Result<(), CoreError> {
        self.core.realm().vm_detach(&vm.tenant, &vm.name).await?;
        self.core.reload().await?;
        self.core.unlisten(vm).await;
        self.core.end_vm(&vm.tenant, &vm.name);
        tracing::info!(tenant = %vm.tenant, vm = %vm.name, "vm detached");
        Ok(())
    }

    /// S3 over this gateway's buckets.
    pub fn s3(self: &Arc<Self>, domains: Vec<String>) -> axum::Router {
        let router = mooring_s3::router(S3Deps {
            buckets: Arc::new(RealmBuckets::new(Arc::clone(&self.core))),
            credentials: Arc::new(RealmCredentials::new(Arc::clone(self))),
            config: S3Config { domains, ..S3Config::default() },
        });
        self.while_serving(router)
    }

    /// The router, while this gateway may serve. Whoever asks later is told to ask again, and comes to the one that may.
    fn while_serving(&self, router: axum::Router) -> axum::Router {
        let standing = Arc::clone(self.core.standing());
        router.layer(middleware::from_fn(move |request: Request, next: Next| {
            let standing = Arc::clone(&standing);
            async move {
                if standing.serves() {
                    return next.run(request).await;
                }
                let again = [(http::header::RETRY_AFTER, "1"), (http::header::CONNECTION, "close")];
                (http::StatusCode::SERVICE_UNAVAILABLE, again).into_response()
            }
        }))
    }

    /// What it is doing.
    pub async fn status(&self) -> GatewayStatus {
        let (status, registry) = (self.core.status().await, self.core.registry());
        let volumes = status.volumes.iter().filter_map(|v| {
            let bucket = registry.by_volume.get(&v.volume)?;
            Some(VolumeStatus {
                volume: v.volume.to_string(),
                owner: bucket.owner.clone(),
                bucket: bucket.name.clone(),
                received: v.watermarks.received,
                journalled: v.watermarks.journalled,
                stored: v.watermarks.stored,
                leases: v.leases as u64,
            })
        });
        let sessions = status.sessions.iter().map(|s| SessionStatus {
            who: who(&s.principal),
            state: if s.connected { "active" } else { "disconnected" }.to_owned(),
            handles: s.open_files as u64,
            doors: s.doors as u64,
            in_flight: s.in_flight as u64,
            requests: s.requests,
        });
        GatewayStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_s: self.core.now().since(self.started).as_secs(),
            in_grace: status.in_grace,
            cache_disk: status.copies.map(|(bytes, bound)| CacheDisk { bytes, bound }),
            volumes: volumes.collect(),
            sessions: sessions.collect(),
            damage: self.damage().await,
            home: self.core.elsewhere().map(|there| HomeStatus {
                gateway: there.own().to_owned(),
                epoch: there.epoch(),
                connected: there.connected(),
            }),
            lost: self.core.standing().lost(),
        }
    }

    async fn damage(&self) -> Vec<Damage> {
        let (found, registry) = (self.core.damages().await, self.core.registry());
        let mut all = Vec::new();
        for (volume, damages) in found {
            if let Some(bucket) = registry.by_volume.get(&volume) {
                all.extend(damages.into_iter().map(|found| integrity::damage(bucket, found)));
            }
        }
        all
    }

    /// What Prometheus scrapes.
    ///
    /// # Errors
    /// The text cannot be written.
    pub async fn scrape(&self) -> Result<String, std::fmt::Error> {
        let status = self.core.status().await;
        self.metrics.observe_sessions(status.sessions.len());
        self.metrics.observe_volumes(status.volumes.len());
        self.metrics.observe_damage(self.core.damages().await.iter().map(|(_, found)| found.len()).sum());
        self.metrics.observe_buckets(crate::space::measures(&self.core, &status).await);
        self.metrics.text()
    }
}

fn who(principal: &Principal) -> String {
    match principal {
        Principal::Vm { tenant, vm, .. } => format!("{tenant}/{vm}"),
        other => other.to_string(),
    }
}

/// HTTP on VMs' channels: S3 on one port, the API on another, both behind one where there is only one.
pub struct Doors {
    s3: axum::Router,
    api: axum::Router,
}

impl Doors {
    /// The routers, made once.
    pub fn new(gateway: &Arc<Gateway>, domains: Vec<String>) -> Arc<Doors> {
        let api = gateway.while_serving(api::tenant_router(Arc::clone(gateway)));
        Arc::new(Doors { s3: gateway.s3(domains), api })
    }
}

impl HttpDoors for Doors {
    fn router(&self, peer: &Peer, port: Port) -> axum::Router {
        let router = match port {
            Port::S3 => self.s3.clone(),
            Port::Api => self.api.clone(),
            // The path tells: no bucket is named `v1`, since names have three characters at least.
            Port::Any | Port::Frames => either(self.api.clone(), self.s3.clone()),
        };
        let router = match &peer.who {
            Some(who) => router.layer(axum::Extension(mooring_s3::Peer(who.principal.clone()))),
            None => router,
        };
        router.layer(axum::Extension(peer.clone()))
    }
}

fn either(api: axum::Router, s3: axum::Router) -> axum::Router {
    axum::Router::new().fallback(move |request: axum::extract::Request| {
        let router = if request.uri().path().starts_with("/v1/") { api.clone() } else { s3.clone() };
        async move { router.oneshot(request).await }
    })
}
