//! What is mounted where, and taking leftovers down.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Mount points at or below `folder`, deepest last.
pub fn below(folder: &Path) -> Vec<PathBuf> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points =
        table.lines().filter_map(|line| line.split(' ').nth(4)).map(|text| PathBuf::from(unescape(text)));
    points.filter(|point| point.starts_with(folder)).collect()
}

/// Detaches everything below `folder`, also mounts whose server is dead.
pub fn detach_below(folder: &Path) {
    for point in below(folder).iter().rev() {
        // As a plain user fusermount3 may do it; as root umount works for both.
        let done = Command::new("fusermount3").args(["-u", "-z"]).arg(point).output();
        if !done.is_ok_and(|done| done.status.success()) {
            let _ = Command::new("umount").arg("-l").arg(point).output();
        }
    }
}

/// The table writes blanks and backslashes as three octal digits.
fn unescape(text: &str) -> String {
    [(r"\040", " "), (r"\011", "\t"), (r"\012", "\n"), (r"\134", r"\")]
        .iter()
        .fold(text.to_owned(), |text, (code, plain)| text.replace(code, plain))
}
