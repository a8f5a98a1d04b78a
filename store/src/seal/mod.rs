//! Sealing: what makes the bytes of one tenant unreadable and unchangeable on disk.
//!
//! ```text
//! master key (the operator's: a file, a variable, a command)
//!   └ wraps, in the realm's key ring, for the realm and for each tenant
//!       ├ the hash key            BLAKE3 keyed hash of extents, so equal bytes of two tenants have unrelated
//!       │                         hashes; stays for good
//!       └ data keys 1, 2, 3...    the last one seals, all of them open
//!           └ derives  one cipher key per file       AES-256-GCM: a pack, a journal file, one run of the engine
//! ```
//!
//! **Each key can be replaced while everything runs.** A new master key wraps the ring anew, in one step. A new data
//! key seals what is begun from then on; files and blocks say in clear which generation sealed them.
//! **A tenant's keys can be destroyed**, and with them all that it had, wherever copies of its files are.
//!
//! **Nonces never repeat under a key, by construction.** No key seals in more than one place, and each place
//! counts. A cipher key is derived from the tenant key and a 128- or 256-bit random salt chosen when the file (or
//! the run of the engine) begins, written in clear at its head. Only the process that created the file seals
//! with that key: files of an earlier run are never appended to, and a write that failed retires its file.
//! Within the file the nonce is a number that only rises: the byte offset in a pack, the record id in a
//! journal, a counter for engine blocks. So a repeat needs two equal random salts.
//!
//! **Place is bound.** Associated data holds volume, file, position and kind, so sealed bytes that are copied
//! elsewhere do not open. One exception: the engine does not tell where its blocks lie, so a block is bound to its
//! volume only; the order of blocks is protected by the engine's own checksums, which stop damage but not an
//! attacker who can write the disk.
//!
//! What stays in clear: file names, sizes, record counts, ids. The engine's manifests, which hold keys of rows, are sealed
//! as a whole and bound to their paths.

mod block;
mod cipher;
mod error;
mod master;
mod masters;
mod tenant;

pub use block::BlockSealer;
pub use cipher::{Cipher, TAG_BYTES};
pub use error::SealError;
pub use master::{MasterKey, WrappedKey};
pub use masters::MasterKeys;
pub use tenant::{Hash, HashKey, KeyGeneration, TenantKey, TenantKeys, VolumeKeys};

#[cfg(test)]
mod tests;
