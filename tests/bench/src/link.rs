//! The limit of any remote filesystem: the same channel with nothing but bytes on it.
//!
//! One end ([`serve`]) listens on a unix socket, where a guest's vsock arrives too. The other ([`run`]) asks it to take
//! bytes, to give bytes, or to answer. A request is one byte that says which and eight that say how much; the size of
//! pieces is what the agent and the gateway use.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use vsock::{VMADDR_CID_HOST, VsockStream};

use crate::files::noise;
use crate::measure::{Measure, Sheet, latency, mib_per_second};

/// Bytes of one write.
const PIECE: usize = 1 << 20;
/// Bytes of a small request and of its answer: a header and a name.
const SMALL: usize = 128;

const TAKE: u8 = b't';
const GIVE: u8 = b'g';
const ANSWER: u8 = b'a';

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// Serves at `socket` until it is killed.
pub fn serve(socket: &Path) -> Result<()> {
    let listener =
        UnixListener::bind(socket).with_context(|| format!("cannot listen on {}", socket.display()))?;
    for stream in listener.incoming() {
        let mut stream = stream?;
        // A connection that breaks ends itself, not the server.
        if let Err(error) = answer(&mut stream) {
            eprintln!("a connection ended: {error:#}");
        }
    }
    Ok(())
}

fn answer(stream: &mut UnixStream) -> Result<()> {
    let mut piece = noise(PIECE);
    loop {
        let mut head = [0; 9];
        match stream.read(&mut head[..1])? {
            0 => return Ok(()),
            _ => stream.read_exact(&mut head[1..])?,
        }
        let [op, amount @ ..] = head;
        let mut left = u64::from_le_bytes(amount);
        match op {
            TAKE => {
                while left > 0 {
                    let n = stream.read(bounded(&mut piece, left))?;
                    ensure!(n > 0, "{left} bytes did not come");
                    left -= n as u64;
                }
                stream.write_all(&[op])?;
            }
            GIVE => {
                while left > 0 {
                    let part = bounded(&mut piece, left);
                    stream.write_all(part)?;
                    left -= part.len() as u64;
                }
            }
            ANSWER => {
                for _ in 0..left {
                    let part = bounded(&mut piece, SMALL as u64);
                    stream.read_exact(part)?;
                    stream.write_all(part)?;
                }
            }
            _ => bail!("unknown request {op}"),
        }
    }
}

fn bounded(piece: &mut [u8], left: u64) -> &mut [u8] {
    let len = usize::try_from(left).unwrap_or(usize::MAX).min(piece.len());
    piece.split_at_mut(len).0
}

/// Measures the channel at `address`, `unix:PATH` or `vsock:PORT`. Rows have the names of the file workloads they are the
/// limit of.
pub fn run(address: &str, bytes: u64, round_trips: usize, sheet: &mut Sheet) -> Result<()> {
    let mut stream: Box<dyn Stream> = match address.split_once(':') {
        Some(("unix", path)) => {
            Box::new(UnixStream::connect(path).with_context(|| format!("cannot connect to {path}"))?)
        }
        Some(("vsock", port)) => {
            let port = port.parse().with_context(|| format!("`{port}` is not a port"))?;
            let connected = VsockStream::connect_with_cid_port(VMADDR_CID_HOST, port);
            Box::new(connected.with_context(|| format!("cannot connect to the host's port {port}"))?)
        }
        _ => bail!("`{address}` is neither unix:PATH nor vsock:PORT"),
    };
    sheet.take("seq write and fsync", || send(&mut stream, bytes))?;
    sheet.take("seq read, cold", || receive(&mut stream, bytes))?;
    sheet.take("one request and its answer, p50", || ask(&mut stream, round_trips))
}

fn request(stream: &mut dyn Stream, op: u8, amount: u64) -> Result<()> {
    let mut head = [op; 9];
    head[1..].copy_from_slice(&amount.to_le_bytes());
    Ok(stream.write_all(&head)?)
}

fn send(stream: &mut dyn Stream, bytes: u64) -> Result<Measure> {
    let mut piece = noise(PIECE);
    let start = Instant::now();
    request(stream, TAKE, bytes)?;
    let mut left = bytes;
    while left > 0 {
        let part = bounded(&mut piece, left);
        stream.write_all(part)?;
        left -= part.len() as u64;
    }
    stream.read_exact(&mut [0])?;
    Ok(mib_per_second(bytes, start.elapsed()))
}

fn receive(stream: &mut dyn Stream, bytes: u64) -> Result<Measure> {
    let mut piece = vec![0; PIECE];
    let start = Instant::now();
    request(stream, GIVE, bytes)?;
    let mut left = bytes;
    while left > 0 {
        let n = stream.read(bounded(&mut piece, left))?;
        ensure!(n > 0, "{left} bytes did not come");
        left -= n as u64;
    }
    Ok(mib_per_second(bytes, start.elapsed()))
}

fn ask(stream: &mut dyn Stream, count: usize) -> Result<Measure> {
    let mut took = Vec::with_capacity(count);
    request(stream, ANSWER, count as u64)?;
    let mut message = [0; SMALL];
    for _ in 0..count {
        let start = Instant::now();
        stream.write_all(&message)?;
        stream.read_exact(&mut message)?;
        took.push(start.elapsed());
    }
    Ok(latency(&mut took, 0.5))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_is_answered() -> Result<()> {
        let (mut ours, mut theirs) = UnixStream::pair()?;
        let server = std::thread::spawn(move || answer(&mut theirs));
        assert_eq!(send(&mut ours, 3 << 20)?.over, 3 << 20);
        assert_eq!(receive(&mut ours, (1 << 20) + 5)?.over, (1 << 20) + 5);
        assert_eq!(ask(&mut ours, 10)?.over, 10);
        drop(ours);
        assert!(server.join().is_ok_and(|ended| ended.is_ok()));
        Ok(())
    }
}
