//! How the harness runs commands in a guest: frames over one virtio-serial port.
//!
//! The port has nothing to do with the channel under test, so commands still run when vsock, gateway or agent are
//! killed. Several commands share it: each frame names its command. The host may send at most [`WINDOW`] bytes of
//! standard input ahead of what a command has taken, so that one that does not read stalls no other; output
//! needs no window, because the harness always reads.
//!
//! ```text
//! magic "MGX1" | command u32 | kind u8 | length u32 | payload            all numbers little-endian
//! ```

#![forbid(unsafe_code)]

use std::io::{self, Read};

/// First bytes of every frame: a torn stream is noticed at once.
pub const MAGIC: [u8; 4] = *b"MGX1";
/// Bytes before the payload.
pub const HEADER: usize = 13;
/// Longest payload of a frame.
pub const MAX_PAYLOAD: usize = 64 << 10;
/// Bytes of standard input that may be on their way to one command.
pub const WINDOW: usize = 256 << 10;

/// What a frame means. Its payload is in parentheses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Guest: the server is up.
    Hello = 1,
    /// Host: run this (a [`Start`]).
    Start = 2,
    /// Host: standard input (bytes).
    Stdin = 3,
    /// Host: end of standard input.
    StdinEnd = 4,
    /// Host: send this signal to the command and its children (i32).
    Signal = 5,
    /// Guest: it runs (process id, u32).
    Started = 6,
    /// Guest: it could not be started (reason, text).
    NotStarted = 7,
    /// Guest: standard output (bytes).
    Stdout = 8,
    /// Guest: standard error (bytes).
    Stderr = 9,
    /// Guest: so much standard input was taken (u32).
    StdinTaken = 10,
    /// Guest: it ended (exit code, or minus the signal that ended it, i32).
    Exit = 11,
}

impl Kind {
    const ALL: [Kind; 11] = [
        Kind::Hello,
        Kind::Start,
        Kind::Stdin,
        Kind::StdinEnd,
        Kind::Signal,
        Kind::Started,
        Kind::NotStarted,
        Kind::Stdout,
        Kind::Stderr,
        Kind::StdinTaken,
        Kind::Exit,
    ];

    fn from_byte(byte: u8) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The command it belongs to; the host chooses.
    pub command: u32,
    /// What it means.
    pub kind: Kind,
    /// At most [`MAX_PAYLOAD`] bytes.
    pub payload: Vec<u8>,
}

/// A checked header: what follows, and how long it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The command the frame belongs to.
    pub command: u32,
    /// What it means.
    pub kind: Kind,
    /// Bytes of payload.
    pub length: usize,
}

fn broken(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn number(bytes: &[u8]) -> u32 {
    bytes.try_into().map_or(0, u32::from_le_bytes)
}

impl Header {
    /// Reads the fixed part of a frame.
    pub fn parse(bytes: &[u8; HEADER]) -> io::Result<Header> {
        let (magic, rest) = bytes.split_at(4);
        let (command, rest) = rest.split_at(4);
        let (kind, length) = rest.split_at(1);
        if magic != MAGIC {
            return Err(broken("the stream does not hold a frame here"));
        }
        let kind =
            kind.first().copied().and_then(Kind::from_byte).ok_or_else(|| broken("unknown kind of frame"))?;
        let length = usize::try_from(number(length)).unwrap_or(usize::MAX);
        if length > MAX_PAYLOAD {
            return Err(broken("frame longer than allowed"));
        }
        Ok(Header { command: number(command), kind, length })
    }
}

impl Frame {
    /// A frame with a payload.
    pub fn new(command: u32, kind: Kind, payload: impl Into<Vec<u8>>) -> Frame {
        Frame { command, kind, payload: payload.into() }
    }

    /// The bytes to send.
    pub fn encode(&self) -> Vec<u8> {
        let length = u32::try_from(self.payload.len()).unwrap_or(u32::MAX);
        let mut bytes = Vec::with_capacity(HEADER + self.payload.len());
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&self.command.to_le_bytes());
        bytes.push(self.kind as u8);
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&self.payload);
        bytes
    }

    /// Reads one frame; nothing when the other side has gone away between frames.
    pub fn read(from: &mut impl Read) -> io::Result<Option<Frame>> {
        let mut header = [0; HEADER];
        match from.read(&mut header[..1])? {
            0 => return Ok(None),
            _ => from.read_exact(&mut header[1..])?,
        }
        let header = Header::parse(&header)?;
        let mut payload = vec![0; header.length];
        from.read_exact(&mut payload)?;
        Ok(Some(Frame { command: header.command, kind: header.kind, payload }))
    }

    /// The payload as the 32-bit number that kinds like [`Kind::Exit`] carry.
    pub fn number(&self) -> i32 {
        self.payload.as_slice().try_into().map_or(0, i32::from_le_bytes)
    }
}

/// What to run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Start {
    /// Working folder; the server's own when empty.
    pub folder: Vec<u8>,
    /// Variables on top of the server's: `NAME=value`.
    pub env: Vec<Vec<u8>>,
    /// Program and arguments.
    pub argv: Vec<Vec<u8>>,
}

impl Start {
    /// As payload: each string with its length before it; an empty one ends the variables.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let end = Vec::new();
        for word in
            std::iter::once(&self.folder).chain(&self.env).chain(std::iter::once(&end)).chain(&self.argv)
        {
            bytes.extend_from_slice(&u32::try_from(word.len()).unwrap_or(u32::MAX).to_le_bytes());
            bytes.extend_from_slice(word);
        }
        bytes
    }

    /// Reads a payload.
    pub fn decode(mut bytes: &[u8]) -> io::Result<Start> {
        let mut words = Vec::new();
        while !bytes.is_empty() {
            let (length, rest) = bytes.split_at_checked(4).ok_or_else(|| broken("torn start"))?;
            let length = usize::try_from(number(length)).unwrap_or(usize::MAX);
            let (word, rest) = rest.split_at_checked(length).ok_or_else(|| broken("torn start"))?;
            words.push(word.to_vec());
            bytes = rest;
        }
        let mut words = words.into_iter();
        let folder = words.next().ok_or_else(|| broken("empty start"))?;
        let env = words.by_ref().take_while(|word| !word.is_empty()).collect();
        let argv: Vec<_> = words.collect();
        if argv.is_empty() {
            return Err(broken("a start without a program"));
        }
        Ok(Start { folder, env, argv })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn a_frame_reads_back_as_sent() {
        for kind in Kind::ALL {
            let frame = Frame::new(7, kind, vec![0, 255, 10]);
            let bytes = frame.encode();
            assert_eq!(bytes.len(), HEADER + 3);
            assert_eq!(Frame::read(&mut bytes.as_slice()).unwrap(), Some(frame));
        }
        assert_eq!(Frame::read(&mut [].as_slice()).unwrap(), None);
    }

    #[test]
    fn a_torn_or_foreign_stream_is_an_error() {
        let bytes = Frame::new(7, Kind::Stdout, vec![1; 10]).encode();
        for length in 1..bytes.len() {
            assert!(Frame::read(&mut &bytes[..length]).is_err(), "cut at {length}");
        }
        let mut long = bytes.clone();
        long[9..13].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(Frame::read(&mut long.as_slice()).is_err());
        let mut foreign = bytes;
        foreign[0] = b'X';
        assert!(Frame::read(&mut foreign.as_slice()).is_err());
    }

    #[test]
    fn a_start_keeps_every_byte() {
        let start = Start {
            folder: b"/tmp".to_vec(),
            env: vec![b"A=\xff".to_vec()],
            argv: vec![b"sh".to_vec(), b"-c".to_vec(), Vec::new()],
        };
        assert_eq!(Start::decode(&start.encode()).unwrap(), start);
        assert!(Start::decode(&[1, 0, 0, 0]).is_err());
        assert!(Start::decode(&Start::default().encode()).is_err(), "no program");
    }
}
