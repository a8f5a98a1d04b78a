//! How a key that is no path is called in a mount.
//!
//! Such a key has a beginning that is a path of directories and a rest that cannot go on as one: an empty component
//! (`a//b`), `.` or `..`, a component over 255 bytes, or a name that is taken by something else (an object `a` beside a
//! directory `a`). In the directory the beginning leads to, the mount shows a file whose name is `%:` and the rest
//! with `/` as `%2F` and `%` as `%25`. So the rest can be read back from the name. A rest too long for one name is
//! shown as `%~`, its first bytes, `~` and a hash of the whole; the row keeps the key.
//!
//! If a mount has taken that very name already, `%_` and a number follow; `%_` occurs in no escaped rest.

use mooring_protocol::types::Name;

/// Bytes of the rest shown where it is too long.
const SHOWN: usize = 180;

/// The name for `rest`, where `attempt` names were taken already.
pub(crate) fn escape(rest: &[u8], attempt: u32) -> Option<Name> {
    let suffix = if attempt == 0 { String::new() } else { format!("%_{attempt}") };
    let mut whole = b"%:".to_vec();
    whole.extend(escaped(rest));
    whole.extend_from_slice(suffix.as_bytes());
    if whole.len() <= Name::MAX {
        return Name::new(&whole).ok();
    }
    let mut short = b"%~".to_vec();
    short.extend(escaped(cut(rest, SHOWN / 3)));
    short.push(b'~');
    let hash = blake3::hash(rest);
    short.extend_from_slice(hex::encode(&hash.as_bytes()[..16]).as_bytes());
    short.extend_from_slice(suffix.as_bytes());
    Name::new(&short).ok()
}

/// The rest that an escaped name stands for; `None` when it cannot be told from the name alone.
#[cfg(test)]
fn unescape(name: &[u8]) -> Option<Vec<u8>> {
    let mut left = name.strip_prefix(b"%:")?;
    let mut rest = Vec::new();
    while let Some((&byte, tail)) = left.split_first() {
        match (byte, tail) {
            (b'%', [b'2', b'F', tail @ ..]) => {
                rest.push(b'/');
                left = tail;
            }
            (b'%', [b'2', b'5', tail @ ..]) => {
                rest.push(b'%');
                left = tail;
            }
            (b'%', [b'_', ..]) => break,
            (b'%', _) => return None,
            _ => {
                rest.push(byte);
                left = tail;
            }
        }
    }
    Some(rest)
}

fn escaped(rest: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(rest.len());
    for &byte in rest {
        match byte {
            b'/' => out.extend_from_slice(b"%2F"),
            b'%' => out.extend_from_slice(b"%25"),
            other => out.push(other),
        }
    }
    out
}

/// The first bytes of a UTF-8 text, not in the middle of a character.
fn cut(text: &[u8], at_most: usize) -> &[u8] {
    let mut end = at_most.min(text.len());
    while end > 0 && end < text.len() && text[end] & 0xc0 == 0x80 {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_rest_has_a_name_and_short_ones_come_back(rest in "[a-z/%._:~é]{1,40}", attempt in 0_u32..3) {
            let name = escape(rest.as_bytes(), attempt).unwrap();
            prop_assert_eq!(unescape(name.as_bytes()).unwrap(), rest.as_bytes());
        }

        #[test]
        fn long_rests_differ(rest in "[a/%é]{300,900}") {
            let name = escape(rest.as_bytes(), 7).unwrap();
            let other = escape(format!("{rest}x").as_bytes(), 7).unwrap();
            prop_assert_ne!(name, other);
        }
    }
}
