//! The command server: reads frames from its port, runs what they ask for, sends back what comes out.
//!
//! One thread reads the port. Each command has four more: one feeds its standard input, two carry its output, one
//! waits for its end. When the host goes away the server ends, and init starts a new one.

#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitCode, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use mooring_guest_exec::{Frame, Kind, MAX_PAYLOAD, Start};
use rustix::process::{Pid, Signal, kill_process_group};

/// How long output may go on coming after a command has ended, while something it started holds the pipes open.
const AFTERMATH: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    let Some(path) = std::env::args_os().nth(1) else {
        eprintln!("usage: mooring-guest-exec PORT");
        return ExitCode::FAILURE;
    };
    match serve(&PathBuf::from(path)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mooring-guest-exec: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A command that runs: where its input goes, and whom signals reach. The input's end is the sender's.
struct Running {
    stdin: Option<Sender<Vec<u8>>>,
    pid: u32,
}

/// The way back to the host, shared by all threads; one frame at a time.
#[derive(Clone)]
struct Port(Arc<Mutex<File>>);

impl Port {
    fn send(&self, command: u32, kind: Kind, payload: impl Into<Vec<u8>>) {
        let bytes = Frame::new(command, kind, payload).encode();
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A host that has gone away is noticed by the reader.
        let _ = file.write_all(&bytes);
    }
}

type Table = Arc<Mutex<HashMap<u32, Running>>>;

fn serve(path: &std::path::Path) -> io::Result<()> {
    let mut reader = File::options().read(true).write(true).open(path)?;
    let port = Port(Arc::new(Mutex::new(reader.try_clone()?)));
    let table = Table::default();
    port.send(0, Kind::Hello, []);
    while let Some(frame) = Frame::read(&mut reader)? {
        let mut running = table.lock().unwrap_or_else(PoisonError::into_inner);
        match frame.kind {
            Kind::Start => match start(&frame, &port, &table) {
                Ok(command) => {
                    port.send(frame.command, Kind::Started, command.pid.to_le_bytes());
                    running.insert(frame.command, command);
                }
                Err(error) => port.send(frame.command, Kind::NotStarted, error.to_string()),
            },
            Kind::Stdin => match running.get(&frame.command).and_then(|command| command.stdin.as_ref()) {
                Some(stdin) => drop(stdin.send(frame.payload)),
                None => taken(&port, frame.command, frame.payload.len()),
            },
            Kind::StdinEnd => {
                if let Some(command) = running.get_mut(&frame.command) {
                    command.stdin = None;
                }
            }
            Kind::Signal => {
                if let Some(command) = running.get(&frame.command) {
                    signal(command.pid, frame.number());
                }
            }
            _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame only the guest sends")),
        }
    }
    Ok(())
}

/// Starts a command as leader of a process group, so that a signal reaches all it has started.
fn start(frame: &Frame, port: &Port, table: &Table) -> io::Result<Running> {
    let start = Start::decode(&frame.payload)?;
    let mut words = start.argv.into_iter().map(OsString::from_vec);
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words).process_group(0);
    command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", "/root");
    for variable in start.env {
        if let Some(at) = variable.iter().position(|byte| *byte == b'=') {
            let (name, value) = variable.split_at(at);
            command.env(OsString::from_vec(name.to_vec()), OsString::from_vec(value[1..].to_vec()));
        }
    }
    let folder = if start.folder.is_empty() { b"/root".to_vec() } else { start.folder };
    command.current_dir(PathBuf::from(OsString::from_vec(folder)));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;

    let (id, pid) = (frame.command, child.id());
    let (to_stdin, input) = channel();
    if let Some(pipe) = child.stdin.take() {
        let port = port.clone();
        thread::spawn(move || feed(pipe, &input, &port, id));
    }
    let (at_end, ended) = channel();
    carry(child.stdout.take(), Kind::Stdout, port, id, &at_end);
    carry(child.stderr.take(), Kind::Stderr, port, id, &at_end);
    let (port, table) = (port.clone(), Arc::clone(table));
    thread::spawn(move || {
        let code = wait(&mut child, &ended);
        table.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        port.send(id, Kind::Exit, code.to_le_bytes());
    });
    Ok(Running { stdin: Some(to_stdin), pid })
}

/// Feeds standard input. What a command that has stopped reading does not take counts as taken, so that the host
/// comes to its end.
fn feed(mut pipe: ChildStdin, input: &Receiver<Vec<u8>>, port: &Port, id: u32) {
    let mut open = true;
    for bytes in input {
        open = open && pipe.write_all(&bytes).is_ok();
        taken(port, id, bytes.len());
    }
}

fn taken(port: &Port, id: u32, count: usize) {
    port.send(id, Kind::StdinTaken, u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes());
}

/// Carries one stream of output to the host; says on `at_end` when it is over.
fn carry(pipe: Option<impl Read + Send + 'static>, kind: Kind, port: &Port, id: u32, at_end: &Sender<()>) {
    let (port, at_end) = (port.clone(), at_end.clone());
    let Some(mut pipe) = pipe else { return };
    thread::spawn(move || {
        let mut buffer = vec![0; MAX_PAYLOAD];
        while let Ok(count @ 1..) = pipe.read(&mut buffer) {
            port.send(id, kind, &buffer[..count]);
        }
        // The waiter may have given up already.
        let _ = at_end.send(());
    });
}

/// Waits for a command and for its output; the latter within bounds, since a child it left behind may hold the
/// pipes for ever.
fn wait(child: &mut Child, ended: &Receiver<()>) -> i32 {
    let status = child.wait();
    for _stream in 0..2 {
        if ended.recv_timeout(AFTERMATH).is_err() {
            break;
        }
    }
    status.map_or(i32::MIN, |status| {
        status.code().or(status.signal().map(|signal| -signal)).unwrap_or(i32::MIN)
    })
}

fn signal(pid: u32, number: i32) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    if let (Some(pid), Some(signal)) = (pid, Signal::from_named_raw(number)) {
        // It may have ended in this moment.
        let _ = kill_process_group(pid, signal);
    }
}
