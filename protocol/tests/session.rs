//! Sessions of both sides: replays, reconnects, restarts, evictions.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use bytes::Bytes;
use mooring_protocol::caps;
use mooring_protocol::message::Resumed;
use mooring_protocol::session::{
    Admit, Grace, Link, LinkState, Phase, RecordError, Refused, Session, SessionId, SessionRecord,
};
use mooring_protocol::status::Status;

const PEER: &[u8] = b"vm-1";
const T0: Duration = Duration::ZERO;

fn active() -> Session {
    let mut session = Session::new(SessionId(7), PEER.to_vec());
    assert_eq!(session.connect(PEER, 0), Resumed::Fresh);
    session
}

#[test]
fn a_change_sent_again_is_answered_and_not_repeated() {
    let mut session = active();
    assert_eq!(session.admit(1, 5, true), Admit::Run);
    assert_eq!(session.admit(1, 5, true), Admit::Running);
    session.disconnect(1, T0);
    assert_eq!(session.connect(PEER, 1), Resumed::Kept);
    assert_eq!(session.admit(2, 5, true), Admit::Running, "still at it");
    session.finish(5, Status::Ok, Bytes::from_static(b"answer"));
    assert_eq!(session.admit(2, 5, true), Admit::Replay(Status::Ok, Bytes::from_static(b"answer")));
}

#[test]
fn after_a_restart_a_change_is_known_to_be_done() {
    let mut session = active();
    assert_eq!(session.admit(1, 5, true), Admit::Run);
    session.finish(5, Status::Ok, Bytes::new());
    let record = SessionRecord::from_bytes(&session.record().to_bytes().unwrap()).unwrap();
    let mut session = Session::from_record(record, T0);
    assert_eq!(session.connect(PEER, 1), Resumed::Reclaim);
    assert_eq!(session.admit(2, 5, true), Admit::Applied);
    assert_eq!(session.admit(2, 6, true), Admit::Run);
}

#[test]
fn unread_answers_stay_in_the_cache_however_much_passes() {
    let mut session = active();
    for id in 1..=10_000u64 {
        assert_eq!(session.admit(1, id, true), Admit::Run);
        session.finish(id, Status::Ok, Bytes::from(id.to_string()));
    }
    for unread in 10_001 - caps::MAX_IN_FLIGHT as u64..=10_000 {
        assert_eq!(
            session.admit(1, unread, true),
            Admit::Replay(Status::Ok, Bytes::from(unread.to_string()))
        );
    }
}

#[test]
fn old_connections_strangers_and_the_evicted_are_refused() {
    let mut session = active();
    assert_eq!(session.connect(b"vm-2", 1), Resumed::Lost);
    assert_eq!(session.connect(PEER, 99), Resumed::Lost, "an epoch that never was");
    assert_eq!(session.connect(PEER, 1), Resumed::Kept);
    session.disconnect(1, T0);
    assert_eq!(session.phase(), Phase::Active, "the older connection's end means nothing");
    assert_eq!(session.admit(1, 1, false), Admit::Refuse(Status::NoSession));
    assert_eq!(session.admit(2, 0, false), Admit::Refuse(Status::Malformed));
    session.evict();
    assert_eq!(session.admit(2, 1, false), Admit::Refuse(Status::Fenced));
    assert_eq!(session.connect(PEER, 2), Resumed::Lost);
    let record = SessionRecord::from_bytes(&session.record().to_bytes().unwrap()).unwrap();
    assert_eq!(Session::from_record(record, T0).connect(PEER, 2), Resumed::Lost, "also after a restart");
}

#[test]
fn requests_are_bounded_on_both_sides() {
    let (mut session, mut link) = (active(), Link::new());
    for id in 1..=caps::MAX_IN_FLIGHT as u64 {
        assert_eq!(session.admit(1, id, false), Admit::Run);
        assert_eq!(link.submit(()), Ok((id, false)));
    }
    assert_eq!(session.admit(1, 9999, false), Admit::Refuse(Status::Overloaded));
    assert_eq!(link.submit(()), Err(Refused::Full));
}

#[test]
fn a_session_without_connection_ends_in_time() {
    let mut session = active();
    session.disconnect(1, T0);
    assert!(!session.is_overdue(caps::DISCONNECTED - Duration::from_millis(1)));
    assert!(session.is_overdue(caps::DISCONNECTED));
}

#[test]
fn records_of_the_future_and_broken_ones_are_named() {
    assert!(matches!(SessionRecord::from_bytes(&[]), Err(RecordError::Empty)));
    assert!(matches!(SessionRecord::from_bytes(&[2, 0]), Err(RecordError::Version { got: 2 })));
    assert!(matches!(SessionRecord::from_bytes(&[1, 0xff]), Err(RecordError::Decode(_))));
}

#[test]
fn grace_ends_with_the_last_or_with_time() {
    let mut grace = Grace::new([SessionId(1), SessionId(2)], T0);
    grace.done(SessionId(1));
    assert!(!grace.is_over(T0) && grace.is_over(caps::GRACE));
    grace.done(SessionId(2));
    assert!(grace.is_over(T0));
    assert!(Grace::new([], T0).is_over(T0));
}

#[test]
fn what_is_unanswered_goes_out_again_in_order() {
    let mut link = Link::new();
    assert_eq!(link.submit("a"), Ok((1, false)));
    assert_eq!(link.welcomed(Resumed::Fresh), [(1, "a")]);
    assert_eq!(link.submit("b"), Ok((2, true)));
    assert_eq!(link.submit("c"), Ok((3, true)));
    assert_eq!(link.answered(2), Some("b"));
    assert_eq!(link.answered(2), None);
    link.disconnected();
    assert_eq!(link.welcomed(Resumed::Reclaim), [], "reclaim comes first");
    assert_eq!(link.submit("d"), Ok((4, false)));
    assert_eq!(link.reclaimed(), [(1, "a"), (3, "c"), (4, "d")]);
}

#[test]
fn a_fenced_link_takes_nothing_and_gives_up_what_it_has() {
    let mut link = Link::new();
    link.welcomed(Resumed::Fresh);
    link.submit("a").unwrap();
    link.disconnected();
    assert_eq!(link.welcomed(Resumed::Lost), []);
    assert_eq!((link.state(), link.submit("b")), (LinkState::Fenced, Err(Refused::Fenced)));
    assert_eq!(link.welcomed(Resumed::Kept), [], "never again in this session's name");
    assert_eq!(link.fail_all(), [(1, "a")]);
    assert_eq!(Refused::Fenced.status().errno(), libc::EIO);
}
