//! Bodies on their way: slowed, cut, ended, changed.

use std::time::Duration;

use futures::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use tokio::sync::watch;

use super::rules::Rules;

/// The connection ends here.
#[derive(Debug, thiserror::Error)]
#[error("cut by the proxy, or by the other side")]
pub(super) struct Cut;

/// Most bytes that pass at once when they are slow.
const SLICE: usize = 16 << 10;

/// How a body passes. Offsets are those of its bytes.
#[derive(Clone, Debug)]
pub(super) struct Passing {
    /// How fast, as it is said at the moment.
    pub rules: watch::Receiver<Rules>,
    /// Behind this the connection is cut.
    pub cut: Option<u64>,
    /// Behind this it ends as if that were all.
    pub end: Option<u64>,
    /// The byte here is another.
    pub wrong: Option<u64>,
    pub length: Option<u64>,
}

struct State<C> {
    body: Incoming,
    rest: Bytes,
    passed: u64,
    count: C,
}

impl Passing {
    pub fn new(rules: watch::Receiver<Rules>, length: Option<u64>) -> Passing {
        Passing { rules, cut: None, end: None, wrong: None, length }
    }

    /// The body, passing so; `count` is told of every byte that did.
    pub fn over<C: Fn(u64) + Send + 'static>(self, body: Incoming, count: C) -> UnsyncBoxBody<Bytes, Cut> {
        let length = self.length;
        let state = (self, State { body, rest: Bytes::new(), passed: 0, count });
        let frames = stream::unfold(Some(state), |state| async {
            let (passing, mut state) = state?;
            match passing.next(&mut state).await {
                Ok(Some(bytes)) => Some((Ok(Frame::data(bytes)), Some((passing, state)))),
                Ok(None) => None,
                Err(cut) => Some((Err(cut), None)),
            }
        });
        let body = BodyExt::boxed_unsync(StreamBody::new(frames));
        match length {
            // Without a body there is none to wrap, and the other side is told so.
            Some(0) => http_body_util::Empty::new().map_err(|never| match never {}).boxed_unsync(),
            _ => body,
        }
    }

    async fn next<C: Fn(u64)>(&self, state: &mut State<C>) -> Result<Option<Bytes>, Cut> {
        while state.rest.is_empty() {
            match state.body.frame().await {
                None => return Ok(None),
                Some(Err(_)) => return Err(Cut),
                // Trailers of a body do not matter to those who use this.
                Some(Ok(frame)) => state.rest = frame.into_data().unwrap_or_default(),
            }
        }
        let rate = self.rules.borrow().bytes_per_second;
        let mut most = if rate.is_some() { SLICE } else { usize::MAX };
        for (at, done) in [(self.cut, Err(Cut)), (self.end, Ok(None))] {
            let Some(at) = at else { continue };
            match at.saturating_sub(state.passed) {
                0 => return done,
                left => most = most.min(usize::try_from(left).unwrap_or(usize::MAX)),
            }
        }
        let mut bytes = state.rest.split_to(most.min(state.rest.len()));
        if let Some(at) = self.wrong.and_then(|at| usize::try_from(at.checked_sub(state.passed)?).ok())
            && at < bytes.len()
        {
            let mut changed = bytes.to_vec();
            changed[at] ^= 0x10;
            bytes = changed.into();
        }
        state.passed += bytes.len() as u64;
        (state.count)(bytes.len() as u64);
        if let Some(rate) = rate {
            tokio::time::sleep(Duration::from_secs_f64(bytes.len() as f64 / rate.max(1) as f64)).await;
        }
        Ok(Some(bytes))
    }
}
