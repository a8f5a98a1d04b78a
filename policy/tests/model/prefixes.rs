//! Prefixes on arbitrary bytes.

use mooring_policy::resource::Prefix;
use proptest::prelude::*;
use proptest::sample::select;

use crate::oracle::{covers, path};

/// Bytes that like to be slashes, dots and beginnings of one another.
fn some_bytes() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![4 => select(b"ab/.".to_vec()), 1 => any::<u8>()];
    prop::collection::vec(byte, 0..12)
}

fn some_prefix() -> impl Strategy<Value = Prefix> {
    some_bytes().prop_filter_map("not a prefix", |bytes| Prefix::new(&bytes).ok())
}

proptest! {
    #![proptest_config(crate::cases(2000))]

    #[test]
    fn covering_is_by_whole_components(prefix in some_prefix(), key in some_bytes()) {
        prop_assert_eq!(prefix.covers(&key), covers(&path(prefix.as_bytes()), &path(&key)));
    }

    #[test]
    fn what_is_joined_is_stripped_or_not_covered(prefix in some_prefix(), key in some_bytes()) {
        let joined = prefix.join(&key);
        match prefix.strip(&joined) {
            Some(stripped) => prop_assert_eq!(stripped, &key[..]),
            None => prop_assert!(!prefix.covers(&joined)),
        }
    }

    #[test]
    fn containing_is_covering_all_that_the_other_covers(
        outer in some_prefix(), inner in some_prefix(), key in some_bytes(),
    ) {
        if outer.contains(&inner) {
            prop_assert!(!inner.covers(&key) || outer.covers(&key));
            prop_assert!(outer.covers(&inner.join(b"x")));
        } else {
            prop_assert!(!outer.covers(inner.as_bytes()));
        }
    }

    #[test]
    fn every_prefix_has_one_serialised_form(prefix in some_prefix(), other in some_prefix()) {
        let json = serde_json::to_string(&prefix).unwrap();
        prop_assert_eq!(&serde_json::from_str::<Prefix>(&json).unwrap(), &prefix);
        prop_assert_eq!(json == serde_json::to_string(&other).unwrap(), prefix == other);
    }

    #[test]
    fn nothing_that_is_no_prefix_is_taken(bytes in some_bytes()) {
        let trimmed = bytes.strip_suffix(b"/").unwrap_or(&bytes);
        let components = path(trimmed);
        let proper = |c: &Vec<u8>| !c.is_empty() && c != b"." && c != b".." && !c.contains(&0);
        prop_assert_eq!(Prefix::new(&bytes).is_ok(), components.iter().all(proper));
    }
}
