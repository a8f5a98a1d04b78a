//! A batch of puts and deletes, applied as one.

use super::{MAX_BATCH_BYTES, MAX_KEY_BYTES, MetaError};
use bytes::Bytes;

/// One change of one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Sets the row.
    Put(Bytes, Bytes),
    /// Removes the row; absent is fine.
    Delete(Bytes),
}

impl Op {
    /// The row this changes.
    #[must_use]
    pub fn key(&self) -> &Bytes {
        match self {
            Op::Put(key, _) | Op::Delete(key) => key,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Op::Put(key, value) => key.len() + value.len(),
            Op::Delete(key) => key.len(),
        }
    }
}

/// Puts and deletes that take effect together. Of several changes to one key the last counts.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    ops: Vec<Op>,
    bytes: usize,
}

impl Batch {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets `key` to `value`.
    pub fn put(&mut self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> &mut Self {
        self.push(Op::Put(key.into(), value.into()))
    }

    /// Removes `key`.
    pub fn delete(&mut self, key: impl Into<Bytes>) -> &mut Self {
        self.push(Op::Delete(key.into()))
    }

    /// Adds the changes of `other` behind these.
    pub fn extend(&mut self, other: Batch) -> &mut Self {
        self.bytes += other.bytes;
        self.ops.extend(other.ops);
        self
    }

    fn push(&mut self, op: Op) -> &mut Self {
        self.bytes += op.bytes();
        self.ops.push(op);
        self
    }

    /// The changes in the order they were added.
    #[must_use]
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// Bytes of keys and values.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many changes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Refuses what no engine takes: too large a batch, an empty or too long key.
    pub(crate) fn check(&self) -> Result<(), MetaError> {
        if self.bytes > MAX_BATCH_BYTES {
            return Err(MetaError::Batch(format!(
                "batch of {} bytes is over the limit of {MAX_BATCH_BYTES}; split it",
                self.bytes
            )));
        }
        match self.ops.iter().map(|op| op.key().len()).find(|len| *len == 0 || *len > MAX_KEY_BYTES) {
            Some(len) => {
                Err(MetaError::Batch(format!("key of {len} bytes; allowed are 1 to {MAX_KEY_BYTES}")))
            }
            None => Ok(()),
        }
    }
}
