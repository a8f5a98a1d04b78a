//! Installations from before there was a key ring.
//!
//! They have the realm's key wrapped in `realm/key`, and each tenant's in its row. The engine keeps old rows for a
//! while, so taking keys out of the rows is not enough: all rows are copied into a new engine, sealed by a new key, in
//! `realm/next`, and the ring takes the wrapped keys. From the moment the ring is there the new engine counts; before,
//! the old one. So a stop at any moment is made good by the next open.

use super::ring::Ring;
use super::ring::file::{Place, remove_leftover};
use super::tenant::{Tenant, TenantState};
use super::{RealmError, RealmOptions, open, rows};
use crate::backend::{BackendError, DirLock, VolumeDir, sync_dir};
use crate::failpoints::{Point, pass};
use crate::meta::{Batch, Meta, SlateMeta};
use crate::seal::{TenantKey, TenantKeys, WrappedKey};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const OWNER: &str = "realm";

/// Rows are copied in batches of this many.
const BATCH: usize = 256;

fn old_key(dir: &VolumeDir) -> PathBuf {
    dir.path().join("key")
}

fn next(dir: &VolumeDir) -> VolumeDir {
    VolumeDir::at(dir.path().join("next"))
}

fn unreadable(path: &Path, source: serde_json::Error) -> RealmError {
    RealmError::Row { row: path.display().to_string(), source: source.into() }
}

/// Makes a ring of what an earlier release left; nothing when it left nothing.
pub(super) async fn migrate(
    dir: &VolumeDir,
    lock: &Arc<DirLock>,
    options: &RealmOptions,
) -> Result<Option<Ring>, RealmError> {
    let path = old_key(dir);
    let wrapped: WrappedKey = match std::fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text).map_err(|source| unreadable(&path, source))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(BackendError::io("read", &path, error).into()),
    };
    let key = options.master.need(OWNER, wrapped.master())?.unwrap_key(OWNER, &wrapped)?;
    let only = (crate::seal::KeyGeneration::FIRST, key.clone());
    let keys = Arc::new(TenantKeys::new(key.hash_key(), only, BTreeMap::new()));
    let meta = SlateMeta::open(open::engine(options, dir.clone(), Arc::clone(lock), &keys)).await?;
    let rows = rows::all_raw(&*meta, b"").await?;
    meta.close().await?;

    let masters = options.master.as_ref().clone();
    let ring =
        Ring::begin(Place::new(dir.path()), masters, Arc::clone(&options.random), options.clock.now())?;
    let copied = copy(&rows, &ring, options)?;
    let new = next(dir);
    remove_dir(new.path())?;
    new.prepare()?;
    let meta = SlateMeta::open(open::engine(options, new, Arc::clone(lock), &ring.realm()?)).await?;
    for batch in copied {
        meta.commit(batch).await?;
    }
    meta.close().await?;
    pass(Point::KeyRingBeforeMigration).map_err(|error| BackendError::io("migrate", &path, error))?;
    ring.store().await?;
    tracing::info!("moved the wrapped keys of this installation into its key ring");
    Ok(Some(ring))
}

/// The rows without the tenants' keys, which go into the ring.
fn copy(rows: &[(Bytes, Bytes)], ring: &Ring, options: &RealmOptions) -> Result<Vec<Batch>, RealmError> {
    #[derive(serde::Deserialize)]
    struct Had {
        key: WrappedKey,
    }
    let mut copied = Vec::new();
    let mut batch = Batch::new();
    for (key, value) in rows {
        if batch.len() == BATCH {
            copied.push(std::mem::take(&mut batch));
        }
        if key.first() != Some(&b'T') {
            let schema = *key == open::schema_key();
            let value = if schema { rows::encode(&open::SCHEMA)? } else { value.to_vec() };
            batch.put(key.to_vec(), value);
            continue;
        }
        let (tenant, had): (Tenant, Had) = (rows::decode(key, value)?, rows::decode(key, value)?);
        if tenant.state == TenantState::Active {
            let bound = format!("tenant/{}", tenant.name);
            let master = options.master.need(&bound, had.key.master())?;
            let data: TenantKey = master.unwrap_key(&bound, &had.key)?;
            ring.take(&tenant.name, &data, tenant.created)?;
        }
        batch.put(key.to_vec(), rows::encode(&tenant)?);
    }
    copied.push(batch);
    Ok(copied)
}

/// Ends a migration whose ring is there: the new engine takes the place of the old one.
pub(super) fn finish(dir: &VolumeDir) -> Result<(), RealmError> {
    let new = next(dir);
    if new.path().exists() {
        for (from, to) in [(new.meta(), dir.meta()), (new.journal(), dir.journal())] {
            if from.exists() {
                remove_dir(&to)?;
                pass(Point::KeyRingMidMigration).map_err(|error| BackendError::io("migrate", &to, error))?;
                std::fs::rename(&from, &to).map_err(|error| BackendError::io("rename", &from, error))?;
                sync_dir(dir.path())?;
            }
        }
        remove_dir(new.path())?;
    }
    Ok(remove_leftover(&old_key(dir))?)
}

fn remove_dir(path: &Path) -> Result<(), BackendError> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(BackendError::io("remove", path, error))
        }
        _ => Ok(()),
    }
}
