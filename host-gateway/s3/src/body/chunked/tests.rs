#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;

/// Data and trailers.
type Decoded = (Vec<u8>, Vec<(String, String)>);

/// Feeds `wire` in pieces of `step` bytes.
fn decode(wire: &[u8], step: usize, chain: Option<Chain>) -> Result<Decoded, &'static str> {
    let mut decoder = ChunkDecoder::new(chain);
    let mut out: Vec<Bytes> = Vec::new();
    for piece in wire.chunks(step) {
        decoder.feed(Bytes::copy_from_slice(piece), &mut out).map_err(|e| e.code().0)?;
    }
    let trailers = decoder.finish().map_err(|e| e.code().0)?;
    Ok((out.concat(), trailers))
}

/// The example of the S3 API reference: 64 KiB and 1 KiB of `a`.
mod example {
    pub const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
    pub const SEED: &str = "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9";
    pub const CHUNKS: [(usize, &str); 3] = [
        (65536, "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648"),
        (1024, "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497"),
        (0, "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9"),
    ];
}

fn chain() -> Chain {
    let secret = SecretKey::new(example::SECRET.into());
    Chain::new(&secret, "20130524", "us-east-1", "20130524T000000Z", example::SEED)
}

fn wire() -> Vec<u8> {
    let mut wire = Vec::new();
    for (size, signature) in example::CHUNKS {
        wire.extend(format!("{size:x};chunk-signature={signature}\r\n").bytes());
        wire.extend(std::iter::repeat_n(b'a', size));
        wire.extend(b"\r\n");
    }
    wire
}

#[test]
fn the_published_example_verifies_however_it_is_cut() {
    for step in [1, 7, 100, 65536, 1 << 20] {
        let (data, trailers) = decode(&wire(), step, Some(chain())).unwrap();
        assert!(data.len() == 66560 && data.iter().all(|b| *b == b'a'), "{step}");
        assert!(trailers.is_empty());
    }
}

#[test]
fn a_changed_dropped_or_reordered_chunk_is_noticed() {
    let good = wire();
    let mut changed = good.clone();
    changed[200] = b'b';
    assert_eq!(decode(&changed, 4096, Some(chain())), Err("SignatureDoesNotMatch"));
    let second = good.iter().position(|b| *b == b'\r').unwrap() + 2 + 65536 + 2;
    assert_eq!(decode(&good[second..], 4096, Some(chain())), Err("SignatureDoesNotMatch"));
    assert_eq!(decode(&good[..second], 4096, Some(chain())), Err("IncompleteBody"));
    assert_eq!(decode(&good[..second + 300], 4096, Some(chain())), Err("IncompleteBody"));
    let unsigned = b"4\r\naaaa\r\n0\r\n\r\n";
    assert_eq!(decode(unsigned, 100, Some(chain())), Err("IncompleteBody"));
    assert_eq!(decode(&good, 4096, None), Err("IncompleteBody"));
}

#[test]
fn trailers_come_out() {
    let wire = b"5\r\nhello\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n";
    for step in [1, 3, 100] {
        let (data, trailers) = decode(wire, step, None).unwrap();
        assert_eq!(data, b"hello");
        assert_eq!(trailers, [("x-amz-checksum-crc32".to_owned(), "NhCmhg==".to_owned())]);
    }
}

#[test]
fn broken_framing_is_refused_without_growing() {
    for bad in [
        "",
        "5\r\nhel",
        "5\r\nhelloXX0\r\n\r\n",
        "zz\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "-1\r\n",
        "+5\r\nhello\r\n",
        "11111111111111111\r\n",
        "\r\n",
        "5;x=1\r\nhello\r\n0\r\n\r\n",
    ] {
        assert_eq!(decode(bad.as_bytes(), 3, None), Err("IncompleteBody"), "{bad:?}");
    }
    assert_eq!(decode(&[b'1'; 10_000], 64, None), Err("IncompleteBody"));
    let mut flood = b"0\r\n".to_vec();
    flood.extend(b"x-amz-a:b\r\n".repeat(10_000));
    assert_eq!(decode(&flood, 1000, None), Err("IncompleteBody"));
    assert_eq!(decode(b"0\r\nno colon\r\n", 100, None), Err("MalformedTrailerError"));
}

#[test]
fn trailers_of_signed_chunks_must_be_signed() {
    let mut wire = wire();
    wire.truncate(wire.len() - 2);
    wire.extend(b"x-amz-checksum-crc32:NhCmhg==\r\n\r\n");
    assert_eq!(decode(&wire, 4096, Some(chain())), Err("MalformedTrailerError"));
    wire.truncate(wire.len() - 2);
    wire.extend(format!("x-amz-trailer-signature:{}\r\n\r\n", "0".repeat(64)).bytes());
    assert_eq!(decode(&wire, 4096, Some(chain())), Err("SignatureDoesNotMatch"));
}
