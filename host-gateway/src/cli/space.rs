//! Limits, and what buckets take: parts of `bucket` and `tenant`.

use clap::Args;
use mooring_cli::output::bytes;
use mooring_protocol::api::{BucketShow, GcDone, Limit, QuotaChange, QuotaUse};

/// Limits on the command line.
#[derive(Args, Clone, Copy, Debug)]
pub struct QuotaArgs {
    /// Most bytes that files may have together, copies and clones counted in full: 500M, 10G or none
    #[arg(long, value_name = "BYTES")]
    quota: Option<Limit>,
    /// Most files and folders: 1000000 or none
    #[arg(long, value_name = "N")]
    max_files: Option<Limit>,
}

impl QuotaArgs {
    /// What is to change.
    pub fn change(self) -> QuotaChange {
        QuotaChange { bytes: self.quota, files: self.max_files }
    }
}

/// Limits in a sentence.
pub fn quota_text(q: &QuotaUse) -> String {
    let of = |limit: Limit, show: &dyn Fn(u64) -> String| match limit.0 {
        Some(limit) => format!(" of {}", show(limit)),
        None => ", no limit".to_owned(),
    };
    format!(
        "{}{}; {} files{}",
        bytes(q.used_bytes),
        of(q.bytes, &bytes),
        q.used_files,
        of(q.files, &|n| n.to_string())
    )
}

/// A bucket and what it takes.
pub fn show_text(b: &BucketShow) -> String {
    let gc = &b.gc;
    let damaged = match gc.damaged_extents {
        0 => String::new(),
        n => format!("; {n} damaged runs could not be moved"),
    };
    [
        format!(
            "bucket        {} of {}, volume {}, created {}",
            b.bucket.name, b.bucket.owner, b.bucket.volume, b.bucket.created
        ),
        format!("files         {} in {} files and folders", bytes(b.logical_bytes), b.files),
        format!(
            "stored        {} live and {} dead in {} packs",
            bytes(b.stored_bytes),
            bytes(b.dead_bytes),
            b.packs
        ),
        format!(
            "saved         {} by sharing, {} by compression",
            bytes(b.saved_by_dedup),
            bytes(b.saved_by_compression)
        ),
        format!("quota         {}", quota_text(&b.quota)),
        format!(
            "giving back   {}: {} in {} packs, {} moved since it was opened{damaged}",
            gc.state,
            bytes(gc.freed_bytes),
            gc.freed_packs,
            bytes(gc.moved_bytes)
        ),
    ]
    .join("\n")
}

/// What a collection did, in a sentence.
pub fn gc_text(d: &GcDone) -> String {
    let damaged = match d.damaged_extents {
        0 => String::new(),
        n => format!("; {n} damaged runs could not be moved: mooring-gateway bucket check"),
    };
    format!(
        "gave back {} in {} packs, moved {}{damaged}",
        bytes(d.freed_bytes),
        d.freed_packs,
        bytes(d.moved_bytes)
    )
}
