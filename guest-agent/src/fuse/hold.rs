//! Answers on their way to the kernel that rest on something which can be taken back.
//!
//! An attribute sent with a life in the kernel must reach the kernel before the notification that ends that life,
//! or it would be kept for ever. A [`Hold`] travels with such an answer and is dropped once it is written; who wants
//! to take the ground away stops making new ones and waits until the gate is clear.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

#[derive(Debug, Default)]
struct Inner {
    held: AtomicUsize,
    clear: Notify,
}

/// Counts the holds of one node.
#[derive(Clone, Debug, Default)]
pub struct Gate {
    inner: Arc<Inner>,
}

/// Keeps a gate from being clear.
#[derive(Debug)]
pub struct Hold {
    inner: Arc<Inner>,
}

impl Gate {
    /// Another answer is on its way.
    #[must_use]
    pub fn hold(&self) -> Hold {
        self.inner.held.fetch_add(1, Ordering::AcqRel);
        Hold { inner: self.inner.clone() }
    }

    /// Returns when every answer is written. The caller has seen to it that no new ones begin.
    pub async fn clear(&self) {
        loop {
            let notified = self.inner.clear.notified();
            if self.inner.held.load(Ordering::Acquire) == 0 {
                return;
            }
            notified.await;
        }
    }
}

impl Clone for Hold {
    fn clone(&self) -> Hold {
        Gate { inner: self.inner.clone() }.hold()
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if self.inner.held.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.inner.clear.notify_waiters();
        }
    }
}
