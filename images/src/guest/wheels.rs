//! The S3 client in the guest: an unmodified boto3 from its published wheels. Debian's own is too old to take its
//! endpoint and its credentials from the environment the way current clients do.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Error, Result, recipe, root, run, store};

/// Debian's interpreter: the first `python3` of the machine may be a version manager's.
const PYTHON: &str = "/usr/bin/python3";

/// Fetches the wheels that `lock` pins by digest, unless this very lock was fetched before.
pub fn fetch(cache: &Path, lock: &Path) -> Result<PathBuf> {
    let mut key = store::Key::default();
    key.add(store::read(lock)?);
    store::once(cache, "wheels", &key.name(), |folder| {
        let mut pip = run::tool(PYTHON);
        pip.args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]);
        pip.args(["--require-hashes", "--only-binary", ":all:", "--requirement"]).arg(lock);
        run::output(pip.arg("--dest").arg(folder)).map(drop)
    })
}

/// Unpacks the wheels where the guest's Python looks for packages, without the services nobody here calls.
pub fn install(wheels: &Path, tree: &Path) -> Result<()> {
    let site = tree.join("usr/lib/python3/dist-packages");
    store::make_dir(&site)?;
    for wheel in root::sorted(wheels)? {
        run::output(run::tool(PYTHON).args(["-m", "zipfile", "-e"]).arg(&wheel).arg(&site))?;
    }
    for service in root::sorted(&site.join("botocore/data"))? {
        let name = service.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if service.is_dir() && !recipe::AWS_SERVICES.contains(&name.as_str()) {
            fs::remove_dir_all(&service).map_err(Error::io("removing", &service))?;
        }
    }
    root::plain_modes(&site)
}
