//! Every metric: name, unit and meaning in one file, recorded through `observe_…` functions.
//!
//! Labels are few and bounded: never a tenant's names of objects, and tenants only where the operator has to tell them
//! apart. All names begin with `mooring_`.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// Which operation, with which outcome (a [`mooring_protocol::status::Status`] name).
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Operation {
    /// Through which door: `files`, `s3`, `api`.
    pub door: &'static str,
    /// Which operation.
    pub op: &'static str,
    /// How it ended.
    pub status: &'static str,
}

/// Which operation.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Timed {
    /// Through which door.
    pub door: &'static str,
    /// Which operation.
    pub op: &'static str,
}

/// Which way bytes go.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Moved {
    /// Through which door.
    pub door: &'static str,
    /// `in` or `out`.
    pub direction: &'static str,
}

/// Bytes of a bucket.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct BucketBytes {
    /// Whose.
    pub tenant: String,
    /// Which.
    pub bucket: String,
    /// `logical`, `live`, `dead`, `saved_by_dedup` or `saved_by_compression`.
    pub what: &'static str,
}

/// How a recall ended.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Recalled {
    /// `returned` or `evicted`.
    pub outcome: &'static str,
}

/// All metrics of the gateway.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    operations: Family<Operation, Counter>,
    seconds: Family<Timed, Histogram, fn() -> Histogram>,
    bytes: Family<Moved, Counter>,
    buckets: Family<BucketBytes, Gauge>,
    recalls: Family<Recalled, Counter>,
    recall_seconds: Histogram,
    revocation_seconds: Histogram,
    sessions: Gauge,
    volumes: Gauge,
    refused_frames: Counter<u64, AtomicU64>,
    damaged_extents: Gauge,
}

/// 16 us to 8 s.
fn latency() -> Histogram {
    Histogram::new(exponential_buckets(0.000_016, 2.0, 20))
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("mooring");
        let operations = Family::default();
        registry.register(
            "operations",
            "Operations ended, by door, operation and status",
            operations.clone(),
        );
        let seconds = Family::new_with_constructor(latency as fn() -> Histogram);
        registry.register("operation_seconds", "Time from request to answer", seconds.clone());
        let bytes = Family::default();
        registry.register("data_bytes", "File and object bytes moved", bytes.clone());
        let buckets = Family::default();
        registry.register("bucket_bytes", "What open buckets take and save", buckets.clone());
        let recalls = Family::default();
        registry.register("recalls", "Leases recalled, by how it ended", recalls.clone());
        let recall_seconds = latency();
        registry.register("recall_seconds", "Time from recall to its end", recall_seconds.clone());
        let revocation_seconds = latency();
        registry.register(
            "revocation_seconds",
            "Time from revoke to the last confirmation",
            revocation_seconds.clone(),
        );
        let sessions = Gauge::default();
        registry.register("sessions", "Agents' sessions known", sessions.clone());
        let volumes = Gauge::default();
        registry.register("open_volumes", "Volumes open", volumes.clone());
        let refused_frames = Counter::default();
        registry.register(
            "refused_frames",
            "Connections ended because of a malformed frame",
            refused_frames.clone(),
        );
        let damaged_extents = Gauge::default();
        registry.register(
            "damaged_extents",
            "Stored extents known not to check, of open volumes",
            damaged_extents.clone(),
        );
        Metrics {
            registry,
            operations,
            seconds,
            bytes,
            buckets,
            recalls,
            recall_seconds,
            revocation_seconds,
            sessions,
            volumes,
            refused_frames,
            damaged_extents,
        }
    }
}

impl Metrics {
    /// An operation ended.
    pub fn observe_operation(
        &self,
        door: &'static str,
        op: &'static str,
        status: &'static str,
        took: Duration,
    ) {
        self.operations.get_or_create(&Operation { door, op, status }).inc();
        self.seconds.get_or_create(&Timed { door, op }).observe(took.as_secs_f64());
    }

    /// Data went `in` or `out`.
    pub fn observe_bytes(&self, door: &'static str, direction: &'static str, bytes: u64) {
        self.bytes.get_or_create(&Moved { door, direction }).inc_by(bytes);
    }

    /// What the open buckets take, all at once: the others are forgotten.
    pub fn observe_buckets(&self, now: impl IntoIterator<Item = (BucketBytes, u64)>) {
        self.buckets.clear();
        for (labels, bytes) in now {
            self.buckets.get_or_create(&labels).set(i64::try_from(bytes).unwrap_or(i64::MAX));
        }
    }

    /// A recall ended by return (`true`) or by eviction.
    pub fn observe_recall(&self, returned: bool, took: Duration) {
        let outcome = if returned { "returned" } else { "evicted" };
        self.recalls.get_or_create(&Recalled { outcome }).inc();
        self.recall_seconds.observe(took.as_secs_f64());
    }

    /// A grant was taken back and everybody confirmed or was fenced.
    pub fn observe_revocation(&self, took: Duration) {
        self.revocation_seconds.observe(took.as_secs_f64());
    }

    /// How many sessions there are now.
    pub fn observe_sessions(&self, now: usize) {
        self.sessions.set(i64::try_from(now).unwrap_or(i64::MAX));
    }

    /// How many volumes are open now.
    pub fn observe_volumes(&self, now: usize) {
        self.volumes.set(i64::try_from(now).unwrap_or(i64::MAX));
    }

    /// How many extents are known to be damaged.
    pub fn observe_damage(&self, now: usize) {
        self.damaged_extents.set(i64::try_from(now).unwrap_or(i64::MAX));
    }

    /// A peer broke the framing.
    pub fn observe_refused_frame(&self) {
        self.refused_frames.inc();
    }

    /// The text that Prometheus scrapes (OpenMetrics 1.0).
    pub fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a failed unwrap is the test's failure

    use super::*;

    #[test]
    fn what_was_observed_is_in_the_text() {
        let metrics = Metrics::default();
        metrics.observe_operation("files", "lookup", "Ok", Duration::from_micros(40));
        metrics.observe_bytes("s3", "out", 4096);
        let text = metrics.text().unwrap();
        assert!(
            text.contains(r#"mooring_operations_total{door="files",op="lookup",status="Ok"} 1"#),
            "{text}"
        );
        assert!(text.contains(r#"mooring_data_bytes_total{door="s3",direction="out"} 4096"#), "{text}");
    }
}
