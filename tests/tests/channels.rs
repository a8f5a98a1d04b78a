//! A VM without vsock: TCP with TLS, and a token that says who it is.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use mooring_tests::artifacts;
use mooring_tests::e2e::{Machine, Site, work};
use mooring_tests::host::{self, Agent, Gateway};
use mooring_tests::wait::{self, Look};

/// A gateway that listens on TCP, and the certificate to trust.
struct Far {
    site: Site,
    address: String,
    folder: tempfile::TempDir,
}

async fn far() -> Result<Far> {
    let folder = tempfile::tempdir()?;
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
    fs::write(folder.path().join("cert.pem"), made.cert.pem())?;
    fs::write(folder.path().join("key.pem"), made.signing_key.serialize_pem())?;
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let text = |name: &str| folder.path().join(name).display().to_string();
    let (listen, cert, key) = (format!("127.0.0.1:{port}"), text("cert.pem"), text("key.pem"));
    let gateway = Gateway::start_with(&["--tls", &listen, "--tls-cert", &cert, "--tls-key", &key]).await?;
    let site = Site { gateway };
    site.tenant("acme", &["data"]).await?;
    site.gateway.cli(&["vm", "attach", "--tenant", "acme", "far", "--tcp"]).await?.ok()?;
    Ok(Far { site, address: format!("tls:localhost:{port}"), folder })
}

impl Far {
    async fn token(&self) -> Result<String> {
        let made = self.site.gateway.json(&["token", "--tenant", "acme", "--vm", "far"]).await?;
        Ok(made["token"].as_str().context("a token")?.to_owned())
    }

    async fn agent(&self, more: &[&str]) -> Result<Machine> {
        let ours = ["--gateway", &self.address, "--root", "{home}/mnt", "--control", "{home}/agent.sock"];
        Ok(Machine { agent: Agent::start("far", &[&ours, more].concat()).await? })
    }

    fn certificate(&self) -> String {
        self.folder.path().join("cert.pem").display().to_string()
    }
}

#[tokio::test]
async fn over_tls_with_a_token_everything_works() -> Result<()> {
    let mut far = far().await?;
    let (ca, token) = (far.certificate(), far.token().await?);
    let doors = ["--s3", "127.0.0.1:0", "--credentials", "127.0.0.1:0"];
    let mut vm = far.agent(&[&["--ca", &ca, "--token", &token][..], &doors].concat()).await?;
    let data = vm.bucket("data").await?;
    let note = data.join("note");
    work({
        let note = note.clone();
        move || Ok(fs::write(&note, "from afar").and_then(|()| fs::File::open(&note)?.sync_all())?)
    })
    .await?;

    // S3 in the VM, the share commands, and the host's own look.
    ensure!(s3_in_the_vm(&vm, far.folder.path()).await? == "\"from afar\"");
    let who: serde_json::Value = serde_json::from_slice(&vm.cli(&["--json", "status"]).await?.ok()?.stdout)?;
    ensure!(who.to_string().contains("acme"), "{who}");
    vm.cli(&["share", "ls"]).await?.ok()?;
    let sdk = far.site.sdk("acme").await?;
    ensure!(sdk.get("data", "note").await?.as_deref() == Some(b"from afar".as_slice()));

    // A restarted gateway takes it back by the token it gave last.
    far.site.gateway.kill().await?;
    far.site.gateway.restart().await?;
    let read = work(move || Ok(fs::read(&note)?)).await?;
    ensure!(read == b"from afar");
    ensure!(vm.agent.stop().await?.success());
    Ok(())
}

async fn s3_in_the_vm(vm: &Machine, folder: &Path) -> Result<String> {
    let script = "result = s3.get_object(Bucket='data', Key='note')['Body'].read().decode()";
    fs::write(folder.join("read.py"), mooring_tests::s3::script(script))?;
    let env = vm.agent.home().join("env");
    wait::until("the environment file", std::time::Duration::from_secs(20), || async {
        Look::if_true(env.exists(), "not there")
    })
    .await?;
    let words = format!(". '{}' && exec '{}' read.py", env.display(), artifacts::python()?.display());
    let mut shell = Command::new("sh");
    shell.args(["-c", &words]).current_dir(folder).env_clear();
    host::run(shell).await?.ok()?.text()
}

#[tokio::test]
async fn without_the_right_certificate_or_token_nothing_is_mounted() -> Result<()> {
    let far = far().await?;
    let (ca, token) = (far.certificate(), far.token().await?);
    let forged = format!("{}x", &token[..token.len() - 1]);
    for (more, word) in [
        (vec!["--ca", &ca], "refused the greeting"),
        (vec!["--ca", &ca, "--token", &forged], "refused the greeting"),
        // This system's own authorities do not know the gateway.
        (vec!["--token", &token], "certificate"),
    ] {
        let vm = far.agent(&[&more[..], &["--s3", "off"]].concat()).await?;
        let told = wait::until("the reason", std::time::Duration::from_secs(20), || async {
            match vm.cli(&["--json", "status"]).await {
                Ok(said) if String::from_utf8_lossy(&said.stdout).contains(word) => Look::Ready(()),
                Ok(said) => Look::NotYet(String::from_utf8_lossy(&said.stdout).into_owned()),
                Err(error) => Look::NotYet(format!("{error:#}")),
            }
        });
        told.await?;
        ensure!(vm.agent.mounts().is_empty(), "{word}");
    }
    // The owner of a tenant cannot make itself another VM.
    far.site.gateway.cli(&["token", "--tenant", "acme", "--vm", "nobody"]).await?.fails_with("nobody")?;
    Ok(())
}
