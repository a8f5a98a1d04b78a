//! A command that runs in a guest.

use std::fs::File;
use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use mooring_guest_exec::{Frame, Kind, MAX_PAYLOAD, WINDOW};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::{Notify, Semaphore};

use super::channel::Channel;
use super::output::{Output, Status};

/// Output kept in memory per stream; a command that writes more should write to a file.
const MAX_OUTPUT: usize = 64 << 20;

/// What is known of a command, filled in by the port's reader.
#[derive(Debug)]
pub struct Progress {
    state: Mutex<State>,
    changed: Notify,
    /// Bytes of standard input that may still be sent.
    window: Semaphore,
}

#[derive(Debug, Default)]
struct State {
    pid: Option<u32>,
    stdout: Vec<u8>,
    stdout_file: Option<File>,
    stderr: Vec<u8>,
    end: Option<Result<Status, String>>,
}

impl Default for Progress {
    fn default() -> Progress {
        Progress { state: Mutex::default(), changed: Notify::new(), window: Semaphore::new(WINDOW) }
    }
}

impl Progress {
    /// Takes a frame from the guest.
    pub fn take(&self, frame: Frame) {
        let mut state = self.lock();
        let kept = match frame.kind {
            Kind::Started => {
                state.pid = Some(frame.number().cast_unsigned());
                Ok(())
            }
            Kind::NotStarted => Err(String::from_utf8_lossy(&frame.payload).into_owned()),
            Kind::Stdout => state.keep_stdout(&frame.payload),
            Kind::Stderr => keep(&mut state.stderr, &frame.payload),
            Kind::StdinTaken => {
                self.window.add_permits(usize::try_from(frame.number()).unwrap_or(0).min(WINDOW));
                Ok(())
            }
            Kind::Exit => {
                state.end.get_or_insert(Ok(Status::from_wire(frame.number())));
                Ok(())
            }
            _ => Err("the guest sent a frame that only the host sends".to_owned()),
        };
        if let Err(why) = kept {
            state.end.get_or_insert(Err(why));
        }
        if state.end.is_some() {
            self.window.close();
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// Ends it from our side.
    pub fn fail(&self, why: &str) {
        self.lock().end.get_or_insert(Err(why.to_owned()));
        self.window.close();
        self.changed.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `look` finds something.
    async fn find<T>(&self, mut look: impl FnMut(&mut State) -> Option<T>) -> T {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Registered before looking, so that a change in between is not missed.
            changed.as_mut().enable();
            if let Some(found) = look(&mut self.lock()) {
                return found;
            }
            changed.await;
        }
    }
}

impl State {
    fn keep_stdout(&mut self, bytes: &[u8]) -> Result<(), String> {
        match &mut self.stdout_file {
            Some(file) => file.write_all(bytes).map_err(|error| error.to_string()),
            None => keep(&mut self.stdout, bytes),
        }
    }
}

fn keep(buffer: &mut Vec<u8>, bytes: &[u8]) -> Result<(), String> {
    if buffer.len() + bytes.len() > MAX_OUTPUT {
        return Err(format!("wrote more than {MAX_OUTPUT} bytes; let it write to a file"));
    }
    buffer.extend_from_slice(bytes);
    Ok(())
}

/// A running command. Dropping it kills it.
#[derive(Debug)]
pub struct Running {
    id: u32,
    shown: String,
    progress: Arc<Progress>,
    channel: Channel,
}

impl Running {
    pub(super) fn new(id: u32, shown: String, progress: Arc<Progress>, channel: Channel) -> Running {
        Running { id, shown, progress, channel }
    }

    /// Waits until the guest has started it.
    pub(super) async fn started(&self, limit: Duration) -> Result<()> {
        let found = self.progress.find(|state| match (&state.end, state.pid) {
            (Some(Err(why)), None) => Some(Err(why.clone())),
            (_, Some(_)) => Some(Ok(())),
            _ => None,
        });
        match tokio::time::timeout(limit, found).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(why)) => bail!("{}: {why}", self.shown),
            Err(_) => bail!("{}: the guest did not start it within {} s", self.shown, limit.as_secs()),
        }
    }

    /// Its process id in the guest; also its process group.
    pub fn pid(&self) -> u32 {
        self.progress.lock().pid.unwrap_or_default()
    }

    /// Sends it and all it has started a signal.
    pub fn signal(&self, number: i32) -> Result<()> {
        self.channel.send_now(Frame::new(self.id, Kind::Signal, number.to_le_bytes()))
    }

    /// Writes to its standard input, waiting while it does not read.
    pub async fn feed(&self, mut bytes: &[u8]) -> Result<()> {
        self.feed_from(&mut bytes).await
    }

    /// Copies everything from `source` to its standard input.
    pub async fn feed_from(&self, source: &mut (impl AsyncRead + Unpin)) -> Result<()> {
        let mut buffer = vec![0; MAX_PAYLOAD];
        loop {
            let count = source
                .read(&mut buffer)
                .await
                .with_context(|| format!("{}: reading its input", self.shown))?;
            let Some(chunk) = buffer.get(..count).filter(|chunk| !chunk.is_empty()) else { return Ok(()) };
            let permits = self.progress.window.acquire_many(u32::try_from(count)?).await;
            // Closed: it has ended and needs no more input. How it ended is the caller's next question.
            let Ok(permits) = permits else { return Ok(()) };
            permits.forget();
            self.channel.send(Frame::new(self.id, Kind::Stdin, chunk)).await?;
        }
    }

    /// Ends its standard input.
    pub fn close_stdin(&self) -> Result<()> {
        self.channel.send_now(Frame::new(self.id, Kind::StdinEnd, []))
    }

    /// Sends standard output to a file from now on, instead of keeping it.
    pub fn stdout_to(&self, mut file: File) -> Result<()> {
        let mut state = self.progress.lock();
        file.write_all(&std::mem::take(&mut state.stdout)).context("writing a command's output")?;
        state.stdout_file = Some(file);
        Ok(())
    }

    /// Standard output so far.
    pub fn stdout(&self) -> Vec<u8> {
        self.progress.lock().stdout.clone()
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        self.progress.lock().end.is_some()
    }

    /// Waits until its standard output contains `words`.
    pub async fn says(&self, words: &str, limit: Duration) -> Result<()> {
        let found = self.progress.find(|state| {
            let said = state.stdout.windows(words.len().max(1)).any(|window| window == words.as_bytes());
            (said || state.end.is_some()).then_some(said)
        });
        let said = tokio::time::timeout(limit, found).await.unwrap_or(false);
        let output = String::from_utf8_lossy(&self.stdout()).into_owned();
        ensure!(said, "{}: did not say {words:?}; it said: {output}", self.shown);
        Ok(())
    }

    /// Waits for its end. Over the limit it is killed, and that is an error.
    pub async fn end(&self, limit: Duration) -> Result<Output> {
        let found = self.progress.find(|state| state.end.clone());
        let Ok(end) = tokio::time::timeout(limit, found).await else {
            let state = self.progress.lock();
            let (out, err) = (String::from_utf8_lossy(&state.stdout), String::from_utf8_lossy(&state.stderr));
            bail!("{}: not finished within {} s\n{out}\n{err}", self.shown, limit.as_secs());
        };
        let mut state = self.progress.lock();
        let (stdout, stderr) = (std::mem::take(&mut state.stdout), std::mem::take(&mut state.stderr));
        match end {
            Ok(status) => Ok(Output { command: self.shown.clone(), status, stdout, stderr }),
            Err(why) => bail!("{}: {why}", self.shown),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.has_ended() {
            // A guest that is gone has ended it already.
            let _ = self.signal(9);
        }
        self.channel.forget(self.id);
    }
}
