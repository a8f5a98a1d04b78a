//! An unmodified S3 client (boto3) as a process: what users' programs do, not what we think they do.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::artifacts;
use crate::guest::Output;
use crate::host::{self, AccessKey, Gateway};

/// Not us-east-1, for which boto3 would presign with the old signature.
pub const REGION: &str = "mooring-1";

/// A client with its settings.
#[derive(Debug, Clone)]
pub struct S3Client {
    endpoint: String,
    environment: Vec<(String, String)>,
}

impl S3Client {
    /// A client of `gateway` with a static key.
    pub fn new(gateway: &Gateway, key: &AccessKey) -> S3Client {
        S3Client::at(&gateway.s3_endpoint(), key)
    }

    /// A client of any endpoint.
    pub fn at(endpoint: &str, key: &AccessKey) -> S3Client {
        let environment = [
            ("AWS_ACCESS_KEY_ID", key.access_key_id.as_str()),
            ("AWS_SECRET_ACCESS_KEY", key.secret_access_key.as_str()),
            ("AWS_REGION", REGION),
            ("AWS_DEFAULT_REGION", REGION),
            ("AWS_ENDPOINT_URL_S3", endpoint),
            // One answer to one request: a retry would hide an error.
            ("AWS_MAX_ATTEMPTS", "1"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        S3Client { endpoint: endpoint.to_owned(), environment }
    }

    /// The endpoint it talks to.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Runs Python in which `s3` is the client; what it assigns to `result` comes back.
    pub async fn eval(&self, code: &str) -> Result<Value> {
        let output = self.run(code).await?.ok()?;
        serde_json::from_slice(&output.stdout).with_context(|| format!("result of {code:?}"))
    }

    /// Runs Python in which `s3` is the client and returns how it ended: for calls that must be refused. An error of
    /// the service is printed with its code.
    pub async fn run(&self, code: &str) -> Result<Output> {
        let mut command = Command::new(artifacts::python()?);
        command.arg("-c").arg(script(code)).env_clear();
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        host::run(command).await
    }

    /// Uploads a file, in parts when it is large.
    pub async fn upload(&self, file: &Path, bucket: &str, key: &str) -> Result<()> {
        let file = file.to_str().context("the file's path is not text")?;
        self.eval(&format!("s3.upload_file({file:?}, {bucket:?}, {key:?})")).await.map(drop)
    }

    /// Downloads an object, in parts when it is large.
    pub async fn download(&self, bucket: &str, key: &str, file: &Path) -> Result<()> {
        let file = file.to_str().context("the file's path is not text")?;
        self.eval(&format!("s3.download_file({bucket:?}, {key:?}, {file:?})")).await.map(drop)
    }

    /// SHA-256 of an object's bytes, in hex.
    pub async fn sha256(&self, bucket: &str, key: &str) -> Result<String> {
        let value = self.eval(&sha256_code(bucket, key)).await?;
        Ok(value.as_str().unwrap_or_default().to_owned())
    }

    /// All keys of a bucket below `prefix`, in the order the service lists them.
    pub async fn keys(&self, bucket: &str, prefix: &str) -> Result<Vec<String>> {
        let code = format!(
            "pages = s3.get_paginator('list_objects_v2').paginate(Bucket={bucket:?}, Prefix={prefix:?})\n\
             result = [o['Key'] for page in pages for o in page.get('Contents', [])]"
        );
        serde_json::from_value(self.eval(&code).await?).context("the keys")
    }
}

/// Python that reads an object and leaves its SHA-256 in `result`; the same on the host and in a guest.
pub fn sha256_code(bucket: &str, key: &str) -> String {
    format!(
        "import hashlib\n\
         digest = hashlib.sha256()\n\
         for chunk in s3.get_object(Bucket={bucket:?}, Key={key:?})['Body'].iter_chunks(1 << 20):\n    \
             digest.update(chunk)\n\
         result = digest.hexdigest()"
    )
}

/// A whole program around `code`: `s3` is a client set up from the environment alone, as in users' programs.
pub fn script(code: &str) -> String {
    let body: String = code.lines().map(|line| format!("    {line}\n")).collect();
    format!(
        "import boto3, botocore.exceptions, json, sys\n\
         s3 = boto3.client('s3')\n\
         result = None\n\
         try:\n{body}\
         except botocore.exceptions.ClientError as error:\n    \
             sys.exit(error.response['Error']['Code'] + ': ' + error.response['Error'].get('Message', ''))\n\
         print(json.dumps(result, default=str))\n"
    )
}
