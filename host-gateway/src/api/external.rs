//! External buckets in the API's words: checked before they are believed, shown without their secret.

use mooring_external::{Look, REFRESH, SPOOL_BYTES, probe};
use mooring_protocol::api::{External, ExternalCreate};
use mooring_store::realm::{self, Attach, SealedSecret};
use zeroize::Zeroizing;

use super::error::ApiFailure;
use crate::core::external::{place, refusal};

/// Below this the other store would be asked all the time.
const MIN_REFRESH_MS: u64 = 500;

pub(super) fn shown(row: realm::External) -> External {
    External {
        url: format!("s3://{}/{}", row.bucket, row.prefix),
        endpoint: row.endpoint,
        region: row.region,
        access_key: row.access_key,
        read_only: row.read_only,
        refresh_ms: row.refresh_ms,
    }
}

/// The row, once the other store has let us list the bucket.
pub(super) async fn wanted(asked: ExternalCreate) -> Result<Attach, ApiFailure> {
    let invalid = |why: &str| Err(ApiFailure::invalid(why));
    let (bucket, prefix) = split(&asked.url)?;
    if let Some(endpoint) = &asked.endpoint
        && !(endpoint.starts_with("http://") || endpoint.starts_with("https://"))
    {
        return invalid("the endpoint must begin with http:// or https://");
    }
    if asked.access_key.is_empty() || asked.secret_key.is_empty() || asked.region.is_empty() {
        return invalid("region, access key and secret must be given");
    }
    let refresh_ms = asked.refresh_ms.unwrap_or(REFRESH.as_millis() as u64);
    if refresh_ms < MIN_REFRESH_MS {
        return invalid("the refresh time must be 500ms at least");
    }
    let look = Look::default();
    let modes = (asked.file_mode.unwrap_or(look.file_mode), asked.dir_mode.unwrap_or(look.dir_mode));
    if modes.0 > 0o777 || modes.1 > 0o777 {
        return invalid("a mode has nine permission bits: 0 to 777, octal");
    }
    let secret = Zeroizing::new(asked.secret_key);
    let external = realm::External {
        path_style: asked.path_style.unwrap_or(asked.endpoint.is_some()),
        endpoint: asked.endpoint,
        region: asked.region,
        bucket,
        prefix,
        access_key: asked.access_key,
        secret: SealedSecret::none(),
        read_only: asked.read_only,
        refresh_ms,
        owner: (asked.uid, asked.gid),
        modes,
        spool_bytes: asked.spool_bytes.unwrap_or(SPOOL_BYTES),
    };
    let tried = probe(&place(&external, secret.clone())).await;
    tried.map_err(|error| ApiFailure::conflict(refusal(&asked.url, &error)))?;
    Ok(Attach { external, secret })
}

/// Bucket and prefix of `s3://BUCKET/PREFIX`; the prefix ends with a slash or is empty.
fn split(url: &str) -> Result<(String, String), ApiFailure> {
    let rest = url.strip_prefix("s3://").unwrap_or_default();
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.is_empty() {
        return Err(ApiFailure::invalid("an external bucket is named s3://BUCKET or s3://BUCKET/PREFIX"));
    }
    let slash = if prefix.is_empty() || prefix.ends_with('/') { "" } else { "/" };
    Ok((bucket.to_owned(), format!("{prefix}{slash}")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_prefix_is_whole_components() {
        let parts = |url| split(url).map(|(bucket, prefix)| format!("{bucket} {prefix}"));
        assert_eq!(parts("s3://photos").unwrap(), "photos ");
        assert_eq!(parts("s3://photos/").unwrap(), "photos ");
        assert_eq!(parts("s3://photos/2026/may").unwrap(), "photos 2026/may/");
        assert_eq!(parts("s3://photos/2026/").unwrap(), "photos 2026/");
        assert!(parts("photos").is_err() && parts("s3:///x").is_err());
    }
}
