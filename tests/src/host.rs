//! Gateway and agent on this host, as processes.

mod agent;
mod gateway;
mod mounts;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

pub use self::agent::Agent;
pub(crate) use self::gateway::free_address;
pub use self::gateway::{AccessKey, Gateway};
use crate::guest::{Output, Status};

/// How long a command on this host may take.
const LIMIT: Duration = Duration::from_secs(60);

/// Runs a program of this host to its end, however it ends.
pub async fn run(command: Command) -> Result<Output> {
    let words: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let shown = words.join(" ");
    let mut command = tokio::process::Command::from(command);
    command.stdin(std::process::Stdio::null()).kill_on_drop(true);
    let Ok(done) = tokio::time::timeout(LIMIT, command.output()).await else {
        bail!("{shown}: not finished within {} s", LIMIT.as_secs());
    };
    let done = done.with_context(|| format!("starting {shown}"))?;
    let signal = std::os::unix::process::ExitStatusExt::signal(&done.status).unwrap_or_default();
    let status = done.status.code().map_or(Status::Signal(signal), Status::Code);
    Ok(Output { command: shown, status, stdout: done.stdout, stderr: done.stderr })
}

/// The status code of a GET over a unix socket: enough to ask whether a server is up, without a client that would
/// retry or pool.
pub async fn http_status(socket: &Path, path: &str) -> Result<u16> {
    let ask = async {
        let mut stream = UnixStream::connect(socket).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(1 << 16).read_to_end(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let answer = tokio::time::timeout(Duration::from_secs(5), ask).await.context("no answer within 5 s")?;
    let answer = answer.with_context(|| format!("asking {}", socket.display()))?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let code = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
    code.with_context(|| format!("not HTTP: {:?}", answer.lines().next()))
}
