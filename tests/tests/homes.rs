//! Two gateways over one store: one serves, the other leads there, and takes over when the first is gone.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};
use mooring_tests::e2e::{Pattern, Sdk, Site, work};
use mooring_tests::host::Gateway;
use mooring_tests::wait::{self, Look};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustix::process::Signal;

/// How long anything may take that a take-over is part of.
const PATIENCE: Duration = Duration::from_secs(30);

/// A gateway whose S3 is the store, and what operators keep: credentials, master key, certificates.
struct Store {
    gateway: Gateway,
    kept: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Store {
    async fn start() -> Result<Store> {
        let gateway = Gateway::start().await?;
        gateway.tenant("infra").await?;
        gateway.bucket("infra", "moorings").await?;
        let key = gateway.access_key("infra").await?;
        let kept = tempfile::tempdir()?;
        let text = format!(
            "[default]\naws_access_key_id = {}\naws_secret_access_key = {}\n",
            key.access_key_id, key.secret_access_key
        );
        write_private(&kept.path().join("credentials"), &text)?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_key = KeyPair::generate()?;
        write_private(&kept.path().join("ca.pem"), &params.self_signed(&ca_key)?.pem())?;
        Ok(Store { gateway, kept, issuer: Issuer::new(params, ca_key) })
    }

    fn path(&self, name: &str) -> Result<String> {
        self.kept.path().join(name).into_os_string().into_string().ok().context("the path is not text")
    }

    /// A gateway that keeps everything here, alone.
    async fn alone(&self) -> Result<Site> {
        Ok(Site { gateway: Gateway::start_with(&self.words()?.each()).await? })
    }

    /// One that shares it. Its certificate is for `certified`.
    async fn shared_as(&self, name: &str, certified: &str) -> Result<Site> {
        let key = KeyPair::generate()?;
        let certificate =
            CertificateParams::new(vec![certified.to_owned()])?.signed_by(&key, &self.issuer)?;
        let (cert_file, key_file) = (format!("{name}.crt"), format!("{name}.key"));
        write_private(&self.kept.path().join(&cert_file), &certificate.pem())?;
        write_private(&self.kept.path().join(&key_file), &key.serialize_pem())?;
        let listen = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let mut words = self.words()?;
        words.0.extend([
            format!("--peers-listen={listen}"),
            format!("--peers-address={listen}"),
            format!("--peers-name={name}"),
            format!("--peers-ca={}", self.path("ca.pem")?),
            format!("--peers-cert={}", self.path(&cert_file)?),
            format!("--peers-key={}", self.path(&key_file)?),
        ]);
        Ok(Site { gateway: Gateway::start_with(&words.each()).await? })
    }

    async fn shared(&self, name: &str) -> Result<Site> {
        self.shared_as(name, name).await
    }

    fn words(&self) -> Result<Words> {
        Ok(Words(vec![
            "--store-url=s3://moorings/one".to_owned(),
            format!("--store-endpoint={}", self.gateway.s3_endpoint()),
            "--store-allow-http".to_owned(),
            "--store-region=mooring-1".to_owned(),
            format!("--store-credentials={}", self.path("credentials")?),
            format!("--master-key={}", self.path("master.key")?),
        ]))
    }
}

struct Words(Vec<String>);

impl Words {
    fn each(&self) -> Vec<&str> {
        self.0.iter().map(String::as_str).collect()
    }
}

fn write_private(path: &Path, text: &str) -> Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    Ok(file.write_all(text.as_bytes())?)
}

/// Two gateways, `a` at home, with one bucket of acme.
async fn pair() -> Result<(Store, Site, Site)> {
    let store = Store::start().await?;
    let a = store.shared("gw-a.test").await?;
    a.tenant("acme", &["data"]).await?;
    let b = store.shared("gw-b.test").await?;
    connected(&a, "gw-b.test").await?;
    Ok((store, a, b))
}

/// Waits until another gateway is connected to the home.
async fn connected(site: &Site, other: &str) -> Result<()> {
    wait::until("the other gateway", PATIENCE, || async {
        match site.gateway.json(&["status"]).await {
            Ok(status) => Look::if_true(status["home"]["connected"][0] == other, &status["home"]),
            Err(error) => Look::NotYet(format!("{error:#}")),
        }
    })
    .await
}

async fn home(site: &Site) -> Result<(String, u64)> {
    let status = site.gateway.json(&["status"]).await?;
    let name = status["home"]["gateway"].as_str().with_context(|| status.to_string())?.to_owned();
    Ok((name, status["home"]["epoch"].as_u64().context("the epoch")?))
}

/// Writes a file and has it synced.
async fn write(path: PathBuf, text: &'static str) -> Result<()> {
    work(move || {
        use std::io::Write;
        let mut file = std::fs::File::create(&path)?;
        file.write_all(text.as_bytes())?;
        Ok(file.sync_all()?)
    })
    .await
    .with_context(|| format!("writing {text:?}"))
}

async fn read(path: PathBuf) -> Result<String> {
    work(move || Ok(std::fs::read_to_string(&path)?)).await
}

/// Writes through a mount until it works: a take-over may refuse what is under way.
async fn write_soon(path: &Path, text: &'static str) -> Result<()> {
    wait::until("a write in the mount", PATIENCE, || async {
        Look::when_ok(write(path.to_owned(), text).await)
    })
    .await
}

async fn put_soon(sdk: &Sdk, key: &str, body: &[u8]) -> Result<()> {
    let put = wait::until("a PUT", PATIENCE, || async { Look::when_ok(sdk.put("data", key, body).await) });
    put.await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vms_of_two_gateways_see_one_bucket() -> Result<()> {
    let (_store, a, b) = pair().await?;
    ensure!(home(&b).await? == ("gw-a.test".to_owned(), 1), "the second leads its operator to the first");
    let (mut one, mut two) = (a.machine("acme", "one").await?, b.machine("acme", "two").await?);
    let (here, there) = (one.bucket("data").await?, two.bucket("data").await?);
    for round in 0..20 {
        let (from, to) = if round % 2 == 0 { (&here, &there) } else { (&there, &here) };
        let text = if round % 2 == 0 { "from the home" } else { "from the other" };
        write(from.join("note"), text).await?;
        ensure!(read(to.join("note")).await? == text, "round {round} is stale");
    }
    let sdk = b.sdk("acme").await?;
    let body = Pattern(7).bytes(0, 3 << 20);
    sdk.put("data", "large", &body).await?;
    let path = here.join("large");
    work(move || Pattern(7).verify(&path, 3 << 20)).await?;
    ensure!(a.sdk("acme").await?.get("data", "large").await?.context("it was put")? == body);
    let vms = a.gateway.json(&["vm", "ls"]).await?;
    let hosts: Vec<_> = vms.as_array().context("a list")?.iter().map(|vm| vm["gateway"].as_str()).collect();
    ensure!(hosts == [Some("gw-a.test"), Some("gw-b.test")], "{vms}");
    // A channel that cannot be made on the other host is said to whoever asked.
    let taken = two.agent.home().join("agent.sock");
    let words = ["vm", "attach", "--tenant", "acme", "three", "--unix", taken.to_str().context("text")?];
    let refused = b.gateway.cli(&words).await?;
    ensure!(refused.ok().is_err(), "a socket of another program was taken");
    b.gateway.cli(&["vm", "detach", "--tenant", "acme", "two"]).await?.ok()?;
    wait::until("the end of its session", PATIENCE, || async {
        match a.gateway.json(&["status"]).await {
            Ok(status) => Look::if_true(!status["sessions"].to_string().contains("acme/two"), &status),
            Err(error) => Look::NotYet(format!("{error:#}")),
        }
    })
    .await?;
    wait::until("the channel of the VM to go", PATIENCE, || async {
        let there = b.gateway.admin_socket().with_file_name("two.sock");
        Look::if_true(!there.exists(), "it is there")
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_home_is_followed_by_the_other_and_nothing_synced_is_missing() -> Result<()> {
    let (_store, mut a, b) = pair().await?;
    let (mut one, mut two) = (a.machine("acme", "one").await?, b.machine("acme", "two").await?);
    let (here, there) = (one.bucket("data").await?, two.bucket("data").await?);
    let sdk = b.sdk("acme").await?;
    write(here.join("of-one"), "synced at the home").await?;
    write(there.join("of-two"), "synced at the other").await?;
    sdk.put("data", "put", b"through the other").await?;
    let (died, died_at) = (Instant::now(), SystemTime::now());
    a.gateway.kill().await?;
    put_soon(&sdk, "first", b"served").await?;
    let served = died.elapsed();
    write_soon(&there.join("after"), "by the same agent").await?;
    ensure!(home(&b).await? == ("gw-b.test".to_owned(), 2));
    ensure!(read(there.join("of-one")).await? == "synced at the home");
    ensure!(read(there.join("of-two")).await? == "synced at the other");
    ensure!(sdk.get("data", "put").await?.as_deref() == Some(&b"through the other"[..]));
    let (opening, open) = (took(&b)?, home_at(&b)?.duration_since(died_at)?);
    let after = served.saturating_sub(open);
    println!(
        "from kill to the first served write {:.2} s: {:.2} s until the record had run out, then {:.2} s: {:.2} s until every way \
         in was open, {:.2} s until a PUT was answered",
        served.as_secs_f64(),
        open.saturating_sub(opening).as_secs_f64(),
        (opening + after).as_secs_f64(),
        opening.as_secs_f64(),
        after.as_secs_f64()
    );
    // The figures are for a machine that does nothing else; this bound is for any.
    ensure!(served < Duration::from_secs(15), "too long");
    // The first comes back, and leads its VM to the second.
    a.gateway.restart().await?;
    ensure!(home(&a).await? == ("gw-b.test".to_owned(), 2));
    write_soon(&here.join("back"), "by way of the second").await?;
    ensure!(read(there.join("back")).await? == "by way of the second");
    ensure!(read(here.join("after")).await? == "by the same agent");
    Ok(())
}

/// When the gateway said that it was home.
fn home_at(site: &Site) -> Result<SystemTime> {
    let text = site.gateway.process().log().text();
    let line =
        text.lines().rfind(|line| line.contains("this gateway is home")).context("it never was home")?;
    let stamp = line.split_whitespace().next().context("a line without its time")?;
    Ok(DateTime::from_str(stamp, DateTimeFormat::DateTime)?.try_into()?)
}

/// How long the gateway took from when it could until it served.
fn took(site: &Site) -> Result<Duration> {
    let text = site.gateway.process().log().text();
    let (_, rest) = text.rsplit_once("took_ms=").context("the log does not say how long it took")?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Ok(Duration::from_millis(digits.parse()?))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_home_that_stops_is_followed_at_once() -> Result<()> {
    let (_store, mut a, b) = pair().await?;
    let sdk = b.sdk("acme").await?;
    sdk.put("data", "before", b"1").await?;
    a.gateway.stop().await?;
    let gone = Instant::now();
    put_soon(&sdk, "after", b"2").await?;
    // Without what a busy machine takes to open everything.
    let waited = gone.elapsed().saturating_sub(took(&b)?);
    println!("{:.2} s after the end of the first", waited.as_secs_f64());
    ensure!(waited < Duration::from_secs(4), "it waited for a record that was let go of");
    ensure!(sdk.get("data", "before").await?.is_some());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_home_that_was_paused_shows_nothing_old() -> Result<()> {
    let (_store, a, b) = pair().await?;
    let mut one = a.machine("acme", "one").await?;
    let here = one.bucket("data").await?;
    let (of_a, of_b) = (a.sdk("acme").await?, b.sdk("acme").await?);
    of_b.put("data", "value", b"old").await?;
    ensure!(of_a.get("data", "value").await?.as_deref() == Some(&b"old"[..]));
    ensure!(read(here.join("value")).await? == "old");
    a.gateway.process().signal(Signal::STOP)?;
    put_soon(&of_b, "value", b"new").await?;
    // Asked before it runs again, so that it is the first thing it sees.
    let asked = tokio::spawn(async move {
        let first = of_a.get("data", "value").await;
        (of_a, first)
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    a.gateway.process().signal(Signal::CONT)?;
    let (of_a, first) = asked.await?;
    if let Ok(first) = first {
        ensure!(first.as_deref() == Some(&b"new"[..]), "the first answer is old");
    }
    wait::until("the first gateway, led to the second", PATIENCE, || async {
        match of_a.get("data", "value").await {
            Ok(Some(value)) if value == b"new" => Look::Ready(Ok(())),
            Ok(value) => Look::Ready(Err(anyhow::anyhow!("{value:?} is old"))),
            Err(error) => Look::NotYet(format!("{error:#}")),
        }
    })
    .await??;
    wait::until("the agent of the first", PATIENCE, || async {
        Look::if_true(read(here.join("value")).await.is_ok_and(|text| text == "new"), "not new")
    })
    .await?;
    write_soon(&here.join("goes on"), "by the same agent").await?;
    ensure!(of_b.get("data", "goes on").await?.is_some());
    ensure!(home(&a).await? == ("gw-b.test".to_owned(), 2));
    ensure!(a.gateway.process().log().text().contains("home no more"), "the log does not say so");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_speaks_only_under_the_name_it_is_certified_for() -> Result<()> {
    let (store, a, _b) = pair().await?;
    let refused = store.shared_as("gw-c.test", "gw-b.test").await;
    let refused = refused.err().context("a gateway with another's certificate runs")?;
    ensure!(format!("{refused:#}").contains("gw-c.test"), "{refused:#}");
    drop(a);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_lost_the_store_to_another_says_so_and_serves_nothing() -> Result<()> {
    let store = Store::start().await?;
    let first = store.alone().await?;
    first.tenant("acme", &["data"]).await?;
    let mut vm = first.machine("acme", "one").await?;
    let mount = vm.bucket("data").await?;
    let sdk = first.sdk("acme").await?;
    write(mount.join("value"), "old").await?;
    let second = store.alone().await?;
    let theirs = second.sdk("acme").await?;
    theirs.put("data", "value", b"new").await?;
    // The first learns of it with its next write, of whatever.
    ensure!(sdk.put("data", "late", b"refused").await.is_err());
    wait::until("the first to say so", PATIENCE, || async {
        match first.gateway.json(&["status"]).await {
            Ok(status) => Look::if_true(
                status["lost"].is_string()
                    && status["volumes"].as_array().is_some_and(Vec::is_empty)
                    && status["sessions"].as_array().is_some_and(Vec::is_empty),
                &status,
            ),
            Err(error) => Look::NotYet(format!("{error:#}")),
        }
    })
    .await?;
    ensure!(sdk.get("data", "value").await.is_err(), "it still answers");
    ensure!(theirs.get("data", "late").await?.is_none());
    ensure!(theirs.get("data", "value").await?.as_deref() == Some(&b"new"[..]), "it was taken back");
    Ok(())
}
