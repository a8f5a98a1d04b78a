//! `s3s`, tied down: it verifies signatures with the secret the gate found, and runs an operation only if it understood
//! the request as the gate did.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::S3Auth;
use s3s::config::StaticConfigProvider;
use s3s::host::{S3Host, VirtualHost};
use s3s::path::S3Path;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::validation::NameValidation;
use s3s::{S3Result, s3_error};

use crate::S3Deps;
use crate::config::COMPLETE_XML;
use crate::edge::SecretKey;
use crate::error::{Chain, Refusal};
use crate::gate::admit::Admitted;
use crate::gate::target::{bucket_name, bucket_of};
use crate::ops::Door;

tokio::task_local! {
    /// Access key and secret of the request this task serves: the way from the gate to `s3s`, whose own interface knows
    /// only the access key.
    static KEY: Option<(String, SecretKey)>;
}

/// The typed S3 service.
#[derive(Clone)]
pub(crate) struct Service(S3Service);

impl Service {
    pub fn new(deps: &S3Deps) -> Self {
        let mut builder = S3ServiceBuilder::new(Door::new(deps.buckets.clone(), deps.config.region.clone()));
        let mut config = s3s::config::S3Config::default();
        config.xml_max_body_size = COMPLETE_XML;
        builder.set_config(Arc::new(StaticConfigProvider::new(Arc::new(config))));
        builder.set_auth(FoundKey);
        builder.set_access(Agreement);
        builder.set_host(Domains(deps.config.domains.clone()));
        builder.set_validation(Names);
        Self(builder.build())
    }

    pub async fn call(
        &self,
        request: Request,
        key: Option<(String, SecretKey)>,
    ) -> Result<Response, Refusal> {
        let request = request.map(s3s::Body::http_body_unsync);
        match KEY.scope(key, self.0.call(request)).await {
            Ok(response) => Ok(response.map(Body::new)),
            Err(error) => {
                let error: Box<dyn std::error::Error + Send + Sync> = error.into();
                tracing::error!(error = %Chain(error.as_ref()), "an S3 answer could not be made");
                Err(Refusal::Internal)
            }
        }
    }
}

/// Gives `s3s` the secret the gate found, for that access key only.
struct FoundKey;

#[async_trait::async_trait]
impl S3Auth for FoundKey {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<s3s::auth::SecretKey> {
        let secret = KEY.try_with(|key| match key {
            Some((known, secret)) if known == access_key => Some(secret.expose().into()),
            _ => None,
        });
        secret.ok().flatten().ok_or_else(|| s3_error!(InvalidAccessKeyId))
    }
}

/// Refuses whatever `s3s` understood differently from the gate.
struct Agreement;

#[async_trait::async_trait]
impl S3Access for Agreement {
    async fn check(&self, cx: &mut S3AccessContext<'_>) -> S3Result<()> {
        let signer = cx.credentials().map(|credentials| credentials.access_key.clone());
        let op = cx.s3_op().name().to_owned();
        let (bucket, key) = match cx.s3_path() {
            S3Path::Root => (None, None),
            S3Path::Bucket { bucket } => (Some(bucket.to_string()), None),
            S3Path::Object { bucket, key } => (Some(bucket.to_string()), Some(key.to_string())),
        };
        let Some(admitted) = cx.extensions_mut().get::<Admitted>() else {
            return Err(s3_error!(AccessDenied));
        };
        let target = &admitted.target;
        if admitted.access_key == signer
            && admitted.op.name() == op
            && target.bucket == bucket
            && target.key == key
        {
            return Ok(());
        }
        tracing::error!(op, gate = admitted.op.name(), "a request was understood in two ways and is refused");
        Err(s3_error!(AccessDenied))
    }
}

struct Domains(Vec<String>);

impl S3Host for Domains {
    fn parse_host_header<'a>(&'a self, host: &'a str) -> S3Result<VirtualHost<'a>> {
        let virtual_host = VirtualHost::new(host);
        Ok(match bucket_of(host, &self.0) {
            Some(bucket) => virtual_host.with_bucket(bucket),
            None => virtual_host,
        })
    }
}

struct Names;

impl NameValidation for Names {
    fn validate_bucket_name(&self, name: &str) -> bool {
        bucket_name(name)
    }
}
