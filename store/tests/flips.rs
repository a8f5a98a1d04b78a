//! A single bit turns on the disk, anywhere: what is read afterwards is right, or it is an error that names the file.
//!
//! A volume with every kind of file in it is stopped as by a kill. Then, again and again, one bit of one file is turned
//! in a copy of it, the copy is opened, and everything that can be read is held against what was there. Kinds of files
//! are taken in turn, so that small ones (manifests, heads, footers) are hit as often as packs.
//!
//! `MOORING_FLIPS` says how many bits for each kind, `MOORING_FLIP_KIND` of which kind alone,
//! `MOORING_SEED` where to begin.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;
mod volumes;

use bytes::Bytes;
use mooring_policy::rng::{Random, SeededRandom, SystemRandom};
use mooring_protocol::types::{FileKind, Ino, NewNode, RenameMode, XattrMode};
use mooring_store::api::{Condition, ListQuery, ObjectMeta, Objects, PartInfo, Tree, WriteAt};
use mooring_store::backend::DataDir;
use mooring_store::meta::BlockCache;
use mooring_store::realm::{Channel, Durability, Realm, RealmOptions};
use mooring_store::seal::MasterKey;
use mooring_store::volume::Volume;
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use volumes::dump::attr_line;
use volumes::{name, open, options, owner};

/// What was read, under a name for what it is; or why it could not be.
type Seen = BTreeMap<String, Result<String, String>>;

static PANICS: AtomicU64 = AtomicU64::new(0);

/// No flip may take longer than this to be opened and read.
const LIMIT: Duration = Duration::from_secs(60);

fn per_kind() -> u64 {
    std::env::var("MOORING_FLIPS").map_or(12, |text| text.parse().unwrap())
}

fn seeded() -> SeededRandom {
    let seed = std::env::var("MOORING_SEED").map_or_else(
        |_| {
            let mut bytes = [0; 8];
            SystemRandom.fill(&mut bytes);
            u64::from_le_bytes(bytes)
        },
        |text| text.parse().unwrap(),
    );
    eprintln!("MOORING_SEED={seed}");
    SeededRandom::new(seed)
}

fn below(random: &SeededRandom, bound: u64) -> u64 {
    let mut bytes = [0; 8];
    random.fill(&mut bytes);
    u64::from_le_bytes(bytes) % bound.max(1)
}

fn noise(seed: u64, len: usize) -> Bytes {
    let mut data = vec![0; len];
    SeededRandom::new(seed).fill(&mut data);
    data.into()
}

fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

/// Files of all kinds and sizes, under names that begin with `round`.
async fn write(volume: &Volume, round: u64) {
    let cx = owner();
    let file = NewNode::File { open: None };
    let dir = volume.create(&cx, Ino::ROOT, &name(&format!("d{round}")), 0o755, (1, 2), &NewNode::Dir).await;
    let dir = dir.unwrap().ino;
    for (index, size) in [0, 10, 4096, 5000, 70_000, 400_000].into_iter().enumerate() {
        let made = volume.create(&cx, dir, &name(&format!("f{index}")), 0o640, (1, 2), &file).await.unwrap();
        let data = if index % 2 == 0 { noise(round * 10 + index as u64, size) } else { vec![7; size].into() };
        volume.write(&cx, made.ino, WriteAt::End, data, None, false).await.unwrap();
        let value = format!("value {index}");
        volume.setxattr(&cx, made.ino, b"user.x", value.as_bytes(), XattrMode::Set).await.unwrap();
    }
    let holes = volume.create(&cx, dir, &name("holes"), 0o600, (3, 3), &file).await.unwrap().ino;
    for at in [5_000, 600_000] {
        volume.write(&cx, holes, WriteAt::Offset(at), noise(at, 9_000), None, false).await.unwrap();
    }
    for index in 0..40 {
        volume.create(&cx, dir, &name(&format!("many{index}")), 0o644, (0, 0), &file).await.unwrap();
    }
    let link = NewNode::Symlink { target: b"f1".to_vec() };
    volume.create(&cx, dir, &name("link"), 0o777, (0, 0), &link).await.unwrap();
    let fifo = NewNode::Special { kind: FileKind::Fifo, rdev: 0 };
    volume.create(&cx, dir, &name("fifo"), 0o644, (0, 0), &fifo).await.unwrap();
    let first = volume.lookup(&cx, dir, &name("f1")).await.unwrap().ino;
    volume.link(&cx, first, Ino::ROOT, &name(&format!("hard{round}"))).await.unwrap();
    volume.unlink(&cx, dir, &name("many3")).await.unwrap();
    volume.rename(&cx, dir, &name("many4"), dir, &name("many5"), RenameMode::Replace).await.unwrap();
    for key in [format!("o{round}/a/b"), format!("o{round}//c"), format!("o{round}/d/")] {
        let staged = volume.stage(&cx).await.unwrap();
        let size = if key.ends_with('/') { 0 } else { 20_000 };
        volume.stage_write(&cx, staged, noise(round + 77, size)).await.unwrap();
        let meta = ObjectMeta { user: vec![("k".into(), "v".into())], ..ObjectMeta::default() };
        let when = Condition::default();
        volume.put(&cx, staged, key.as_bytes(), "e".into(), meta, &when).await.unwrap();
    }
    let upload = volume.upload_create(&cx, b"parts", ObjectMeta::default()).await.unwrap();
    let staged = volume.stage(&cx).await.unwrap();
    volume.stage_write(&cx, staged, noise(5, 30_000)).await.unwrap();
    let (etag, modified) = ("p".to_owned(), upload.started);
    let part = PartInfo { number: 1, size: 30_000, etag, checksums: Vec::new(), modified };
    volume.upload_part(&cx, b"parts", &upload.id, part, staged).await.unwrap();
}

/// A volume in `dir` as a kill leaves it: tables, sealed packs, an open pack, a journal with synced and other records.
async fn make(dir: &Path) {
    let building = volumes::directory();
    for round in 0..2 {
        let volume = open(building.path()).await;
        write(&volume, round).await;
        volume.close().await.unwrap();
    }
    let volume = open(building.path()).await;
    write(&volume, 2).await;
    volume.sync().await.unwrap();
    write(&volume, 3).await;
    copy(building.path(), dir);
    volume.close().await.unwrap();
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").args(["-a", "--sparse=always"]).arg(from.join(".")).arg(to).status();
    assert!(status.unwrap().success());
}

/// Everything a volume shows. What cannot be read is noted, and its surroundings are read all the same.
async fn look(volume: &Volume) -> Seen {
    let cx = owner();
    let mut seen = Seen::new();
    let mut dirs = vec![(String::new(), Ino::ROOT)];
    while let Some((path, dir)) = dirs.pop() {
        let mut names = Vec::new();
        let (mut cursor, mut listed) = (Vec::new(), Ok(()));
        loop {
            match volume.readdir(&cx, dir, &cursor, 16, true).await {
                Err(error) => listed = Err(chain(&error)),
                Ok((entries, end)) => {
                    cursor = entries.last().map(|entry| entry.cursor()).unwrap_or_default();
                    names.extend(entries);
                    if !end {
                        continue;
                    }
                }
            }
            break;
        }
        let shown: Vec<_> = names.iter().map(|entry| (entry.name.to_string(), entry.kind)).collect();
        seen.insert(format!("names {path}/"), listed.map(|()| format!("{shown:?}")));
        for entry in names {
            let path = format!("{path}/{}", entry.name);
            let attr = volume.getattr(&cx, entry.ino).await;
            let found = volume.lookup(&cx, dir, &entry.name).await;
            seen.insert(format!("lookup {path}"), said(found.map(|attr| attr_line(&attr))));
            match (entry.kind, &attr) {
                (FileKind::Dir, _) => dirs.push((path.clone(), entry.ino)),
                (FileKind::File, Ok(attr)) => read(volume, &path, entry.ino, attr.size, &mut seen).await,
                (FileKind::Symlink, _) => {
                    let target = volume.readlink(&cx, entry.ino).await;
                    seen.insert(format!("target {path}"), said(target.map(|target| format!("{target:?}"))));
                }
                _ => {}
            }
            seen.insert(format!("attr {path}"), said(attr.map(|attr| attr_line(&attr))));
            let attributes = volume.listxattr(&cx, entry.ino).await;
            for attribute in attributes.as_deref().unwrap_or_default() {
                let value = volume.getxattr(&cx, entry.ino, attribute).await;
                seen.insert(
                    format!("value {path} {attribute:?}"),
                    said(value.map(|value| format!("{value:?}"))),
                );
            }
            seen.insert(format!("xattrs {path}"), said(attributes.map(|names| format!("{names:?}"))));
        }
    }
    let page = volume.list(&cx, &ListQuery { limit: 1000, ..ListQuery::default() }).await;
    seen.insert("keys".to_owned(), said(page.map(|page| format!("{page:?}"))));
    seen
}

async fn read(volume: &Volume, path: &str, ino: Ino, size: u64, seen: &mut Seen) {
    for at in (0..size).step_by(100_000) {
        let part = volume.read(&owner(), ino, at, 100_000).await;
        let hash = |parts: Vec<Bytes>| {
            let mut hasher = blake3::Hasher::new();
            for part in parts {
                hasher.update(&part);
            }
            hasher.finalize().to_string()
        };
        seen.insert(format!("bytes {path} {at}"), said(part.map(|(parts, _)| hash(parts))));
    }
}

fn said<E: Error>(result: Result<String, E>) -> Result<String, String> {
    result.map_err(|error| chain(&error))
}

async fn open_and_look(dir: PathBuf) -> Seen {
    let volume = match Volume::open_local(options(&dir)).await {
        Ok(volume) => volume,
        Err(error) => return Seen::from([("open".to_owned(), Err(chain(&error)))]),
    };
    let seen = look(&volume).await;
    // What is still in memory goes to disk; a volume that is damaged may say so here too.
    drop(volume.close().await);
    seen
}

/// Every file below `dir` with bytes in it, by kind.
fn files(dir: &Path) -> BTreeMap<String, Vec<PathBuf>> {
    let mut kinds: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    let mut dirs = vec![dir.to_path_buf()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap()) {
            let path = entry.path();
            if entry.file_type().unwrap().is_dir() {
                dirs.push(path);
            } else if entry.file_name() != "LOCK" && entry.metadata().unwrap().len() > 0 {
                let kind = path.extension().unwrap_or(path.file_name().unwrap());
                kinds.entry(kind.to_string_lossy().into_owned()).or_default().push(path);
            }
        }
    }
    kinds.values_mut().for_each(|files| files.sort());
    kinds
}

/// Turns a bit: anywhere in what was written, or near its beginning or end, where files say what they are.
fn flip(file: &Path, random: &SeededRandom) -> (u64, u8) {
    const NEAR: u64 = 160;
    let bytes = std::fs::read(file).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(1, |last| last as u64 + 1);
    let at = match below(random, 4) {
        0 => below(random, used.min(NEAR)),
        1 => used - 1 - below(random, used.min(NEAR)),
        _ => below(random, used),
    };
    let bit = 1 << below(random, 8);
    let place = std::fs::File::options().write(true).open(file).unwrap();
    place.write_all_at(&[bytes[at as usize] ^ bit], at).unwrap();
    (at, bit)
}

/// What is wrong with what was seen, if anything: silence where something was damaged, or an error that names nothing.
fn judge(good: &Seen, seen: &Seen, file: &Path) -> Result<bool, String> {
    let errors: Vec<&String> = seen.values().filter_map(|result| result.as_ref().err()).collect();
    for (what, found) in seen {
        match (found, good.get(what)) {
            (Ok(found), Some(Ok(wanted))) if found != wanted => {
                return Err(format!("{what} is {found} and should be {wanted}"));
            }
            (Ok(_), None) => return Err(format!("{what} was not there")),
            _ => {}
        }
    }
    if let Some(missing) = good.keys().find(|what| !seen.contains_key(*what)).filter(|_| errors.is_empty()) {
        return Err(format!("{missing} is gone without an error"));
    }
    let stem = file.file_stem().unwrap().to_string_lossy().into_owned();
    // A pack is named by its id.
    let called = stem.split_once('-').map_or(stem.clone(), |(_, id)| id.to_owned());
    match errors.iter().find(|error| !error.contains(&called)) {
        Some(error) => Err(format!("an error does not name {called}: {error}")),
        None => Ok(!errors.is_empty()),
    }
}

fn count_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        PANICS.fetch_add(1, Ordering::SeqCst);
        usual(info);
    }));
}

/// Turns bits in copies of `image` and judges what `look` sees of each.
async fn turn<F: Future<Output = Seen>>(image: &Path, look: impl Fn(PathBuf) -> F) {
    count_panics();
    let random = seeded();
    let whole = volumes::directory();
    copy(image, whole.path());
    let good = look(whole.path().to_path_buf()).await;
    assert!(good.values().all(|result| result.is_ok()), "{good:?}");
    let kinds = files(image);
    let (mut caught, mut wrong) = (BTreeMap::<&str, u64>::new(), BTreeSet::new());
    let only = std::env::var("MOORING_FLIP_KIND").ok();
    for (kind, files) in kinds.iter().filter(|(kind, _)| only.as_ref().is_none_or(|only| only == *kind)) {
        for _ in 0..per_kind() {
            let file = &files[below(&random, files.len() as u64) as usize];
            let dir = volumes::directory();
            copy(image, dir.path());
            let within = file.strip_prefix(image).unwrap();
            let (at, bit) = flip(&dir.path().join(within), &random);
            let seen = tokio::time::timeout(LIMIT, look(dir.path().to_path_buf())).await;
            let judged = seen.map_err(|_| "it hangs".to_owned()).and_then(|seen| judge(&good, &seen, file));
            match judged {
                Ok(error) => *caught.entry(kind).or_default() += u64::from(error),
                Err(why) => {
                    wrong.insert(format!("{} byte {at} bit {bit:#04x}: {why}", within.display()));
                }
            }
        }
    }
    eprintln!("of {} bits in each of {:?} an error told: {caught:?}", per_kind(), kinds.keys());
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(PANICS.load(Ordering::SeqCst), 0);
    assert!(per_kind() < 5 || caught.values().any(|count| *count > 0), "nothing was ever damaged");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_turned_bit_of_a_volume_is_an_error_that_names_the_file_or_nothing() {
    let image = volumes::directory();
    make(image.path()).await;
    turn(image.path(), open_and_look).await;
}

async fn open_realm(dir: &Path) -> Result<Arc<Realm>, Box<dyn Error>> {
    let path = dir.join("master.key");
    let master = if path.exists() { MasterKey::load(&path) } else { MasterKey::create(&path, &SystemRandom) };
    let options = RealmOptions {
        data: DataDir::open(dir.join("data"))?,
        master: Arc::new(master?.into()),
        cache: Arc::new(BlockCache::new(4 << 20, 4 << 20)),
        random: common::random(),
        clock: common::clock(),
    };
    Ok(Realm::open(options).await?)
}

async fn look_at_realm(dir: PathBuf) -> Seen {
    let realm = match open_realm(&dir).await {
        Ok(realm) => realm,
        Err(error) => return Seen::from([("open".to_owned(), Err(chain(&*error)))]),
    };
    let mut seen = Seen::new();
    let tenants = realm.tenants().await;
    for tenant in tenants.as_deref().unwrap_or_default() {
        let key = realm.tenant_key(&tenant.name).await.map(|key| hex::encode(key.hash_key().hash(b"x")));
        seen.insert(format!("key {}", tenant.name), said(key));
    }
    seen.insert(
        "tenants".to_owned(),
        said(tenants.map(|all| format!("{:?}", all.iter().map(|t| &t.name).collect::<Vec<_>>()))),
    );
    seen.insert("buckets".to_owned(), said(realm.buckets(None).await.map(|all| format!("{all:?}"))));
    seen.insert("vms".to_owned(), said(realm.vms(None).await.map(|all| format!("{all:?}"))));
    drop(realm.close().await);
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_turned_bit_of_the_registry_or_a_key_is_an_error_that_names_the_file_or_nothing() {
    let image = volumes::directory();
    let building = volumes::directory();
    for round in 0..3 {
        let realm = open_realm(building.path()).await.unwrap();
        for index in 0..5 {
            let tenant = format!("tenant-{round}-{index}").parse().unwrap();
            realm.tenant_create(&tenant).await.unwrap();
            realm.bucket_create(&tenant, &"files".parse().unwrap(), Durability::Store).await.unwrap();
            realm
                .vm_attach(&tenant, &"vm".parse().unwrap(), Channel::Cid(100 * round + index))
                .await
                .unwrap();
        }
        if round == 2 {
            copy(building.path(), image.path());
        }
        realm.close().await.unwrap();
    }
    turn(image.path(), look_at_realm).await;
}
