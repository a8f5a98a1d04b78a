//! Commands in a guest: run them, feed them, read what comes out, copy files.
//!
//! ```no_run
//! # async fn example(guest: mooring_tests::Guest) -> anyhow::Result<()> {
//! let kernel = guest.run("uname -r").await?.ok()?.text()?;
//! guest.put("/tmp/list", b"one\ntwo\n").await?;
//! let copy = guest.spawn("dd if=/dev/zero of=/mnt/mooring/photos/big bs=1M count=200").await?;
//! copy.signal(9)?;
//! # Ok(())
//! # }
//! ```

mod channel;
mod command;
mod output;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use mooring_guest_exec::Start;
use tokio::net::UnixStream;

use self::channel::Channel;
pub use self::command::Running;
pub use self::output::{Output, Status};

/// How long a command may take unless its caller says otherwise. Generous: guests are emulated.
pub const LIMIT: Duration = Duration::from_secs(120);

/// A guest's command server. Cheap to clone; all clones share the port.
#[derive(Debug, Clone)]
pub struct Guest {
    name: String,
    channel: Channel,
}

impl Guest {
    /// Speaks to the command server at the other end of `port`.
    pub fn on(name: &str, port: UnixStream) -> Guest {
        Guest { name: name.to_owned(), channel: Channel::on(port) }
    }

    /// Whether the command server has said hello; false while the guest boots.
    pub fn is_up(&self) -> bool {
        self.channel.is_up()
    }

    /// Runs a shell script and waits for its end, however it ends.
    pub async fn run(&self, script: &str) -> Result<Output> {
        self.run_within(script, LIMIT).await
    }

    /// [`run`](Guest::run) with a limit of its own; a command over it is killed.
    pub async fn run_within(&self, script: &str, limit: Duration) -> Result<Output> {
        let running = self.spawn(script).await?;
        running.close_stdin()?;
        running.end(limit).await
    }

    /// Runs a shell script with `input` on its standard input.
    pub async fn run_with(&self, script: &str, input: &[u8]) -> Result<Output> {
        let running = self.spawn(script).await?;
        running.feed(input).await?;
        running.close_stdin()?;
        running.end(LIMIT).await
    }

    /// Starts a shell script and returns once it runs.
    pub async fn spawn(&self, script: &str) -> Result<Running> {
        let argv = ["sh", "-c", script].map(|word| word.as_bytes().to_vec()).to_vec();
        self.start(Start { argv, ..Start::default() }).await
    }

    /// Starts any program with any bytes as arguments.
    pub async fn start(&self, start: Start) -> Result<Running> {
        let words: Vec<_> = start.argv.iter().map(|word| String::from_utf8_lossy(word)).collect();
        let shown = format!("{}$ {}", self.name, words.last().map_or_else(String::new, ToString::to_string));
        self.channel.start(&start, &shown).await
    }

    /// Writes a file in the guest.
    pub async fn put(&self, path: &str, content: &[u8]) -> Result<()> {
        self.run_with(&format!("cat > {}", quoted(path)), content).await?.ok().map(drop)
    }

    /// Reads a file of the guest.
    pub async fn get(&self, path: &str) -> Result<Vec<u8>> {
        Ok(self.run(&format!("cat {}", quoted(path))).await?.ok()?.stdout)
    }

    /// Copies a file of this host, of any size, into the guest.
    pub async fn put_file(&self, from: &Path, to: &str) -> Result<()> {
        let mut file =
            tokio::fs::File::open(from).await.with_context(|| format!("opening {}", from.display()))?;
        let running = self.spawn(&format!("cat > {}", quoted(to))).await?;
        running.feed_from(&mut file).await?;
        running.close_stdin()?;
        running.end(LIMIT).await?.ok().map(drop)
    }

    /// Copies a file of the guest, of any size, to this host.
    pub async fn get_file(&self, from: &str, to: &Path) -> Result<()> {
        let file = std::fs::File::create(to).with_context(|| format!("creating {}", to.display()))?;
        let running = self.spawn(&format!("cat {}", quoted(from))).await?;
        running.stdout_to(file)?;
        running.close_stdin()?;
        running.end(LIMIT).await?.ok().map(drop)
    }

    /// SHA-256 of a file in the guest, in hex.
    pub async fn sha256(&self, path: &str) -> Result<String> {
        let line = self.run(&format!("sha256sum < {}", quoted(path))).await?.ok()?.text()?;
        Ok(line.split(' ').next().unwrap_or_default().to_owned())
    }
}

/// One word for the shell, whatever is in it.
pub fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}
