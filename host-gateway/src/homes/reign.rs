//! Becoming home, and staying it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mooring_policy::time::Clock;
use mooring_store::home::{Claim, HomeError, Homes, Look, RENEW, Tenure, Verdict, Watch};
use tokio::sync::watch;

use crate::core::standing::Standing;

/// How often a gateway that is not home looks whether there is one.
const POLL: Duration = Duration::from_millis(800);

/// Pause after a look that failed.
const AGAIN: Duration = Duration::from_millis(300);

/// Which gateway is home.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    /// Its epoch.
    pub epoch: u64,
    /// What it says of itself.
    pub claim: Claim,
}

/// Looks at the records until this gateway is the one to take over.
pub struct Follower {
    homes: Homes,
    clock: Arc<dyn Clock>,
    watch: Watch,
    note: Note,
    claim: Claim,
    /// Where the others are led to.
    pub home: watch::Sender<Option<Home>>,
}

impl Follower {
    /// One that would say `claim` of itself.
    pub fn new(homes: Homes, clock: Arc<dyn Clock>, note: Note, claim: Claim) -> Follower {
        let home = watch::channel(None).0;
        Follower { homes, clock, watch: Watch::default(), note, claim, home }
    }

    /// Waits until nobody is home, and claims the next epoch. May be given up at any moment.
    pub async fn win(&mut self) -> Claimed {
        loop {
            match self.look().await {
                Ok(Verdict::Take(epoch)) => match self.claim(epoch).await {
                    Ok(since) => {
                        tracing::warn!(epoch, gateway = self.claim.gateway, "taking over");
                        let own = self.note.read() == Some(epoch - 1);
                        return Claimed { epoch, since, own, watch: std::mem::take(&mut self.watch) };
                    }
                    Err(HomeError::Taken { .. }) => {}
                    Err(error) => self.complain(&error).await,
                },
                Ok(Verdict::Held { until, .. }) => {
                    let left = until.saturating_sub(self.clock.monotonic()) + Duration::from_millis(1);
                    tokio::time::sleep(left.min(POLL)).await;
                }
                Err(error) => self.complain(&error).await,
            }
        }
    }

    async fn claim(&self, epoch: u64) -> Result<Duration, HomeError> {
        let since = self.clock.monotonic();
        self.homes.claim(epoch, &self.claim).await?;
        Ok(since)
    }

    async fn look(&mut self) -> Result<Verdict, HomeError> {
        let look = self.homes.look().await?;
        let verdict = self.watch.looked(self.clock.monotonic(), look.as_ref());
        let Some(look) = look else { return Ok(verdict) };
        if self.note.read() == Some(look.epoch) {
            // This gateway was home when it died, and nobody has come since: nobody need be waited for.
            return Ok(Verdict::Take(look.epoch + 1));
        }
        if self.home.borrow().as_ref().map(|home| home.epoch) != Some(look.epoch)
            && let Some(claim) = self.homes.claim_of(look.epoch).await?
        {
            tracing::info!(
                epoch = look.epoch,
                gateway = claim.gateway,
                address = claim.address,
                "another gateway is home"
            );
            self.home.send_replace(Some(Home { epoch: look.epoch, claim }));
        }
        Ok(verdict)
    }

    async fn complain(&self, error: &HomeError) {
        let cause = std::error::Error::source(error).map(ToString::to_string);
        tracing::warn!(%error, cause, "cannot learn which gateway is home; asking again");
        tokio::time::sleep(AGAIN).await;
    }
}

/// An epoch that this gateway has claimed.
pub struct Claimed {
    /// Which.
    pub epoch: u64,
    /// When nobody was home any more.
    pub since: Duration,
    /// The one before was its own, so nobody else may still serve.
    pub own: bool,
    watch: Watch,
}

/// The epoch in which this data directory last served, beside it. From this a gateway that starts again knows that it
/// was home itself, and whether what it left of sessions still means anything.
#[derive(Clone, Debug)]
pub struct Note(PathBuf);

impl Note {
    /// That of a data directory.
    pub fn of(data: &Path) -> Note {
        Note(data.join("home-epoch"))
    }

    /// What it says; nothing when it cannot be read, and then everybody is waited for.
    pub fn read(&self) -> Option<u64> {
        std::fs::read_to_string(&self.0).ok()?.trim().parse().ok()
    }

    /// Notes that this gateway serves in `epoch`. On the disk before anything is served.
    ///
    /// # Errors
    /// What the system says.
    pub fn write(&self, epoch: u64) -> std::io::Result<()> {
        let beside = self.0.with_extension("new");
        let mut file = std::fs::File::create(&beside)?;
        std::io::Write::write_all(&mut file, format!("{epoch}\n").as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&beside, &self.0)?;
        std::fs::File::open(self.0.parent().unwrap_or(Path::new("/")))?.sync_all()
    }
}

/// Keeps an epoch, until it is let go of or somebody else has it.
pub struct Keeper {
    homes: Homes,
    clock: Arc<dyn Clock>,
    standing: Arc<Standing>,
    tenure: Tenure,
}

impl Keeper {
    /// For an epoch just claimed. Nothing may be served before [`Keeper::enter`] has returned.
    pub fn new(homes: Homes, clock: Arc<dyn Clock>, standing: Arc<Standing>, epoch: u64) -> Keeper {
        Keeper { homes, clock, standing, tenure: Tenure::new(epoch) }
    }

    /// Waits until whoever was home before may serve no more. False when another has come meanwhile.
    pub async fn enter(&mut self, mut claimed: Claimed) -> bool {
        loop {
            let (still, look) = self.renew().await;
            if !still {
                return false;
            }
            let over = match (&look, claimed.own) {
                (Some(look), false) => claimed.watch.is_over(claimed.epoch, self.clock.monotonic(), look),
                (_, true) => None,
                (None, false) => Some(self.clock.monotonic() + AGAIN),
            };
            match over {
                None => break,
                Some(at) => {
                    let left = at.saturating_sub(self.clock.monotonic()) + Duration::from_millis(1);
                    tokio::time::sleep(left.min(RENEW)).await;
                }
            }
        }
        self.standing.extend(self.tenure.until());
        true
    }

    /// One beat. False when somebody else has taken over; what was seen, when anything was.
    async fn renew(&mut self) -> (bool, Option<Look>) {
        let renewal = self.tenure.begin(self.clock.monotonic());
        let asked = async {
            self.homes.beat(self.tenure.epoch(), renewal.beat).await?;
            self.homes.look().await
        };
        match asked.await {
            Ok(look) => (self.tenure.confirm(renewal, look.as_ref()), look),
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(%error, cause, "cannot renew that this gateway is home; asking again");
                (true, None)
            }
        }
    }

    /// Renews until somebody else has taken over. To be spawned, and given up when the gateway stops.
    pub async fn keep(mut self) {
        let mut lapsed = false;
        loop {
            tokio::time::sleep(RENEW).await;
            let (still, look) = self.renew().await;
            if !still {
                return self.standing.lose("another gateway is home now");
            }
            self.standing.extend(self.tenure.until());
            match (self.standing.serves(), lapsed) {
                (false, false) => {
                    tracing::error!(
                        "the store does not confirm that this gateway is home: nothing is served until it does"
                    );
                }
                (true, true) => tracing::info!("this gateway is home again"),
                _ => {}
            }
            lapsed = !self.standing.serves();
            if let Some(look) = look {
                self.homes.forget(&look).await;
            }
        }
    }
}
