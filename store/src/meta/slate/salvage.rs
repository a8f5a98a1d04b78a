//! What a journal tells when the tables it belongs to are gone.

use super::super::{Op, Seq};
use super::rows;
use crate::journal::{self, JournalError, JournalOptions};
use slatedb::ValueDeletable;

/// The changes behind `after`, in order, and the last commit among them. `None` when the journal begins later than that:
/// then commits are missing in between, and those that are there make no sense without them.
///
/// Blocking. Torn records at the end go, as at every open.
pub(crate) fn salvage(options: JournalOptions, after: Seq) -> Result<Option<(Vec<Op>, Seq)>, JournalError> {
    let Some(first) = journal::first_record(&options)? else { return Ok(None) };
    let behind = first.saturating_sub(1);
    let mut replay = journal::recover(options, behind)?.replay(behind);
    let (mut ops, mut last, mut joined) = (Vec::new(), after, false);
    while let Some((id, body)) = replay.next_record()? {
        let (seq, changed) = rows::decode(body).ok_or_else(|| replay.not_understood(id))?;
        joined |= seq <= after.0 + 1;
        if !joined {
            return Ok(None);
        }
        if seq <= after.0 {
            continue;
        }
        last = Seq(seq);
        ops.extend(changed.into_iter().map(|row| match row.value {
            ValueDeletable::Value(value) => Op::Put(row.key, value),
            _ => Op::Delete(row.key),
        }));
    }
    Ok(joined.then_some((ops, last)))
}
