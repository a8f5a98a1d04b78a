#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use super::*;
use mooring_policy::ids::VolumeId;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_volume_is_laid_out_privately() {
    let dir = tempfile::tempdir().unwrap();
    let data = DataDir::open(dir.path().join("a/b/data")).unwrap();
    assert!(!data.has_data());
    let volume = data.volume(&"acme".parse().unwrap(), VolumeId(0xbeef));
    assert!(volume.path().ends_with("tenants/acme/000000000000beef"));
    volume.prepare().unwrap();
    volume.prepare().unwrap();
    assert!(data.has_data());
    for path in [data.path(), volume.path(), &volume.meta(), &volume.journal(), &volume.packs()] {
        assert_eq!(mode(path), 0o700, "{}", path.display());
    }
    let lock = volume.lock().unwrap();
    volume.remove(lock).unwrap();
    assert!(!volume.path().exists());
}

#[test]
fn what_cannot_be_used_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let open = dir.path().join("open");
    std::fs::create_dir(&open).unwrap();
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o755)).unwrap();
    let error = DataDir::open(&open).unwrap_err();
    assert!(error.to_string().contains("0755") && error.to_string().contains("chmod 0700"), "{error}");

    let file = dir.path().join("file");
    std::fs::write(&file, b"").unwrap();
    assert!(matches!(DataDir::open(&file), Err(BackendError::NotADirectory { .. })));
    assert!(matches!(DataDir::open(file.join("below")), Err(BackendError::NotADirectory { .. })));

    // A filesystem that is read-only also for root.
    assert!(matches!(
        DataDir::open("/proc/sys/mooring"),
        Err(BackendError::ReadOnly { .. } | BackendError::Io { .. })
    ));
}

#[test]
fn the_lock_is_exclusive_and_goes_with_its_holder() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("LOCK");
    let lock = DirLock::take(&path).unwrap();
    match DirLock::take(&path) {
        Err(BackendError::Locked { pid, path: named }) => {
            assert_eq!((pid, named), (std::process::id().to_string(), path.clone()));
        }
        other => panic!("{other:?}"),
    }
    drop(lock);
    DirLock::take(&path).unwrap();
}
