//! Dropping the kernel's pages while programs write to them.
//!
//! The kernel's notification waits for every locked page of its range. A page is locked while a read of it waits for
//! our answer; the gateway answers such reads without waiting for anybody, so that wait ends. A page is also locked
//! while a write of *part* of it waits for our answer, if the rest of the page was not cached; and a write can wait
//! for another guest's recall, which may be waiting in the same way for ours. So a recall must not wait for the pages
//! of a write under way.
//!
//! It does not have to. What is stale must be dropped, and a page that a write keeps locked is not valid, so nobody
//! reads it from the cache. (A valid page is unlocked while the write travels; Linux since 5.13.) Pages of writes
//! under way are therefore left out, and then tried by themselves: a valid one is dropped at once, and one that is not
//! dropped within a moment is locked.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use mooring_protocol::holder::Range as Span;

use super::Door;
use super::node::Node;
use crate::fuse::{Notifier, Range};

/// Dropping an unlocked page takes microseconds.
const MOMENT: Duration = Duration::from_millis(5);
const PAGE: u64 = 4096;

/// A write that the kernel waits for. Counts as under way until it is dropped.
pub(super) struct Writing {
    node: Arc<Node>,
    span: Span,
}

impl Writing {
    pub(super) fn new(node: &Arc<Node>, offset: u64, len: u64) -> Writing {
        let end = offset.saturating_add(len).next_multiple_of(PAGE);
        let span = Span { start: offset / PAGE * PAGE, end };
        {
            let mut state = node.state.lock();
            state.writing.push(span);
            state.kernel_pages = true;
        }
        node.changed.notify_waiters();
        Writing { node: node.clone(), span }
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        let mut state = self.node.state.lock();
        if let Some(at) = state.writing.iter().position(|span| *span == self.span) {
            state.writing.swap_remove(at);
        }
    }
}

impl Door {
    /// Drops what the kernel has of these ranges, but for pages that a write under way keeps locked.
    pub(super) async fn drop_pages(&self, node: &Node, spans: &[Span]) {
        let Some(notifier) = self.notifier.get() else { return };
        let id = self.to_node(node.ino);
        let mut left_out: Vec<Span> = Vec::new();
        loop {
            let changed = node.changed.notified();
            let writing = node.state.lock().writing.clone();
            left_out.extend(writing);
            let clear = without(spans, &left_out);
            let all = join_all(clear.iter().map(|span| notifier.pages(id, range(*span))));
            let more = self.another_write(node, changed, &left_out);
            tokio::select! {
                biased;
                _ = all => break,
                // A notification that waits for the new write's page goes on by itself when that is answered; the
                // pages behind it are dropped by the next round.
                () = more => {}
            }
        }
        for span in left_out {
            drop_unlocked(notifier, id, span).await;
        }
    }

    /// Returns when a write is under way that is not among those known.
    async fn another_write(&self, node: &Node, first: tokio::sync::futures::Notified<'_>, known: &[Span]) {
        let is_new = || node.state.lock().writing.iter().any(|span| !known.contains(span));
        if is_new() {
            return;
        }
        first.await;
        loop {
            let changed = node.changed.notified();
            if is_new() {
                return;
            }
            changed.await;
        }
    }

    /// Drops the pages of a write that has gone around the lease, before it is answered.
    pub(super) async fn drop_written(&self, node: &Node, offset: u64, len: u64) {
        if let Some(notifier) = self.notifier.get() {
            let span = Span { start: offset, end: offset + len };
            drop_unlocked(notifier, self.to_node(node.ino), span).await;
        }
    }
}

async fn drop_unlocked(notifier: &Notifier, id: u64, span: Span) {
    let _ = tokio::time::timeout(MOMENT, notifier.pages(id, range(span))).await;
}

fn range(span: Span) -> Range {
    let len = if span.end == u64::MAX { 0 } else { span.end - span.start };
    Range { offset: span.start, len }
}

/// `spans` less `holes`.
fn without(spans: &[Span], holes: &[Span]) -> Vec<Span> {
    let mut left = spans.to_vec();
    for hole in holes {
        left = left
            .into_iter()
            .flat_map(|s| {
                let before = Span { start: s.start, end: s.end.min(hole.start) };
                let after = Span { start: s.start.max(hole.end), end: s.end };
                [before, after]
            })
            .filter(|s| s.start < s.end)
            .collect();
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_are_left_out() {
        let span = |start, end| Span { start, end };
        assert_eq!(without(&[Span::ALL], &[span(10, 20)]), [span(0, 10), span(20, u64::MAX)]);
        assert_eq!(without(&[span(0, 10)], &[span(0, 10)]), []);
        assert_eq!(without(&[span(0, 10)], &[span(20, 30)]), [span(0, 10)]);
        assert_eq!(without(&[span(0, 30)], &[span(5, 10), span(8, 20)]), [span(0, 5), span(20, 30)]);
    }

    #[test]
    fn a_write_under_way_covers_whole_pages_until_it_is_answered() {
        let node = Node::new(mooring_protocol::types::Ino::ROOT);
        let write = Writing::new(&node, 5000, 10);
        assert_eq!(node.state.lock().writing, [Span { start: 4096, end: 8192 }]);
        drop(write);
        assert!(node.state.lock().writing.is_empty());
    }
}
