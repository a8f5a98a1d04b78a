//! An object's bytes on their way out, read ahead by a bounded number of batches.
//!
//! The bytes are those of the ETag that was promised. The inode is pinned, so a delete or a replacement under way does
//! not disturb. A write into it does: every read tells the inode's version, and when that moves, the stream goes on
//! only if the time of the last change of content and the size did not move with it (a change of mode or of the number
//! of names moves the version too). Otherwise it breaks off, which a client notices by the length; it never mixes two
//! contents. Rights are asked anew at every read: a revoked grant ends the stream.

use std::collections::VecDeque;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::Stream;
use mooring_protocol::types::Time;
use mooring_store::api::ObjectInfo;
use mooring_store::error::StoreError;
use s3s::S3Result;
use s3s::stream::{ByteStream, RemainingLength};
use tokio::sync::mpsc;

use crate::config::{BATCH, READ_AHEAD};
use crate::error::{Chain, from_store};
use crate::ops::Open;

type StdError = Box<dyn std::error::Error + Send + Sync>;

/// The rest of an answer's body.
pub(super) struct Outgoing {
    ready: VecDeque<Bytes>,
    more: Option<mpsc::Receiver<Result<Vec<Bytes>, StoreError>>>,
    left: u64,
}

/// Begins to read `span` of an object. `None`: it changed since `info` was taken, look again.
pub(super) async fn open(open: &Open, info: &ObjectInfo, span: Range<u64>) -> S3Result<Option<Outgoing>> {
    let left = span.end - span.start;
    if left == 0 || info.marker {
        return Ok(Some(Outgoing { ready: VecDeque::new(), more: None, left: 0 }));
    }
    let (at, end) = (span.start, span.end);
    let mut reading = Reading { open: open.clone(), info: info.clone(), pinned: None, at, end, begun: false };
    // One batch is one atomic read and needs no pin.
    if left > BATCH as u64 && !reading.pin().await? {
        return Ok(None);
    }
    match reading.batch().await {
        Ok(Some(ready)) => {
            let more = (reading.at < reading.end).then(|| reading.ahead());
            Ok(Some(Outgoing { ready: ready.into(), more, left }))
        }
        Ok(None) | Err(StoreError::Stale(_) | StoreError::NotFound) => {
            reading.unpin().await;
            Ok(None)
        }
        Err(error) => {
            reading.unpin().await;
            Err(from_store(error))
        }
    }
}

struct Reading {
    open: Open,
    info: ObjectInfo,
    /// Time and size of the content when it was pinned.
    pinned: Option<(Time, u64)>,
    at: u64,
    end: u64,
    begun: bool,
}

impl Reading {
    async fn pin(&mut self) -> S3Result<bool> {
        match self.open.objects.pin(&self.open.cx, self.info.ino).await {
            Ok(attr) => {
                self.pinned = Some((attr.mtime, attr.size));
                Ok(true)
            }
            Err(StoreError::Stale(_) | StoreError::NotFound) => Ok(false),
            Err(error) => Err(from_store(error)),
        }
    }

    async fn unpin(&self) {
        if self.pinned.is_some()
            && let Err(error) = self.open.objects.unpin(self.info.ino).await
        {
            tracing::warn!(error = %Chain(&error), ino = %self.info.ino, "an inode stays pinned");
        }
    }

    /// The next batch; `None` when it is not of the object any more.
    async fn batch(&mut self) -> Result<Option<Vec<Bytes>>, StoreError> {
        let size = (self.end - self.at).min(BATCH as u64) as u32;
        let (data, version) = self.open.objects.read(&self.open.cx, self.info.ino, self.at, size).await?;
        if version != self.info.version && !self.same_content(version).await? {
            return Ok(None);
        }
        let got: u64 = data.iter().map(|piece| piece.len() as u64).sum();
        if got != u64::from(size) {
            return Ok(None);
        }
        self.at += got;
        self.begun = true;
        Ok(Some(data))
    }

    /// The version moved: is it still the content that was promised? Before the first byte one looks again instead.
    async fn same_content(&mut self, version: u64) -> Result<bool, StoreError> {
        let Some(pinned) = self.pinned.filter(|_| self.begun) else { return Ok(false) };
        let now = self.open.objects.getattr(&self.open.cx, self.info.ino).await?;
        let same = (now.mtime, now.size) == pinned && now.version == version;
        if same {
            self.info.version = version;
        }
        Ok(same)
    }

    /// Goes on reading in a task of its own until the end, an error, or until nobody listens.
    fn ahead(mut self) -> mpsc::Receiver<Result<Vec<Bytes>, StoreError>> {
        let (sender, receiver) = mpsc::channel(READ_AHEAD);
        tokio::spawn(async move {
            while self.at < self.end {
                let batch = tokio::select! {
                    batch = self.batch() => batch,
                    () = sender.closed() => break,
                };
                let batch = batch.and_then(|batch| batch.ok_or(StoreError::Stale(self.info.ino)));
                let failed = batch.is_err();
                if sender.send(batch).await.is_err() || failed {
                    break;
                }
            }
            self.unpin().await;
        });
        receiver
    }
}

impl Stream for Outgoing {
    type Item = Result<Bytes, StdError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                if piece.is_empty() {
                    continue;
                }
                self.left = self.left.saturating_sub(piece.len() as u64);
                return Poll::Ready(Some(Ok(piece)));
            }
            let Some(more) = &mut self.more else { return Poll::Ready(None) };
            match std::task::ready!(more.poll_recv(cx)) {
                Some(Ok(batch)) => self.ready.extend(batch),
                Some(Err(error)) => {
                    self.more = None;
                    tracing::warn!(error = %Chain(&error), "an answer breaks off");
                    return Poll::Ready(Some(Err(error.into())));
                }
                None => self.more = None,
            }
        }
    }
}

impl ByteStream for Outgoing {
    fn remaining_length(&self) -> RemainingLength {
        usize::try_from(self.left).map_or_else(|_| RemainingLength::unknown(), RemainingLength::new_exact)
    }
}
