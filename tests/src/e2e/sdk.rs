//! The Rust SDK: quick enough for thousands of checks, where a Python process for each would take an hour.

use anyhow::{Context, Result};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::ByteStream;

use crate::host::AccessKey;
use crate::s3::REGION;

/// A client, with the calls that tests make most.
#[derive(Debug, Clone)]
pub struct Sdk {
    /// The client itself.
    pub client: Client,
}

impl Sdk {
    /// A client of this endpoint. It does not try again: a retry would hide an error.
    pub fn new(endpoint: &str, key: &AccessKey) -> Sdk {
        let credentials = Credentials::new(&key.access_key_id, &key.secret_access_key, None, None, "tests");
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .endpoint_url(endpoint)
            .region(Region::new(REGION))
            .credentials_provider(credentials)
            .retry_config(RetryConfig::disabled())
            .force_path_style(true)
            .build();
        Sdk { client: Client::from_conf(config) }
    }

    /// PUT; returns the ETag.
    pub async fn put(&self, bucket: &str, key: &str, body: &[u8]) -> Result<String> {
        let body = ByteStream::from(body.to_vec());
        let done = self.client.put_object().bucket(bucket).key(key).body(body).send().await;
        let done = done.map_err(|error| named("PUT", key, &error))?;
        done.e_tag.with_context(|| format!("PUT {key}: no ETag"))
    }

    /// GET of all bytes; nothing when there is no such key.
    pub async fn get(&self, bucket: &str, key: &str) -> Result<Option<Vec<u8>>> {
        match self.client.get_object().bucket(bucket).key(key).send().await {
            Ok(object) => Ok(Some(object.body.collect().await.context("the body")?.to_vec())),
            Err(error) if code(&error) == "NoSuchKey" => Ok(None),
            Err(error) => Err(named("GET", key, &error)),
        }
    }

    /// HEAD: size and ETag; nothing when there is no such key.
    pub async fn head(&self, bucket: &str, key: &str) -> Result<Option<(u64, String)>> {
        match self.client.head_object().bucket(bucket).key(key).send().await {
            Ok(head) => {
                let size = head.content_length.and_then(|size| u64::try_from(size).ok());
                let tag = head.e_tag.with_context(|| format!("HEAD {key}: no ETag"))?;
                Ok(Some((size.with_context(|| format!("HEAD {key}: no size"))?, tag)))
            }
            Err(error) if code(&error) == "NotFound" => Ok(None),
            Err(error) => Err(named("HEAD", key, &error)),
        }
    }

    /// DELETE.
    pub async fn delete(&self, bucket: &str, key: &str) -> Result<()> {
        let done = self.client.delete_object().bucket(bucket).key(key).send().await;
        done.map(drop).map_err(|error| named("DELETE", key, &error))
    }

    /// All keys below `prefix`.
    pub async fn keys(&self, bucket: &str, prefix: &str) -> Result<Vec<String>> {
        let mut pages = self.client.list_objects_v2().bucket(bucket).prefix(prefix).into_paginator().send();
        let mut keys = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| named("LIST", prefix, &error))?;
            keys.extend(page.contents.unwrap_or_default().into_iter().filter_map(|object| object.key));
        }
        Ok(keys)
    }
}

/// The error code that the service gave, or how the call failed before it could.
pub fn code<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> String {
    match error.as_service_error() {
        Some(service) => service.code().unwrap_or("no code").to_owned(),
        None => format!("no answer: {error}"),
    }
}

fn named<E, R>(call: &str, key: &str, error: &SdkError<E, R>) -> anyhow::Error
where
    E: ProvideErrorMetadata,
{
    let message = error.as_service_error().and_then(ProvideErrorMetadata::message).unwrap_or_default();
    anyhow::anyhow!("{call} {key}: {}: {message}", code(error))
}
