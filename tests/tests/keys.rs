//! Keys as an operator meets them: where the master key comes from, how keys are replaced while programs work, and what
//! is left of a tenant that was removed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mooring_tests::e2e::{Pattern, Site, work};
use mooring_tests::guest::Status;
use mooring_tests::host::Gateway;
use mooring_tests::wait::{self, Look};
use mooring_tests::{artifacts, host};

const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const OTHER: &str = "ff112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// Starts a gateway that must not start, and returns what it says.
async fn refused(data: &Path, variables: &[(&str, &str)], arguments: &[&str]) -> Result<String> {
    let socket = tempfile::tempdir()?;
    let mut command = Command::new(artifacts::host_program("mooring-gateway")?);
    command.arg("--admin-socket").arg(socket.path().join("s")).arg("serve").arg("--data-dir").arg(data);
    command.args(["--s3", "off"]).args(arguments).envs(variables.iter().copied());
    let output = host::run(command).await?;
    ensure!(output.status == Status::Code(1), "{output:?}");
    Ok(String::from_utf8_lossy(&output.stderr).into_owned())
}

fn text(value: &serde_json::Value) -> Result<String> {
    value.as_str().map(str::to_owned).with_context(|| format!("{value} is no text"))
}

fn private(path: &Path, content: &str) -> Result<()> {
    fs::write(path, content)?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o600))?)
}

#[tokio::test]
async fn the_master_key_comes_from_a_file_a_variable_or_a_command() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("key");
    private(&file, KEY)?;
    let from_command = format!("command:cat {}", file.display());
    let mut site = Site { gateway: Gateway::start_with(&["--master-key", &from_command]).await? };
    site.tenant("acme", &["data"]).await?;
    site.sdk("acme").await?.put("data", "note", b"kept").await?;
    let shown = site.gateway.json(&["key", "show"]).await?;
    let id = text(&shown["id"])?;
    ensure!(shown["at_hand"][0]["place"] == from_command, "{shown}");
    ensure!(!shown.to_string().contains(&KEY[..16]), "a key is shown");
    let data = site.gateway.data_dir();
    ensure!(!data.join("master.key").exists(), "a key was made beside the one that was named");
    site.gateway.stop().await?;

    // Each refusal says which key is needed and what was found where.
    let needs = |said: &str, words: &[&str]| -> Result<()> {
        ensure!(said.contains(&id) && words.iter().all(|word| said.contains(word)), "not {words:?}: {said}");
        ensure!(!said.contains(&KEY[..16]) && !said.contains(&OTHER[..16]), "a key is shown");
        Ok(())
    };
    needs(&refused(&data, &[], &[]).await?, &["master.key"])?;
    ensure!(!data.join("master.key").exists(), "a new key was made over old data");
    let variable = &["--master-key", "env:MOORING_TEST_KEY"];
    needs(&refused(&data, &[], variable).await?, &["env:MOORING_TEST_KEY", "not set"])?;
    let wrong = refused(&data, &[("MOORING_TEST_KEY", OTHER)], variable).await?;
    needs(&wrong, &["env:MOORING_TEST_KEY has"])?;
    ensure!(!wrong.contains("damaged"), "a wrong key is no damage: {wrong}");
    let sealed = &["--master-key-command", "echo vault is sealed >&2; exit 2"];
    needs(&refused(&data, &[], sealed).await?, &["vault is sealed"])?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644))?;
    let open = file.to_string_lossy();
    needs(&refused(&data, &[], &["--master-key", &open]).await?, &[&open, "chmod 0600"])?;

    site.gateway.restart().await?;
    ensure!(site.sdk("acme").await?.get("data", "note").await?.as_deref() == Some(&b"kept"[..]));
    Ok(())
}

/// Writes and reads files until told to stop; says how many.
fn busy(folder: PathBuf, stop: Arc<AtomicBool>) -> tokio::task::JoinHandle<Result<u64>> {
    tokio::task::spawn_blocking(move || {
        let mut count = 0;
        while !stop.load(Ordering::Relaxed) {
            let path = folder.join(format!("file-{count}"));
            Pattern(count).write(&path, 300_000)?.sync_all()?;
            Pattern(count / 2).verify(&folder.join(format!("file-{}", count / 2)), 300_000)?;
            count += 1;
        }
        Ok(count)
    })
}

#[tokio::test]
async fn all_keys_are_replaced_while_programs_work() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let [first, second] =
        ["first", "second"].map(|name| dir.path().join(name).to_string_lossy().into_owned());
    let mut site = Site {
        gateway: Gateway::start_with(&["--master-key", &first, "--more-master-keys", &second]).await?,
    };
    site.tenant("acme", &["data"]).await?;
    let mut vm = site.machine("acme", "one").await?;
    let data = vm.bucket("data").await?;
    let stop = Arc::new(AtomicBool::new(false));
    let writer = busy(data.clone(), Arc::clone(&stop));
    let grown = |count: u64| {
        let path = data.join(format!("file-{count}"));
        wait::until("the writer", Duration::from_secs(30), move || {
            let there = path.exists();
            async move { if there { Look::Ready(()) } else { Look::NotYet("no such file yet".to_owned()) } }
        })
    };
    grown(5).await?;
    let before = text(&site.gateway.json(&["key", "show"]).await?["id"])?;
    for generation in 2..=4 {
        let rotated = site.gateway.json(&["tenant", "rotate-key", "acme"]).await?;
        ensure!(rotated["generation"] == generation, "{rotated}");
        grown(generation * 10).await?;
    }
    let rotated = site.gateway.json(&["key", "rotate-master", "--to", &second, "--generate"]).await?;
    ensure!(rotated["before"] == before.as_str() && rotated["id"] != before.as_str(), "{rotated}");
    grown(50).await?;
    stop.store(true, Ordering::Relaxed);
    let count = writer.await??;
    println!("{count} files written and read while four keys were replaced");

    // The old master key is not needed any more, nor is a clean end.
    fs::remove_file(&first)?;
    site.gateway.kill().await?;
    site.gateway.restart().await?;
    let shown = site.gateway.json(&["key", "show"]).await?;
    let keys = shown["keys"].as_array().context("keys")?;
    ensure!(keys.len() == 5 && keys.iter().all(|key| key["master"] == rotated["id"]), "{shown}");
    work(move || (0..count).try_for_each(|n| Pattern(n).verify(&data.join(format!("file-{n}")), 300_000)))
        .await?;
    let table = site.gateway.cli(&["key", "show"]).await?.ok()?;
    ensure!(String::from_utf8_lossy(&table.stdout).contains("seals and opens"));
    site.gateway.cli(&["key", "rotate-master", "--to", "/nonexistent"]).await?.fails_with("/nonexistent")?;
    site.gateway.cli(&["tenant", "rotate-key", "nobody"]).await?.fails_with("not found")?;
    Ok(())
}

#[tokio::test]
async fn a_removed_tenant_leaves_nothing_that_opens() -> Result<()> {
    let mut site = Site::with_acme().await?;
    site.tenant("globex", &["data"]).await?;
    let mut vm = site.machine("acme", "one").await?;
    let data = vm.bucket("data").await?;
    let into = data.clone();
    work(move || Ok(Pattern(1).write(&into.join("secret"), 1 << 20)?.sync_all()?)).await?;
    let sdk = site.sdk("acme").await?;
    site.sdk("globex").await?.put("data", "note", b"kept").await?;

    site.gateway.cli(&["tenant", "rm", "acme"]).await?.fails_with("--yes")?;
    site.gateway.cli(&["tenant", "rm", "acme", "--yes"]).await?.fails_with("--with-data")?;
    ensure!(sdk.head("data", "secret").await?.is_some(), "a refusal removed something");
    site.gateway.cli(&["tenant", "rm", "acme", "--yes", "--with-data"]).await?.ok()?;
    ensure!(sdk.get("data", "secret").await.is_err());
    vm.agent.kill().await?;
    let shown = site.gateway.json(&["key", "show"]).await?;
    ensure!(!shown.to_string().contains("acme"), "{shown}");
    let folder = site.gateway.data_dir().join("tenants/acme");
    wait::until("the files to go", Duration::from_secs(30), || {
        let left = fs::read_dir(&folder).map_or(0, Iterator::count);
        async move { if left == 0 { Look::Ready(()) } else { Look::NotYet(format!("{left} volumes")) } }
    })
    .await?;
    // A session that was ended lets go of what it held, and is not listed any more then.
    wait::until("the tenant's sessions to end", Duration::from_secs(30), || async {
        match site.gateway.json(&["status"]).await {
            Ok(status) if !status.to_string().contains("acme") => Look::Ready(()),
            Ok(status) => Look::NotYet(status.to_string()),
            Err(error) => Look::NotYet(error.to_string()),
        }
    })
    .await?;

    site.gateway.stop().await?;
    site.gateway.restart().await?;
    ensure!(site.sdk("globex").await?.get("data", "note").await?.as_deref() == Some(&b"kept"[..]));
    site.tenant("acme", &["data"]).await?;
    ensure!(site.sdk("acme").await?.get("data", "secret").await?.is_none());
    Ok(())
}
