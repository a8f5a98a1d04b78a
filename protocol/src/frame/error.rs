//! What can be wrong with a frame, and what to tell the peer about it.

use crate::status::Status;

use super::header::{Kind, VERSION};

/// The stream is broken. Nothing after it can be trusted to be a frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The stream ended inside a frame.
    #[error("stream ended inside a frame: {have} of at least {want} bytes")]
    Truncated {
        /// Bytes of the frame that arrived.
        have: usize,
        /// Bytes it takes, as far as known.
        want: usize,
    },
    /// The peer does not speak this protocol.
    #[error("stream does not begin with a frame (magic {got:#010x}); the peer speaks another protocol")]
    BadMagic {
        /// What stood there.
        got: u32,
    },
    /// The peer speaks another version.
    #[error("peer speaks version {got}, we speak {VERSION}; upgrade the older side")]
    UnknownVersion {
        /// The peer's version.
        got: u16,
    },
    /// The header's checksum does not match.
    #[error("header checksum is {got:#010x}, computed {want:#010x}")]
    BadChecksum {
        /// As sent.
        got: u32,
        /// As computed.
        want: u32,
    },
    /// A kind that this version does not have.
    #[error("unknown frame kind {got}")]
    UnknownKind {
        /// The number sent.
        got: u8,
    },
    /// A kind that the peer's side never sends, or not now.
    #[error("a peer in this state does not send {kind:?} frames")]
    UnexpectedKind {
        /// The kind sent.
        kind: Kind,
    },
    /// A status that this version does not have.
    #[error("unknown status {got}")]
    UnknownStatus {
        /// The number sent.
        got: u16,
    },
    /// Reserved bytes are not zero.
    #[error("reserved header bytes are not zero")]
    ReservedNotZero,
    /// The body is over the limit.
    #[error("body of {len} bytes is over the limit of {limit}")]
    BodyTooLarge {
        /// As announced.
        len: usize,
        /// The limit in force.
        limit: usize,
    },
    /// The payload is over the limit.
    #[error("payload of {len} bytes is over the limit of {limit}")]
    PayloadTooLarge {
        /// As announced.
        len: usize,
        /// The limit in force.
        limit: usize,
    },
    /// The decoder already reported an error.
    #[error("stream was already given up")]
    Poisoned,
}

impl FrameError {
    /// Whether further frames may be read from the stream. Never: the next boundary is unknown.
    #[must_use]
    pub const fn can_continue(&self) -> bool {
        false
    }

    /// What to tell the peer in a last frame before closing; `None` when nobody would understand it.
    #[must_use]
    pub const fn tell_peer(&self) -> Option<Status> {
        match self {
            FrameError::Truncated { .. } | FrameError::BadMagic { .. } | FrameError::Poisoned => None,
            FrameError::UnknownVersion { .. } => Some(Status::VersionMismatch),
            FrameError::BodyTooLarge { .. } | FrameError::PayloadTooLarge { .. } => {
                Some(Status::ArgumentTooLarge)
            }
            FrameError::BadChecksum { .. }
            | FrameError::UnknownKind { .. }
            | FrameError::UnexpectedKind { .. }
            | FrameError::UnknownStatus { .. }
            | FrameError::ReservedNotZero => Some(Status::Malformed),
        }
    }
}

/// A frame's body is not the message expected. The stream goes on; the request is answered with
/// [`BodyError::STATUS`].
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The bytes are no such message.
    #[error("body is not a {message}")]
    Decode {
        /// The message type expected.
        message: &'static str,
        /// Why.
        #[source]
        source: postcard::Error,
    },
    /// Bytes follow the message.
    #[error("{extra} bytes follow the {message}")]
    TrailingBytes {
        /// The message type expected.
        message: &'static str,
        /// How many.
        extra: usize,
    },
}

impl BodyError {
    /// What the sender of the frame is told.
    pub const STATUS: Status = Status::Malformed;
}

/// A frame cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// The message serialises to more than a frame may carry.
    #[error("body of {len} bytes is over the limit of {limit}; send it in parts")]
    BodyTooLarge {
        /// Bytes it takes.
        len: usize,
        /// The limit.
        limit: usize,
    },
    /// The payload is larger than a frame may carry.
    #[error("payload of {len} bytes is over the limit of {limit}; send it in parts")]
    PayloadTooLarge {
        /// Bytes it has.
        len: usize,
        /// The limit.
        limit: usize,
    },
    /// The message has a type that cannot be serialised.
    #[error("body cannot be serialised")]
    Serialize(#[source] postcard::Error),
}

/// Reading the next frame failed.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The stream failed.
    #[error("reading a frame failed")]
    Io(#[from] std::io::Error),
    /// The stream carries something else than frames.
    #[error("the stream is broken")]
    Frame(#[from] FrameError),
}
