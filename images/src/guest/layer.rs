//! Files laid over a guest's root at boot, without touching the root image.

use std::path::{Component, Path, PathBuf};

use super::store::{self, Key};
use super::{Error, Result, root};

/// A small image of a few files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// The EROFS image; attach it as a disk with serial number `layer0`, `layer1`, ...
    pub image: PathBuf,
}

impl Layer {
    /// Packs files from this host: each as (path in the guest, mode, file here). Found again in `cache` when all
    /// contents are the same.
    pub fn build(cache: &Path, files: &[(&str, u32, &Path)]) -> Result<Layer> {
        let mut contents = Vec::new();
        let mut key = Key::default();
        for (to, mode, from) in files {
            let inside = inside(Path::new(to))?;
            let content = store::read(from)?;
            key.add(inside.as_os_str().as_encoded_bytes()).add(mode.to_le_bytes()).add(&content);
            contents.push((inside, *mode, content));
        }
        let digest = key.name();
        let home = store::once(cache, "layers", &digest, |work| {
            let tree = tempfile::tempdir().map_err(Error::io("creating", std::env::temp_dir()))?;
            for (path, mode, content) in &contents {
                root::put(&tree.path().join(path), *mode, content)?;
            }
            root::erofs(tree.path(), &digest, &work.join("layer.erofs"))
        })?;
        Ok(Layer { image: home.join("layer.erofs") })
    }
}

/// The path relative to the root; it may not climb out.
fn inside(path: &Path) -> Result<PathBuf> {
    let bad = || Error::GuestPath { path: path.to_owned() };
    let relative = path.strip_prefix("/").map_err(|_| bad())?;
    let plain = relative.components().all(|part| matches!(part, Component::Normal(_)));
    if plain && relative.file_name().is_some() { Ok(relative.to_owned()) } else { Err(bad()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_stays_inside_the_guest() {
        assert_eq!(inside(Path::new("/usr/bin/x")).ok(), Some(PathBuf::from("usr/bin/x")));
        for path in ["usr/bin/x", "/../etc/passwd", "/usr/../../x", "/"] {
            assert!(inside(Path::new(path)).is_err(), "{path}");
        }
    }
}
