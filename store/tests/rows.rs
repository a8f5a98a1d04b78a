//! The bytes of every row, held against a file: what is on disks today must be readable tomorrow.
//!
//! A change of a line in `tests/rows.txt` is a change of the format. `MOORING_BLESS=1` writes the file anew.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use bytes::Bytes;
use mooring_protocol::types::{FileKind, Ino, Name, Time};
use mooring_store::api::ObjectMeta;
use mooring_store::keys::map::{ExtentId, Row, Source};
use mooring_store::keys::{
    HeadId, Layer, RowError, TOMBSTONE, backlink, counter, dentry, extent, frozen, garbage, inode, layer,
    map, object, orphan, pack, part, side, snapshot, symlink, upload, xattr,
};
use mooring_store::pack::{ExtentRef, PackId};

const LAYER: Layer = Layer(0x0102_0304);
const CLONE: HeadId = HeadId(0x0506);

fn ino(number: u64) -> Ino {
    Ino::new(number).unwrap()
}

fn an_inode() -> inode::Inode {
    let time = |secs| Time { secs, nanos: 7 };
    inode::Inode {
        kind: FileKind::File,
        mode: 0o4755,
        nlink: 2,
        uid: 1000,
        gid: 100,
        rdev: 0,
        size: 5_000_000_000,
        blocks: 3,
        atime: time(-1),
        mtime: time(1_800_000_000),
        ctime: time(1_800_000_001),
        btime: time(0),
        version: 9,
        content: 8,
        map: 77,
        parent: 0,
        sides: 1,
        flags: inode::OBJECT | inode::XATTRS,
        layer: Layer::default(),
    }
}

fn meta() -> ObjectMeta {
    ObjectMeta {
        headers: vec![("content-type".into(), "text/plain".into())],
        user: vec![("k".into(), "v".into())],
        checksums: vec![("crc32".into(), "AAAAAA==".into())],
    }
}

/// Family, key and value of one row of each kind; each is taken apart again on the way.
fn rows() -> Vec<(&'static str, Vec<u8>, Bytes)> {
    let mut rows = Vec::new();
    let child = ino(0xaabb_ccdd_eeff);

    let value = an_inode();
    assert_eq!(inode::decode(&inode::encode(&value)).unwrap(), value);
    assert_eq!(inode::parse(&inode::key(LAYER, child)).unwrap(), (LAYER, child));
    rows.push(("inode", inode::key(LAYER, child), inode::encode(&value)));

    for (what, kind, rest) in
        [("file", FileKind::File, None), ("dir", FileKind::Dir, None), ("side", FileKind::File, Some("/x"))]
    {
        let value = dentry::Dentry { ino: child, kind, side: rest.map(Bytes::from) };
        let key = dentry::key(LAYER, Ino::ROOT, b"name", kind == FileKind::Dir);
        assert_eq!(dentry::decode(&dentry::encode(&value)).unwrap(), value, "{what}");
        let cursor = if kind == FileKind::Dir { &b"name/"[..] } else { b"name" };
        assert_eq!(dentry::parse(&key).unwrap(), (LAYER, Ino::ROOT, cursor));
        rows.push(("dentry", key, dentry::encode(&value)));
    }

    let key = backlink::key(LAYER, child, Ino::ROOT, b"name");
    assert_eq!(backlink::parse(&key).unwrap(), (LAYER, child, Ino::ROOT, &b"name"[..]));
    backlink::decode(&backlink::encode()).unwrap();
    rows.push(("backlink", key, backlink::encode()));

    let key = xattr::key(LAYER, child, b"user.x");
    assert_eq!(xattr::parse(&key).unwrap(), (LAYER, child, &b"user.x"[..]));
    assert_eq!(xattr::decode(&xattr::encode(b"value")).unwrap(), "value");
    rows.push(("xattr", key, xattr::encode(b"value")));

    assert_eq!(symlink::decode(&symlink::encode(b"../to")).unwrap(), "../to");
    assert_eq!(symlink::parse(&symlink::key(LAYER, child)).unwrap(), (LAYER, child));
    rows.push(("symlink", symlink::key(LAYER, child), symlink::encode(b"../to")));

    let value = side::Side { ino: child, name: Name::new(b"%:%2Fx").unwrap() };
    assert_eq!(side::decode(&side::encode(&value)).unwrap(), value);
    assert_eq!(side::parse(&side::key(LAYER, Ino::ROOT, b"/x")).unwrap(), (LAYER, Ino::ROOT, &b"/x"[..]));
    rows.push(("side", side::key(LAYER, Ino::ROOT, b"/x"), side::encode(&value)));

    let value = object::Object { content: 8, etag: "0123".into(), meta: meta() };
    assert_eq!(object::decode(&object::encode(&value)).unwrap(), value);
    assert_eq!(object::parse(&object::key(LAYER, child)).unwrap(), (LAYER, child));
    rows.push(("object", object::key(LAYER, child), object::encode(&value)));

    for why in [orphan::Why::Unlinked, orphan::Why::Staged, orphan::Why::Part] {
        let value = orphan::Orphan { why, parent: Ino::ROOT };
        assert_eq!(orphan::decode(&orphan::encode(&value)).unwrap(), value);
        assert_eq!(orphan::parse(&orphan::key(LAYER, child)).unwrap(), (LAYER, child));
        rows.push(("orphan", orphan::key(LAYER, child), orphan::encode(&value)));
    }
    rows.extend(rows_of_bytes());
    rows
}

fn rows_of_bytes() -> Vec<(&'static str, Vec<u8>, Bytes)> {
    let mut rows = Vec::new();
    let id = ExtentId { domain: 5, hash: [0xab; 16] };
    for source in [
        Source::Extent { id, skip: 4096 },
        Source::Inline(Bytes::from_static(b"inline")),
        Source::Slice { map: 6, offset: 8192 },
    ] {
        let row = Row { blocks: 2, len: 6000, source };
        assert_eq!(map::decode(&map::encode(&row)).unwrap(), row);
        assert_eq!(map::parse(&map::key(77, 12_288)).unwrap(), (77, 12_288));
        rows.push(("map", map::key(77, 12_288), map::encode(&row)));
    }
    let place = ExtentRef {
        pack: PackId(0x11 << 120 | 1),
        offset: 96,
        stored_len: 500,
        raw_len: 4096,
        flags: 1,
        hash: id.hash,
    };
    let value = extent::Extent { place, refs: 3 };
    assert_eq!(extent::decode(id, &extent::encode(&value)).unwrap(), value);
    assert_eq!(extent::parse(&extent::key(id)).unwrap(), id);
    rows.push(("extent", extent::key(id), extent::encode(&value)));

    assert_eq!(pack::decode(&pack::encode(1 << 20)).unwrap(), 1 << 20);
    assert_eq!(pack::parse(&pack::key(9)).unwrap(), 9);
    rows.push(("pack", pack::key(9), pack::encode(1 << 20)));

    let hexadecimal = "00112233445566778899aabbccddeeff";
    let value = upload::Upload {
        started: Time { secs: 5, nanos: 6 },
        meta: meta(),
        completed: Some((ino(3), "e-2".into())),
    };
    assert_eq!(upload::decode(&upload::encode(&value)).unwrap(), value);
    let key = upload::key(HeadId::FIRST, Ino::ROOT, b"a/b", hexadecimal);
    assert_eq!(upload::parse(&key).unwrap(), (HeadId::FIRST, Ino::ROOT, &b"a/b"[..], hexadecimal));
    rows.push(("upload", key, upload::encode(&value)));
    let key = upload::key(CLONE, Ino::ROOT, b"a/b", hexadecimal);
    assert_eq!(upload::parse(&key).unwrap(), (CLONE, Ino::ROOT, &b"a/b"[..], hexadecimal));
    rows.push(("upload", key, upload::encode(&value)));

    let value = part::Part {
        ino: ino(4),
        size: 5 << 20,
        etag: "ff".into(),
        checksums: Vec::new(),
        modified: Time { secs: 8, nanos: 0 },
    };
    assert_eq!(part::decode(&part::encode(&value)).unwrap(), value);
    assert_eq!(part::parse(&part::key([7; 16], 300)).unwrap(), ([7; 16], 300));
    rows.push(("part", part::key([7; 16], 300), part::encode(&value)));

    for which in
        [counter::Counter::NextId, counter::Counter::Inodes, counter::Counter::Blocks, counter::Counter::Head]
    {
        assert_eq!(counter::parse(&counter::key(which)).unwrap(), (which, HeadId::FIRST));
        assert_eq!(counter::decode(&counter::encode(4097)).unwrap(), 4097);
        rows.push(("counter", counter::key(which), counter::encode(4097)));
    }
    assert_eq!(
        counter::parse(&counter::of(counter::Counter::Head, CLONE)).unwrap(),
        (counter::Counter::Head, CLONE)
    );
    assert_eq!(counter::of(counter::Counter::Head, HeadId::FIRST), counter::key(counter::Counter::Head));
    rows.push(("counter", counter::of(counter::Counter::Head, CLONE), counter::encode(4097)));
    assert_eq!(layer::parse(&layer::key(LAYER)).unwrap(), LAYER);
    assert_eq!(layer::decode(&layer::encode(Some(Layer(3)))).unwrap(), Some(Layer(3)));
    assert_eq!(layer::decode(&layer::encode(None)).unwrap(), None);
    rows.push(("layer", layer::key(LAYER), layer::encode(Some(Layer(3)))));

    assert_eq!(frozen::parse(&frozen::key(77)).unwrap(), 77);
    assert_eq!(frozen::decode(&frozen::encode(300)).unwrap(), 300);
    rows.push(("frozen", frozen::key(77), frozen::encode(300)));
    assert_eq!(garbage::parse(&garbage::key(77)).unwrap(), 77);
    garbage::decode(&garbage::encode()).unwrap();
    rows.push(("garbage", garbage::key(77), garbage::encode()));
    let created = Time { secs: 9, nanos: 1 };
    let value = snapshot::Snapshot { view: 5, layer: LAYER, created, inodes: 300, blocks: 70_000 };
    assert_eq!(snapshot::decode(&snapshot::encode(&value)).unwrap(), value);
    assert_eq!(
        snapshot::parse(&snapshot::key(HeadId::FIRST, "daily-1")).unwrap(),
        (HeadId::FIRST, "daily-1")
    );
    rows.push(("snapshot", snapshot::key(HeadId::FIRST, "daily-1"), snapshot::encode(&value)));
    assert_eq!(snapshot::parse(&snapshot::key(CLONE, "daily-1")).unwrap(), (CLONE, "daily-1"));
    rows.push(("snapshot", snapshot::key(CLONE, "daily-1"), snapshot::encode(&value)));
    rows
}

#[test]
fn the_bytes_of_rows_are_those_on_disks() {
    let line = |(family, key, value): (&str, Vec<u8>, Bytes)| {
        format!("{family} {} {}\n", hex::encode(key), hex::encode(value))
    };
    let text: String = rows().into_iter().map(line).collect();
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rows.txt");
    if std::env::var_os("MOORING_BLESS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(&path).unwrap());
}

#[test]
fn what_is_no_row_is_refused() {
    for (_, key, value) in rows() {
        assert!(inode::parse(&key[..key.len() - 1]).is_err());
        let mut newer = value.to_vec();
        newer[0] = 2;
        assert_eq!(inode::decode(&newer), Err(RowError::Version { family: "inode", version: 2 }));
        assert!(map::decode(&value[..1]).is_err());
    }
    assert!(inode::decode(TOMBSTONE).is_err());
    assert!(inode::decode(&[]).is_err());
    let mut longer = inode::encode(&an_inode()).to_vec();
    longer.push(0);
    assert_eq!(inode::decode(&longer), Err(RowError::Value("inode")));
}

#[test]
fn entries_lie_in_the_order_of_object_keys() {
    let entry = |name: &str, is_dir| dentry::key(LAYER, Ino::ROOT, name.as_bytes(), is_dir);
    let mut keys =
        [entry("a0", false), entry("a", true), entry("a.b", false), entry("a", false), entry("a-", true)];
    keys.sort();
    let cursors: Vec<_> = keys.iter().map(|key| dentry::parse(key).unwrap().2.to_vec()).collect();
    assert_eq!(cursors, [&b"a"[..], b"a-/", b"a.b", b"a/", b"a0"]);
}
