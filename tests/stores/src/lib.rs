//! Object stores to test on, and what goes wrong with them.
//!
//! The stores themselves are in the harness: a gateway's own S3, a Ceph. Here is a [`proxy`] that stands in front of any of
//! them, and, in `tests/`, gateways that keep everything behind it. Apart from the other tests, because this links
//! what the others do not need: a web server.

pub mod proxy;
