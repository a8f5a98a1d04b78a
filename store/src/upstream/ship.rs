//! Shipping: from the journal to the store.

use super::format::{self, Content, Head, Kind, Object};
use super::open::READ_AGAIN;
use super::{Live, Record, SHIP_BYTES, SHIP_EVERY, Upstream, UpstreamError};
use crate::backend::Given;
use crate::journal::{Journal, JournalError};
use crate::pack::Riders;
use crate::seal::KeyGeneration;
use bytes::Bytes;
use object_store::{Error, ObjectStoreExt, PutMode};
use std::sync::Arc;
use std::time::Duration;

/// Why shipping ends.
enum End {
    /// The volume is let go of.
    Stopped,
    /// Somebody else has the log.
    Fenced,
    /// Something is wrong that asking again does not cure.
    Failed(UpstreamError),
}

impl From<UpstreamError> for End {
    fn from(error: UpstreamError) -> Self {
        Self::Failed(error)
    }
}

impl Upstream {
    /// Begins to ship what `journal` holds; `tail` is what it holds behind the log's end. `seq` is the sequence of the
    /// last record that is stored, if the journal told.
    pub(crate) fn begin(self: &Arc<Self>, journal: Arc<Journal>, tail: Vec<Record>, seq: u64) {
        self.progress.send_modify(|progress| progress.synced_seq = progress.synced_seq.max(seq));
        for record in tail {
            self.push(record);
        }
        if self.journal.set(journal).is_err() {
            return;
        }
        let task = tokio::spawn(Arc::clone(self).run());
        *self.task.lock() = Some(task);
    }

    async fn run(self: Arc<Self>) {
        let Some(journal) = self.journal.get() else { return };
        let end = self.ship_all(journal).await;
        let path = self.dir.path().to_path_buf();
        let reason = match end {
            End::Stopped => JournalError::Closed { path },
            End::Fenced => {
                let left = self.state.lock().queue.len();
                tracing::error!(place = %self.place.name(), records = left, "another gateway has taken the volume over");
                JournalError::Fenced { path, left: left as u64 }
            }
            End::Failed(error) => {
                tracing::error!(place = %self.place.name(), error = &error as &dyn std::error::Error, "shipping stopped");
                JournalError::Stopped { path, reason: error.to_string() }
            }
        };
        journal.stop(reason.clone());
        self.publish(|progress| progress.stopped = Some(reason));
    }

    async fn ship_all(&self, journal: &Journal) -> End {
        let (mut synced, mut stop) = (journal.watch(), self.stop.subscribe());
        // Since when records wait that nobody waits for.
        let mut due = std::pin::pin!(None::<tokio::time::Sleep>);
        loop {
            if *stop.borrow_and_update() {
                return End::Stopped;
            }
            let durable = synced.borrow_and_update().synced_id;
            let behind = durable > self.stored() || self.has_errands();
            let hurry = {
                let state = self.state.lock();
                state.wanted > self.stored() && durable >= state.wanted || state.queued_bytes > SHIP_BYTES
            };
            if behind && (hurry || due.as_ref().as_pin_ref().is_some_and(|due| due.is_elapsed())) {
                due.set(None);
                match self.ship(durable).await {
                    Ok(()) => continue,
                    Err(end) => return end,
                }
            }
            if behind && due.is_none() {
                due.set(Some(tokio::time::sleep(SHIP_EVERY)));
            }
            let waiting = async {
                match due.as_mut().as_pin_mut() {
                    Some(due) => due.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = stop.changed() => {}
                changed = synced.changed() => if changed.is_err() { return End::Stopped },
                () = self.wake.notified() => {}
                () = waiting => {}
            }
        }
    }

    fn has_errands(&self) -> bool {
        self.packs().is_some_and(|packs| packs.has_errands())
    }

    /// Ships everything up to record `target`, which the journal has made durable with all it names.
    async fn ship(&self, target: u64) -> Result<(), End> {
        let packs = self.packs();
        // What is to be deleted is deleted when the records that let go of it are there.
        let errands = packs.as_ref().map(|packs| packs.take_errands()).unwrap_or_default();
        let mut riders = match &packs {
            Some(packs) if self.stored() < target => packs.ride(&self.stop).await.ok_or(End::Stopped)?,
            _ => Riders::default(),
        };
        while self.stored() < target {
            let records = self.portion(target);
            let Some((first, last)) = records.first().zip(records.last()) else { break };
            let head = self.head(Kind::Records, (first.id, last.id, last.seq));
            let content = Content { owner: &self.owner, pieces: &riders.pieces, records: &records };
            let number = self.put(head, &content).await?;
            self.shipped(number, &records, &riders);
            if let Some(packs) = &packs {
                packs.rode(std::mem::take(&mut riders));
            }
        }
        if let Some(packs) = packs.filter(|_| !errands.is_empty()) {
            packs.run_errands(errands, &self.stop).await;
        }
        Ok(())
    }

    /// The next records for one object.
    fn portion(&self, target: u64) -> Vec<Record> {
        let state = self.state.lock();
        let mut bytes = 0;
        let fits = |record: &&Record| {
            let more = record.id <= target && bytes < SHIP_BYTES;
            bytes += record.body.len();
            more
        };
        state.queue.iter().take_while(fits).cloned().collect()
    }

    fn head(&self, kind: Kind, (first_id, last_id, last_seq): (u64, u64, u64)) -> Head {
        let number = self.state.lock().next_number;
        let volume = self.keys.volume().get();
        Head {
            kind,
            volume,
            epoch: self.epoch,
            number,
            first_id,
            last_id,
            last_seq,
            generation: KeyGeneration::FIRST,
            salt: [0; 32],
        }
    }

    fn shipped(&self, number: u64, records: &[Record], riders: &Riders) {
        let Some(last) = records.last() else { return };
        {
            let mut state = self.state.lock();
            state.next_number = number + 1;
            state.queue.drain(..records.len());
            let bodies = records.iter().map(|record| record.body.len()).sum::<usize>();
            state.queued_bytes -= bodies;
            let bytes = bodies + riders.pieces.iter().map(|piece| piece.bytes.len()).sum::<usize>();
            let packs = riders.pieces.iter().map(|piece| piece.pack).collect();
            state.live.push_back(Live { number, last_id: last.id, bytes, packs, stays: false });
        }
        self.publish(|progress| (progress.synced_id, progress.synced_seq) = (last.id, last.seq));
    }

    /// Puts an object under the next number. Returns the number.
    async fn put(&self, mut head: Head, content: &Content<'_>) -> Result<u64, End> {
        loop {
            let bytes = Bytes::from(format::encode(&mut head, content, &self.keys, &*self.random)?);
            let path = self.object(head.number);
            let put = || self.place.store().put_opts(&path, bytes.clone().into(), PutMode::Create.into());
            match self.place.patiently(&self.stop, put).await {
                Ok(_) => return Ok(head.number),
                Err(Given::Stopped) => return Err(End::Stopped),
                Err(Given::Answer(Error::AlreadyExists { .. } | Error::Precondition { .. })) => {}
                Err(Given::Answer(error)) => return Err(self.failed("write the log of a volume in", error)),
            }
            let found = self.found(head.number).await?;
            if found.head.salt == head.salt {
                // Ours: the answer to an earlier request was lost.
                return Ok(head.number);
            }
            if found.head.epoch >= self.epoch || !found.head.kind.opens() {
                return Err(End::Fenced);
            }
            // Somebody who came before us and was late to notice; it wrote nothing.
            head.number += 1;
        }
    }

    /// The object under a number, which is there.
    async fn found(&self, number: u64) -> Result<Object, End> {
        let path = self.object(number);
        let get = || async { self.place.store().get(&path).await?.bytes().await };
        let mut again = READ_AGAIN;
        loop {
            let bytes = match self.place.patiently(&self.stop, get).await {
                Ok(bytes) => bytes,
                Err(Given::Stopped) => return Err(End::Stopped),
                Err(Given::Answer(error)) => return Err(self.failed("read the log of a volume in", error)),
            };
            match format::decode(bytes, number, &self.keys, path.as_ref()) {
                Err(UpstreamError::Corrupt { .. }) if again > 0 => again -= 1,
                decoded => return Ok(decoded?),
            }
        }
    }

    fn failed(&self, op: &'static str, error: Error) -> End {
        End::Failed(self.place.backing.error(op, error).into())
    }

    /// Ends shipping. With everything in the store the log says so, and another host may go on from it unasked.
    /// Waits for `limit` at most; what is not there by then is in the journal here.
    pub(crate) async fn close(&self, limit: Duration) {
        let Some(journal) = self.journal.get() else { return };
        let done = tokio::time::timeout(limit, async {
            let complete = self.want(journal.appended_id()).await.is_ok();
            self.stop();
            let task = self.task.lock().take();
            if let Some(task) = task {
                // It ends by itself; a failure was told where it happened.
                let _ = task.await;
            }
            if !complete {
                return false;
            }
            let progress = self.progress.borrow().clone();
            let head =
                self.head(Kind::Closed, (progress.synced_id + 1, progress.synced_id, progress.synced_seq));
            let content = Content { owner: &self.owner, pieces: &[], records: &[] };
            let Ok(bytes) = format::encode(&mut head.clone(), &content, &self.keys, &*self.random) else {
                return false;
            };
            let path = self.object(head.number);
            let put = self.place.store().put_opts(&path, bytes.into(), PutMode::Create.into());
            put.await.is_ok()
        });
        let closed = done.await;
        self.stop();
        if closed != Ok(true) {
            tracing::warn!(place = %self.place.name(), "closed before the store had everything; this host keeps the rest");
        }
    }
}
