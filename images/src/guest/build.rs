//! Puts a guest together, or finds it in the cache.

use std::path::{Path, PathBuf};

use super::kernel::Kernel;
use super::packages::Locked;
use super::store::{self, BuildLock, Key};
use super::{Error, KernelSeries, Result, recipe, root, run, wheels};

/// What to build and where.
#[derive(Debug, Clone)]
pub struct GuestSpec {
    /// The kernel it boots.
    pub kernel: KernelSeries,
    /// Where packages and results are kept; commonly `target/guest`.
    pub cache: PathBuf,
    /// The pinned Python packages of the guest, in pip's format with digests.
    pub python_lock: PathBuf,
}

/// A guest that can be booted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestImage {
    /// The kernel, an ELF file with a PVH entry.
    pub kernel: PathBuf,
    /// The initrd.
    pub initrd: PathBuf,
    /// The root image; attach it read-only as a disk with serial number `root`.
    pub root: PathBuf,
    /// What `uname -r` says in the guest.
    pub release: String,
}

impl GuestImage {
    /// Builds the guest, or returns the one built before. The first build fetches about 100 MB of packages; one
    /// that is in the cache takes milliseconds.
    pub fn build(spec: &GuestSpec) -> Result<GuestImage> {
        let _lock = BuildLock::take(&spec.cache)?;
        let userland = Locked::open(&spec.cache, "userland", |apt| {
            let names: Vec<_> = recipe::PACKAGES.iter().map(|(name, _)| *name).collect();
            apt.with_dependencies(&names)
        })?;
        let userland = userland.without(recipe::DROPPED);
        let series = spec.kernel;
        let linux = Locked::open(&spec.cache, series.name(), |apt| apt.newest(series.package_pattern()))?;
        let python = wheels::fetch(&spec.cache, &spec.python_lock)?;

        let digest = root_key(&userland, &python)?.name();
        let root =
            store::once(&spec.cache, "roots", &digest, |work| make_root(work, &digest, &userland, &python))?;
        let digest = kernel_key(&linux, &userland).name();
        let kernel =
            store::once(&spec.cache, series.name(), &digest, |work| make_kernel(work, &linux, &userland))?;
        let release = String::from_utf8_lossy(&store::read(&kernel.join("release"))?).into_owned();
        Ok(GuestImage {
            kernel: kernel.join("vmlinux"),
            initrd: kernel.join("initrd.cpio"),
            root: root.join("root.erofs"),
            release,
        })
    }
}

/// Everything the root image is made from.
fn root_key(userland: &Locked, python: &Path) -> Result<Key> {
    let mut key = Key::default();
    key.add(recipe::REVISION.to_le_bytes()).add(userland.text());
    key.add(python.file_name().unwrap_or_default().as_encoded_bytes());
    for text in [recipe::PRUNED, recipe::FOLDERS, recipe::AWS_SERVICES].concat() {
        key.add(text);
    }
    for (path, mode, content) in recipe::FILES {
        key.add(path).add(mode.to_le_bytes()).add(content);
    }
    // Another version of the tool may lay the same files out differently. It exits unsuccessfully after --help.
    let version = run::tool("mkfs.erofs").arg("--help").output();
    let version = version.map_err(|source| Error::Start { program: "mkfs.erofs".into(), source })?;
    key.add(version.stderr).add(version.stdout);
    Ok(key)
}

fn make_root(work: &Path, digest: &str, userland: &Locked, python: &Path) -> Result<()> {
    // Outside of the result: it is large and only needed for making the image.
    let tree = tempfile::tempdir_in(work).map_err(Error::io("creating a folder in", work))?;
    root::assemble(tree.path(), userland, python)?;
    root::erofs(tree.path(), digest, &work.join("root.erofs"))
}

/// Everything the kernel and its initrd are made from.
fn kernel_key(linux: &Locked, userland: &Locked) -> Key {
    let mut key = Key::default();
    key.add(recipe::REVISION.to_le_bytes()).add(linux.text()).add(userland.text()).add(recipe::INITRD_INIT);
    for module in recipe::MODULES {
        key.add(module);
    }
    key
}

fn make_kernel(work: &Path, linux: &Locked, userland: &Locked) -> Result<()> {
    let scratch = tempfile::tempdir_in(work).map_err(Error::io("creating a folder in", work))?;
    linux.unpack(scratch.path())?;
    let kernel = Kernel::in_tree(scratch.path())?;
    let busybox = tempfile::tempdir_in(work).map_err(Error::io("creating a folder in", work))?;
    userland.only("busybox-static").unpack(busybox.path())?;
    store::write(&work.join("vmlinux"), kernel.elf()?)?;
    store::write(&work.join("initrd.cpio"), kernel.initrd(&busybox.path().join("bin/busybox"))?)?;
    store::write(&work.join("release"), kernel.release())
}
