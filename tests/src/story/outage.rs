//! The gateway is killed in the middle of a copy. The copy goes on when it is back, and is right.

use anyhow::{Context, Result, ensure};

use super::cast::{BUCKET, Cast, LONG, MOUNT};
use super::data::{Things, short};
use super::loss::acme_sha256;
use super::{Scale, Teller};
use crate::guest::{Guest, Running};
use crate::wait::{self, Look};

/// Kills the gateway once and lets the copy end.
pub async fn survive(cast: &mut Cast, scale: Scale, things: &Things, teller: &mut Teller) -> Result<()> {
    let what = format!("acme copies big.bin ({} MiB); the gateway is killed with -9", scale.big_mib);
    let copy = teller.step(&what, kill(cast, scale)).await?;
    let back = async {
        let took = cast.gateway.restart().await?;
        ensure!(!copy.has_ended(), "the copy ended while there was no gateway: {:?}", copy.end(LONG).await);
        Ok((
            (),
            format!(
                "every listener up {:.0} ms after it was started; the copy still runs",
                took.as_secs_f64() * 1000.0
            ),
        ))
    };
    teller.step("the gateway comes back on the same data", back).await?;
    teller.step("the copy finishes and is right", finish(cast, &copy, things)).await
}

async fn kill(cast: &mut Cast, scale: Scale) -> Result<(Running, String)> {
    let acme = cast.acme()?;
    let guest = acme.guest();
    let copy = acme.spawn(&format!("cp {MOUNT}/big.bin {MOUNT}/copy.bin && sync {MOUNT}/copy.bin")).await?;
    copy.close_stdin()?;
    let enough = scale.big_bytes() / 4;
    let done = wait::until("a part of the copy", LONG, || async {
        if copy.has_ended() {
            return Look::Ready(Err(anyhow::anyhow!("the copy ended before the gateway was killed")));
        }
        match copied(&guest).await {
            Ok(bytes) if bytes >= enough => Look::Ready(Ok(bytes)),
            Ok(bytes) => Look::NotYet(format!("{bytes} bytes")),
            Err(error) => Look::NotYet(format!("{error:#}")),
        }
    })
    .await??;
    cast.gateway.kill().await?;
    if copy.has_ended() {
        copy.end(LONG).await?.ok()?;
        anyhow::bail!("the copy ended before the gateway was killed");
    }
    Ok((copy, format!("{} of {} MiB were copied", done >> 20, scale.big_mib)))
}

async fn copied(guest: &Guest) -> Result<u64> {
    let size = guest.run(&format!("stat -c %s {MOUNT}/copy.bin")).await?.ok()?.text()?;
    size.parse().with_context(|| size)
}

async fn finish(cast: &Cast, copy: &Running, things: &Things) -> Result<((), String)> {
    copy.end(LONG).await?.ok()?;
    let in_mount = acme_sha256(cast, "copy.bin").await?;
    let on_host = cast.host.sha256(BUCKET, "copy.bin").await?;
    ensure!(in_mount == things.big, "in the mount: {in_mount} instead of {}", things.big);
    ensure!(on_host == things.big, "by S3 on the host: {on_host} instead of {}", things.big);
    Ok(((), format!("sha256 {} in the mount and by S3 on the host, as the original", short(&things.big))))
}
