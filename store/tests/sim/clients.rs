//! A client: one folder that nobody else changes, and what it must look like after each operation.

use crate::below;
use crate::look::{find, home, listed, read, settled};
use crate::ops::{Op, carry_out};
use crate::volumes::{name, owner};
use crate::world::Life;
use bytes::Bytes;
use mooring_policy::rng::SeededRandom;
use mooring_protocol::types::{Ino, NewNode};
use mooring_store::api::Tree;
use mooring_store::error::StoreError;
use mooring_store::volume::Volume;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

const NAMES: u64 = 7;

/// What a name holds.
#[derive(Clone, PartialEq, Eq)]
pub enum Node {
    Dir,
    File { bytes: Bytes, attribute: Option<u8> },
}

/// A folder: each path below it.
pub type Lines = BTreeMap<String, Node>;

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Node::Dir => f.write_str("directory"),
            Node::File { bytes, attribute } => {
                let hash = blake3::hash(bytes).to_hex();
                write!(f, "{} bytes {} {attribute:?}", bytes.len(), hash.split_at(6).0)
            }
        }
    }
}

/// An operation: the folder after it, when it began, and when it was answered.
#[derive(Clone)]
pub struct Entry {
    pub lines: Lines,
    pub begin: u64,
    pub end: Option<u64>,
}

pub struct Client {
    pub number: usize,
    random: SeededRandom,
    pub history: Vec<Entry>,
    /// All entries up to this one are durable.
    pub synced: usize,
}

impl Client {
    pub async fn new(number: usize, seed: u64, volume: &Volume) -> Client {
        let home = home(number);
        volume.create(&owner(), Ino::ROOT, &name(&home), 0o755, (0, 0), &NewNode::Dir).await.unwrap();
        let mut client = Client { number, random: SeededRandom::new(seed), history: Vec::new(), synced: 0 };
        client.goes_on_with(Lines::new());
        client
    }

    /// A life begins.
    pub fn goes_on_with(&mut self, lines: Lines) {
        self.history = vec![Entry { lines, begin: 0, end: Some(0) }];
        self.synced = 0;
    }

    pub fn lines(&self) -> &Lines {
        &self.history[self.history.len() - 1].lines
    }

    fn below(&self, bound: u64) -> u64 {
        below(&self.random, bound)
    }

    fn bytes(&self) -> Bytes {
        let len = match self.below(5) {
            0 => self.below(200),
            1 => 4096,
            2 => self.below(9000),
            3 => 8192 * (1 + self.below(4)),
            _ => self.below(150_000),
        };
        // Few distinct contents, so that extents are shared and unshared often.
        let fill = self.below(5) as u8;
        Bytes::from(
            (0..len).map(|at| fill.wrapping_mul(31).wrapping_add((at / 4096) as u8)).collect::<Vec<_>>(),
        )
    }

    /// A path that may be free or not; in a directory that is there.
    fn path(&self) -> String {
        let dirs: Vec<&String> =
            self.lines().iter().filter(|(_, node)| **node == Node::Dir).map(|(path, _)| path).collect();
        let leaf = format!("n{}", self.below(NAMES));
        match self.below(3) {
            0 if !dirs.is_empty() => format!("{}/{leaf}", dirs[self.below(dirs.len() as u64) as usize]),
            _ => leaf,
        }
    }

    fn file(&self) -> Option<String> {
        let files: Vec<&String> =
            self.lines().iter().filter(|(_, node)| **node != Node::Dir).map(|(path, _)| path).collect();
        (!files.is_empty()).then(|| files[self.below(files.len() as u64) as usize].clone())
    }

    /// What comes next, and the folder after it.
    fn choose(&self) -> (Op, Lines) {
        let mut lines = self.lines().clone();
        let (path, file) = (self.path(), self.file());
        let free = !lines.contains_key(&path);
        let is_dir = lines.get(&path) == Some(&Node::Dir);
        let empty = Node::File { bytes: Bytes::new(), attribute: None };
        let op = match (self.below(24), file) {
            (0..2, _) if free && path.matches('/').count() < 2 => {
                lines.insert(path.clone(), Node::Dir);
                Op::Mkdir(path)
            }
            (2..4, _) if free => {
                lines.insert(path.clone(), empty);
                Op::Create(path)
            }
            (4..8, Some(file)) => {
                let (data, len) = (self.bytes(), self.size(&file));
                let offset = self.below(len + 5000);
                self.change(&mut lines, &file, |old| splice(old, offset as usize, &data));
                Op::Write(file, offset, data)
            }
            (8, Some(file)) => {
                let data = self.bytes();
                self.change(&mut lines, &file, |old| splice(old, old.len(), &data));
                Op::Append(file, data)
            }
            (9, Some(file)) => {
                let size = self.below(self.size(&file) + 3000);
                self.change(&mut lines, &file, |old| {
                    let mut new = old.to_vec();
                    new.resize(size as usize, 0);
                    new
                });
                Op::Truncate(file, size)
            }
            (10..12, Some(file)) if !is_dir && path != file => {
                let node = lines.remove(&file).unwrap();
                lines.insert(path.clone(), node);
                Op::Rename(file, path)
            }
            (12, Some(file)) => {
                lines.remove(&file);
                Op::Remove(file)
            }
            (13, Some(file)) => {
                let value = self.below(256) as u8;
                if let Some(Node::File { attribute, .. }) = lines.get_mut(&file) {
                    *attribute = Some(value);
                }
                Op::Attribute(file, value)
            }
            (14, Some(file)) if !is_dir && path != file => {
                let bytes = content_of(&lines, &file);
                let len = bytes.len() as u64;
                lines.insert(path.clone(), Node::File { bytes, attribute: None });
                Op::Copy(file, path, len)
            }
            (15, Some(file)) => {
                lines.remove(&file);
                Op::Delete(file)
            }
            (16, _) if !is_dir => {
                let parts: Vec<Bytes> =
                    (0..2).map(|_| Bytes::from(vec![self.below(9) as u8; 6000])).collect();
                let bytes = Bytes::from(parts.concat());
                lines.insert(path.clone(), Node::File { bytes, attribute: None });
                Op::Parts(path, parts)
            }
            (17..20, Some(file)) => Op::Fsync(file),
            (20, _) => Op::Sync,
            _ if !is_dir => {
                let data = self.bytes();
                lines.insert(path.clone(), Node::File { bytes: data.clone(), attribute: None });
                Op::Put(path, data)
            }
            _ => Op::Sync,
        };
        (op, lines)
    }

    fn size(&self, file: &str) -> u64 {
        content_of(self.lines(), file).len() as u64
    }

    fn change(&self, lines: &mut Lines, file: &str, change: impl Fn(&[u8]) -> Vec<u8>) {
        if let Some(Node::File { bytes, .. }) = lines.get_mut(file) {
            *bytes = change(bytes).into();
        }
    }

    /// Works until the life is over.
    pub async fn work(this: Rc<RefCell<Client>>, life: Rc<Life>) {
        while !life.over.get() {
            let shared = life.gate.read().await;
            Client::step(&this, &life).await;
            drop(shared);
            life.steps.set(life.steps.get() + 1);
            tokio::task::yield_now().await;
        }
    }

    async fn step(this: &Rc<RefCell<Client>>, life: &Rc<Life>) {
        let (op, lines, number, before) = {
            let client = this.borrow();
            let (op, lines) = client.choose();
            (op, lines, client.number, client.lines().clone())
        };
        let begin = life.stamp();
        life.say(format!("client {number}: {op:?}"));
        this.borrow_mut().history.push(Entry { lines: lines.clone(), begin, end: None });
        let at = this.borrow().history.len() - 1;
        match carry_out(life, number, &op).await {
            Ok(durable) => {
                let mut client = this.borrow_mut();
                client.history[at].end = Some(life.stamp());
                if durable {
                    client.synced = at;
                }
            }
            Err(error) => {
                life.say(format!("client {number}: {op:?} says {error:?}"));
                let quota = matches!(error, StoreError::QuotaExceeded);
                assert!(quota || life.weather.get() || life.over.get(), "client {number}: {op:?}: {error:?}");
                let found = settled(life, number).await;
                assert!(
                    found == before || (found == lines && !quota),
                    "client {number}: {op:?} said {error:?} and did half: {found:?}\nbefore {before:?}\nafter {lines:?}"
                );
                // What failed may come back by a crash as long as nothing later was synced.
                let end = Some(life.stamp());
                this.borrow_mut().history.push(Entry { lines: found, begin, end });
            }
        }
        let look = below(&this.borrow().random, 8);
        if look == 0 {
            Client::compare(this, life).await;
        }
    }

    /// What is there is what must be, read through both doors.
    async fn compare(this: &Rc<RefCell<Client>>, life: &Rc<Life>) {
        let (number, wanted) = (this.borrow().number, this.borrow().lines().clone());
        let found = settled(life, number).await;
        assert_eq!(found, wanted, "client {number}");
        let keys = listed(life, number).await;
        let files = wanted.iter().filter(|(_, node)| **node != Node::Dir).map(|(path, _)| path.clone());
        assert_eq!(keys, files.collect::<Vec<_>>(), "client {number}: keys");
    }
}

/// Damage is an error, never other bytes.
pub async fn read_all_or_errors(volume: &Volume, number: usize, lines: &Lines) {
    for (path, node) in lines {
        let Node::File { bytes, .. } = node else { continue };
        let Ok(ino) = find(volume, number, path).await else { continue };
        if let Ok(found) = read(volume, ino).await {
            assert!(found == *bytes, "client {number}: {path} has other bytes");
        }
    }
}

fn splice(old: &[u8], offset: usize, data: &[u8]) -> Vec<u8> {
    let mut new = old.to_vec();
    if !data.is_empty() {
        new.resize(new.len().max(offset + data.len()), 0);
        new[offset..offset + data.len()].copy_from_slice(data);
    }
    new
}

fn content_of(lines: &Lines, file: &str) -> Bytes {
    match lines.get(file) {
        Some(Node::File { bytes, .. }) => bytes.clone(),
        _ => Bytes::new(),
    }
}
