//! What is unpacked and cloned: this repository's files, packed so that any checkout, also a shallow one, gives the same.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::limited;
use crate::shell;

/// The files of this repository's commit.
pub struct Sources {
    /// As a tar file.
    pub tarball: PathBuf,
    /// As a git bundle of one commit.
    pub bundle: PathBuf,
}

impl Sources {
    /// Packs them into `dir`.
    pub fn make(dir: &Path) -> Result<Sources> {
        let sources = Sources { tarball: dir.join("source.tar"), bundle: dir.join("source.bundle") };
        let tree = dir.join("source");
        fs::create_dir_all(&tree).with_context(|| format!("cannot create {}", tree.display()))?;
        let mut archive = git(&shell::root());
        archive.args(["archive", "--format=tar", "-o"]).arg(&sources.tarball).arg("HEAD");
        shell::output(archive).context("the figures unpack this repository; run them in a git checkout")?;
        let mut unpack = limited(60, "tar");
        unpack.arg("-xf").arg(&sources.tarball).arg("-C").arg(&tree);
        shell::output(unpack)?;
        let who =
            ["-c", "user.name=Mooring", "-c", "user.email=bench@localhost", "-c", "commit.gpgsign=false"];
        for words in [
            &["init", "-q", "-b", "main"][..],
            &["add", "--all", "--force"],
            &[&who[..], &["commit", "-q", "-m", "The files of this repository"]].concat(),
        ] {
            let mut command = git(&tree);
            command.args(words);
            shell::output(command)?;
        }
        let mut bundle = git(&tree);
        bundle.args(["bundle", "create", "-q"]).arg(&sources.bundle).args(["HEAD", "main"]);
        shell::output(bundle)?;
        Ok(sources)
    }
}

fn git(dir: &Path) -> Command {
    let mut command = limited(60, "git");
    // A checkout of another user, as in a container, is read all the same.
    command.arg("-C").arg(dir).args(["-c", "safe.directory=*"]);
    command
}
