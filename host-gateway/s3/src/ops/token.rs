//! Continuation tokens: opaque to clients, bound to the listing they continue, and checked when they come back.
//!
//! A token is the base64url of a version byte, eight bytes of SHA-256 over (bucket, prefix, delimiter, position), and
//! the position. The hash keeps a token of one listing from being taken for another's and catches damage; it is no
//! secret, since every position is one the caller could ask for as `start-after`.

use aws_lc_rs::digest::{Context, SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use s3s::{S3Result, s3_error};

const VERSION: u8 = 1;
const BIND: usize = 8;
/// Longest position: a key, or a key with an upload id.
const POSITION: usize = 2048;

/// What a token is bound to.
pub(super) struct Binding<'a> {
    pub bucket: &'a str,
    pub prefix: &'a str,
    pub delimiter: &'a str,
}

impl Binding<'_> {
    fn hash(&self, position: &[u8]) -> [u8; BIND] {
        let mut context = Context::new(&SHA256);
        for part in [self.bucket.as_bytes(), self.prefix.as_bytes(), self.delimiter.as_bytes(), position] {
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part);
        }
        let mut bind = [0; BIND];
        bind.copy_from_slice(&context.finish().as_ref()[..BIND]);
        bind
    }

    /// The token that continues after `position`.
    pub fn token(&self, position: &[u8]) -> String {
        URL_SAFE_NO_PAD.encode([&[VERSION], &self.hash(position)[..], position].concat())
    }

    /// The position of a token of this listing.
    pub fn position(&self, token: &str) -> S3Result<Vec<u8>> {
        let bad = || s3_error!(InvalidArgument, "The continuation token provided is incorrect");
        if token.len() > POSITION * 2 {
            return Err(bad());
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| bad())?;
        match bytes.split_first() {
            Some((&VERSION, rest)) if rest.len() >= BIND => {
                let (bind, position) = rest.split_at(BIND);
                if self.hash(position) == bind { Ok(position.to_vec()) } else { Err(bad()) }
            }
            _ => Err(bad()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn a_token_continues_its_own_listing_only() {
        let binding = Binding { bucket: "b", prefix: "p/", delimiter: "/" };
        let token = binding.token(b"p/x y");
        assert_eq!(binding.position(&token).unwrap(), b"p/x y");
        for other in [
            Binding { bucket: "c", prefix: "p/", delimiter: "/" },
            Binding { bucket: "b", prefix: "p", delimiter: "/" },
            Binding { bucket: "b", prefix: "p/", delimiter: "" },
        ] {
            assert!(other.position(&token).is_err());
        }
        for bad in ["", "AQ", "!!", "p/x", &token[1..], &"A".repeat(9000)] {
            assert!(binding.position(bad).is_err(), "{bad}");
        }
    }
}
