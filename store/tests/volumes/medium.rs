//! The medium below a volume: which bytes loss of power leaves.
//!
//! A [`Recorder`] sees every fdatasync and fsync of a volume. What a file held when one began that succeeded is durable; of
//! what was written since, the kernel may have put any page on the medium. [`Recorder::image`] makes the directory that a
//! machine would find after its power went, with the fate of journal and packs chosen apart. Tables and manifests are
//! files that are made durable before they get their names, and are taken as they are.

use mooring_policy::rng::{Random, SeededRandom};
use mooring_store::failpoints::{Medium, watch};
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fs::File;
use std::io::Result;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

const PAGE: usize = 4096;
const DIRS: [&str; 2] = ["journal", "packs"];

/// What becomes of that which was not made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// All of it is on the medium.
    Kept,
    /// None of it.
    Lost,
    /// Any of its pages and names, by chance.
    Torn,
}

/// Fates of journal and packs.
#[derive(Clone, Copy, Debug)]
pub struct Loss {
    pub journal: Fate,
    pub packs: Fate,
}

impl Loss {
    /// Every combination.
    pub fn all() -> Vec<Loss> {
        let fates = [Fate::Kept, Fate::Lost, Fate::Torn];
        fates.into_iter().flat_map(|journal| fates.map(|packs| Loss { journal, packs })).collect()
    }
}

type Names = BTreeMap<OsString, u64>;

/// What is durable. Each entry with the number of the look it comes from.
#[derive(Clone, Default)]
struct Durable {
    /// By inode, with the name they had: the number of a file that is gone is used again.
    files: HashMap<u64, (u64, OsString, Arc<Vec<u8>>)>,
    dirs: HashMap<PathBuf, (u64, Names)>,
    looks: u64,
}

/// See the module's documentation.
pub struct Recorder {
    dir: PathBuf,
    durable: Mutex<Durable>,
    syncs: Mutex<u64>,
    journal_syncs: AtomicU64,
    /// Makes an image right before this sync (0 is the first).
    before: Option<(u64, PathBuf, Loss, SeededRandom)>,
}

enum Seen {
    File(u64, OsString, Arc<Vec<u8>>),
    Dir(Names),
    Nothing,
}

impl Recorder {
    /// Watches the volume in `dir`; what it holds now counts as durable.
    pub fn start(dir: &Path) -> Arc<Recorder> {
        Recorder::begin(dir, None)
    }

    /// Like [`Self::start`], and makes an image in `to` right before the sync of that number.
    pub fn start_with(dir: &Path, number: u64, to: &Path, loss: Loss, seed: u64) -> Arc<Recorder> {
        Recorder::begin(dir, Some((number, to.to_path_buf(), loss, SeededRandom::new(seed))))
    }

    fn begin(dir: &Path, before: Option<(u64, PathBuf, Loss, SeededRandom)>) -> Arc<Recorder> {
        let dir = dir.join("volume");
        let mut durable = Durable::default();
        for sub in DIRS.map(|sub| dir.join(sub)).into_iter().filter(|sub| sub.exists()) {
            let names = names(&sub).unwrap();
            for (name, ino) in &names {
                let bytes = Arc::new(std::fs::read(sub.join(name)).unwrap());
                durable.files.insert(*ino, (0, stem(Path::new(name)), bytes));
            }
            durable.dirs.insert(sub, (0, names));
        }
        let durable = Mutex::new(durable);
        let recorder = Arc::new(Recorder {
            dir: dir.clone(),
            durable,
            syncs: Mutex::new(0),
            journal_syncs: AtomicU64::new(0),
            before,
        });
        watch(&dir, &(recorder.clone() as Arc<dyn Medium>));
        recorder
    }

    /// How many syncs there were.
    pub fn syncs(&self) -> u64 {
        *self.syncs.lock().unwrap()
    }

    /// How many syncs of journal files have ended.
    pub fn journal_syncs(&self) -> u64 {
        self.journal_syncs.load(Ordering::Acquire)
    }

    /// Makes the directory that is found when the power goes now. What is written meanwhile counts as written before; when
    /// files come or go meanwhile, the image would be of no one moment and is made again.
    pub fn image(&self, to: &Path, loss: Loss, random: &SeededRandom) {
        let listed = || DIRS.map(|sub| names(&self.dir.join(sub)).unwrap());
        // It has its name when it is whole.
        let part = to.with_extension("part");
        for _ in 0..1000 {
            let before = listed();
            let made = self.image_now(&part, loss, random);
            if made.is_ok() && listed() == before {
                std::fs::rename(&part, to).unwrap();
                return;
            }
            std::fs::remove_dir_all(&part).unwrap();
        }
        panic!("the volume is never still");
    }

    fn image_now(&self, to: &Path, loss: Loss, random: &SeededRandom) -> Result<()> {
        let durable = self.durable.lock().unwrap().clone();
        let volume = to.join("volume");
        std::fs::create_dir_all(&volume).unwrap();
        private(&volume, 0o700);
        for entry in std::fs::read_dir(&self.dir).unwrap().map(|entry| entry.unwrap()) {
            if !DIRS.iter().any(|sub| entry.file_name() == *sub) {
                let copied =
                    std::process::Command::new("cp").arg("-a").arg(entry.path()).arg(&volume).status();
                // A table that goes meanwhile: an image of no one moment.
                if !copied?.success() {
                    return Err(std::io::Error::other("what is copied changes"));
                }
            }
        }
        for (sub, fate) in DIRS.into_iter().zip([loss.journal, loss.packs]) {
            std::fs::create_dir(volume.join(sub)).unwrap();
            private(&volume.join(sub), 0o700);
            self.image_dir(&durable, sub, &volume.join(sub), fate, random)?;
        }
        Ok(())
    }

    fn image_dir(
        &self,
        durable: &Durable,
        sub: &str,
        to: &Path,
        fate: Fate,
        random: &SeededRandom,
    ) -> Result<()> {
        let from = self.dir.join(sub);
        let by_inode = |names: &Names| -> BTreeMap<u64, OsString> {
            names.iter().map(|(name, ino)| (*ino, name.clone())).collect()
        };
        let now = by_inode(&names(&from).unwrap());
        let old = durable.dirs.get(&from).map(|(_, names)| by_inode(names)).unwrap_or_default();
        let mut files: Vec<(u64, OsString)> =
            now.iter().chain(old.iter()).map(|(ino, name)| (*ino, stem(Path::new(name)))).collect();
        files.sort_unstable();
        files.dedup();
        for (ino, file) in files {
            let of_file = |names: &BTreeMap<u64, OsString>| {
                names.get(&ino).filter(|name| stem(Path::new(name)) == file).cloned()
            };
            let (now, old) = (of_file(&now), of_file(&old));
            let new_name = decide(fate, random);
            let name = if new_name { now.as_ref() } else { old.as_ref() };
            let Some(name) = name else { continue };
            let kept = durable.files.get(&ino).filter(|(_, known, _)| *known == file);
            let kept = kept.map(|(_, _, bytes)| bytes.as_slice()).unwrap_or_default();
            let current = now.as_ref().map(|name| std::fs::read(from.join(name))).transpose()?;
            let bytes = mix(kept, current.as_deref().unwrap_or(kept), fate, random);
            write_sparse(&to.join(name), &bytes);
            private(&to.join(name), 0o600);
        }
        Ok(())
    }

    fn look(&self, path: &Path) -> Seen {
        let Ok(meta) = std::fs::metadata(path) else { return Seen::Nothing };
        if meta.is_dir() {
            return names(path).map_or(Seen::Nothing, Seen::Dir);
        }
        // A file that gets another name meanwhile is synced by who renames it.
        std::fs::read(path).map_or(Seen::Nothing, |bytes| Seen::File(meta.ino(), stem(path), Arc::new(bytes)))
    }
}

impl Medium for Recorder {
    fn sync(&self, path: &Path, sync: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        let count = {
            let mut syncs = self.syncs.lock().unwrap();
            *syncs += 1;
            *syncs - 1
        };
        if let Some((_, to, loss, random)) = self.before.as_ref().filter(|(number, ..)| *number == count) {
            self.image(to, *loss, random);
        }
        let number = {
            let mut durable = self.durable.lock().unwrap();
            durable.looks += 1;
            durable.looks
        };
        let seen = self.look(path);
        sync()?;
        let mut durable = self.durable.lock().unwrap();
        match seen {
            Seen::File(ino, name, bytes) => {
                let known = durable.files.entry(ino).or_default();
                if known.0 < number {
                    *known = (number, name, bytes);
                }
                if path.starts_with(self.dir.join("journal")) {
                    self.journal_syncs.fetch_add(1, Ordering::AcqRel);
                }
            }
            Seen::Dir(names) => {
                let known = durable.dirs.entry(path.to_path_buf()).or_default();
                if known.0 < number {
                    *known = (number, names);
                }
            }
            Seen::Nothing => {}
        }
        Ok(())
    }
}

/// The name of a file that it keeps when it gets another ending.
fn stem(path: &Path) -> OsString {
    path.file_stem().unwrap_or_default().to_owned()
}

/// As the store makes its files and directories, and insists on finding them.
fn private(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn names(dir: &Path) -> Result<Names> {
    std::fs::read_dir(dir)?
        .map(|entry| entry.and_then(|entry| Ok((entry.file_name(), entry.metadata()?.ino()))))
        .collect()
}

fn decide(fate: Fate, random: &SeededRandom) -> bool {
    match fate {
        Fate::Kept => true,
        Fate::Lost => false,
        Fate::Torn => {
            let mut byte = [0];
            random.fill(&mut byte);
            byte[0] & 1 == 0
        }
    }
}

/// Each page as it was made durable, or as it is now, and so the length.
fn mix(kept: &[u8], current: &[u8], fate: Fate, random: &SeededRandom) -> Vec<u8> {
    let cut = current.len() < kept.len() && decide(fate, random);
    let (mut bytes, mut end) = (current.to_vec(), if cut { current.len() } else { kept.len() });
    bytes.resize(current.len().max(kept.len()), 0);
    for at in (0..bytes.len()).step_by(PAGE) {
        let to = (at + PAGE).min(bytes.len());
        let mut old = [0; PAGE];
        let known = kept.get(at..to.min(kept.len())).unwrap_or_default();
        old[..known.len()].copy_from_slice(known);
        if old[..to - at] == bytes[at..to] && to <= kept.len() {
            continue;
        }
        if at < current.len() && decide(fate, random) {
            end = if cut { end } else { end.max(to.min(current.len())) };
        } else {
            bytes[at..to].copy_from_slice(&old[..to - at]);
        }
    }
    bytes.truncate(end);
    bytes
}

/// Writes a file whose zeros take no room: journal files are mostly empty.
fn write_sparse(path: &Path, bytes: &[u8]) {
    let used =
        bytes.chunks(PAGE).rposition(|page| *page != [0; PAGE][..page.len()]).map_or(0, |last| last + 1);
    let file = File::create(path).unwrap();
    file.set_len(bytes.len() as u64).unwrap();
    file.write_all_at(&bytes[..bytes.len().min(used * PAGE)], 0).unwrap();
}
