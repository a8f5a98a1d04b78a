//! The harness's end of a guest's command port: one task writes, one reads and hands each frame to its command.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use mooring_guest_exec::{Frame, HEADER, Header, Kind, Start};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;

use super::command::{Progress, Running};

/// How long a guest may take to start a program.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Frames waiting for the port; a full queue makes their senders wait.
const QUEUE: usize = 64;

/// All that clones share.
#[derive(Debug)]
struct Shared {
    commands: Mutex<HashMap<u32, Arc<Progress>>>,
    next: AtomicU32,
    up: AtomicBool,
    /// Why nothing can run any more, once that is so.
    closed: OnceLock<String>,
}

/// A multiplexed port.
#[derive(Debug, Clone)]
pub struct Channel {
    shared: Arc<Shared>,
    to_port: mpsc::Sender<Frame>,
}

impl Channel {
    /// Starts both tasks on `port`.
    pub fn on(port: UnixStream) -> Channel {
        let (reader, writer) = port.into_split();
        let (to_port, frames) = mpsc::channel(QUEUE);
        let shared = Arc::new(Shared {
            commands: Mutex::default(),
            next: AtomicU32::new(1),
            up: AtomicBool::new(false),
            closed: OnceLock::new(),
        });
        // Both end by themselves: the reader with the port, the writer with the last channel.
        tokio::spawn(read(reader, Arc::clone(&shared)));
        tokio::spawn(write(writer, frames));
        Channel { shared, to_port }
    }

    /// Whether the other side has said hello and has not gone away since.
    pub fn is_up(&self) -> bool {
        self.shared.up.load(Ordering::Acquire)
    }

    /// Starts a command and waits until it runs.
    pub async fn start(&self, start: &Start, shown: &str) -> Result<Running> {
        let id = self.shared.next.fetch_add(1, Ordering::Relaxed);
        let progress = Arc::new(Progress::default());
        self.shared.lock().insert(id, Arc::clone(&progress));
        // After inserting: a port that closes from now on fails what is in the table.
        if let Some(why) = self.shared.closed.get() {
            bail!("{shown}: {why}");
        }
        let running = Running::new(id, shown.to_owned(), progress, self.clone());
        self.send(Frame::new(id, Kind::Start, start.encode())).await?;
        running.started(START_LIMIT).await?;
        Ok(running)
    }

    /// Queues a frame, waiting while the port is busy.
    pub async fn send(&self, frame: Frame) -> Result<()> {
        self.to_port.send(frame).await.ok().context("the guest's command port is closed")
    }

    /// Queues a frame from where waiting is not possible.
    pub fn send_now(&self, frame: Frame) -> Result<()> {
        match self.to_port.try_send(frame) {
            Ok(()) => Ok(()),
            Err(error) => bail!("the guest's command port: {error}"),
        }
    }

    /// Forgets a command; what still comes from it is dropped.
    pub fn forget(&self, id: u32) {
        self.shared.lock().remove(&id);
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u32, Arc<Progress>>> {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends every command that is still waited for.
    fn fail_all(&self, why: &str) {
        for (_, progress) in self.lock().drain() {
            progress.fail(why);
        }
    }

    fn take(&self, frame: Frame) {
        if frame.kind == Kind::Hello {
            // The second hello of a server means that the first server died, and its commands with it.
            if self.up.swap(true, Ordering::AcqRel) {
                self.fail_all("the guest's command server was started anew");
            }
            return;
        }
        let progress = self.lock().get(&frame.command).cloned();
        if let Some(progress) = progress {
            progress.take(frame);
        }
    }
}

async fn write(mut writer: OwnedWriteHalf, mut frames: mpsc::Receiver<Frame>) {
    while let Some(frame) = frames.recv().await {
        // The reader notices and reports a port that is gone.
        if writer.write_all(&frame.encode()).await.is_err() {
            return;
        }
    }
}

async fn read(mut reader: OwnedReadHalf, shared: Arc<Shared>) {
    let end = loop {
        match read_frame(&mut reader).await {
            Ok(frame) => shared.take(frame),
            Err(error) => break error,
        }
    };
    shared.up.store(false, Ordering::Release);
    let why = format!("the guest's command port closed: {end}");
    shared.fail_all(shared.closed.get_or_init(|| why));
}

async fn read_frame(reader: &mut OwnedReadHalf) -> std::io::Result<Frame> {
    let mut header = [0; HEADER];
    reader.read_exact(&mut header).await?;
    let header = Header::parse(&header)?;
    let mut payload = vec![0; header.length];
    reader.read_exact(&mut payload).await?;
    Ok(Frame { command: header.command, kind: header.kind, payload })
}
