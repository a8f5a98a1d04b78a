//! The header's fields and their fixed place.

use crate::status::Status;

use super::error::FrameError;

/// First four bytes of every frame, read as little-endian.
pub const MAGIC: u32 = u32::from_le_bytes(*b"MRNG");

/// The version this build speaks. 1: the first.
pub const VERSION: u16 = 1;

/// Bytes of a header.
pub const HEADER_LEN: usize = 104;

/// Bytes after which magic and version can be judged.
pub(super) const PREFIX_LEN: usize = 6;

const CRC_AT: usize = 100;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Agent to gateway: who I am, which session I continue. The first frame of a connection.
    Hello = 1,
    /// Gateway to agent: the answer to it.
    Welcome = 2,
    /// Agent to gateway, or gateway to a volume's home: an operation.
    Request = 3,
    /// The answer to a request.
    Reply = 4,
    /// Gateway to agent, unasked: recall, barrier, revoked, goodbye.
    Notice = 5,
    /// Agent to gateway: a notice has been carried out.
    Ack = 6,
    /// Agent to gateway: the caller of this request no longer waits.
    Cancel = 7,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 7] =
        [Kind::Hello, Kind::Welcome, Kind::Request, Kind::Reply, Kind::Notice, Kind::Ack, Kind::Cancel];

    fn from_wire(got: u8) -> Result<Kind, FrameError> {
        Kind::ALL.into_iter().find(|k| *k as u8 == got).ok_or(FrameError::UnknownKind { got })
    }
}

/// How far a session's batches have come: each number is the highest batch sequence up to which
/// everything has reached that place. `stored <= journalled <= received` from an honest gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, serde::Serialize, serde::Deserialize)]
pub struct Watermarks {
    /// In the gateway's memory: survives the agent.
    pub received: u64,
    /// In the gateway's local journal: survives the gateway's process and host power loss.
    pub journalled: u64,
    /// In the volume's store: survives the loss of the host.
    pub stored: u64,
}

/// A frame's header without the lengths, which follow from body and payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What the frame is.
    pub kind: Kind,
    /// What the body asks, for metrics and tracing only.
    pub op: u16,
    /// Outcome, on replies.
    pub status: Status,
    /// How long the requester waits, in milliseconds; zero = no limit of its own.
    pub deadline_ms: u32,
    /// The volume spoken about; zero = the connection itself.
    pub volume: u64,
    /// Incarnation of the session.
    pub epoch: u64,
    /// Ties replies, acknowledgements and cancels to what they answer.
    pub request: u64,
    /// Forwarding gateway; zero = none.
    pub origin: u64,
    /// Interned principal, set by a forwarding gateway; ignored from guests.
    pub principal: u64,
    /// Trace id.
    pub trace: u64,
    /// How far the session's batches have come, on replies.
    pub watermarks: Watermarks,
}

impl Header {
    /// A header of this kind with everything else zero.
    #[must_use]
    pub const fn new(kind: Kind) -> Header {
        Header {
            kind,
            op: 0,
            status: Status::Ok,
            deadline_ms: 0,
            volume: 0,
            epoch: 0,
            request: 0,
            origin: 0,
            principal: 0,
            trace: 0,
            watermarks: Watermarks { received: 0, journalled: 0, stored: 0 },
        }
    }

    /// The header of the reply to this request.
    #[must_use]
    pub const fn reply(&self, status: Status, watermarks: Watermarks) -> Header {
        Header { kind: Kind::Reply, status, watermarks, deadline_ms: 0, ..*self }
    }

    /// The bytes on the wire.
    #[must_use]
    pub fn to_bytes(&self, body_len: u32, payload_len: u32) -> [u8; HEADER_LEN] {
        let mut raw = [0; HEADER_LEN];
        let mut at = 0;
        let mut put = |bytes: &[u8]| {
            raw[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
        };
        put(&MAGIC.to_le_bytes());
        put(&VERSION.to_le_bytes());
        put(&[self.kind as u8, 0]);
        put(&self.op.to_le_bytes());
        put(&self.status.to_wire().to_le_bytes());
        put(&self.deadline_ms.to_le_bytes());
        for word in [self.volume, self.epoch, self.request, self.origin, self.principal, self.trace] {
            put(&word.to_le_bytes());
        }
        put(&body_len.to_le_bytes());
        put(&payload_len.to_le_bytes());
        for word in [self.watermarks.received, self.watermarks.journalled, self.watermarks.stored] {
            put(&word.to_le_bytes());
        }
        put(&[0; 4]);
        let crc = crc32c::crc32c(&raw[..CRC_AT]);
        raw[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        raw
    }

    /// Reads a header; returns it with the lengths of body and payload, neither checked yet.
    pub(super) fn from_bytes(raw: &[u8; HEADER_LEN]) -> Result<(Header, u32, u32), FrameError> {
        check_prefix(raw)?;
        let want = crc32c::crc32c(&raw[..CRC_AT]);
        let got = u32_at(raw, CRC_AT);
        if got != want {
            return Err(FrameError::BadChecksum { got, want });
        }
        if raw[7] != 0 || u32_at(raw, 96) != 0 {
            return Err(FrameError::ReservedNotZero);
        }
        let status = u16_at(raw, 10);
        let header = Header {
            kind: Kind::from_wire(raw[6])?,
            op: u16_at(raw, 8),
            status: Status::from_wire(status).ok_or(FrameError::UnknownStatus { got: status })?,
            deadline_ms: u32_at(raw, 12),
            volume: u64_at(raw, 16),
            epoch: u64_at(raw, 24),
            request: u64_at(raw, 32),
            origin: u64_at(raw, 40),
            principal: u64_at(raw, 48),
            trace: u64_at(raw, 56),
            watermarks: Watermarks {
                received: u64_at(raw, 72),
                journalled: u64_at(raw, 80),
                stored: u64_at(raw, 88),
            },
        };
        Ok((header, u32_at(raw, 64), u32_at(raw, 68)))
    }
}

/// Judges magic and version, as soon as [`PREFIX_LEN`] bytes are there: a peer that speaks something
/// else is told so before it has sent a whole header.
pub(super) fn check_prefix(raw: &[u8]) -> Result<(), FrameError> {
    if raw.len() < PREFIX_LEN {
        return Ok(());
    }
    let magic = u32_at(raw, 0);
    if magic != MAGIC {
        return Err(FrameError::BadMagic { got: magic });
    }
    match u16_at(raw, 4) {
        VERSION => Ok(()),
        got => Err(FrameError::UnknownVersion { got }),
    }
}

fn array_at<const N: usize>(raw: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&raw[at..at + N]);
    out
}

fn u16_at(raw: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array_at(raw, at))
}

fn u32_at(raw: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array_at(raw, at))
}

fn u64_at(raw: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array_at(raw, at))
}
