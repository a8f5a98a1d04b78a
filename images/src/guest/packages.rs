//! A set of packages, pinned: what the first build chose is written down and used from then on.

use std::path::{Path, PathBuf};

use super::apt::Apt;
use super::{Error, Result, run, store};

/// One pinned package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// Debian's name for it.
    pub name: String,
    /// Its version as the file name writes it.
    pub version: String,
    /// Digest of the file.
    pub sha256: String,
    /// The file's name in the package folder.
    pub file: String,
}

impl Package {
    /// Describes a package file that apt fetched: `name_version_architecture.deb`.
    pub fn fetched(debs: &Path, file: &str) -> Result<Package> {
        let mut parts = file.split('_');
        let (name, version) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let sha256 = store::sha256(&debs.join(file))?;
        Ok(Package { name: name.to_owned(), version: version.to_owned(), sha256, file: file.to_owned() })
    }

    fn line(&self) -> String {
        format!("{} {} {} {}\n", self.name, self.version, self.sha256, self.file)
    }

    fn parse(line: &str) -> Option<Package> {
        match line.split(' ').collect::<Vec<_>>().as_slice() {
            [name, version, sha256, file] if !file.contains('/') => Some(Package {
                name: (*name).to_owned(),
                version: (*version).to_owned(),
                sha256: (*sha256).to_owned(),
                file: (*file).to_owned(),
            }),
            _ => None,
        }
    }
}

/// A locked set and where its files are.
#[derive(Debug)]
pub struct Locked {
    debs: PathBuf,
    packages: Vec<Package>,
}

impl Locked {
    /// Reads the lock `name` in `cache`, or chooses and fetches the packages and writes it. A lock whose files
    /// are gone is made anew: mirrors keep only the newest versions, so fetching the old ones is no promise.
    pub fn open(
        cache: &Path,
        name: &str,
        choose: impl FnOnce(&Apt) -> Result<Vec<Package>>,
    ) -> Result<Locked> {
        let lock = cache.join(format!("{name}.lock"));
        let debs = cache.join("debs");
        if let Ok(text) = std::fs::read_to_string(&lock) {
            let packages = parse(&lock, &text)?;
            if packages.iter().all(|package| debs.join(&package.file).is_file()) {
                return Ok(Locked { debs, packages });
            }
        }
        let mut packages = choose(&Apt::fresh(cache)?)?;
        packages.sort_by(|a, b| a.name.cmp(&b.name));
        store::write(&lock, packages.iter().map(Package::line).collect::<String>())?;
        Ok(Locked { debs, packages })
    }

    /// Leaves out packages that the guest does not need; a trailing `*` stands for any ending.
    pub fn without(mut self, dropped: &[&str]) -> Locked {
        let drop = |name: &str| {
            dropped.iter().any(|pattern| match pattern.strip_suffix('*') {
                Some(head) => name.starts_with(head),
                None => name == *pattern,
            })
        };
        self.packages.retain(|package| !drop(&package.name));
        self
    }

    /// The one package of that name.
    pub fn only(&self, name: &str) -> Locked {
        let packages = self.packages.iter().filter(|package| package.name == name).cloned().collect();
        Locked { debs: self.debs.clone(), packages }
    }

    /// The set as text: its part of the build's digest.
    pub fn text(&self) -> String {
        self.packages.iter().map(Package::line).collect()
    }

    /// Checks every file against the lock and unpacks it over `into`, in the lock's order. Only files: nothing a
    /// package would run at installation runs here.
    pub fn unpack(&self, into: &Path) -> Result<()> {
        for package in &self.packages {
            let path = self.debs.join(&package.file);
            let found = store::sha256(&path)?;
            if found != package.sha256 {
                return Err(Error::Digest { path, expected: package.sha256.clone(), found });
            }
            let files = run::output(run::tool("dpkg-deb").arg("--fsys-tarfile").arg(&path))?;
            // Links like /lib -> usr/lib stay links; setuid bits stay also for a plain user.
            let flags =
                ["--extract", "--keep-directory-symlink", "--preserve-permissions", "--no-same-owner"];
            run::filter(run::tool("tar").args(flags).arg("--directory").arg(into), &files)?;
        }
        Ok(())
    }
}

fn parse(lock: &Path, text: &str) -> Result<Vec<Package>> {
    let bad = |at: usize| Error::Lock { path: lock.to_owned(), line: at + 1 };
    text.lines().enumerate().map(|(at, line)| Package::parse(line).ok_or_else(|| bad(at))).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    fn package(name: &str) -> Package {
        Package {
            name: name.into(),
            version: "1%3a2".into(),
            sha256: "ab".repeat(32),
            file: format!("{name}_1%3a2_amd64.deb"),
        }
    }

    #[test]
    fn a_lock_reads_back_as_written() {
        let all = [package("git"), package("perl-base")];
        let text: String = all.iter().map(Package::line).collect();
        assert_eq!(parse(Path::new("x.lock"), &text).unwrap(), all);
        let torn = parse(Path::new("x.lock"), "git 1").unwrap_err();
        assert_eq!(
            torn.to_string(),
            "x.lock:1: not `name version sha256 file`; delete the lock to make it anew"
        );
        assert!(parse(Path::new("x.lock"), "git 1 00 ../../etc/passwd").is_err());
    }

    #[test]
    fn dropping_takes_names_and_beginnings() {
        let packages = ["git", "git-man", "perl", "perl-base"].map(package).to_vec();
        let kept = Locked { debs: PathBuf::new(), packages }.without(&["git-man", "perl*"]);
        assert_eq!(kept.packages, [package("git")]);
    }
}
