//! The grants of one grantee on one bucket, in an order that finds those covering a key.
//!
//! Ordered component by component, the prefixes that cover a key form a nest: every one of them covers, or is,
//! the greatest prefix not after the key. So one binary search finds that one, and each entry knows the next
//! wider entry around it. The cost is the logarithm of the group plus the depth of the nest, whatever the number
//! of grants beside it.

use std::cmp::Ordering;
use std::sync::Arc;

use super::Standing;
use crate::grant::Grant;
use crate::resource::{Prefix, components};

/// A grant with what follows from the grants above it.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub grant: Arc<Grant>,
    pub standing: Standing,
}

#[derive(Debug, Clone)]
struct Nested {
    entry: Entry,
    /// The nearest earlier entry whose prefix contains this one's (or is the same).
    around: Option<u32>,
}

/// An immutable, sorted set of entries.
#[derive(Debug, Clone, Default)]
pub(crate) struct Group(Box<[Nested]>);

fn compare(left: &[u8], right: &[u8]) -> Ordering {
    match (left.is_empty(), right.is_empty()) {
        // Splitting nothing gives one empty component; the whole bucket has none and comes first.
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Less,
        (false, true) => Ordering::Greater,
        (false, false) => components(left).cmp(components(right)),
    }
}

impl Group {
    pub fn new(mut entries: Vec<Entry>) -> Self {
        entries.sort_by(|a, b| {
            compare(a.grant.prefix.as_bytes(), b.grant.prefix.as_bytes()).then(a.grant.id.cmp(&b.grant.id))
        });
        let mut nested: Vec<Nested> = Vec::with_capacity(entries.len());
        for entry in entries {
            let around = nearest_around(&nested, &entry.grant.prefix);
            nested.push(Nested { entry, around });
        }
        Self(nested.into())
    }

    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.0.iter().map(|nested| &nested.entry)
    }

    /// The entries whose prefix covers `key`, narrowest first.
    pub fn covering<'a>(&'a self, key: &'a [u8]) -> impl Iterator<Item = &'a Entry> {
        // A slash at the end adds an empty component, which sorts before every other: the search is right as it is.
        let after = self.0.partition_point(|n| compare(n.entry.grant.prefix.as_bytes(), key).is_le());
        let nest = std::iter::successors(after.checked_sub(1), |at| self.0[*at].around.map(|at| at as usize));
        nest.map(|at| &self.0[at].entry).filter(move |entry| entry.grant.prefix.covers(key))
    }
}

/// Walks outwards from the entry before: what contains the new prefix contains, or is, that one.
fn nearest_around(earlier: &[Nested], prefix: &Prefix) -> Option<u32> {
    let last = u32::try_from(earlier.len().checked_sub(1)?).ok();
    std::iter::successors(last, |at| earlier[*at as usize].around)
        .find(|at| earlier[*at as usize].entry.grant.prefix.contains(prefix))
}
