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

/// A program of this host with the libraries it is linked to, as a layer: a guest has others or none. It is run as
/// `to`, a script.
pub async fn linked_layer(name: &'static str, to: &'static str) -> Result<Layer> {
    let (program, cache) = (host_program(name)?, cache()?);
    let pack = move || -> Result<Layer> {
        let folder = Path::new(to).parent().context("no folder")?.join("lib");
        let inside = |file: &Path| -> Result<String> {
            let name = file.file_name().with_context(|| format!("{} is no file", file.display()))?;
            Ok(folder.join(name).display().to_string())
        };
        let mut files = vec![program.clone()];
        files.extend(libraries(&program)?);
        let loader = files.iter().find(|file| file.display().to_string().contains("/ld-linux"));
        let loader = inside(loader.context("it is linked without a loader")?)?;
        let script = tempfile::NamedTempFile::new()?;
        let starts = format!(
            "#!/bin/sh\nexec {loader} --library-path {} {} \"$@\"\n",
            folder.display(),
            inside(&program)?
        );
        std::fs::write(script.path(), starts)?;
        let mut packed = vec![(to.to_owned(), script.path().to_path_buf())];
        for file in files {
            packed.push((inside(&file)?, file));
        }
        let packed: Vec<_> = packed.iter().map(|(to, from)| (to.as_str(), 0o755, from.as_path())).collect();
        Ok(Layer::build(&cache, &packed)?)
    };
    tokio::task::spawn_blocking(pack).await?.with_context(|| format!("packing {name} for the guest"))
}

/// The files that the dynamic linker would load for a program, itself included, by `ldd`.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let output = std::process::Command::new("ldd").arg(program).output().context("running ldd")?;
    let text = String::from_utf8(output.stdout).context("the answer of ldd")?;
    let paths = text.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    Ok(paths.map(PathBuf::from).collect())
}

/// A program as a layer over a guest's root; it appears in `/usr/local/bin`.
pub async fn program_layer(name: &'static str) -> Result<Layer> {
    let (program, cache) = (guest_program(name)?, cache()?);
    let to = format!("/usr/local/bin/{name}");
    let pack = move || Layer::build(&cache, &[(to.as_str(), 0o755, program.as_path())]);
    tokio::task::spawn_blocking(pack).await?.with_context(|| format!("packing {name} for the guest"))
}
