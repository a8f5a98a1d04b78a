//! acme takes the share back while globex holds a file of it open and reads.
//!
//! What is asserted: reading is refused, on the handle and by its path and as an object, and no read that began after
//! the revocation had returned got a byte. What is measured: how long the gateway took until every session had
//! confirmed, and when in globex' VM the last byte came. The VMs are emulated, so the second is more than it would be
//! on processors of their own.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::Teller;
use super::cast::{Cast, LONG, boto3};
use super::clock::{GuestClock, ms};
use super::sharing::{SEEN, Share};
use crate::Vm;
use crate::guest::Running;
use crate::wait::{self, Look};

const CLOCK: &str = include_str!("guest/clock.py");
const HOLDER: &str = include_str!("guest/holder.py");
const REVOKER: &str = include_str!("guest/revoker.py");

/// Until every session has confirmed that it dropped the share, on one host.
const BAR_MS: f64 = 50.0;

/// What the program that holds the file says. Moments are nanoseconds of its machine's monotonic clock.
#[derive(Debug, Deserialize)]
struct Held {
    reads: u64,
    began: u64,
    ended: u64,
    refused: Option<Refused>,
    after: Vec<Option<String>>,
}

#[derive(Debug, Deserialize)]
struct Refused {
    error: String,
    at: u64,
}

/// What the program that revokes says.
#[derive(Debug, Deserialize)]
struct Command {
    began: u64,
    returned: u64,
    answer: Answer,
}

/// The gateway's answer.
#[derive(Debug, Deserialize)]
struct Answer {
    took_ms: f64,
    confirmed: Vec<String>,
    fenced: Vec<String>,
}

/// A program of the story and its machine's clock.
struct Timed {
    program: Running,
    clock: GuestClock,
}

/// Takes the share back and looks at what that did.
pub async fn revoke(cast: &Cast, share: &Share, teller: &mut Teller) -> Result<()> {
    let zero = Instant::now();
    let holding = async {
        let holder = timed(cast.globex(), HOLDER, &format!("{SEEN}/film.bin"), zero).await?;
        let said = format!("read every millisecond; its clock known to {:.1} ms", holder.clock.error_ms());
        Ok((holder, said))
    };
    let holder = teller.step("globex holds film.bin open and reads it", holding).await?;
    let revoking = async {
        let revoker = timed(cast.acme()?, REVOKER, &share.id, zero).await?;
        revoker.program.feed(b"go\n").await?;
        let done: Command = last_line(&revoker.program).await?;
        let answered = ms(zero);
        holder.program.feed(b"told\n").await?;
        let held: Held = last_line(&holder.program).await?;
        let said = judge(&done, &held, &revoker, &holder, answered)?;
        Ok(((), said))
    };
    teller.step("acme revokes: mooring-agent share revoke", revoking).await?;
    teller.step("the share is gone from globex' VM", gone(cast.globex())).await
}

fn judge(done: &Command, held: &Held, revoker: &Timed, holder: &Timed, answered: f64) -> Result<String> {
    let Answer { took_ms, confirmed, fenced } = &done.answer;
    ensure!(held.reads > 0, "globex read nothing before");
    let refused = held.refused.as_ref().context("globex still reads the file it holds open")?;
    ensure!(held.after.iter().all(Option::is_some), "read after it was refused: {:?}", held.after);
    ensure!(fenced.is_empty() && !confirmed.is_empty(), "an honest agent did not confirm: {:?}", done.answer);
    let began = revoker.clock.on_host(done.began);
    // The command has returned at the latest when the host reads its last line; the clocks may say so earlier.
    let returned = (revoker.clock.on_host(done.returned) + revoker.clock.error_ms()).min(answered);
    let late = holder.clock.on_host(held.began) - holder.clock.error_ms() - returned;
    ensure!(late <= 0.0, "a read that began {late:.1} ms after the revocation had returned got bytes");
    let (last, no) = (holder.clock.on_host(held.ended), holder.clock.on_host(refused.at));
    let bar = if *took_ms <= BAR_MS { "within" } else { "over, on emulated machines," };
    Ok(format!(
        "{took_ms:.1} ms at the gateway until globex had confirmed ({bar} {BAR_MS} ms); seen from the VMs: command \
         {:.0} ms, last byte {:.1} ms before it returned, then {} after {:.1} ms more (clocks +-{:.1} ms)",
        returned - began,
        returned - last,
        refused.error,
        no - last,
        holder.clock.error_ms() + revoker.clock.error_ms(),
    ))
}

async fn timed(vm: &Vm, program: &str, argument: &str, zero: Instant) -> Result<Timed> {
    let path = "/tmp/timed.py";
    vm.put(path, format!("{CLOCK}\n{program}").as_bytes()).await?;
    let program = vm.spawn(&format!("exec python3 {path} {argument}")).await?;
    let clock = GuestClock::ask(&program, zero).await?;
    Ok(Timed { program, clock })
}

/// The program's last line, once it has ended well.
async fn last_line<T: serde::de::DeserializeOwned>(program: &Running) -> Result<T> {
    // Not `Running::end`, which takes what was said: a failure should tell it.
    wait::until("the program's end", LONG, || async {
        Look::if_true(program.has_ended(), String::from_utf8_lossy(&program.stdout()))
    })
    .await?;
    let said = program.end(LONG).await?.ok()?.text()?;
    let line = said.lines().last().context("it said nothing")?;
    serde_json::from_str(line).with_context(|| line.to_owned())
}

async fn gone(globex: &Vm) -> Result<((), String)> {
    wait::until("the mount to go", LONG, || async {
        let there = globex.run(&format!("grep -q ' {SEEN} ' /proc/mounts")).await;
        match there.map(|output| output.status) {
            Ok(crate::guest::Status::Code(0)) => Look::NotYet("still mounted".to_owned()),
            Ok(_) => Look::Ready(Ok(())),
            Err(error) => Look::Ready(Err(error)),
        }
    })
    .await??;
    let code = "try:\n    s3.list_objects_v2(Bucket='acme.release')\n    code = 'went through'\n\
                except botocore.exceptions.ClientError as error:\n    code = error.response['Error']['Code']\n\
                result = [code, [b['Name'] for b in s3.list_buckets()['Buckets']]]";
    let seen = boto3(globex, code).await?;
    let expected = serde_json::json!(["NoSuchBucket", [super::cast::OTHERS_BUCKET]]);
    ensure!(seen == expected, "expected {expected}, got {seen}");
    Ok(((), "no mount, no bucket; globex' own bucket goes on".to_owned()))
}
