//! A bucket of another S3 service, served as it is: one object is one file.
//!
//! ```text
//!   mount, S3 ──► coherence ──► External ──► nodes, spools ──► aws-sdk-s3 ──► the other store
//! ```
//!
//! [`External`] is the store's [`Tree`](mooring_store::api::Tree) and [`Objects`](mooring_store::api::Objects) over such
//! a bucket, so mounts, the S3 door, shares and policy work as with our own. Nothing of the bucket is kept here but what
//! waits to be uploaded; nothing is written into it but the objects themselves. Others may change it behind our back:
//! what is known of it here is believed for half the bucket's refresh time, and the gateway takes back what mounts
//! cached of it as often ([`External::doubtful`]). Together that is the time after which every change is seen.
//!
//! What an object store cannot do is refused with `EOPNOTSUPP`: links, symbolic links, special files, attributes, modes
//! and owners, times of a file that is in the store. Renaming a directory is `EXDEV`, because `mv` then does what can be
//! done: copies file by file. docs/semantics.md has the whole list.
//!
//! | part | what it is |
//! |---|---|
//! | [`remote`] | the calls that are made of the other store, and what its errors mean |
//! | [`table`], [`node`] | keys and inodes; who wins when both sides change |
//! | [`spool`] | bytes that wait to be uploaded |
//! | `upload` | when and how they are |
//! | `tree`, `names`, `data`, `attrs` | the filesystem |
//! | `objects`, `parts` | the bucket of objects |

mod attrs;
mod config;
mod data;
mod external;
mod names;
mod node;
mod objects;
mod parts;
mod readdir;
mod remote;
mod sealed;
mod spool;
mod stage;
mod table;
mod tree;
mod upload;

pub use config::{Look, Place, REFRESH, SPOOL_BYTES};
pub use external::{External, Options, probe};
pub use remote::{Kind, RemoteError};
