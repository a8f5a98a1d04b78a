//! Checks and scrubs that somebody asked for: they run beside everything else, and are asked how far they are.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use mooring_policy::ids::VolumeId;
use mooring_protocol::api::{CheckReport, Damage, Finding, Job, ScrubReport};
use mooring_store::error::StoreError;
use mooring_store::realm;
use mooring_store::volume::{self, CheckOptions, Progress, Report, ScrubOptions, Volume};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::core::{Core, CoreError};

/// Who asks how far a job is waits up to this long for its end.
const WAIT: Duration = Duration::from_millis(500);

/// A job, running or over.
struct Running<T> {
    progress: Progress,
    over: CancellationToken,
    outcome: Mutex<Option<Result<T, String>>>,
}

impl<T: Clone> Running<T> {
    async fn status(&self) -> Job<T> {
        // Either way the answer is right.
        let _waited = tokio::time::timeout(WAIT, self.over.cancelled()).await;
        let (done, total) = self.progress.bytes();
        let outcome = self.outcome.lock().clone();
        let running = outcome.is_none();
        let (report, error) = match outcome {
            None => (None, None),
            Some(Ok(report)) => (Some(report), None),
            Some(Err(error)) => (None, Some(error)),
        };
        Job { running, done, total, report, error }
    }
}

/// The last job of each bucket.
struct Jobs<T>(Mutex<HashMap<VolumeId, Arc<Running<T>>>>);

impl<T> Default for Jobs<T> {
    fn default() -> Self {
        Jobs(Mutex::default())
    }
}

impl<T: Clone + Send + 'static> Jobs<T> {
    fn get(&self, id: VolumeId) -> Option<Arc<Running<T>>> {
        self.0.lock().get(&id).cloned()
    }

    /// Starts `work`, unless one is running already; that one is returned then.
    async fn start<F>(
        &self,
        core: &Core,
        id: VolumeId,
        work: impl FnOnce(Arc<Volume>, Arc<Running<T>>) -> F,
    ) -> Result<Arc<Running<T>>, CoreError>
    where
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        let (open, engine) = core.engine(id).await?;
        let mut jobs = self.0.lock();
        if let Some(running) = jobs.get(&id).filter(|job| job.outcome.lock().is_none()) {
            return Ok(Arc::clone(running));
        }
        let (progress, over, outcome) = (Progress::default(), CancellationToken::new(), Mutex::new(None));
        let job = Arc::new(Running { progress, over, outcome });
        jobs.insert(id, Arc::clone(&job));
        let (work, noted) = (work(engine, Arc::clone(&job)), Arc::clone(&job));
        core.spawn(async move {
            let outcome = work.await.map_err(|error| chain(&error));
            *noted.outcome.lock() = Some(outcome);
            noted.over.cancel();
            // Held until here: a volume that is being checked is not idle.
            drop(open);
        });
        Ok(job)
    }
}

/// Checks and scrubs of all buckets.
#[derive(Default)]
pub struct Integrity {
    checks: Jobs<CheckReport>,
    scrubs: Jobs<ScrubReport>,
}

impl Integrity {
    /// Starts a check, or joins the one under way.
    ///
    /// # Errors
    /// The bucket cannot be opened.
    pub async fn check(&self, core: &Core, id: VolumeId, data: bool) -> Result<Job<CheckReport>, CoreError> {
        let work = |volume: Arc<Volume>, job: Arc<Running<CheckReport>>| async move {
            Ok(report(&volume.check_with(&CheckOptions { data }, &job.progress).await?, 0))
        };
        Ok(self.checks.start(core, id, work).await?.status().await)
    }

    /// How far the last check is.
    pub async fn checked(&self, id: VolumeId) -> Option<Job<CheckReport>> {
        Some(self.checks.get(id)?.status().await)
    }

    /// Starts a scrub, or joins the one under way.
    ///
    /// # Errors
    /// The bucket cannot be opened.
    pub async fn scrub(
        &self,
        core: &Core,
        id: VolumeId,
        rate: Option<u64>,
    ) -> Result<Job<ScrubReport>, CoreError> {
        let work = move |volume: Arc<Volume>, job: Arc<Running<ScrubReport>>| async move {
            let done = volume.scrub(&ScrubOptions { rate, anew: true }, &job.progress).await?;
            let volume::ScrubReport { packs, extents, bytes, damaged } = done;
            Ok(ScrubReport { packs, extents, bytes, damaged })
        };
        Ok(self.scrubs.start(core, id, work).await?.status().await)
    }

    /// How far the last scrub is.
    pub async fn scrubbed(&self, id: VolumeId) -> Option<Job<ScrubReport>> {
        Some(self.scrubs.get(id)?.status().await)
    }
}

/// A report as the API has it.
pub fn report(found: &Report, mended: u64) -> CheckReport {
    let finding = |finding: &volume::Finding| Finding {
        kind: finding.kind.as_str().to_owned(),
        what: finding.what.clone(),
        paths: finding.paths.clone(),
    };
    CheckReport {
        inodes: found.inodes,
        orphans: found.orphans,
        extents: found.extents,
        packs: found.packs,
        bytes_read: found.bytes_read,
        total: found.total,
        mended,
        repairable: found.repairable(),
        findings: found.findings.iter().map(finding).collect(),
    }
}

/// Damage of a bucket as the API has it.
pub fn damage(bucket: &realm::Bucket, found: volume::Damage) -> Damage {
    Damage {
        owner: bucket.owner.clone(),
        bucket: bucket.name.clone(),
        pack: found.pack.to_string(),
        offset: found.offset,
        bytes: found.bytes,
        paths: found.paths,
        detail: found.detail,
        since: found.since.to_string(),
    }
}

/// An error with its causes, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
