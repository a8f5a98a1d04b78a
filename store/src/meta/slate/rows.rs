//! What a journal record of the engine holds: the rows of one batch.
//!
//! ```text
//! version u8 = 1 | seq u64 | count u32 | rows
//! row: kind u8 (bit 0-1: value, tombstone, merge; bit 2: created, bit 3: expires)
//!      | created i64? | expires i64? | key length u16 | value length u32 | key | value
//! ```
//! Little endian. The record is sealed and checked below, so what does not parse was written by a newer release.

use super::super::{Batch, Op};
use bytes::{Buf, Bytes};
use slatedb::{RowEntry, ValueDeletable};

const VERSION: u8 = 1;
const VALUE: u8 = 0;
const TOMBSTONE: u8 = 1;
const MERGE: u8 = 2;
const KIND: u8 = 0b11;
const CREATED: u8 = 0b100;
const EXPIRES: u8 = 0b1000;
const HEAD_BYTES: usize = 13;
const ROW_BYTES: usize = 1 + 8 + 8 + 2 + 4;

/// Most bytes that the rows of `batch` take in a record.
pub(super) fn encoded_bound(batch: &Batch) -> usize {
    HEAD_BYTES + batch.len() * ROW_BYTES + batch.bytes()
}

/// Whether `batch` gives room back rather than taking it.
pub(super) fn only_deletes(batch: &Batch) -> bool {
    batch.ops().iter().all(|op| matches!(op, Op::Delete(_)))
}

pub(super) fn encode(seq: u64, rows: &[RowEntry], out: &mut Vec<u8>) {
    out.push(VERSION);
    out.extend_from_slice(&seq.to_le_bytes());
    out.extend_from_slice(&(rows.len() as u32).to_le_bytes());
    for row in rows {
        let (kind, value): (u8, &[u8]) = match &row.value {
            ValueDeletable::Value(value) => (VALUE, value),
            ValueDeletable::Merge(value) => (MERGE, value),
            ValueDeletable::Tombstone => (TOMBSTONE, &[]),
        };
        let created = if row.create_ts.is_some() { CREATED } else { 0 };
        let expires = if row.expire_ts.is_some() { EXPIRES } else { 0 };
        out.push(kind | created | expires);
        for stamp in [row.create_ts, row.expire_ts].into_iter().flatten() {
            out.extend_from_slice(&stamp.to_le_bytes());
        }
        out.extend_from_slice(&(row.key.len() as u16).to_le_bytes());
        out.extend_from_slice(&(value.len() as u32).to_le_bytes());
        out.extend_from_slice(&row.key);
        out.extend_from_slice(value);
    }
}

/// The sequence of a record; `None` when it is not of this form.
pub(super) fn sequence(mut body: &[u8]) -> Option<u64> {
    (body.try_get_u8().ok()? == VERSION).then_some(())?;
    body.try_get_u64_le().ok()
}

/// The rows of a record and their sequence; `None` when it is not of this form.
pub(super) fn decode(body: Vec<u8>) -> Option<(u64, Vec<RowEntry>)> {
    let mut body = Bytes::from(body);
    if body.try_get_u8().ok()? != VERSION {
        return None;
    }
    let seq = body.try_get_u64_le().ok()?;
    let count = body.try_get_u32_le().ok()? as usize;
    let mut rows = Vec::with_capacity(count.min(body.len()));
    for _ in 0..count {
        rows.push(row(seq, &mut body)?);
    }
    body.is_empty().then_some((seq, rows))
}

fn row(seq: u64, body: &mut Bytes) -> Option<RowEntry> {
    let kind = body.try_get_u8().ok()?;
    let mut stamp = |present: u8| -> Option<Option<i64>> {
        if kind & present == 0 { Some(None) } else { body.try_get_i64_le().ok().map(Some) }
    };
    let create_ts = stamp(CREATED)?;
    let expire_ts = stamp(EXPIRES)?;
    let key_len = usize::from(body.try_get_u16_le().ok()?);
    let value_len = body.try_get_u32_le().ok()? as usize;
    if body.len() < key_len + value_len {
        return None;
    }
    let key = body.split_to(key_len);
    let value = body.split_to(value_len);
    let value = match kind & KIND {
        VALUE => ValueDeletable::Value(value),
        MERGE => ValueDeletable::Merge(value),
        TOMBSTONE => ValueDeletable::Tombstone,
        _ => return None,
    };
    Some(RowEntry { key, value, seq, create_ts, expire_ts })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn rows_round_trip_and_cut_ones_do_not_parse() {
        let row = |key: &'static str, value, create_ts, expire_ts| RowEntry {
            key: Bytes::from(key),
            value,
            seq: 7,
            create_ts,
            expire_ts,
        };
        let rows = vec![
            row("a", ValueDeletable::Value(Bytes::from("one")), Some(-5), None),
            row("b", ValueDeletable::Tombstone, None, None),
            row("c", ValueDeletable::Merge(Bytes::new()), Some(1), Some(2)),
        ];
        let mut body = Vec::new();
        encode(7, &rows, &mut body);
        assert_eq!(decode(body.clone()).unwrap(), (7, rows));
        for len in 0..body.len() {
            assert!(decode(body[..len].to_vec()).is_none(), "cut to {len}");
        }
    }
}
