//! The guest image is a function of its packages: the same ones make the same bytes, anywhere, and are built once.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use mooring_images::guest::{GuestImage, GuestSpec, KernelSeries, Layer};

/// The cache that the VM tests use: packages fetched by one test serve all.
fn cache() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("guest")
}

fn spec(cache: &Path) -> GuestSpec {
    let python_lock = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("tests/python.lock");
    GuestSpec { kernel: KernelSeries::V6_12, cache: cache.to_owned(), python_lock }
}

fn digest(path: &Path) -> blake3::Hash {
    blake3::hash(&fs::read(path).unwrap())
}

/// Another folder, in memory where there is room: another file system lists folders in another order, and neither
/// that nor the path may matter.
fn elsewhere() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let free = rustix::fs::statvfs(memory).map_or(0, |room| room.f_bavail * room.f_frsize);
    let folder = if free > 1 << 30 { memory.to_owned() } else { std::env::temp_dir() };
    tempfile::tempdir_in(folder).unwrap()
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() { copy_folder(&path, &target) } else { fs::copy(&path, &target).map(drop).unwrap() }
    }
}

#[test]
fn a_second_build_from_the_same_packages_has_the_same_bytes() {
    let first = GuestImage::build(&spec(&cache())).unwrap();
    let other = elsewhere();
    for lock in ["userland.lock", "linux-6.12.lock"] {
        fs::copy(cache().join(lock), other.path().join(lock)).unwrap();
    }
    for folder in ["debs", "wheels"] {
        copy_folder(&cache().join(folder), &other.path().join(folder));
    }
    let second = GuestImage::build(&spec(other.path())).unwrap();
    assert_ne!(first.root, second.root, "it was built, not found");
    assert_eq!(digest(&first.kernel), digest(&second.kernel));
    assert_eq!(digest(&first.initrd), digest(&second.initrd));
    assert_eq!(digest(&first.root), digest(&second.root));
    assert!(!other.path().join("apt").exists(), "with locks and packages there, no mirror is asked");
}

#[test]
fn a_build_that_was_done_is_found() {
    let first = GuestImage::build(&spec(&cache())).unwrap();
    let made = fs::metadata(&first.root).unwrap();
    let again = GuestImage::build(&spec(&cache())).unwrap();
    assert_eq!(first, again);
    assert_eq!(made.ino(), fs::metadata(&again.root).unwrap().ino(), "the very same file");
}

#[test]
fn a_changed_package_is_refused() {
    GuestImage::build(&spec(&cache())).unwrap();
    let other = elsewhere();
    let lock = fs::read_to_string(cache().join("userland.lock")).unwrap();
    fs::write(other.path().join("userland.lock"), &lock).unwrap();
    fs::copy(cache().join("linux-6.12.lock"), other.path().join("linux-6.12.lock")).unwrap();
    for folder in ["debs", "wheels"] {
        copy_folder(&cache().join(folder), &other.path().join(folder));
    }
    let line = lock.lines().find(|line| line.starts_with("busybox-static ")).unwrap();
    let deb = other.path().join("debs").join(line.rsplit(' ').next().unwrap());
    let mut bytes = fs::read(&deb).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&deb, bytes).unwrap();
    let error = GuestImage::build(&spec(other.path())).unwrap_err().to_string();
    assert!(error.contains("busybox-static") && error.contains("its lock says"), "{error}");
}

#[test]
fn a_layer_depends_on_its_files_alone() {
    let here = tempfile::tempdir().unwrap();
    let program = here.path().join("program");
    fs::write(&program, b"#!/bin/sh\necho one\n").unwrap();
    let build =
        |cache: &str| Layer::build(&here.path().join(cache), &[("/usr/bin/p", 0o755, &program)]).unwrap();
    let (one, two) = (build("a"), build("b"));
    assert_eq!(digest(&one.image), digest(&two.image));
    assert_eq!(one, build("a"), "found again");
    fs::write(&program, b"#!/bin/sh\necho two\n").unwrap();
    assert_ne!(digest(&build("a").image), digest(&one.image));
}
