//! From bytes to frames, whatever pieces they arrive in. No I/O here.

use bytes::buf::Limit;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::de::DeserializeOwned;

use crate::caps;

use super::error::{BodyError, FrameError};
use super::header::{HEADER_LEN, Header, Kind, check_prefix};

/// One whole frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Who, what, where.
    pub header: Header,
    /// The serialised message.
    pub body: Bytes,
    /// Raw bytes, in a buffer of exactly their size.
    pub payload: Bytes,
}

impl Frame {
    /// The message in the body.
    ///
    /// # Errors
    /// When the body is not exactly one such message. The stream can go on.
    pub fn message<T: DeserializeOwned>(&self) -> Result<T, BodyError> {
        let message = std::any::type_name::<T>().rsplit("::").next().unwrap_or("message");
        match postcard::take_from_bytes::<T>(&self.body) {
            Ok((value, [])) => Ok(value),
            Ok((_, rest)) => Err(BodyError::TrailingBytes { message, extra: rest.len() }),
            Err(source) => Err(BodyError::Decode { message, source }),
        }
    }
}

/// Which side reads: it decides what kinds the peer may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// A gateway reads what agents (and forwarding gateways) send.
    Gateway,
    /// An agent reads what its gateway sends.
    Agent,
}

impl Side {
    const fn accepts(self, kind: Kind) -> bool {
        match self {
            Side::Gateway => matches!(kind, Kind::Hello | Kind::Request | Kind::Ack | Kind::Cancel),
            Side::Agent => matches!(kind, Kind::Welcome | Kind::Reply | Kind::Notice),
        }
    }
}

/// Takes frames out of a growing buffer.
///
/// A fresh decoder accepts one greeting ([`Kind::Hello`] or [`Kind::Welcome`], or a goodbye notice in
/// the latter's place) of at most [`caps::MAX_HELLO_BODY`]; after [`Decoder::open`] everything else.
#[derive(Debug)]
pub struct Decoder {
    side: Side,
    open: bool,
    state: State,
}

#[derive(Debug)]
enum State {
    Header,
    Body { header: Header, body_len: usize, payload_len: usize },
    Payload { header: Header, body: Bytes, payload: BytesMut, payload_len: usize },
    Failed,
}

impl Decoder {
    /// A decoder for a new connection.
    #[must_use]
    pub const fn new(side: Side) -> Decoder {
        Decoder { side, open: false, state: State::Header }
    }

    /// The greeting was accepted: from now on frames of any kind and size within the limits.
    pub fn open(&mut self) {
        self.open = true;
    }

    /// Takes the next frame out of `src`, or says that more bytes are needed.
    ///
    /// # Errors
    /// The stream is broken; every later call answers [`FrameError::Poisoned`].
    pub fn decode(&mut self, src: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
        loop {
            match std::mem::replace(&mut self.state, State::Failed) {
                State::Header => {
                    check_prefix(src)?;
                    let Some(raw) = src.first_chunk::<HEADER_LEN>() else {
                        self.state = State::Header;
                        return Ok(None);
                    };
                    self.state = self.begin(raw)?;
                    src.advance(HEADER_LEN);
                }
                State::Body { header, body_len, payload_len } => {
                    if src.len() < body_len {
                        self.state = State::Body { header, body_len, payload_len };
                        return Ok(None);
                    }
                    let body = src.split_to(body_len).freeze();
                    let payload = BytesMut::with_capacity(payload_len);
                    self.state = State::Payload { header, body, payload, payload_len };
                }
                State::Payload { header, body, mut payload, payload_len } => {
                    let here = src.len().min(payload_len - payload.len());
                    payload.extend_from_slice(&src[..here]);
                    src.advance(here);
                    if payload.len() < payload_len {
                        self.state = State::Payload { header, body, payload, payload_len };
                        return Ok(None);
                    }
                    self.state = State::Header;
                    return Ok(Some(Frame { header, body, payload: payload.freeze() }));
                }
                State::Failed => return Err(FrameError::Poisoned),
            }
        }
    }

    /// Where the rest of a payload may be read to directly, so that it is not copied. Feed the decoder
    /// through this when it is there, and through the buffer given to [`Decoder::decode`] otherwise.
    pub fn payload_room(&mut self) -> Option<Limit<&mut BytesMut>> {
        match &mut self.state {
            State::Payload { payload, payload_len, .. } => {
                let missing = *payload_len - payload.len();
                Some(payload.limit(missing))
            }
            _ => None,
        }
    }

    /// Bytes still missing of the body that is being waited for, beyond what `src` has.
    #[must_use]
    pub fn body_missing(&self, src: &BytesMut) -> usize {
        match &self.state {
            State::Body { body_len, .. } => body_len.saturating_sub(src.len()),
            _ => 0,
        }
    }

    /// The stream has ended, with `rest` not taken.
    ///
    /// # Errors
    /// [`FrameError::Truncated`] when it ended inside a frame.
    pub fn finish(&self, rest: &BytesMut) -> Result<(), FrameError> {
        let (have, want) = match &self.state {
            State::Header if rest.is_empty() => return Ok(()),
            State::Header => (rest.len(), HEADER_LEN),
            State::Body { body_len, payload_len, .. } => {
                (HEADER_LEN + rest.len(), HEADER_LEN + body_len + payload_len)
            }
            State::Payload { body, payload, payload_len, .. } => {
                (HEADER_LEN + body.len() + payload.len(), HEADER_LEN + body.len() + payload_len)
            }
            State::Failed => return Err(FrameError::Poisoned),
        };
        Err(FrameError::Truncated { have, want })
    }

    /// Judges a header. Nothing has been allocated for its body or payload yet.
    fn begin(&self, raw: &[u8; HEADER_LEN]) -> Result<State, FrameError> {
        let (header, body_len, payload_len) = Header::from_bytes(raw)?;
        let greeting = match header.kind {
            Kind::Hello | Kind::Welcome => !self.open,
            Kind::Notice => true,
            _ => self.open,
        };
        if !greeting || !self.side.accepts(header.kind) {
            return Err(FrameError::UnexpectedKind { kind: header.kind });
        }
        let (max_body, max_payload) =
            if self.open { (caps::MAX_BODY, caps::MAX_PAYLOAD) } else { (caps::MAX_HELLO_BODY, 0) };
        // usize has at least 32 bits wherever this runs.
        let (body_len, payload_len) = (body_len as usize, payload_len as usize);
        if body_len > max_body {
            return Err(FrameError::BodyTooLarge { len: body_len, limit: max_body });
        }
        if payload_len > max_payload {
            return Err(FrameError::PayloadTooLarge { len: payload_len, limit: max_payload });
        }
        Ok(State::Body { header, body_len, payload_len })
    }
}
