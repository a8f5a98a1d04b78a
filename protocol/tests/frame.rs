//! Frames on the wire: golden bytes, every way to be wrong, every way to be cut into pieces.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use bytes::{BufMut, Bytes, BytesMut};
use mooring_protocol::caps;
use mooring_protocol::frame::{
    Decoder, EncodeError, Frame, FrameError, FrameReader, HEADER_LEN, Header, Kind, ReadError, Side,
    Watermarks, encode_into, write_frame,
};
use mooring_protocol::message::{Answer, Reply, Request};
use mooring_protocol::status::Status;
use mooring_protocol::types::Ino;
use proptest::prelude::*;

fn request() -> Header {
    Header {
        op: 0x0102,
        deadline_ms: 5000,
        volume: 0x1111_1111_1111_1111,
        epoch: 0x22,
        request: 0x33,
        origin: 0x44,
        principal: 0x55,
        trace: 0x6666_6666_6666_6666,
        ..Header::new(Kind::Request)
    }
}

fn encode(header: &Header, body: &impl serde::Serialize, payload: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    encode_into(&mut out, header, body, payload.len()).unwrap();
    out.put_slice(payload);
    out
}

/// A request frame with the two lengths as given and a right checksum, whatever they are.
fn raw_header(kind: Kind, body_len: u32, payload_len: u32) -> BytesMut {
    BytesMut::from(&Header::new(kind).to_bytes(body_len, payload_len)[..])
}

/// Changes one byte of a header and makes the checksum right again.
fn forge(mut frame: BytesMut, at: usize, value: u8) -> BytesMut {
    frame[at] = value;
    let crc = crc32c::crc32c(&frame[..100]);
    frame[100..104].copy_from_slice(&crc.to_le_bytes());
    frame
}

fn open_gateway() -> Decoder {
    let mut decoder = Decoder::new(Side::Gateway);
    decoder.open();
    decoder
}

fn refuse(mut bytes: BytesMut) -> FrameError {
    let mut decoder = open_gateway();
    let error = decoder.decode(&mut bytes).expect_err("must be refused");
    assert!(!error.can_continue());
    assert_eq!(decoder.decode(&mut bytes), Err(FrameError::Poisoned));
    error
}

#[test]
fn a_request_has_these_bytes() {
    let frame = encode(&request(), &Request::GetAttr { ino: Ino::ROOT }, b"data");
    assert_eq!(
        hex::encode(&frame),
        concat!(
            "4d524e47",
            "0100",
            "03",
            "00",
            "0201",
            "0000",
            "88130000", // magic .. deadline
            "1111111111111111",
            "2200000000000000",
            "3300000000000000", // volume, epoch, request
            "4400000000000000",
            "5500000000000000",
            "6666666666666666", // origin, principal, trace
            "02000000",
            "04000000", // lengths
            "0000000000000000",
            "0000000000000000",
            "0000000000000000",
            "00000000", // watermarks, reserved
            "a5562d45",
            "0101",
            "64617461",
        )
    );
}

#[test]
fn a_reply_has_these_bytes() {
    let marks = Watermarks { received: 9, journalled: 8, stored: 7 };
    let reply = request().reply(Status::Ok, marks);
    let frame = encode(&reply, &Answer { reply: Reply::Done, leases: vec![], also: vec![] }, b"");
    assert_eq!(
        hex::encode(&frame),
        concat!(
            "4d524e47",
            "0100",
            "04",
            "00",
            "0201",
            "0000",
            "00000000",
            "1111111111111111",
            "2200000000000000",
            "3300000000000000",
            "4400000000000000",
            "5500000000000000",
            "6666666666666666",
            "03000000",
            "00000000",
            "0900000000000000",
            "0800000000000000",
            "0700000000000000",
            "00000000",
            "3cb0fd0e",
            "000000",
        )
    );
}

#[test]
fn nothing_is_taken_before_a_greeting_and_no_second_one_after() {
    let mut decoder = Decoder::new(Side::Gateway);
    let mut early = raw_header(Kind::Request, 0, 0);
    assert_eq!(decoder.decode(&mut early), Err(FrameError::UnexpectedKind { kind: Kind::Request }));
    let second = raw_header(Kind::Hello, 0, 0);
    assert_eq!(refuse(second), FrameError::UnexpectedKind { kind: Kind::Hello });
}

#[test]
fn each_side_refuses_what_only_it_says_itself() {
    for kind in Kind::ALL {
        for (side, says) in [
            (Side::Gateway, [Kind::Request, Kind::Ack, Kind::Cancel]),
            (Side::Agent, [Kind::Reply, Kind::Notice, Kind::Reply]),
        ] {
            let mut decoder = Decoder::new(side);
            decoder.open();
            assert_eq!(
                decoder.decode(&mut raw_header(kind, 0, 0)).is_ok(),
                says.contains(&kind),
                "{side:?} {kind:?}"
            );
        }
    }
}

#[test]
fn every_broken_header_is_named_and_says_what_to_tell_the_peer() {
    let good = || raw_header(Kind::Request, 0, 0);
    let mut flipped = good();
    flipped[20] ^= 1;
    let cases = [
        (forge(good(), 0, b'X'), "BadMagic", None),
        (forge(good(), 4, 2), "UnknownVersion", Some(Status::VersionMismatch)),
        (forge(good(), 6, 99), "UnknownKind", Some(Status::Malformed)),
        (forge(good(), 7, 1), "ReservedNotZero", Some(Status::Malformed)),
        (forge(good(), 97, 1), "ReservedNotZero", Some(Status::Malformed)),
        (forge(good(), 11, 0xff), "UnknownStatus", Some(Status::Malformed)),
        (flipped, "BadChecksum", Some(Status::Malformed)),
        (
            raw_header(Kind::Request, caps::MAX_BODY as u32 + 1, 0),
            "BodyTooLarge",
            Some(Status::ArgumentTooLarge),
        ),
        (raw_header(Kind::Request, u32::MAX, u32::MAX), "BodyTooLarge", Some(Status::ArgumentTooLarge)),
        (raw_header(Kind::Request, 0, u32::MAX), "PayloadTooLarge", Some(Status::ArgumentTooLarge)),
    ];
    for (bytes, name, tell) in cases {
        let error = refuse(bytes);
        assert!(format!("{error:?}").starts_with(name), "{error:?} is not {name}");
        assert_eq!(error.tell_peer(), tell, "{error:?}");
    }
}

#[test]
fn a_greeting_is_held_to_its_own_limits() {
    for (body, payload) in [(caps::MAX_HELLO_BODY as u32 + 1, 0), (0, 1)] {
        let mut decoder = Decoder::new(Side::Gateway);
        assert!(decoder.decode(&mut raw_header(Kind::Hello, body, payload)).is_err());
    }
}

#[test]
fn another_protocol_is_refused_after_six_bytes() {
    let mut http = BytesMut::from(&b"GET / "[..]);
    assert!(matches!(open_gateway().decode(&mut http), Err(FrameError::BadMagic { .. })));
}

#[test]
fn a_stream_that_ends_inside_a_frame_says_so() {
    let whole = encode(&request(), &Request::StatFs, b"0123456789");
    for cut in 1..whole.len() {
        let mut decoder = open_gateway();
        let mut part = BytesMut::from(&whole[..cut]);
        assert_eq!(decoder.decode(&mut part).unwrap(), None);
        assert!(matches!(decoder.finish(&part), Err(FrameError::Truncated { .. })), "cut at {cut}");
    }
    assert_eq!(open_gateway().finish(&BytesMut::new()), Ok(()));
}

#[test]
fn a_wrong_body_leaves_the_stream_usable() {
    let mut bytes = encode(&request(), &(99u8, [7u8; 3]), b"");
    bytes.unsplit(encode(&request(), &Request::StatFs, b""));
    let mut trailing = encode(&request(), &(Request::StatFs, 0u8), b"");
    let mut decoder = open_gateway();
    assert!(decoder.decode(&mut bytes).unwrap().unwrap().message::<Request>().is_err());
    assert_eq!(decoder.decode(&mut bytes).unwrap().unwrap().message::<Request>().unwrap(), Request::StatFs);
    let error = decoder.decode(&mut trailing).unwrap().unwrap().message::<Request>().unwrap_err();
    assert_eq!(error.to_string(), "1 bytes follow the Request");
}

#[test]
fn what_is_too_large_to_send_leaves_the_buffer_alone() {
    let mut out = BytesMut::from(&b"before"[..]);
    let body = vec![0u8; caps::MAX_BODY];
    let too_large = encode_into(&mut out, &request(), &body, 0);
    assert!(matches!(too_large, Err(EncodeError::BodyTooLarge { .. })));
    let too_large = encode_into(&mut out, &request(), &(), caps::MAX_PAYLOAD + 1);
    assert!(matches!(too_large, Err(EncodeError::PayloadTooLarge { .. })));
    assert_eq!(&out[..], b"before");
}

#[test]
fn the_payload_buffer_has_exactly_the_payloads_size() {
    let payload = vec![7u8; 300_000];
    let bytes = encode(&request(), &Request::StatFs, &payload);
    let mut decoder = open_gateway();
    let mut head = BytesMut::from(&bytes[..HEADER_LEN + 1000]);
    assert_eq!(decoder.decode(&mut head).unwrap(), None);
    let mut room = decoder.payload_room().unwrap();
    let rest = &bytes[HEADER_LEN + 1000..];
    assert_eq!(room.remaining_mut(), rest.len());
    room.put_slice(rest);
    let frame = decoder.decode(&mut head).unwrap().unwrap();
    assert_eq!(frame.payload, payload);
    assert_eq!(frame.payload.try_into_mut().unwrap().capacity(), payload.len());
}

fn headers() -> impl Strategy<Value = Header> {
    let words = prop::array::uniform9(any::<u64>());
    (words, any::<u16>(), any::<u32>(), 0..Status::ALL.len(), 0..3usize).prop_map(
        |(w, op, deadline_ms, status, kind)| Header {
            op,
            deadline_ms,
            status: Status::ALL[status],
            volume: w[0],
            epoch: w[1],
            request: w[2],
            origin: w[3],
            principal: w[4],
            trace: w[5],
            watermarks: Watermarks { received: w[6], journalled: w[7], stored: w[8] },
            ..Header::new([Kind::Request, Kind::Ack, Kind::Cancel][kind])
        },
    )
}

proptest! {
    /// Whatever is sent arrives, whatever pieces the stream makes of it.
    #[test]
    fn frames_survive_any_cutting(
        sent in prop::collection::vec((headers(), prop::collection::vec(any::<u8>(), 0..600),
                                       prop::collection::vec(any::<u8>(), 0..40_000)), 1..5),
        cuts in prop::collection::vec(1usize..3000, 1..40),
    ) {
        let mut stream = BytesMut::new();
        for (header, body, payload) in &sent {
            stream.unsplit(encode(header, body, payload));
        }
        let (mut decoder, mut buffer, mut got) = (open_gateway(), BytesMut::new(), Vec::new());
        let mut cut = cuts.iter().cycle();
        while !stream.is_empty() {
            let piece = stream.split_to((*cut.next().unwrap()).min(stream.len()));
            buffer.unsplit(piece);
            while let Some(frame) = decoder.decode(&mut buffer).unwrap() {
                got.push((frame.header, frame.message::<Vec<u8>>().unwrap(), frame.payload.to_vec()));
            }
        }
        prop_assert_eq!(got, sent);
    }
}

#[tokio::test]
async fn frames_cross_a_stream_with_a_small_window() {
    let (mut ours, theirs) = tokio::io::duplex(700);
    let sender = tokio::spawn(async move {
        for size in [0usize, 1, 5_000, caps::MAX_PAYLOAD, 3] {
            let mut head = BytesMut::new();
            encode_into(&mut head, &request(), &Request::StatFs, size).unwrap();
            write_frame(&mut ours, &head, &vec![size as u8; size]).await.unwrap();
        }
    });
    let mut reader = FrameReader::new(theirs, Side::Gateway);
    reader.open();
    let mut sizes = Vec::new();
    while let Some(Frame { payload, .. }) = reader.next().await.unwrap() {
        assert!(payload.iter().all(|b| *b == payload.len() as u8));
        sizes.push(payload.len());
    }
    sender.await.unwrap();
    assert_eq!(sizes, [0, 1, 5_000, caps::MAX_PAYLOAD, 3]);
}

#[tokio::test]
async fn a_reader_tells_an_end_from_a_cut() {
    let whole = encode(&request(), &Request::StatFs, b"0123456789");
    let mut reader = FrameReader::new(&whole[..whole.len() - 1], Side::Gateway);
    reader.open();
    assert!(matches!(reader.next().await, Err(ReadError::Frame(FrameError::Truncated { .. }))));
    let mut reader = FrameReader::new(&whole[..], Side::Gateway);
    reader.open();
    assert_eq!(reader.next().await.unwrap().unwrap().payload, Bytes::from_static(b"0123456789"));
    assert!(reader.next().await.unwrap().is_none());
}
