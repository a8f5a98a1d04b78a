//! This repository as one file that can be cloned from: a git bundle.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::artifacts;

/// Packs the repository's commit and its history into `folder`. Returns the bundle and the commit's id.
pub fn bundle(folder: &Path) -> Result<(PathBuf, String)> {
    let source = artifacts::repository();
    let head = git(&source, &["rev-parse", "HEAD"])
        .context("the story clones this repository; run it in a git checkout with a commit")?;
    let file = folder.join("mooring.bundle");
    let name = file.to_str().context("the temporary folder is not text")?;
    if git(&source, &["rev-parse", "--is-shallow-repository"])? != "true" {
        git(&source, &["bundle", "create", "-q", name, "HEAD", "--branches"])?;
        return Ok((file, head));
    }
    // The history of a shallow clone cannot be bundled: it names commits that are not there. Its files can, as a
    // commit without parents in a repository of our own.
    let own = folder.join("own.git");
    git(&source, &["init", "-q", "--bare", own.to_str().context("the temporary folder is not text")?])?;
    let objects = git(&source, &["rev-parse", "--path-format=absolute", "--git-path", "objects"])?;
    std::fs::write(own.join("objects/info/alternates"), objects + "\n").context("borrowing objects")?;
    let tree = git(&source, &["rev-parse", "HEAD^{tree}"])?;
    let who = ["-c", "user.name=Mooring", "-c", "user.email=story@localhost"];
    let head =
        git(&own, &[&who[..], &["commit-tree", "-m", "The files of this repository", &tree]].concat())?;
    git(&own, &["update-ref", "refs/heads/main", &head])?;
    git(&own, &["symbolic-ref", "HEAD", "refs/heads/main"])?;
    git(&own, &["bundle", "create", "-q", name, "HEAD", "--branches"])?;
    Ok((file, head))
}

fn git(folder: &Path, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new("git");
    // A checkout of another user, as in a container, is read all the same.
    command.arg("-C").arg(folder).args(["-c", "safe.directory=*"]).args(arguments);
    let done = command.output().context("starting git")?;
    let said = String::from_utf8_lossy(&done.stderr).trim().to_owned();
    ensure!(done.status.success(), "git {}: {said}", arguments.join(" "));
    Ok(String::from_utf8_lossy(&done.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn the_bundle_can_be_cloned() {
        let dir = tempfile::tempdir().unwrap();
        let (bundle, head) = bundle(dir.path()).unwrap();
        git(dir.path(), &["clone", "-q", bundle.to_str().unwrap(), "clone"]).unwrap();
        let clone = dir.path().join("clone");
        assert_eq!(git(&clone, &["rev-parse", "HEAD"]).unwrap(), head);
        assert_eq!(git(&clone, &["status", "--porcelain"]).unwrap(), "");
    }
}
