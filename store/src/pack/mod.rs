//! Packs: where the bytes of files are.
//!
//! A pack is an immutable file of many extents. Extents are appended to the open pack with positioned writes; a
//! full pack gets a footer (its reverse map) and is never touched again.
//!
//! ```text
//!   append ─▶ compress if it pays ─▶ take room in the open pack ─▶ seal ─▶ pwrite ─▶ ExtentRef
//!   sync   ─▶ one fdatasync per open pack, shared by all who ask meanwhile
//!   read   ─▶ cache of decoded extents and segments ─▶ pread ─▶ open ─▶ decompress ─▶ slice
//!
//!   <epoch>-<id>.open  ──full or closed: footer, fdatasync, rename──▶  <epoch>-<id>.pack
//! ```
//!
//! **What the namespace must do.** Commit a row that holds an [`ExtentRef`] only after `append` returned it, and have
//! the metadata's journal sync packs before itself and ask [`PackStore::survived`] when it recovers. Then a row never
//! names bytes that are not there. The other way round, extents that no row names are garbage, which a later open or
//! repack removes.
//!
//! **After a crash.** Packs are written by one process only. What an earlier one left `.open` is scanned at the
//! next open: whole extents are kept, what follows the last is cut off, the footer is written. Holes in between
//! are normal: appends write side by side, and a failed one leaves its room empty, for ever, because a nonce is an
//! offset and must not be used twice.

mod cache;
mod codec;
mod copies;
mod error;
mod extent;
mod fetch;
mod fill;
mod format;
mod kept;
mod medium;
mod open;
mod pin;
mod read;
mod ready;
mod recover;
mod relocate;
mod repair;
mod segments;
mod spool;
mod store;
mod sync;

/// Bytes an extent takes besides its own: head and tag.
pub const EXTENT_OVERHEAD: u64 = (format::EXTENT_HEAD + crate::seal::TAG_BYTES) as u64;

pub use cache::ExtentCache;
pub use copies::Copies;
pub use error::PackError;
pub use extent::{Domain, Entry, ExtentIn, ExtentRef, FLAG_LZ4, FLAG_SEGMENTS, MAX_EXTENT_BYTES, PackId};
pub use pin::{Pin, Placed};
pub use relocate::Moved;
pub use segments::SEGMENT_BYTES;
pub use store::{PACK_BYTES, PackInfo, PackOptions, PackStore};

pub(crate) use copies::USUAL as USUAL_COPIES;
pub(crate) use spool::{Riders, parse_object, put_pieces};

#[cfg(test)]
mod segment_tests;
#[cfg(test)]
mod tests;
