//! Whatever bytes a peer sends: no panic, no memory beyond the limits, and what was understood is exactly
//! what was sent.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::fmt::Debug;
use std::time::Duration;

use bytes::BytesMut;
use mooring_fuzz::alloc::{Counting, peak_of};
use mooring_fuzz::seeds::{HEADER, frames, mend};
use mooring_protocol::caps;
use mooring_protocol::frame::{Decoder, Frame, FrameError, Side};
use mooring_protocol::message::{Ack, Answer, Hello, Notice, Request, Welcome};
use mooring_protocol::session::SessionRecord;
use serde::Serialize;
use serde::de::DeserializeOwned;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How long one target runs under plain `cargo test`.
const TIME: Duration = Duration::from_secs(5);

/// What a decoder may take for one frame: its body is split off the input, its payload is one buffer.
const FRAME_MEMORY: usize = caps::MAX_BODY + caps::MAX_PAYLOAD + (64 << 10);

/// What a message may take: serde gives a sequence at most 1 MiB in advance, whatever length it claims, on
/// each of a few levels; what is really there was in the body.
const MESSAGE_MEMORY: usize = 8 << 20;

fn decoders() -> Vec<Decoder> {
    let mut all = Vec::new();
    for side in [Side::Gateway, Side::Agent] {
        let mut open = Decoder::new(side);
        open.open();
        all.extend([Decoder::new(side), open]);
    }
    all
}

/// Feeds bytes in pieces and checks everything that comes out against what went in.
fn feed(mut decoder: Decoder, bytes: &[u8], piece: usize) -> Result<usize, FrameError> {
    let (mut buffer, mut taken) = (BytesMut::new(), 0);
    for chunk in bytes.chunks(piece.max(1)) {
        buffer.extend_from_slice(chunk);
        loop {
            let (frame, peak) = peak_of(|| decoder.decode(&mut buffer));
            assert!(peak <= FRAME_MEMORY, "{peak} bytes for one frame");
            let Some(frame) = frame? else { break };
            taken += check(&frame, &bytes[taken..]);
        }
    }
    Ok(taken)
}

/// A frame written again is the bytes it came from.
fn check(frame: &Frame, bytes: &[u8]) -> usize {
    let head = frame.header.to_bytes(frame.body.len() as u32, frame.payload.len() as u32);
    let again = [&head[..], &frame.body, &frame.payload].concat();
    assert_eq!(again, bytes[..again.len()]);
    messages(&frame.body);
    again.len()
}

fn messages(body: &[u8]) {
    message::<Hello>(body);
    message::<Welcome>(body);
    message::<Request>(body);
    message::<Answer>(body);
    message::<Notice>(body);
    message::<Ack>(body);
}

/// A message that is understood means the same when it is written and read again.
fn message<T: DeserializeOwned + Serialize + PartialEq + Debug>(body: &[u8]) {
    let (value, peak) = peak_of(|| postcard::from_bytes::<T>(body));
    assert!(peak <= MESSAGE_MEMORY, "{peak} bytes for a body of {}", body.len());
    if let Ok(value) = value {
        let again = postcard::to_stdvec(&value).unwrap();
        assert_eq!(postcard::from_bytes::<T>(&again).unwrap(), value);
    }
}

#[test]
fn any_bytes() {
    bolero::check!().with_test_time(TIME).for_each(|bytes: &[u8]| {
        for decoder in decoders() {
            let _ = feed(decoder, bytes, bytes.len());
        }
        messages(bytes);
        if let Ok(record) = SessionRecord::from_bytes(bytes) {
            assert_eq!(SessionRecord::from_bytes(&record.to_bytes().unwrap()).unwrap(), record);
        }
    });
}

#[test]
fn good_frames_with_changes() {
    let seeds = frames().unwrap();
    type Input = (u8, bool, Vec<(u16, u8)>, u16, Vec<u8>);
    bolero::check!().with_test_time(TIME).with_type::<Input>().for_each(
        |(seed, fix, changes, piece, tail)| {
            let mut bytes = seeds[*seed as usize % seeds.len()].to_vec();
            for (at, value) in changes {
                let at = *at as usize % bytes.len();
                bytes[at] = *value;
            }
            if *fix {
                mend(&mut bytes);
            }
            bytes.extend_from_slice(tail);
            for decoder in decoders() {
                let _ = feed(decoder, &bytes, *piece as usize);
            }
        },
    );
}

#[test]
fn any_header_with_a_right_checksum() {
    let seeds = frames().unwrap();
    bolero::check!().with_test_time(TIME).with_type::<(u8, u32, u32, Vec<u8>)>().for_each(
        |(kind, body, payload, rest)| {
            let mut bytes = seeds[0][..HEADER].to_vec();
            bytes[6] = kind % 9;
            bytes[64..68].copy_from_slice(&body.to_le_bytes());
            bytes[68..72].copy_from_slice(&payload.to_le_bytes());
            mend(&mut bytes);
            bytes.extend_from_slice(rest);
            for decoder in decoders() {
                let _ = feed(decoder, &bytes, bytes.len());
            }
        },
    );
}

/// The targets above would pass with a decoder that refuses everything: this one must not.
#[test]
fn good_frames_are_understood() {
    for seed in frames().unwrap() {
        let understood = decoders().into_iter().any(|d| feed(d, &seed, 7) == Ok(seed.len()));
        assert!(understood, "{seed:?}");
    }
}
