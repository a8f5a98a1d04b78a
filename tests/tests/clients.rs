//! S3 clients as people have them, unmodified: boto3 of today, and what Debian ships (awscli, s3cmd, rclone). Each is
//! put through the same matrix; what a client cannot do is not asked of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mooring_tests::e2e::{Machine, Pattern, Site, work};
use mooring_tests::guest::Status;
use mooring_tests::host::AccessKey;
use mooring_tests::s3::REGION;
use mooring_tests::wait::{self, Look};
use mooring_tests::{Output, artifacts, host};

/// Over the size from which each of the clients uploads in parts.
const LARGE: u64 = 17 << 20;

struct Desk {
    key: AccessKey,
    endpoint: String,
    folder: tempfile::TempDir,
    data: PathBuf,
    vm: Machine,
    site: Site,
}

async fn desk() -> Result<Desk> {
    let site = Site::with_acme().await?;
    let mut vm = site.machine("acme", "one").await?;
    let data = vm.bucket("data").await?;
    let (key, endpoint) = (site.gateway.access_key("acme").await?, site.gateway.s3_endpoint());
    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join("small"), "small body")?;
    Pattern(1).write(&folder.path().join("large"), LARGE)?;
    Ok(Desk { key, endpoint, folder, data, vm, site })
}

impl Desk {
    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.folder.path());
        // Nothing of this machine's own settings.
        let path = std::env::var_os("PATH").unwrap_or_default();
        command.env_clear().env("PATH", path).env("HOME", self.folder.path());
        command.env("AWS_ACCESS_KEY_ID", &self.key.access_key_id);
        command.env("AWS_SECRET_ACCESS_KEY", &self.key.secret_access_key);
        command.env("AWS_DEFAULT_REGION", REGION).env("AWS_REGION", REGION).env("AWS_MAX_ATTEMPTS", "1");
        command
    }

    async fn run(&self, program: &str, arguments: &[&str]) -> Result<Output> {
        host::run(self.command(program, arguments)).await?.ok()
    }

    /// What a look into the mount finds in the bucket's root.
    fn names(&self) -> Result<Vec<std::ffi::OsString>> {
        Ok(fs::read_dir(&self.data)?.map(|entry| Ok(entry?.file_name())).collect::<std::io::Result<_>>()?)
    }

    /// What went up is in the mount, byte for byte, and what came back is what went up.
    async fn same(&self, up: &str, back: &Path) -> Result<()> {
        let (up, back) = (self.data.join(up), back.to_owned());
        work(move || {
            Pattern(1).verify(&up, LARGE).context("in the mount")?;
            Pattern(1).verify(&back, LARGE).context("downloaded")
        })
        .await
    }
}

#[tokio::test]
async fn boto3_does_all_it_does_elsewhere() -> Result<()> {
    let desk = desk().await?;
    let s3 = desk.site.boto3("acme").await?;
    s3.upload(&desk.folder.path().join("large"), "data", "up/large").await?;
    let back = desk.folder.path().join("back");
    s3.download("data", "up/large", &back).await?;
    desk.same("up/large", &back).await?;
    let matrix = r#"
put = s3.put_object(Bucket='data', Key='k/\u00fc &+%.txt', Body=b'0123456789', ContentType='text/plain',
                    Metadata={'colour': 'blue'}, ChecksumAlgorithm='SHA256')
key = 'k/\u00fc &+%.txt'
got = s3.get_object(Bucket='data', Key=key, Range='bytes=2-5')
assert got['Body'].read() == b'2345' and got['ContentRange'] == 'bytes 2-5/10', got
head = s3.head_object(Bucket='data', Key=key, ChecksumMode='ENABLED')
assert head['Metadata'] == {'colour': 'blue'} and head['ContentType'] == 'text/plain', head
assert head['ETag'] == put['ETag'] and head['ChecksumSHA256'] == put['ChecksumSHA256'], (head, put)
s3.copy_object(Bucket='data', Key='copy', CopySource={'Bucket': 'data', 'Key': key})
assert s3.get_object(Bucket='data', Key='copy')['Metadata'] == {'colour': 'blue'}

def code(call, **arguments):
    try:
        call(Bucket='data', **arguments)
    except botocore.exceptions.ClientError as error:
        return error.response['Error']['Code']
assert code(s3.put_object, Key='copy', Body=b'x', IfNoneMatch='*') == 'PreconditionFailed'
assert code(s3.put_object, Key='copy', Body=b'x', IfMatch='"0"') == 'PreconditionFailed'
assert code(s3.get_object, Key='copy', IfNoneMatch=put['ETag']) == '304'
assert code(s3.get_object, Key='nothing') == 'NoSuchKey'
s3.put_object(Bucket='data', Key='new', Body=b'x', IfNoneMatch='*')

for n in range(25):
    s3.put_object(Bucket='data', Key='list/%02d' % n, Body=b'')
page = s3.list_objects_v2(Bucket='data', Prefix='list/', MaxKeys=10)
assert page['IsTruncated'] and page['KeyCount'] == 10
page = s3.list_objects_v2(Bucket='data', Prefix='list/', ContinuationToken=page['NextContinuationToken'])
assert [o['Key'] for o in page['Contents']] == ['list/%02d' % n for n in range(10, 25)]
first = s3.list_objects(Bucket='data', Prefix='list/', MaxKeys=3)
assert [o['Key'] for o in first['Contents']] == ['list/00', 'list/01', 'list/02'] and first['IsTruncated']
gone = s3.delete_objects(Bucket='data', Delete={'Objects': [{'Key': 'list/%02d' % n} for n in range(25)]})
assert len(gone['Deleted']) == 25 and 'Errors' not in gone

import urllib.request, urllib.error
url = s3.generate_presigned_url('get_object', Params={'Bucket': 'data', 'Key': 'copy'}, ExpiresIn=60)
assert urllib.request.urlopen(url).read() == b'0123456789'
put = s3.generate_presigned_url('put_object', Params={'Bucket': 'data', 'Key': 'presigned'}, ExpiresIn=60)
urllib.request.urlopen(urllib.request.Request(put, data=b'by url', method='PUT'))
assert s3.get_object(Bucket='data', Key='presigned')['Body'].read() == b'by url'
try:
    urllib.request.urlopen(url.replace('copy', 'presigned'))
    assert False, 'a signature for another key was taken'
except urllib.error.HTTPError as error:
    assert error.code == 403, error.code
s3.create_bucket(Bucket='another', CreateBucketConfiguration={'LocationConstraint': 'mooring-1'})
assert 'another' in [b['Name'] for b in s3.list_buckets()['Buckets']]
s3.delete_bucket(Bucket='another')
result = 'all'
"#;
    ensure!(s3.eval(matrix).await? == "all");
    ensure!(fs::read(desk.data.join("k/\u{fc} &+%.txt"))? == b"0123456789");
    Ok(())
}

#[tokio::test]
async fn the_aws_command_works() -> Result<()> {
    let desk = desk().await?;
    let aws = async |words: &str| {
        let mut arguments = vec!["--endpoint-url", &desk.endpoint];
        arguments.extend(words.split(' '));
        desk.run("/usr/bin/aws", &arguments).await
    };
    aws("s3 cp small s3://data/dir/small").await?;
    aws("s3 cp large s3://data/large").await?;
    aws("s3 cp s3://data/large back").await?;
    desk.same("large", &desk.folder.path().join("back")).await?;
    ensure!(aws("s3 ls s3://data/").await?.text()?.contains("PRE dir/"));
    ensure!(aws("s3 cp s3://data/dir/small -").await?.text()? == "small body");
    aws("s3 mv s3://data/dir/small s3://data/moved/small").await?;
    ensure!(fs::read(desk.data.join("moved/small"))? == b"small body" && !desk.data.join("dir").exists());
    aws("s3 sync s3://data/ synced").await?;
    ensure!(fs::read(desk.folder.path().join("synced/moved/small"))? == b"small body");
    fs::write(desk.data.join("moved/more"), "from the mount")?;
    ensure!(aws("s3 sync s3://data/ synced").await?.text()?.contains("moved/more"), "one file is new");
    aws("s3api head-object --bucket data --key large").await?;
    let removed = aws("s3 rm --recursive s3://data/").await?;
    let left = desk.names()?;
    ensure!(left.is_empty(), "{left:?} is left after: {}", removed.text()?);
    Ok(())
}

#[tokio::test]
async fn s3cmd_works() -> Result<()> {
    let desk = desk().await?;
    let host = desk.endpoint.trim_start_matches("http://");
    let settings = format!(
        "[default]\naccess_key = {}\nsecret_key = {}\nhost_base = {host}\nhost_bucket = {host}\n\
         bucket_location = {REGION}\nuse_https = False\nmultipart_chunk_size_mb = 5\n",
        desk.key.access_key_id, desk.key.secret_access_key
    );
    fs::write(desk.folder.path().join("settings"), settings)?;
    let s3cmd = async |words: &str| {
        let mut arguments = vec!["-c", "settings", "--no-progress"];
        arguments.extend(words.split(' '));
        desk.run("s3cmd", &arguments).await
    };
    s3cmd("put small s3://data/dir/small").await?;
    s3cmd("put large s3://data/large").await?;
    s3cmd("get s3://data/large back").await?;
    desk.same("large", &desk.folder.path().join("back")).await?;
    ensure!(s3cmd("ls s3://data/").await?.text()?.contains("s3://data/dir/"));
    s3cmd("cp s3://data/large s3://data/again").await?;
    ensure!(fs::metadata(desk.data.join("again"))?.len() == LARGE);
    ensure!(s3cmd("info s3://data/dir/small").await?.text()?.contains("10"));
    s3cmd("del --recursive --force s3://data/").await?;
    ensure!(fs::read_dir(&desk.data)?.next().is_none());
    Ok(())
}

#[tokio::test]
async fn rclone_works() -> Result<()> {
    let desk = desk().await?;
    let rclone = async |words: &str| {
        let mut command = desk.command("rclone", &["--retries", "1", "--s3-chunk-size", "5M"]);
        command.args(["--s3-upload-cutoff", "6M", "--config", "/dev/null"]).args(words.split(' '));
        command.env("RCLONE_CONFIG_M_TYPE", "s3").env("RCLONE_CONFIG_M_PROVIDER", "Other");
        command.env("RCLONE_CONFIG_M_ENV_AUTH", "true").env("RCLONE_CONFIG_M_REGION", REGION);
        command.env("RCLONE_CONFIG_M_ENDPOINT", &desk.endpoint);
        host::run(command).await?.ok()
    };
    rclone("copyto small m:data/dir/small").await?;
    rclone("copyto large m:data/large").await?;
    rclone("copyto m:data/large back").await?;
    desk.same("large", &desk.folder.path().join("back")).await?;
    ensure!(rclone("lsf m:data").await?.text()?.contains("dir/"));
    rclone("check . m:data --one-way --include /large").await?;
    rclone("moveto m:data/dir/small m:data/moved").await?;
    ensure!(fs::read(desk.data.join("moved"))? == b"small body");
    rclone("sync m:data synced").await?;
    ensure!(fs::read(desk.folder.path().join("synced/moved"))? == b"small body");
    rclone("purge m:data/").await?;
    Ok(())
}

#[tokio::test]
async fn in_a_vm_no_key_is_needed() -> Result<()> {
    let desk = desk().await?;
    let vm = desk.site.machine_with("acme", "two", &["--s3", "127.0.0.1:0", "--credentials", "127.0.0.1:0"]);
    let mut vm = vm.await?;
    vm.bucket("data").await?;
    fs::write(desk.data.join("note"), "without a key")?;
    let script = mooring_tests::s3::script(
        "result = s3.get_object(Bucket='data', Key='note')['Body'].read().decode()",
    );
    fs::write(desk.folder.path().join("read.py"), script)?;
    let env = vm.agent.home().join("env");
    wait::until("the environment file", Duration::from_secs(20), || async {
        Look::if_true(env.exists(), "not there")
    })
    .await?;
    let python = artifacts::python()?;
    let words = format!(". '{}' && exec '{}' read.py", env.display(), python.display());
    let mut shell = Command::new("sh");
    shell.args(["-c", &words]).current_dir(desk.folder.path()).env_clear();
    let said = host::run(shell).await?.ok()?.text()?;
    ensure!(said == "\"without a key\"", "{said}");
    drop(desk.vm);
    Ok(())
}

#[tokio::test]
async fn wrong_keys_are_refused() -> Result<()> {
    let desk = desk().await?;
    for (id, secret, word) in [
        (desk.key.access_key_id.as_str(), "wrong", "SignatureDoesNotMatch"),
        ("MRKNOBODY", desk.key.secret_access_key.as_str(), "InvalidAccessKeyId"),
    ] {
        let mut command =
            desk.command("/usr/bin/aws", &["--endpoint-url", &desk.endpoint, "s3api", "list-buckets"]);
        command.env("AWS_ACCESS_KEY_ID", id).env("AWS_SECRET_ACCESS_KEY", secret);
        host::run(command).await?.fails_with(word)?;
    }
    desk.site.gateway.cli(&["key", "rm", &desk.key.access_key_id]).await?.ok()?;
    let command = desk.command("/usr/bin/aws", &["--endpoint-url", &desk.endpoint, "s3api", "list-buckets"]);
    let refused = host::run(command).await?;
    ensure!(refused.status != Status::Code(0), "a removed key works");
    Ok(())
}
