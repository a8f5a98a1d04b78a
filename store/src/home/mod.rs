//! Which gateway serves an installation, when several use one store.
//!
//! # Safety is elsewhere
//!
//! Two writers of a volume, or of the registry, are told apart by the store itself: the log's numbers ([`crate::upstream`])
//! and the engine's epochs stop whoever came first, whatever clocks and records say. What is kept here only decides who
//! tries. It spares gateways from throwing each other out, tells the others where to send their guests, and bounds how
//! long one that cannot reach the store goes on answering from its caches.
//!
//! # The record is names
//!
//! ```text
//! realm/homes/<epoch>/claim        made once by whoever takes the installation over: who it is, where it listens
//! realm/homes/<epoch>/<beat>       made by that gateway, one after the other, while it lives
//! realm/homes/<epoch>/free         made by it when it lets go
//! ```
//!
//! Every object is made with "create if absent" and never changed, which is all that is asked of a store elsewhere. One
//! listing is one look at everything. A request that is late, repeated, or whose answer is lost does nothing that was not
//! meant: an old number made again changes no maximum.
//!
//! # Time
//!
//! No two gateways compare clocks. The holder counts [`TTL`] from *before* it began a beat that it then saw confirmed: the
//! beat is there, and behind it no claim of a higher epoch. A watcher counts from *after* it first saw the last beat, and
//! a little longer ([`PATIENCE`]), so that clocks may run apart by six in a hundred. Having claimed, it looks again: a beat
//! that came meanwhile was confirmed before the claim, and is waited for. So at no moment do two gateways think that
//! they may serve, unless a clock stands still, as that of a suspended host does. [`machine`] has this as plain values.

mod machine;

pub use machine::{Look, PATIENCE, RENEW, Renewal, TTL, Tenure, Verdict, Watch};

use crate::backend::{BackendError, Backing, Place};
use futures::TryStreamExt;
use mooring_policy::rng::Random;
use object_store::path::Path;
use object_store::{Error, ObjectStoreExt, PutMode};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Version of what a claim says.
const VERSION: u8 = 1;

/// How long one question to the store may take before it counts as unanswered.
const ASK_LIMIT: Duration = Duration::from_secs(4);

/// Beats that are left behind the newest. A listing beside a deletion must not find none.
const KEEP: u64 = 3;

/// What a gateway says of itself when it takes over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Of this form; others are refused.
    version: u8,
    /// Its name, which its certificate has.
    pub gateway: String,
    /// Where it listens for other gateways: `host:port`.
    pub address: String,
    /// By which it knows its own claim when the answer was lost.
    salt: String,
}

impl Claim {
    /// A claim of the gateway called `gateway`, reached at `address`.
    #[must_use]
    pub fn new(gateway: &str, address: &str, random: &dyn Random) -> Self {
        let mut salt = [0; 16];
        random.fill(&mut salt);
        let (gateway, address) = (gateway.to_owned(), address.to_owned());
        Self { version: VERSION, gateway, address, salt: hex::encode(salt) }
    }
}

/// What can go wrong with homes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HomeError {
    /// The store does not do what was asked.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// Somebody else claimed this epoch first.
    #[error("another gateway was first to take over {place}")]
    Taken {
        /// The installation.
        place: String,
    },
    /// A claim is not what was written.
    #[error("{object} does not say which gateway is home: {detail}; remove it when no gateway runs")]
    Corrupt {
        /// The object.
        object: String,
        /// What is wrong with it.
        detail: String,
    },
}

/// The records of one installation.
#[derive(Clone, Debug)]
pub struct Homes {
    place: Place,
    root: Path,
}

impl Homes {
    /// Those in `store`.
    #[must_use]
    pub fn of(store: &Backing) -> Self {
        let place = store.realm();
        let root = place.path("homes");
        Self { place, root }
    }

    /// What the records say now; `None` when nobody was ever home.
    pub async fn look(&self) -> Result<Option<Look>, HomeError> {
        let list = || self.place.store().list(Some(&self.root)).try_collect::<Vec<_>>();
        let found = self.place.within(ASK_LIMIT, list).await;
        let found = found.map_err(|error| self.failed("look for gateways in", error))?;
        Ok(Look::at(found.iter().filter_map(|found| {
            let mut parts = found.location.prefix_match(&self.root)?;
            let (epoch, what) = (parts.next()?, parts.next()?);
            Some((epoch.as_ref().parse().ok()?, what.as_ref().to_owned()))
        })))
    }

    /// What the gateway that claimed `epoch` said of itself.
    pub async fn claim_of(&self, epoch: u64) -> Result<Option<Claim>, HomeError> {
        let path = self.path(epoch, "claim");
        let get = || async { self.place.store().get(&path).await?.bytes().await };
        let bytes = match self.place.within(ASK_LIMIT, get).await {
            Ok(bytes) => bytes,
            Err(Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(self.failed("read which gateway is home from", error)),
        };
        let corrupt = |detail| HomeError::Corrupt { object: path.to_string(), detail };
        let claim: Claim = serde_json::from_slice(&bytes).map_err(|error| corrupt(error.to_string()))?;
        match claim.version {
            VERSION => Ok(Some(claim)),
            found => Err(corrupt(format!("it has version {found}, this program reads {VERSION}"))),
        }
    }

    /// Takes `epoch`, which must be the one after the last.
    ///
    /// # Errors
    /// [`HomeError::Taken`] when somebody else was first.
    pub async fn claim(&self, epoch: u64, claim: &Claim) -> Result<(), HomeError> {
        let path = self.path(epoch, "claim");
        let corrupt = |error: serde_json::Error| HomeError::Corrupt {
            object: path.to_string(),
            detail: error.to_string(),
        };
        let bytes = bytes::Bytes::from(serde_json::to_vec(claim).map_err(corrupt)?);
        match self.create(&path, bytes).await {
            Ok(()) => {}
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => {
                // Ours, when the answer to an earlier request was lost.
                if self.claim_of(epoch).await?.as_ref() != Some(claim) {
                    return Err(HomeError::Taken { place: self.place.name() });
                }
            }
            Err(error) => return Err(self.failed("say which gateway is home in", error)),
        }
        // A claim that was long on its way may come after higher ones.
        match self.look().await? {
            Some(look) if look.epoch == epoch => Ok(()),
            _ => Err(HomeError::Taken { place: self.place.name() }),
        }
    }

    /// Says that the gateway of `epoch` lives. What is answered may be of before: ask for a [`Homes::look`] after it.
    pub async fn beat(&self, epoch: u64, beat: u64) -> Result<(), HomeError> {
        let path = self.path(epoch, &machine::beat_name(beat));
        match self.create(&path, bytes::Bytes::new()).await {
            Ok(()) | Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(()),
            Err(error) => Err(self.failed("say that this gateway lives in", error)),
        }
    }

    /// Removes a beat that newer ones have made useless, and whatever is of long ago. Nothing depends on it.
    pub async fn forget(&self, look: &Look) {
        for (epoch, what) in look.useless(KEEP) {
            let path = self.path(epoch, &what);
            match self.place.store().delete(&path).await {
                Ok(()) | Err(Error::NotFound { .. }) => {}
                Err(error) => {
                    tracing::debug!(%path, %error, "a record of long ago stays until the next time");
                }
            }
        }
    }

    /// Lets go of `epoch`: the next gateway need not wait.
    pub async fn free(&self, epoch: u64) -> Result<(), HomeError> {
        match self.create(&self.path(epoch, machine::FREE), bytes::Bytes::new()).await {
            Ok(()) | Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(()),
            Err(error) => Err(self.failed("let go of", error)),
        }
    }

    async fn create(&self, path: &Path, bytes: bytes::Bytes) -> Result<(), Error> {
        let put = || self.place.store().put_opts(path, bytes.clone().into(), PutMode::Create.into());
        self.place.within(ASK_LIMIT, put).await.map(drop)
    }

    fn path(&self, epoch: u64, what: &str) -> Path {
        self.root.clone().join(machine::number(epoch)).join(what)
    }

    fn failed(&self, op: &'static str, error: Error) -> HomeError {
        self.place.backing.error(op, error).into()
    }
}
