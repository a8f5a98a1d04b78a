//! Good frames to start from: at least one of each kind, and the messages with the most structure.

use bytes::{BufMut, BytesMut};
use mooring_protocol::frame::{EncodeError, Header, Kind, Watermarks, encode_into};
use mooring_protocol::message::{Ack, Answer, Hello, Notice, Reply, Request, Resume};
use mooring_protocol::status::Status;
use mooring_protocol::types::{Ino, LeaseGrant, LeaseMode, Name};
use serde::Serialize;

/// Bytes of a header; the checksum is its last four.
pub const HEADER: usize = mooring_protocol::frame::HEADER_LEN;

/// Frames as they stand on the stream.
///
/// # Errors
/// None as long as the frames keep within the limits.
pub fn frames() -> Result<Vec<BytesMut>, EncodeError> {
    let grant = LeaseGrant { ino: Ino::ROOT, mode: LeaseMode::Write, seq: 3 };
    let request = Header { request: 7, volume: 1, epoch: 2, deadline_ms: 900, ..Header::new(Kind::Request) };
    let marks = Watermarks { received: 3, journalled: 2, stored: 1 };
    let reply = request.reply(Status::Ok, marks);
    let hello = Hello {
        versions: (1, 1),
        agent: "0.1.0".into(),
        boot: [7; 16],
        enrolment: Some(vec![1, 2, 3]),
        token: Some("token".into()),
        resume: Some(Resume { session: 9, epoch: 2 }),
    };
    let name = Name::new(b"name").ok();
    let lookup = name.map(|name| Request::Lookup { parent: Ino::ROOT, name });
    let reclaim = Request::Reclaim { handles: vec![], leases: vec![grant; 4], locks: vec![], more: false };
    let answer = Answer { reply: Reply::Bytes { value: vec![5; 40] }, leases: vec![grant; 2], also: vec![] };
    let recall = Notice::Recall { grant, to: LeaseMode::Read, deadline_ms: 5000 };
    let mut frames = vec![
        frame(&Header::new(Kind::Hello), &hello, b"")?,
        frame(&request, &reclaim, b"")?,
        frame(&request, &Request::SyncFs, b"a payload that is somewhat longer")?,
        frame(&reply, &answer, b"data")?,
        frame(&Header::new(Kind::Notice), &recall, b"")?,
        frame(&Header::new(Kind::Ack), &Ack::Recalled { ino: Ino::ROOT, seq: 3 }, b"")?,
        frame(&Header { request: 7, ..Header::new(Kind::Cancel) }, &(), b"")?,
    ];
    if let Some(lookup) = lookup {
        frames.push(frame(&request, &lookup, b"")?);
    }
    Ok(frames)
}

fn frame(header: &Header, body: &impl Serialize, payload: &[u8]) -> Result<BytesMut, EncodeError> {
    let mut out = BytesMut::new();
    encode_into(&mut out, header, body, payload.len())?;
    out.put_slice(payload);
    Ok(out)
}

/// Makes the checksum of a changed header right again.
pub fn mend(frame: &mut [u8]) {
    if let Some((head, rest)) = frame.split_at_mut_checked(HEADER - 4)
        && let Some(crc) = rest.get_mut(..4)
    {
        crc.copy_from_slice(&crc32c::crc32c(head).to_le_bytes());
    }
}
