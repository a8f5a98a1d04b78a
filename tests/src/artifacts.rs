//! Where the programs and images under test are. `cargo xtask` builds them; a missing one is an error that says so.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use mooring_images::guest::{GuestImage, GuestSpec, KernelSeries, Layer};

/// The folder build results go to.
pub fn target_dir() -> Result<PathBuf> {
    if let Some(dir) = std::env::var_os("CARGO_TARGET_DIR") {
        return Ok(repository().join(dir));
    }
    Ok(repository().join("target"))
}

/// The repository's root.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// A program for this host: from `MOORING_BIN_DIR`, or of the profile this test was built with.
pub fn host_program(name: &str) -> Result<PathBuf> {
    if let Some(dir) = std::env::var_os("MOORING_BIN_DIR") {
        return built(Path::new(&dir).join(name));
    }
    // A test binary lies in <target>/<profile>/deps, an example or bin one folder higher.
    let this = std::env::current_exe().context("this program has no path")?;
    let beside = this.ancestors().skip(1).take(2).map(|dir| dir.join(name)).find(|path| path.is_file());
    match beside {
        Some(path) => Ok(path),
        None => built(target_dir()?.join("debug").join(name)),
    }
}

/// A static program for guests.
pub fn guest_program(name: &str) -> Result<PathBuf> {
    let dir = match std::env::var_os("MOORING_GUEST_BIN_DIR") {
        Some(dir) => PathBuf::from(dir),
        None => target_dir()?.join("x86_64-unknown-linux-gnu/release"),
    };
    built(dir.join(name))
}

/// A tool that `cargo xtask setup` installs for this project alone.
pub fn tool(name: &str) -> Result<PathBuf> {
    let path = target_dir()?.join("tools/bin").join(name);
    if !path.is_file() {
        bail!("{} is missing; run `cargo xtask setup`", path.display());
    }
    Ok(path)
}

/// The Python that has the S3 client.
pub fn python() -> Result<PathBuf> {
    let path = target_dir()?.join("python/bin/python");
    if !path.exists() {
        bail!("{} is missing; run `cargo xtask setup`", path.display());
    }
    Ok(path)
}

fn built(path: PathBuf) -> Result<PathBuf> {
    if !path.is_file() {
        bail!("{} is missing; run `cargo xtask build`", path.display());
    }
    Ok(path)
}

fn cache() -> Result<PathBuf> {
    Ok(target_dir()?.join("guest"))
}

/// The guest image with this kernel: built before, or now.
pub async fn guest(kernel: KernelSeries) -> Result<GuestImage> {
    let spec = GuestSpec { kernel, cache: cache()?, python_lock: repository().join("tests/python.lock") };
    let built = tokio::task::spawn_blocking(move || GuestImage::build(&spec)).await?;
    built.with_context(|| format!("building the guest with {}", kernel.name()))
}

/// A program as a layer over a guest's root; it appears in `/usr/local/bin`.
pub async fn program_layer(name: &'static str) -> Result<Layer> {
    let (program, cache) = (guest_program(name)?, cache()?);
    let to = format!("/usr/local/bin/{name}");
    let pack = move || Layer::build(&cache, &[(to.as_str(), 0o755, program.as_path())]);
    tokio::task::spawn_blocking(pack).await?.with_context(|| format!("packing {name} for the guest"))
}
