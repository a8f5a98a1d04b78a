//! Making the journal and the open packs of a host anew from the log.

use super::format::Object;
use super::{Piece, UpstreamError, UpstreamOptions};
use crate::backend::{BackendError, OPEN_LIMIT};
use crate::journal::{self, JournalError, JournalOptions, JournalWriter};
use crate::pack;
use futures::TryStreamExt;
use std::collections::HashSet;

/// An import that is under way. A stop in the middle leaves a journal that ends before the log does, and the next open
/// begins anew.
pub(super) struct Import {
    options: UpstreamOptions,
    /// Packs that the store has whole.
    stored: HashSet<crate::pack::PackId>,
    writer: Option<JournalWriter>,
}

impl Import {
    pub async fn begin(options: &UpstreamOptions) -> Result<Self, UpstreamError> {
        let prefix = options.place.path("packs");
        let list = || options.place.store().list(Some(&prefix)).try_collect::<Vec<_>>();
        let found = options.place.within(OPEN_LIMIT, list).await;
        let found = found.map_err(|error| options.failed("list the packs of a volume in", error))?;
        let ids = found.iter().filter_map(|found| Some(pack::parse_object(found.location.filename()?)?.1));
        Ok(Self { options: options.clone(), stored: ids.collect(), writer: None })
    }

    /// Takes over what an object carries; objects come in order.
    pub async fn add(&mut self, object: Object) -> Result<(), UpstreamError> {
        let (dir, stored) = (self.options.dir.packs(), self.stored.clone());
        let pieces: Vec<Piece> =
            object.pieces.into_iter().filter(|piece| !stored.contains(&piece.pack)).collect();
        let at = dir.clone();
        let put = move || pack::put_pieces(&dir, &pieces);
        let io = |error| BackendError::io("write packs in", &at, error);
        tokio::task::spawn_blocking(put)
            .await
            .map_err(|error| io(std::io::Error::other(error)))?
            .map_err(io)?;
        if self.writer.is_none() {
            let options = JournalOptions::new(
                self.options.dir.journal(),
                self.options.keys.clone(),
                std::sync::Arc::clone(&self.options.random),
            );
            let after = object.head.first_id.saturating_sub(1);
            let recover = move || journal::recover(options, after);
            let recovered = tokio::task::spawn_blocking(recover).await;
            let recovery = recovered.map_err(|error| io(std::io::Error::other(error)))??;
            self.writer = Some(JournalWriter::start(recovery, object.head.epoch));
        }
        let Some(writer) = &mut self.writer else { return Ok(()) };
        for record in object.records {
            let room = writer.journal().reserve(record.body.len()).await?;
            let id = writer.append(record.seq, |out| out.extend_from_slice(&record.body))?;
            drop(room);
            if id != record.id {
                let detail = format!("record {} where {id} belongs", record.id);
                let object = super::object(&self.options.place, object.head.number).to_string();
                return Err(UpstreamError::Corrupt { object, detail });
            }
        }
        Ok(())
    }

    /// Makes it durable.
    pub async fn end(self) -> Result<(), UpstreamError> {
        let Some(writer) = self.writer else { return Ok(()) };
        let closed = writer.journal().close().await;
        match closed {
            Err(JournalError::Closed { .. }) | Ok(()) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
