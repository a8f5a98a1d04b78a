//! The root image: a trimmed Debian userland in EROFS.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::packages::Locked;
use super::{Error, Result, recipe, run, store, wheels};

/// Programs of busybox that scripts expect under these names.
const SHELLS: &[(&str, &str)] = &[("usr/bin/sh", "busybox"), ("usr/sbin/init", "../bin/busybox")];

/// Fills `tree` with the whole root.
pub fn assemble(tree: &Path, packages: &Locked, python: &Path) -> Result<()> {
    // Debian's merged layout; in place before any package, so that all land behind the links.
    for name in ["bin", "sbin", "lib"] {
        make_folder(&tree.join("usr").join(name))?;
        link(&format!("usr/{name}"), &tree.join(name))?;
    }
    make_folder(&tree.join("usr/lib64"))?;
    link("usr/lib64", &tree.join("lib64"))?;
    packages.unpack(tree)?;
    for pruned in recipe::PRUNED.iter().map(|path| tree.join(path)).filter(|path| path.exists()) {
        fs::remove_dir_all(&pruned).map_err(Error::io("removing", &pruned))?;
    }
    wheels::install(python, tree)?;
    for folder in recipe::FOLDERS {
        make_folder(&tree.join(folder))?;
    }
    for (path, target) in SHELLS {
        let path = tree.join(path);
        if path.symlink_metadata().is_err() {
            link(target, &path)?;
        }
    }
    applets(tree)?;
    for (path, mode, content) in recipe::FILES {
        put(&tree.join(path), *mode, content.as_bytes())?;
    }
    Ok(())
}

/// Links for every busybox program that no package brings in full.
fn applets(tree: &Path) -> Result<()> {
    let busybox = tree.join("usr/bin/busybox");
    let list = run::output(run::tool(&busybox.to_string_lossy()).arg("--list"))?;
    for name in String::from_utf8_lossy(&list).lines().filter(|name| *name != "busybox") {
        let taken =
            ["usr/bin", "usr/sbin"].iter().any(|dir| tree.join(dir).join(name).symlink_metadata().is_ok());
        if !taken {
            link("busybox", &tree.join("usr/bin").join(name))?;
        }
    }
    Ok(())
}

/// Makes an EROFS image of `tree`: owner root, time zero, identifier from `label`; no compression, which under
/// emulation costs more than it saves.
pub fn erofs(tree: &Path, label: &str, image: &Path) -> Result<()> {
    let hash = blake3::hash(label.as_bytes());
    let hex = hash.to_hex();
    let part = |range: std::ops::Range<usize>| hex.get(range).unwrap_or_default().to_owned();
    let uuid = [part(0..8), part(8..12), part(12..16), part(16..20), part(20..32)].join("-");
    let mut mkfs = run::tool("mkfs.erofs");
    mkfs.args(["--quiet", "--all-root", "-T0", "-x-1", &format!("-U{uuid}")]);
    run::output(mkfs.arg(image).arg(tree)).map(drop)
}

/// Creates a folder, and those above it, that everyone may enter, whatever mask this process runs with.
pub fn make_folder(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        make_folder(parent)?;
    }
    fs::create_dir(path).map_err(Error::io("creating", path))?;
    set_mode(path, 0o755)
}

/// Writes a file with exactly this mode.
pub fn put(path: &Path, mode: u32, content: &[u8]) -> Result<()> {
    if let Some(parent) = path.parent() {
        make_folder(parent)?;
    }
    store::write(path, content)?;
    set_mode(path, mode)
}

/// Gives everything below `folder` the modes of data that anyone may read.
pub fn plain_modes(folder: &Path) -> Result<()> {
    for path in sorted(folder)? {
        let kind = path.symlink_metadata().map_err(Error::io("reading", &path))?;
        if kind.is_dir() {
            set_mode(&path, 0o755)?;
            plain_modes(&path)?;
        } else if kind.is_file() {
            set_mode(&path, 0o644)?;
        }
    }
    Ok(())
}

/// The entries of a folder by name: no result may depend on the order a file system lists them in.
pub fn sorted(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).map_err(Error::io("reading", folder))?;
    let mut paths = Vec::new();
    for entry in entries {
        paths.push(entry.map_err(Error::io("reading", folder))?.path());
    }
    paths.sort();
    Ok(paths)
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(Error::io("setting the mode of", path))
}

fn link(target: &str, path: &Path) -> Result<()> {
    symlink(target, path).map_err(Error::io("linking", path))
}
