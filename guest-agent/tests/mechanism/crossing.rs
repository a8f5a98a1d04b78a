//! Changes that cross: both guests at the same files and names at once. Nothing may hang, and nothing that was
//! completed may be missed.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Dice;
use super::stage::Stage;

const ROUNDS: u64 = 500;

fn harmless(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::AlreadyExists)
        || error.raw_os_error() == Some(libc::ESTALE)
}

/// Creates, writes, renames, appends and removes in two directories, whatever the others do.
fn churn(dir: &Path, mut dice: Dice) {
    let mut buffer = Vec::new();
    for _ in 0..ROUNDS {
        let path =
            |dice: &mut Dice| dir.join(format!("d{}", dice.below(2))).join(format!("n{}", dice.below(4)));
        let (a, b) = (path(&mut dice), path(&mut dice));
        let result = match dice.below(8) {
            0 => OpenOptions::new()
                .write(true)
                .create_new(true)
                .open(&a)
                .and_then(|mut f| f.write_all(&[1; 5000])),
            1 => fs::write(&a, [2; 3000]),
            2 => fs::remove_file(&a),
            3 => fs::rename(&a, &b),
            4 => OpenOptions::new().append(true).open(&a).and_then(|mut f| f.write_all(&[3; 100])),
            5 => OpenOptions::new().read(true).write(true).open(&a).and_then(|f| {
                f.write_at(&[4; 2000], 1000)?;
                f.read_at(&mut [0; 4096], 0)?;
                f.sync_all()
            }),
            6 => {
                buffer.clear();
                File::open(&a).and_then(|mut f| f.read_to_end(&mut buffer)).map(|_| ())
            }
            _ => fs::read_dir(a.parent().unwrap()).map(|entries| assert!(entries.count() <= 4)),
        };
        if let Err(error) = result {
            assert!(harmless(&error), "{error}");
        }
    }
}

#[test]
fn crossing_changes_never_deadlock() {
    let stage = Stage::set(&[false, false], Duration::from_secs(120));
    for i in 0..2 {
        fs::create_dir(stage.at(0).join(format!("d{i}"))).unwrap();
    }
    let mut dice = Dice::seeded();
    std::thread::scope(|scope| {
        for guest in 0..2 {
            for _ in 0..3 {
                let (dir, dice) = (stage.at(guest), Dice(dice.below(u64::MAX)));
                scope.spawn(move || churn(dir, dice));
            }
        }
    });
    // Both see the same tree afterwards.
    for i in 0..2 {
        let list = |guest: usize| {
            let dir = stage.at(guest).join(format!("d{i}"));
            let mut rows: Vec<_> = fs::read_dir(&dir)
                .unwrap()
                .map(|e| e.unwrap().file_name())
                .map(|name| (name.clone(), fs::read(dir.join(&name)).unwrap()))
                .collect();
            rows.sort();
            rows
        };
        assert!(list(0) == list(1), "both guests see the same");
    }
    assert!(stage.gateway.recalls() > 50, "they were in each other's way: {}", stage.gateway.recalls());
}

/// Guest 0 counts upwards in a file's content, in a file's length and in names, and says so after each call has
/// returned. Guest 1 looks all the time and must never see less than was said before it looked.
#[test]
fn a_look_that_begins_after_a_change_returned_sees_it() {
    let stage = Stage::set(&[false, false], Duration::from_secs(120));
    let (here, there) = (stage.at(0), stage.at(1));
    fs::write(here.join("value"), 0u64.to_le_bytes()).unwrap();
    fs::write(here.join("log"), b"").unwrap();
    fs::create_dir(here.join("names")).unwrap();
    let said = AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let value = OpenOptions::new().write(true).open(here.join("value")).unwrap();
            let mut log = OpenOptions::new().append(true).open(here.join("log")).unwrap();
            for n in 1..=ROUNDS {
                value.write_at(&n.to_le_bytes(), 0).unwrap();
                log.write_all(b"x").unwrap();
                File::create(here.join(format!("names/{n}"))).unwrap();
                said.store(n, Ordering::SeqCst);
            }
        });
        scope.spawn(|| {
            let value = File::open(there.join("value")).unwrap();
            let log = File::open(there.join("log")).unwrap();
            let mut looks = 0u32;
            loop {
                let known = said.load(Ordering::SeqCst);
                let mut bytes = [0; 8];
                value.read_exact_at(&mut bytes, 0).unwrap();
                assert!(
                    u64::from_le_bytes(bytes) >= known,
                    "content: {} < {known}",
                    u64::from_le_bytes(bytes)
                );
                let len = log.metadata().unwrap().len();
                assert!(len >= known, "length: {len} < {known}");
                let mut text = vec![0; usize::try_from(ROUNDS).unwrap() + 1];
                let n = log.read_at(&mut text, 0).unwrap() as u64;
                let same = text.iter().take_while(|b| **b == b'x').count() as u64;
                assert!(n >= known && same >= known, "log: {n} bytes, {same} of them written, after {known}");
                if known > 0 {
                    assert!(there.join(format!("names/{known}")).exists(), "name {known}");
                }
                let names = fs::read_dir(there.join("names")).unwrap().count() as u64;
                assert!(names >= known, "names: {names} < {known}");
                looks += 1;
                if known == ROUNDS {
                    break;
                }
            }
            eprintln!("{looks} looks");
        });
    });
}

/// Both write the same pages through files that the kernel caches, and read them back, all the time: the case in which
/// a page locked by one guest's write could wait for the other's recall and the other way round.
#[test]
fn two_writers_of_the_same_pages_never_deadlock() {
    let stage = Stage::set(&[false, false], Duration::from_secs(120));
    fs::write(stage.at(0).join("shared"), vec![0; 16 << 10]).unwrap();
    std::thread::scope(|scope| {
        for guest in 0..2u8 {
            for thread in 0..2u8 {
                let stage = &stage;
                scope.spawn(move || {
                    let path = stage.at(usize::from(guest)).join("shared");
                    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
                    let mut dice = Dice(u64::from(guest * 2 + thread));
                    let mut buffer = [0; 8192];
                    for _ in 0..ROUNDS {
                        let at = dice.below(8 << 10);
                        if dice.below(2) == 0 {
                            file.write_at(&[guest + 1; 3000], at).unwrap();
                        } else {
                            file.read_at(&mut buffer, at).unwrap();
                        }
                    }
                });
            }
        }
    });
    let (a, b) =
        (fs::read(stage.at(0).join("shared")).unwrap(), fs::read(stage.at(1).join("shared")).unwrap());
    assert!(a == b, "both guests read the same in the end");
}
