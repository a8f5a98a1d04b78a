//! Who may do what: ids, grants, tokens, keys and the decision. No I/O, no clock of its own.
//!
//! Everything here is a value or a pure function. What comes from outside (time, randomness, which grants there
//! are, what was revoked) is an argument; what has an effect (storing, sending, logging) is the caller's.
//!
//! - [`ids`], [`action`], [`resource`], [`principal`]: the words.
//! - [`grant`]: what an owner permits, and how it is passed on. [`index`]: all grants, arranged for deciding.
//! - [`decide`]: the decision. [`scope`]: what narrows it.
//! - [`keys`], [`token`], [`revoke`]: signed statements of who somebody is and of grants.
//! - [`access`]: credentials for S3 clients.
//! - [`time`], [`rng`]: where time and randomness come from.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use mooring_policy::{
//!     action::{Action, ActionSet}, decide::decide, grant::Grant, ids::GrantId, index::GrantIndex,
//!     principal::Principal, resource::Resource, rng::SystemRandom, time::{Clock, SystemClock},
//! };
//!
//! let now = SystemClock::new().now();
//! let grant = Grant {
//!     id: GrantId::random(&SystemRandom),
//!     owner: "acme".parse()?,
//!     grantee: "globex".parse()?,
//!     bucket: "photos".parse()?,
//!     prefix: "2026/".parse()?,
//!     actions: ActionSet::from_rights("read")?,
//!     not_before: now,
//!     until: None,
//!     depth: 0,
//!     parent: None,
//!     name: "acme-photos".parse()?,
//!     note: String::new(),
//! };
//! let globex = Principal::Tenant { tenant: "globex".parse()? };
//! let picture = Resource::object("acme".parse()?, "photos".parse()?, "2026/may/a.jpg");
//!
//! let grants = GrantIndex::empty().with_grant(grant.clone());
//! assert!(decide(&globex, Action::Read, &picture, &grants, None, now).is_allowed());
//! let refused = decide(&globex, Action::Write, &picture, &grants, None, now).require();
//! assert_eq!(refused.unwrap_err().to_string(), "access denied");
//!
//! let grants = grants.with_revoked(grant.id);
//! let refused = decide(&globex, Action::Read, &picture, &grants, None, now).require();
//! assert_eq!(refused.unwrap_err().to_string(), "not found");
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

pub mod access;
pub mod action;
pub mod decide;
pub mod grant;
pub mod ids;
pub mod index;
pub mod keys;
pub mod principal;
pub mod resource;
pub mod revoke;
pub mod rng;
pub mod scope;
pub mod time;
pub mod token;
