//! Fetching Debian packages with apt itself, but beside the system: own package lists, own cache, an empty
//! package database. What is installed on this machine neither helps nor harms, and nothing under `/etc` or
//! `/var` is written. Signatures are checked as always; the mirrors are the machine's own.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::packages::Package;
use super::{Error, Result, recipe, run, store};

/// Debian's keys, as the distribution installs them.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// A private apt.
pub struct Apt {
    config: PathBuf,
    debs: PathBuf,
    empty: PathBuf,
}

impl Apt {
    /// Sets up the private state in `cache` and reads the package lists anew.
    pub fn fresh(cache: &Path) -> Result<Apt> {
        let home = cache.join("apt");
        let apt = Apt { config: home.join("apt.conf"), debs: cache.join("debs"), empty: home.join("empty") };
        let state = home.join("state");
        for folder in [&state.join("lists/partial"), &apt.debs.join("partial"), &apt.empty.join("partial")] {
            store::make_dir(folder)?;
        }
        store::write(&state.join("status"), "")?;
        store::write(&home.join("sources.list"), sources()?)?;
        let settings = [
            ("Dir::State", state.display().to_string()),
            ("Dir::State::status", state.join("status").display().to_string()),
            ("Dir::Cache", home.display().to_string()),
            ("Dir::Etc::sourcelist", home.join("sources.list").display().to_string()),
            ("Dir::Etc::sourceparts", "/dev/null".to_owned()),
            ("Dir::Etc::preferences", "/dev/null".to_owned()),
            ("Dir::Etc::preferencesparts", "/dev/null".to_owned()),
            ("APT::Architecture", "amd64".to_owned()),
            ("APT::Install-Recommends", "false".to_owned()),
            // The folder may belong to a user that apt's own sandbox user cannot see.
            ("APT::Sandbox::User", "root".to_owned()),
            ("Acquire::Languages", "none".to_owned()),
            ("Acquire::Retries", "3".to_owned()),
        ];
        let text: String = settings.iter().map(|(key, value)| format!("{key} \"{value}\";\n")).collect();
        store::write(&apt.config, text)?;
        run::output(apt.command("apt-get").args(["--quiet", "update"]))?;
        Ok(apt)
    }

    /// Chooses versions of `names` and of all they depend on, fetches them, and says which they are.
    pub fn with_dependencies(&self, names: &[&str]) -> Result<Vec<Package>> {
        let install = ["--quiet", "--yes", "install"];
        let plan = run::output(self.command("apt-get").args(["--print-uris"]).args(install).args(names))?;
        let archives = format!("Dir::Cache::archives={}", self.debs.display());
        let mut fetch = self.command("apt-get");
        run::output(fetch.args(["--download-only", "-o", &archives]).args(install).args(names))?;
        self.fetched(&plan)
    }

    /// Fetches the newest package whose name fits `pattern`, and nothing that it depends on.
    pub fn newest(&self, pattern: &str) -> Result<Vec<Package>> {
        let list = run::output(self.command("apt-cache").args(["search", "--names-only", pattern]))?;
        let list = String::from_utf8_lossy(&list);
        let names = list.lines().filter_map(|line| line.split(' ').next()).filter(|name| !name.is_empty());
        let newest = names.max_by_key(|name| numbers(name));
        let newest = newest.ok_or_else(|| Error::NoSuchPackage { pattern: pattern.to_owned() })?;
        let plan = run::output(self.command("apt-get").args(["--print-uris", "download", newest]))?;
        run::output(self.command("apt-get").args(["--quiet", "download", newest]).current_dir(&self.debs))?;
        self.fetched(&plan)
    }

    /// Reads lines like `'URI' FILE SIZE HASH`.
    fn fetched(&self, plan: &[u8]) -> Result<Vec<Package>> {
        let plan = String::from_utf8_lossy(plan);
        let files =
            plan.lines().filter(|line| line.starts_with('\'')).filter_map(|line| line.split(' ').nth(1));
        files.filter(|file| file.ends_with(".deb")).map(|file| Package::fetched(&self.debs, file)).collect()
    }

    fn command(&self, program: &str) -> Command {
        let mut command = run::tool(program);
        // Without an own archive folder, what was fetched before would be missing from a plan.
        let archives = format!("Dir::Cache::archives={}", self.empty.display());
        command.env("APT_CONFIG", &self.config).args(["-o", &archives]);
        command
    }
}

/// The numbers in a name, so that 6.12.9 comes before 6.12.100.
fn numbers(name: &str) -> Vec<u64> {
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

/// Source lines for the guest's release at the mirrors this machine already uses.
fn sources() -> Result<String> {
    let format = "$(SITE) $(RELEASE) $(COMPONENT)";
    let known =
        run::output(run::tool("apt-get").args(["indextargets", "--format", format, "Created-By: Packages"]))?;
    let known = String::from_utf8_lossy(&known);
    let known: Vec<Vec<&str>> = known.lines().map(|line| line.split(' ').collect()).collect();
    let host = host_release();
    let site = |suites: &[&str]| {
        known.iter().find_map(|entry| match entry.as_slice() {
            [site, suite, "main"] if suites.contains(suite) => Some(*site),
            _ => None,
        })
    };
    let main =
        site(&[&host, "stable", "oldstable"]).ok_or_else(|| Error::NoMirror { suite: host.clone() })?;
    let signed = if Path::new(KEYRING).exists() { format!("[signed-by={KEYRING}] ") } else { String::new() };
    let line = |site: &str, suite: &str| format!("deb {signed}{site} {suite} main\n");
    let release = recipe::RELEASE;
    let mut lines = line(main, release);
    lines += &line(main, &format!("{release}-updates"));
    lines += &line(main, &format!("{release}-backports"));
    if let Some(security) = site(&[&format!("{host}-security"), "stable-security", "oldstable-security"]) {
        lines += &line(security, &format!("{release}-security"));
    }
    Ok(lines)
}

/// The release this machine runs, as its os-release names it.
fn host_release() -> String {
    let text = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let named = text.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    named.unwrap_or(recipe::RELEASE).trim_matches('"').to_owned()
}

#[cfg(test)]
mod tests {
    use super::numbers;

    #[test]
    fn newest_kernel_is_chosen_by_number_not_by_letter() {
        let names = ["linux-image-6.12.9+deb12-cloud-amd64", "linux-image-6.12.117+deb12-cloud-amd64"];
        assert_eq!(names.iter().max_by_key(|name| numbers(name)), Some(&names[1]));
    }
}
