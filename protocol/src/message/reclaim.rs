//! What an agent holds, in requests that fit into frames.

use super::{HeldHandle, HeldLock, Request};
use crate::types::LeaseGrant;

/// Of each kind in one part: with every number at its longest, a part and its answer stay under
/// [`caps::MAX_BODY`](crate::caps::MAX_BODY).
const IN_ONE: usize = 4096;

/// Everything held behind one door as [`Request::Reclaim`]s, to be sent one after the other; at least one, and all but
/// the last say that more follows.
#[must_use]
pub fn reclaim_in_parts(handles: &[HeldHandle], leases: &[LeaseGrant], locks: &[HeldLock]) -> Vec<Request> {
    let part = |handles: &[_], leases: &[_], locks: &[_]| Request::Reclaim {
        handles: handles.to_vec(),
        leases: leases.to_vec(),
        locks: locks.to_vec(),
        more: true,
    };
    // Files and locks first: a lease is of use to who has the file.
    let mut parts: Vec<Request> = handles.chunks(IN_ONE).map(|some| part(some, &[], &[])).collect();
    parts.extend(locks.chunks(IN_ONE).map(|some| part(&[], &[], some)));
    parts.extend(leases.chunks(IN_ONE).map(|some| part(&[], some, &[])));
    if parts.is_empty() {
        parts.push(part(&[], &[], &[]));
    }
    if let Some(Request::Reclaim { more, .. }) = parts.last_mut() {
        *more = false;
    }
    parts
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::caps;
    use crate::message::{Answer, Reply};
    use crate::types::{Handle, Ino, LeaseMode, LockKind, LockRange, OpenMode};

    #[test]
    fn all_that_a_session_may_hold_fits_into_frames() {
        let ino = Ino::new(u64::MAX).unwrap();
        let mode = OpenMode { read: true, write: true, append: true, truncate: true };
        let handle = HeldHandle { handle: Handle(u64::MAX), ino, mode };
        let lease = LeaseGrant { ino, mode: LeaseMode::Write, seq: u64::MAX };
        let range = LockRange { start: u64::MAX, end: u64::MAX };
        let lock = HeldLock { ino, owner: u64::MAX, pid: u32::MAX, range, kind: LockKind::Unlock };
        let parts = reclaim_in_parts(
            &vec![handle; caps::MAX_HANDLES],
            &vec![lease; caps::MAX_LEASES],
            &vec![lock; caps::MAX_LOCKS],
        );
        let (mut h, mut l, mut k) = (0, 0, 0);
        for (n, request) in parts.iter().enumerate() {
            assert!(postcard::to_stdvec(request).unwrap().len() <= caps::MAX_BODY);
            let Request::Reclaim { handles, leases, locks, more } = request else { panic!("{request:?}") };
            assert_eq!(*more, n + 1 < parts.len());
            (h, l, k) = (h + handles.len(), l + leases.len(), k + locks.len());
            let handles = handles.iter().map(|h| h.handle).collect();
            let reply = Reply::Reclaimed { handles, leases: leases.clone() };
            let answer = Answer { reply, leases: Vec::new(), also: Vec::new() };
            assert!(postcard::to_stdvec(&answer).unwrap().len() <= caps::MAX_BODY);
        }
        assert_eq!((h, l, k), (caps::MAX_HANDLES, caps::MAX_LEASES, caps::MAX_LOCKS));
    }

    #[test]
    fn who_holds_nothing_says_so() {
        let nothing = Request::Reclaim { handles: vec![], leases: vec![], locks: vec![], more: false };
        assert_eq!(reclaim_in_parts(&[], &[], &[]), [nothing]);
    }
}
