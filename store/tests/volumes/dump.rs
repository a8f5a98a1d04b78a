//! Everything a volume shows, as lines that can be compared.

use super::owner;
use bytes::Bytes;
use mooring_protocol::types::{Attr, FileKind, Ino};
use mooring_store::api::{ListQuery, Objects};
use std::collections::{BTreeMap, BTreeSet};

/// ETags that S3 clients gave; any other must be computed.
pub type Known = BTreeSet<String>;

pub fn attr_line(attr: &Attr) -> String {
    let Attr { kind, mode, nlink, uid, gid, rdev, size, blocks, .. } = attr;
    let times = [attr.atime, attr.mtime, attr.ctime, attr.btime].map(|time| time.secs);
    format!("{kind:?} {mode:o} n{nlink} {uid}:{gid} r{rdev} {size}b {blocks} {times:?}")
}

pub async fn content(store: &dyn Objects, ino: Ino) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let (parts, _) = store.read(&owner(), ino, all.len() as u64, 1 << 20).await.unwrap();
        let before = all.len();
        parts.iter().for_each(|part| all.extend_from_slice(part));
        if all.len() == before {
            return all;
        }
    }
}

/// One line for each name, and one for each key.
pub async fn dump(store: &dyn Objects, known: &Known) -> Vec<String> {
    let mut lines = Vec::new();
    let mut groups: BTreeMap<Ino, usize> = BTreeMap::new();
    walk(store, Ino::ROOT, "", &mut lines, &mut groups).await;
    let mut after = Vec::new();
    loop {
        let query = ListQuery { after: after.clone(), limit: 7, ..ListQuery::default() };
        let page = store.list(&owner(), &query).await.unwrap();
        for object in &page.objects {
            let etag = if known.contains(&object.etag) || object.marker { &object.etag } else { "computed" };
            let key = object.key.escape_ascii();
            lines
                .push(format!("key {key} {} {etag} {} {:?}", object.size, object.modified.secs, object.meta));
        }
        match page.next {
            Some(next) => after = next,
            None => return lines,
        }
    }
}

async fn walk(
    store: &dyn Objects,
    dir: Ino,
    path: &str,
    lines: &mut Vec<String>,
    groups: &mut BTreeMap<Ino, usize>,
) {
    let cx = owner();
    let here = store.getattr(&cx, dir).await.unwrap();
    lines.push(format!("{path}/ {}", attr_line(&here)));
    let mut cursor = Vec::new();
    loop {
        let (entries, end) = store.readdir(&cx, dir, &cursor, 5, true).await.unwrap();
        for entry in &entries {
            cursor = entry.cursor();
            let shown = format!("{path}/{}", entry.name);
            let attr = entry.attr.as_ref().unwrap();
            assert_eq!(store.lookup(&cx, dir, &entry.name).await.unwrap(), *attr, "{shown}");
            if entry.kind == FileKind::Dir {
                Box::pin(walk(store, entry.ino, &shown, lines, groups)).await;
                continue;
            }
            let count = groups.len();
            let group = *groups.entry(entry.ino).or_insert(count);
            let mut line = format!("{shown} #{group} {}", attr_line(attr));
            match entry.kind {
                FileKind::File => line += &format!(" {}", blake3::hash(&content(store, entry.ino).await)),
                FileKind::Symlink => line += &format!(" {:?}", store.readlink(&cx, entry.ino).await.unwrap()),
                _ => {}
            }
            line += &xattrs(store, entry.ino).await;
            lines.push(line);
        }
        if end {
            return;
        }
    }
}

async fn xattrs(store: &dyn Objects, ino: Ino) -> String {
    let cx = owner();
    let mut shown = String::new();
    for name in store.listxattr(&cx, ino).await.unwrap() {
        let value: Bytes = store.getxattr(&cx, ino, &name).await.unwrap();
        shown +=
            &format!(" {}={}", name.escape_ascii(), blake3::hash(&value).to_hex().as_str().split_at(8).0);
    }
    shown
}
