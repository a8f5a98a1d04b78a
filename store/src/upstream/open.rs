//! Opening the log: finding its end, deciding whether the journal here goes on from it, and taking it over.

use super::format::{self, Content, Head, Kind, Object};
use super::lineage::Lineage;
use super::{Live, State, Upstream, UpstreamError, object};
use crate::backend::{BackendError, OPEN_LIMIT, Place, VolumeDir, sync_dir};
use crate::journal::Progress;
use crate::realm::Durability;
use crate::seal::{KeyGeneration, VolumeKeys};
use futures::{FutureExt, StreamExt, TryStreamExt};
use mooring_policy::rng::Random;
use object_store::{Error, ObjectStoreExt, PutMode};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use tokio::sync::watch;

/// Others may open the volume at the same moment; who loses tries again.
const TRIES: usize = 8;

/// Objects fetched side by side.
const FETCHES: usize = 8;

/// How often bytes that do not check are read again: on their way they may be wrong once and right the next time.
pub(crate) const READ_AGAIN: usize = 4;

/// What the log of a volume needs to open.
#[derive(Clone)]
pub struct UpstreamOptions {
    /// Where it is.
    pub place: Place,
    /// The directory beside it, prepared and locked.
    pub dir: VolumeDir,
    /// Keys of the volume.
    pub keys: VolumeKeys,
    /// Salts come from here.
    pub random: Arc<dyn Random>,
    /// What a sync waits for.
    pub class: Durability,
    /// Opens a volume of class `host` though another host has changes that the store has not.
    pub accept_loss: bool,
    /// What this host is called, for who finds the volume taken.
    pub owner: String,
}

impl UpstreamOptions {
    pub(super) fn failed(&self, op: &'static str, error: Error) -> UpstreamError {
        self.place.backing.error(op, error).into()
    }

    pub(super) async fn numbers(&self) -> Result<Vec<u64>, UpstreamError> {
        let prefix = self.place.path("log");
        let list = || self.place.store().list(Some(&prefix)).try_collect::<Vec<_>>();
        let found = self.place.within(OPEN_LIMIT, list).await;
        let found = found.map_err(|error| self.failed("list the log of a volume in", error))?;
        let mut numbers: Vec<u64> =
            found.iter().filter_map(|found| found.location.filename()?.parse().ok()).collect();
        numbers.sort_unstable();
        // What lies before a gap is there to be in the way, and not of the log any more.
        let gap = numbers.windows(2).rposition(|pair| pair[0] + 1 != pair[1]);
        Ok(numbers.split_off(gap.map_or(0, |before| before + 1)))
    }

    /// An object; `None` when it is not there.
    pub(super) async fn fetch(&self, number: u64) -> Result<Option<Object>, UpstreamError> {
        let path = object(&self.place, number);
        let get = || async { self.place.store().get(&path).await?.bytes().await };
        let mut again = READ_AGAIN;
        loop {
            let bytes = match self.place.within(OPEN_LIMIT, get).await {
                Ok(bytes) => bytes,
                Err(Error::NotFound { .. }) => return Ok(None),
                Err(error) => return Err(self.failed("read the log of a volume in", error)),
            };
            match format::decode(bytes, number, &self.keys, path.as_ref()) {
                Err(UpstreamError::Corrupt { .. }) if again > 0 => again -= 1,
                decoded => return decoded.map(Some),
            }
        }
    }
}

impl Upstream {
    /// Takes the log over: whoever wrote it before writes it no more. Afterwards the directory holds a journal, and
    /// packs, that go on from where the log ends.
    pub async fn open(options: UpstreamOptions) -> Result<Arc<Self>, UpstreamError> {
        for _ in 0..TRIES {
            if let Some(upstream) = Self::try_open(&options).await? {
                return Ok(Arc::new(upstream));
            }
        }
        Err(UpstreamError::Contended { place: options.place.name() })
    }

    /// `None` when somebody else was first.
    async fn try_open(options: &UpstreamOptions) -> Result<Option<Self>, UpstreamError> {
        let numbers = options.numbers().await?;
        let last = match numbers.last() {
            // Nothing removes the last object but the removal of the volume.
            Some(number) => match options.fetch(*number).await? {
                Some(last) => Some(last),
                None => return Ok(None),
            },
            None => None,
        };
        let lineage = Lineage::read(&options.dir)?;
        let ended = last.as_ref().map_or(0, |last| last.head.epoch);
        if last.is_none() && lineage.is_some_and(|lineage| lineage.confirmed > 0) {
            let dir = options.dir.path().display().to_string();
            return Err(UpstreamError::Vanished { place: options.place.name(), dir });
        }
        let ours = lineage.is_some_and(|lineage| lineage.covers(ended));
        if !ours {
            if let Some(last) = &last {
                refuse_loss(options, last).await?;
            }
            set_aside(options, lineage)?;
        }
        let epoch = ended.max(lineage.unwrap_or_default().highest()) + 1;
        let confirmed = if ours { ended } else { 0 };
        Lineage { confirmed, claiming: epoch }.write(&options.dir)?;
        let Some(opened) = claim(options, &Claim::behind(last.as_ref(), ours), epoch).await? else {
            return Ok(None);
        };
        let mut upstream = Self::new(options, opened, epoch);
        upstream.look_over(options, &numbers, !ours && last.is_some()).await?;
        Lineage { confirmed: epoch, claiming: epoch }.write(&options.dir)?;
        Ok(Some(upstream))
    }

    fn new(options: &UpstreamOptions, opened: Head, epoch: u64) -> Self {
        let live = VecDeque::from([Live {
            number: opened.number,
            last_id: opened.last_id,
            bytes: 0,
            packs: Vec::new(),
            stays: opened.kind == Kind::Taken,
        }]);
        let next_number = opened.number + 1;
        let state = State { next_number, queue: VecDeque::new(), queued_bytes: 0, live, wanted: 0 };
        let progress =
            Progress { synced_id: opened.last_id, synced_seq: opened.last_seq, ..Progress::default() };
        Self {
            place: options.place.clone(),
            dir: options.dir.clone(),
            keys: options.keys.clone(),
            random: Arc::clone(&options.random),
            class: options.class,
            owner: options.owner.clone(),
            epoch,
            state: Mutex::new(state),
            progress: watch::channel(progress).0,
            listeners: Mutex::new(Vec::new()),
            wake: Arc::default(),
            stop: watch::channel(false).0,
            journal: OnceLock::new(),
            packs: Mutex::new(std::sync::Weak::new()),
            imported: AtomicU64::new(0),
            task: Mutex::new(None),
        }
    }

    /// Reads the objects that were there before; makes the journal here anew from them when `import`.
    async fn look_over(
        &mut self,
        options: &UpstreamOptions,
        numbers: &[u64],
        import: bool,
    ) -> Result<(), UpstreamError> {
        let mut importing = if import { Some(super::import::Import::begin(options).await?) } else { None };
        // Boxed, or the compiler cannot tell that whoever opens a volume may move between threads.
        let fetches: Vec<_> = numbers.iter().map(|number| options.fetch(*number).boxed()).collect();
        let mut objects = futures::stream::iter(fetches).buffered(FETCHES);
        let mut live = VecDeque::new();
        while let Some(object) = objects.try_next().await? {
            // Collected a moment ago: the tables have it.
            let Some(object) = object else { continue };
            let packs = object.pieces.iter().map(|piece| piece.pack).collect();
            let bytes = object.bytes();
            let Head { number, last_id, kind, .. } = object.head;
            live.push_back(Live { number, last_id, bytes, packs, stays: kind == Kind::Taken });
            if let Some(importing) = &mut importing {
                importing.add(object).await?;
            }
        }
        if let Some(importing) = importing {
            importing.end().await?;
            self.imported.store(self.stored(), Ordering::Release);
        }
        let state = self.state.get_mut();
        live.append(&mut state.live);
        state.live = live;
        Ok(())
    }

    /// Makes the journal and the packs here anew from the log, whatever they hold: they turned out to lack what the
    /// store has.
    pub(crate) async fn import_again(&self, options: &UpstreamOptions) -> Result<(), UpstreamError> {
        set_aside(options, Some(Lineage { confirmed: self.epoch, claiming: self.epoch }))?;
        let numbers: Vec<u64> = self.state.lock().live.iter().map(|live| live.number).collect();
        let mut importing = super::import::Import::begin(options).await?;
        for number in numbers {
            if let Some(object) = options.fetch(number).await? {
                importing.add(object).await?;
            }
        }
        importing.end().await?;
        self.imported.store(self.stored(), Ordering::Release);
        Ok(())
    }
}

/// What a host has acknowledged and the store has not is not given up unasked.
async fn refuse_loss(options: &UpstreamOptions, last: &Object) -> Result<(), UpstreamError> {
    if options.class == Durability::Store || last.head.kind == Kind::Closed {
        return Ok(());
    }
    let (owner, stored, place) = (last.owner.clone(), last.head.last_id, options.place.name());
    let path = object(&options.place, last.head.number);
    let head = options.place.within(OPEN_LIMIT, || options.place.store().head(&path)).await;
    let since = head.map_err(|error| options.failed("read the log of a volume in", error))?.last_modified;
    let since = since.to_string();
    if !options.accept_loss {
        return Err(UpstreamError::HostOwns { place, owner, stored, since });
    }
    let what =
        "given up: what this host acknowledged behind the record named, which came to the store at that time";
    tracing::warn!(%place, %owner, stored, since, "{what}");
    Ok(())
}

/// Makes room for the log's own content: another host has written since. Of class `host` what is here is kept aside,
/// because it was acknowledged and the store may not have it.
fn set_aside(options: &UpstreamOptions, lineage: Option<Lineage>) -> Result<(), BackendError> {
    let dir = &options.dir;
    let io = |error| BackendError::io("set aside what is in", dir.path(), error);
    let epoch = lineage.unwrap_or_default().highest();
    for path in [dir.journal(), dir.packs()] {
        let used = std::fs::read_dir(&path).map_err(io)?.next().is_some();
        if !used {
            continue;
        }
        if options.class == Durability::Store {
            std::fs::remove_dir_all(&path).map_err(io)?;
            continue;
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let to = dir.path().join(format!("lost-{epoch}-{name}"));
        if to.exists() {
            std::fs::remove_dir_all(&to).map_err(io)?;
        }
        std::fs::rename(&path, &to).map_err(io)?;
        tracing::warn!(kept = %to.display(), "another host has written this volume since; what was here is kept aside");
    }
    dir.prepare()?;
    sync_dir(dir.path())
}

/// Where an open puts its first object, and what is in the log by then.
pub(super) struct Claim {
    pub kind: Kind,
    pub number: u64,
    pub last_id: u64,
    pub last_seq: u64,
}

impl Claim {
    /// Behind the last object. A writer that closed the volume, or was of this host, writes no more.
    pub fn behind(last: Option<&Object>, ours: bool) -> Claim {
        let head = last.map(|last| &last.head);
        let (last_id, last_seq) = head.map_or((0, 0), |head| (head.last_id, head.last_seq));
        let ended = ours || head.is_none_or(|head| head.kind == Kind::Closed);
        let kind = if ended { Kind::Opened } else { Kind::Taken };
        Claim { kind, number: head.map_or(0, |head| head.number) + 1, last_id, last_seq }
    }
}

/// Puts our first object behind the last. `None` when somebody else did so first.
pub(super) async fn claim(
    options: &UpstreamOptions,
    at: &Claim,
    epoch: u64,
) -> Result<Option<Head>, UpstreamError> {
    let Claim { kind, number, last_id, last_seq } = *at;
    let mut head = Head {
        kind,
        volume: options.keys.volume().get(),
        epoch,
        number,
        first_id: last_id + 1,
        last_id,
        last_seq,
        generation: KeyGeneration::FIRST,
        salt: [0; 32],
    };
    let content = Content { owner: &options.owner, pieces: &[], records: &[] };
    let bytes = bytes::Bytes::from(format::encode(&mut head, &content, &options.keys, &*options.random)?);
    let path = object(&options.place, head.number);
    let put = || options.place.store().put_opts(&path, bytes.clone().into(), PutMode::Create.into());
    match options.place.within(OPEN_LIMIT, put).await {
        Ok(_) => Ok(Some(head)),
        Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => {
            // Ours, when the answer to an earlier request was lost.
            let found = options.fetch(head.number).await?;
            Ok(found.is_some_and(|found| found.head.salt == head.salt).then_some(head))
        }
        Err(error) => Err(options.failed("open a volume in", error)),
    }
}
