//! Several gateways over one store.
//!
//! One of them is home: it has the registry and every volume open, and serves. The others are fronts: they listen for the
//! VMs of their hosts, for S3 and for the operator, and carry each connection to the home as it is, over TLS on which both
//! sides show certificates. When the home dies, the first of them to notice takes over by itself.
//!
//! ```text
//!   VM on host b ── channel ──▶ gateway b (front) ══ TLS: "VM acme/two" ══▶ gateway a (home) ──▶ store
//!                                     └──────────── looks at the records ────────────────────────▶ ↑ renews them
//! ```
//!
//! | part | what it is |
//! |---|---|
//! | [`reign`] | becoming home and staying it: the records of [`mooring_store::home`] |
//! | [`front`], [`fronting`] | what is done while another is home |
//! | [`door`], [`roster`] | where the others come in, and how they learn of their VMs |
//! | [`hail`], [`tls`] | what is said first between two gateways, and how they know each other |
//!
//! A gateway that is home no more begins anew as a program: it replaces itself by itself. Every cache, session and
//! lease of before is gone with that, whatever state they were in, and so are locks and sockets.

pub mod door;
pub mod front;
mod fronting;
pub mod hail;
pub mod reign;
pub mod roster;
pub mod settings;
pub mod tls;

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use mooring_policy::rng::SystemRandom;
use mooring_policy::time::{Clock, SystemClock};
use mooring_store::backend::{Backing, DataDir, DirLock};
use mooring_store::home::{Claim, Homes};
use tokio_util::sync::CancellationToken;

use self::front::Front;
use self::fronting::Fronting;
use self::reign::{Follower, Keeper, Note};
use self::settings::PeerConfig;
use self::tls::Tls;
use crate::core::standing::Standing;
use crate::serve::{self, ServeError};
use crate::settings::{Settings, SettingsError};

/// What a gateway that is home among others needs besides.
pub struct Shared {
    /// Which epoch it has.
    pub epoch: u64,
    /// Whether it may serve.
    pub standing: Arc<Standing>,
    /// Time, the same that its standing goes by.
    pub clock: Arc<dyn Clock>,
    /// When nobody was home any more, by that clock.
    pub since: Duration,
    /// How it is reached.
    pub peers: PeerConfig,
    /// Its certificates.
    pub tls: Tls,
}

/// Serves, or leads to who serves, until a signal.
///
/// # Errors
/// [`ServeError`].
pub async fn run(settings: Settings, peers: PeerConfig) -> Result<(), ServeError> {
    let Some(config) = settings.store.config()? else {
        let why = "gateways share an object store: name it with --store-url".to_owned();
        return Err(SettingsError::Value { field: "peers", why }.into());
    };
    let data = DataDir::open(settings.data_dir())?;
    // What the directory notes of its time as home is true only while one process has it.
    let _lock = DirLock::take(&data.path().join("GATEWAY"))?;
    let tls = Tls::read(&peers)?;
    let homes = Homes::of(&Backing::open(&config)?);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let note = Note::of(data.path());
    let mut stopping = std::pin::pin!(serve::stop_signal());
    loop {
        let claim = Claim::new(&peers.name, &peers.address, &SystemRandom);
        let mut follower = Follower::new(homes.clone(), clock.clone(), note.clone(), claim);
        let (name, home, stop) = (peers.name.clone(), follower.home.subscribe(), CancellationToken::new());
        let front = Front { name, tls: tls.clone(), home, stop };
        let mut fronting = Fronting::start(&settings, front)?;
        let claimed = tokio::select! {
            claimed = follower.win() => Some(Ok(claimed)),
            failed = fronting.failed() => Some(Err(failed)),
            stop = stopping.as_mut() => { stop.map_err(ServeError::Signals)?; None }
        };
        fronting.stop().await;
        let Some(claimed) = claimed.transpose()? else { return Ok(()) };
        let since = claimed.since;
        let standing = Standing::shared(clock.clone());
        let epoch = claimed.epoch;
        let mut keeper = Keeper::new(homes.clone(), clock.clone(), standing.clone(), epoch);
        let continues = claimed.own || epoch == 1;
        let entered = tokio::select! {
            entered = keeper.enter(claimed) => entered,
            stop = stopping.as_mut() => { stop.map_err(ServeError::Signals)?; return Ok(()) }
        };
        if !entered {
            continue;
        }
        prepare(&data, &note, epoch, continues)?;
        let keeping = tokio::spawn(keeper.keep());
        let shared = Shared {
            epoch,
            standing: standing.clone(),
            clock: clock.clone(),
            since,
            peers: peers.clone(),
            tls,
        };
        let served = tokio::select! {
            served = serve::home(&settings, Some(shared), stopping.as_mut()) => served,
            why = standing.until_lost() => return Err(start_over(&why)),
        };
        keeping.abort();
        if let Err(error) = homes.free(epoch).await {
            tracing::warn!(%error, "the others learn that this gateway is gone by its silence");
        }
        return served;
    }
}

/// Makes the data directory one of this epoch. Sessions of a time before another gateway was home are nobody's any more:
/// their agents were told so there.
fn prepare(data: &DataDir, note: &Note, epoch: u64, continues: bool) -> Result<(), ServeError> {
    let failed = |source| ServeError::Note { path: data.path().to_owned(), source };
    let sessions = data.path().join("sessions");
    if !continues && sessions.exists() {
        std::fs::remove_dir_all(&sessions).map_err(failed)?;
    }
    note.write(epoch).map_err(failed)
}

/// Replaces this process by a new one of the same program with the same words. Returns only when that fails, and the
/// process then ends, which has the same effect.
fn start_over(why: &str) -> ServeError {
    tracing::error!(
        why,
        "this gateway is home no more: it begins anew, and leads its VMs to the one that is"
    );
    let mut words = std::env::args_os();
    let name = words.next().unwrap_or_else(|| "mooring-gateway".into());
    let source = Command::new("/proc/self/exe").arg0(name).args(words).exec();
    ServeError::StartOver(source)
}
