//! Every completed change is seen by every later look, from the other mount and from the same.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::Duration;

use super::Dice;
use super::stage::Stage;

/// What the tree must look like: each name's file content.
type Model = BTreeMap<String, Vec<u8>>;

/// One random change on `dir`, done to the model as well.
fn change(dice: &mut Dice, dir: &Path, model: &mut Model) -> String {
    let name = format!("f{}", dice.below(6));
    let path = dir.join(&name);
    let other = format!("f{}", dice.below(6));
    let content =
        vec![b'a' + u8::try_from(dice.below(26)).unwrap(); usize::try_from(dice.below(9000)).unwrap()];
    match dice.below(7) {
        0 | 1 => {
            fs::write(&path, &content).unwrap();
            model.insert(name.clone(), content);
            format!("write {name}")
        }
        2 => {
            let result = fs::remove_file(&path);
            assert_eq!(result.is_ok(), model.remove(&name).is_some(), "unlink {name}: {result:?}");
            format!("unlink {name}")
        }
        3 => {
            let result = fs::rename(&path, dir.join(&other));
            assert_eq!(result.is_ok(), model.contains_key(&name), "rename {name} {other}: {result:?}");
            if let Some(moved) = model.remove(&name) {
                model.insert(other.clone(), moved);
            }
            format!("rename {name} {other}")
        }
        4 => {
            let mut file = OpenOptions::new().append(true).create(true).open(&path).unwrap();
            file.write_all(&content).unwrap();
            model.entry(name.clone()).or_default().extend_from_slice(&content);
            format!("append {} to {name}", content.len())
        }
        5 => {
            let Ok(file) = OpenOptions::new().write(true).open(&path) else {
                assert!(!model.contains_key(&name), "open {name}");
                return format!("open {name}: none");
            };
            let at = dice.below(10_000);
            file.write_at(&content, at).unwrap();
            let data = model.get_mut(&name).unwrap();
            let (at, end) = (usize::try_from(at).unwrap(), usize::try_from(at).unwrap() + content.len());
            if !content.is_empty() {
                data.resize(data.len().max(end), 0);
                data[at..end].copy_from_slice(&content);
            }
            format!("write {} at {at} of {name}", content.len())
        }
        _ => {
            let Ok(file) = OpenOptions::new().write(true).open(&path) else {
                assert!(!model.contains_key(&name), "open {name}");
                return format!("open {name}: none");
            };
            let len = dice.below(12_000);
            file.set_len(len).unwrap();
            model.get_mut(&name).unwrap().resize(usize::try_from(len).unwrap(), 0);
            format!("truncate {name} to {len}")
        }
    }
}

/// Looks at everything in every way.
fn look(dir: &Path, model: &Model, held: &mut BTreeMap<String, (u64, File)>, after: &str) {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, model.keys().cloned().collect::<Vec<_>>(), "listing after {after}");
    for i in 0..6 {
        let name = format!("f{i}");
        let path = dir.join(&name);
        match (model.get(&name), fs::metadata(&path)) {
            (None, Err(e)) => assert_eq!(e.kind(), ErrorKind::NotFound),
            (None, Ok(_)) => panic!("{name} is gone, but is found after {after}"),
            (Some(_), Err(e)) => panic!("{name} is there, but is not found after {after}: {e}"),
            (Some(data), Ok(meta)) => {
                assert_eq!(meta.len(), data.len() as u64, "size of {name} after {after}");
                let mut read = Vec::new();
                File::open(&path).unwrap().read_to_end(&mut read).unwrap();
                assert!(read == *data, "content of {name} after {after}");
                // A file that stays open is read again through its old descriptor.
                let (ino, file) =
                    held.entry(name.clone()).or_insert_with(|| (meta.ino(), File::open(&path).unwrap()));
                if *ino == meta.ino() {
                    let mut again = vec![0; data.len() + 10];
                    let n = file.read_at(&mut again, 0).unwrap();
                    assert!(again[..n] == *data, "content of {name} through an open file after {after}");
                } else {
                    held.remove(&name);
                }
            }
        }
    }
}

fn run(read_only: &[bool], steps: u32) {
    let stage = Stage::set(read_only, Duration::from_secs(150));
    let mut dice = Dice::seeded();
    let mut model = Model::new();
    let mut held: Vec<BTreeMap<String, (u64, File)>> = Vec::new();
    held.resize_with(read_only.len(), BTreeMap::new);
    let writers: Vec<usize> = (0..read_only.len()).filter(|i| !read_only[*i]).collect();
    for step in 0..steps {
        let who = writers[usize::try_from(dice.below(writers.len() as u64)).unwrap()];
        let what = change(&mut dice, stage.at(who), &mut model);
        let after = format!("step {step}: {what} by guest {who}");
        // The others look first: they have to be told. Who changed it looks last.
        for (guest, held) in held.iter_mut().enumerate().filter(|(g, _)| *g != who) {
            look(stage.at(guest), &model, held, &format!("{after}, seen by {guest}"));
        }
        look(stage.at(who), &model, &mut held[who], &format!("{after}, seen by itself"));
    }
    assert!(stage.gateway.recalls() > u64::from(steps) / 4, "the guests were in each other's way");
}

#[test]
fn a_completed_change_is_seen_by_every_later_look() {
    run(&[false, false], 800);
}

#[test]
fn a_read_only_mount_whose_names_the_kernel_keeps_sees_every_change() {
    run(&[false, true, true], 400);
}
