//! The table of outcomes, held against itself and against a list in the repository.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashSet;

use mooring_protocol::status::Status;

#[test]
fn wire_numbers_are_distinct_and_come_back() {
    let mut seen = HashSet::new();
    for &status in Status::ALL {
        assert!(seen.insert(status.to_wire()), "{status} shares its number");
        assert_eq!(Status::from_wire(status.to_wire()), Some(status));
    }
    let unknown = (0..=u16::MAX).filter(|wire| Status::from_wire(*wire).is_none()).count();
    assert_eq!(unknown, (1 << 16) - Status::ALL.len());
}

#[test]
fn every_errno_comes_back_as_the_same_errno() {
    for &status in Status::ALL {
        assert_eq!(Status::from_errno(status.errno()).errno(), status.errno(), "{status}");
    }
    assert_eq!(Status::from_errno(0), Status::Ok);
    assert_eq!(Status::from_errno(libc::EWOULDBLOCK), Status::WouldBlock);
    assert_eq!(Status::from_errno(libc::ENOTSUP), Status::Unsupported);
    assert_eq!(Status::from_errno(libc::EUCLEAN), Status::Io, "not in the table");
}

#[test]
fn every_s3_code_comes_back_as_the_same_code_and_status() {
    for &status in Status::ALL.iter().filter(|s| !s.is_ok()) {
        let back = Status::from_s3_code(status.s3_code()).unwrap();
        assert_eq!(back.s3_code(), status.s3_code());
        assert_eq!(back.http(), status.http(), "{} has two HTTP statuses", status.s3_code());
    }
    assert_eq!(Status::from_s3_code("NoSuchThing"), None);
    assert_eq!(Status::from_s3_code(""), None);
}

#[test]
fn only_success_looks_like_success() {
    for &status in Status::ALL {
        assert_eq!(status.errno() == 0, status.is_ok());
        assert_eq!((200..300).contains(&status.http()), status.is_ok());
        assert!((0..134).contains(&status.errno()), "{status} has no errno of Linux");
    }
}

/// What guests and SDKs of earlier versions rely on. A change here is a change of the protocol.
#[test]
fn the_numbers_on_the_wire_stay() {
    let table: Vec<String> = Status::ALL
        .iter()
        .map(|s| format!("{} {} {} {} {}", s.to_wire(), s.name(), s.errno(), s.s3_code(), s.http()))
        .collect();
    assert_eq!(table.join("\n"), include_str!("golden/status.txt").trim_end());
}
