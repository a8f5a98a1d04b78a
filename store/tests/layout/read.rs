//! A reader of the documented layouts. It uses ciphers, hashes and checksums, and nothing of the store.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use mooring_policy::rng::{Random, SeededRandom};

/// Key and value.
pub type Row = (Vec<u8>, Vec<u8>);

const MARK: [u8; 4] = [0xa5; 4];

/// The only data key of the volumes of these tests.
fn data_key() -> [u8; 32] {
    let mut key = [0; 32];
    SeededRandom::new(1).fill(&mut key);
    key
}

fn derived(context: &str, volume: u64, salt: &[u8]) -> LessSafeKey {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    hasher.update(&data_key());
    hasher.update(&volume.to_be_bytes());
    hasher.update(salt);
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, hasher.finalize().as_bytes()).unwrap())
}

fn open(key: &LessSafeKey, nonce: u64, bound: &[u8], sealed: &[u8]) -> Vec<u8> {
    let mut counted = [0; 12];
    counted[4..].copy_from_slice(&nonce.to_be_bytes());
    let (nonce, mut bytes) = (Nonce::assume_unique_for_key(counted), sealed.to_vec());
    key.open_in_place(nonce, Aad::from(bound), &mut bytes).expect("its seal opens").to_vec()
}

/// Takes numbers and bytes from the front.
pub struct Front<'a>(pub &'a [u8]);

impl<'a> Front<'a> {
    pub fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (front, rest) = self.0.split_at(len);
        self.0 = rest;
        front
    }

    pub fn u8(&mut self) -> u8 {
        self.bytes(1)[0]
    }

    pub fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.bytes(2).try_into().unwrap())
    }

    pub fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.bytes(4).try_into().unwrap())
    }

    pub fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.bytes(8).try_into().unwrap())
    }
}

pub fn contains(bytes: &[u8], what: &[u8]) -> bool {
    bytes.windows(what.len()).any(|part| part == what)
}

/// The rows of a journal file.
pub fn journal(name: &str, file: &[u8], volume: u64) -> Vec<Row> {
    let mut head = Front(file);
    assert_eq!((head.bytes(8), head.u16(), head.u16(), head.u32()), (&b"MOORJRNL"[..], 2, 0, 1));
    let (of, epoch, number, first) = (head.u64(), head.u64(), head.u64(), head.u64());
    assert_eq!((of, format!("{number:016x}")), (volume, name.to_owned()));
    let (_synced, salt) = (head.u64(), head.bytes(32));
    assert_eq!((head.u32(), head.bytes(4)), (crc32c::crc32c(&file[..88]), &MARK[..]));
    let key = derived("mooring 2026-11 journal v1", volume, salt);
    let place = [&b"J"[..], &volume.to_be_bytes(), &epoch.to_be_bytes(), &number.to_be_bytes()].concat();
    let (mut rows, mut rest, mut next) = (Vec::new(), Front(&file[96..]), first);
    while rest.0.first().is_some_and(|byte| *byte != 0) {
        let record = rest.0;
        assert_eq!(rest.bytes(4), b"MJR1");
        let (len, id, synced, crc) = (rest.u32(), rest.u64(), rest.u64(), rest.u32());
        assert_eq!((id, rest.u32(), rest.bytes(4)), (next, crc32c::crc32c(&record[..28]), &MARK[..]));
        assert!(synced < id);
        let body = rest.bytes(len as usize);
        assert_eq!((crc32c::crc32c(body), rest.u8()), (crc, 0xa5));
        rows.extend(batch(&open(&key, id, &place, body)));
        next += 1;
    }
    assert!(rest.0.iter().all(|byte| *byte == 0), "behind the last record there are zeros");
    rows
}

/// The rows of a record.
fn batch(body: &[u8]) -> Vec<Row> {
    let mut rest = Front(body);
    assert_eq!(rest.u8(), 1);
    let (_sequence, count) = (rest.u64(), rest.u32());
    let rows = (0..count).map(|_| {
        let kind = rest.u8();
        assert!(kind & 0b11 < 3 && kind < 16);
        rest.bytes(8 * ((kind >> 2 & 1) + (kind >> 3 & 1)) as usize);
        let (key, value) = (rest.u16(), rest.u32());
        (rest.bytes(key.into()).to_vec(), rest.bytes(value as usize).to_vec())
    });
    let rows = rows.collect();
    assert!(rest.0.is_empty());
    rows
}

/// The raw bytes of each extent of a whole pack.
pub fn pack(name: &str, file: &[u8], volume: u64) -> Vec<Vec<u8>> {
    let mut head = Front(file);
    assert_eq!((head.bytes(8), head.u16(), head.bytes(6)), (&b"MOORPACK"[..], 1, &[0; 6][..]));
    let (of, epoch, id) = (head.u64(), head.u64(), head.bytes(16));
    assert_eq!((of, head.u32(), head.u32()), (volume, crc32c::crc32c(&file[..48]), 0));
    let hex: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(name.replace('-', ""), format!("{epoch:016x}{hex}"));
    let mut tail = Front(&file[file.len() - 32..]);
    assert_eq!((tail.bytes(8), tail.u16(), tail.u16()), (&b"MOORPEND"[..], 1, 0));
    let (count, at, crc) = (tail.u32() as usize, tail.u32() as usize, tail.u32());
    assert_eq!((tail.u32(), tail.u32()), (0, crc32c::crc32c(&file[file.len() - 32..file.len() - 4])));
    let footer = &file[at..file.len() - 32];
    assert_eq!((footer.len(), crc32c::crc32c(footer)), (count * 76, crc));
    let key = derived("mooring 2026-11 pack v1", volume, id);
    footer.chunks(76).map(|row| extent(file, row, (volume, id, &key))).collect()
}

fn extent(file: &[u8], row: &[u8], (volume, id, key): (u64, &[u8], &LessSafeKey)) -> Vec<u8> {
    let offset = u32::from_le_bytes(row[72..].try_into().unwrap());
    let mut head = Front(&file[offset as usize..]);
    assert_eq!(&head.0[..72], &row[..72], "the head stands in the footer, too");
    assert_eq!(head.bytes(4), b"MXT1");
    let (flags, _, raw, stored) = (head.u8(), head.bytes(3), head.u32(), head.u32());
    let (_domain, _map, _map_offset, hash) = (head.u64(), head.u64(), head.u64(), head.bytes(16));
    let (crc, _, own) = (head.u32(), head.u64(), head.u32());
    let body = head.bytes(stored as usize);
    assert_eq!((crc, own), (crc32c::crc32c(body), crc32c::crc32c(&row[..68])));
    let place = [&b"X"[..], &volume.to_be_bytes(), id, &offset.to_be_bytes(), &raw.to_be_bytes(), &[flags]];
    let place = place.concat();
    let at = |from: usize| u64::from(offset) + 72 + from as u64;
    let plain = match flags {
        0 => open(key, offset.into(), &place, body),
        1 => unpacked(&open(key, offset.into(), &place, body), raw as usize),
        2 => {
            let parts = body.chunks((16 << 10) + 16).enumerate();
            let from = |number: usize| at(number * ((16 << 10) + 16));
            parts.flat_map(|(number, part)| open(key, from(number), &place, part)).collect()
        }
        3 => {
            let index = raw.div_ceil(16 << 10) as usize * 4 + 16;
            let lens = open(key, at(0), &place, &body[..index]);
            let (mut from, mut plain) = (index, Vec::new());
            for len in lens.chunks(4) {
                let len = u32::from_le_bytes(len.try_into().unwrap()) as usize;
                let part = open(key, at(from), &place, &body[from..from + len + 16]);
                let wants = (raw as usize - plain.len()).min(16 << 10);
                plain.extend(if len == wants { part } else { unpacked(&part, wants) });
                from += len + 16;
            }
            plain
        }
        _ => panic!("flags {flags}"),
    };
    let hash_key = blake3::derive_key("mooring 2026-11 tenant extent hash v1", &data_key());
    assert_eq!((plain.len(), hash), (raw as usize, &blake3::keyed_hash(&hash_key, &plain).as_bytes()[..16]));
    plain
}

fn unpacked(packed: &[u8], len: usize) -> Vec<u8> {
    lz4_flex::block::decompress(packed, len).expect("an LZ4 block")
}

/// The rows of a checkpoint.
pub fn checkpoint(file: &[u8], volume: u64) -> Vec<Row> {
    let mut rest = Front(file);
    assert_eq!((rest.bytes(8), rest.u8(), rest.u16()), (&b"MOORCKPT"[..], 2, 1));
    let key = derived("mooring 2026-11 checkpoint v1", volume, rest.bytes(32));
    let (mut chunks, mut number) = (Vec::new(), 0);
    while !rest.0.is_empty() {
        let sealed_len = rest.u32() as usize;
        let sealed = rest.bytes(sealed_len);
        let last = u8::from(rest.0.is_empty());
        let place = [&b"K"[..], &volume.to_be_bytes(), &[last]].concat();
        chunks.push(open(&key, number, &place, sealed));
        number += 1;
    }
    let told: serde_json::Value = serde_json::from_slice(&chunks[0]).unwrap();
    assert!(told["taken"].is_u64() && told["seq"].is_u64() && told["packs"].is_array(), "{told}");
    let count = u64::from_le_bytes(chunks.pop().unwrap().try_into().unwrap());
    let mut rows = Vec::new();
    for chunk in &chunks[1..] {
        let mut packed = Front(chunk);
        let len = packed.u32() as usize;
        let plain = unpacked(packed.0, len);
        let mut plain = Front(&plain);
        while !plain.0.is_empty() {
            let (key, value) = (plain.u16(), plain.u32());
            rows.push((plain.bytes(key.into()).to_vec(), plain.bytes(value as usize).to_vec()));
        }
    }
    assert_eq!(rows.len() as u64, count);
    rows
}

/// What a small file of the engine holds.
pub fn small_file(path: &str, file: &[u8], volume: u64) -> Vec<u8> {
    let mut rest = Front(file);
    assert_eq!((rest.bytes(8), rest.u8()), (&b"MOORMETA"[..], 1));
    let key = derived("mooring 2026-11 engine block v1", volume, rest.bytes(16));
    let nonce = u64::from_be_bytes(rest.bytes(8).try_into().unwrap());
    assert_eq!(nonce >> 48, 0, "the first data key");
    open(&key, nonce, &[&volume.to_be_bytes()[..], b"file", path.as_bytes()].concat(), rest.0)
}

/// An object of the log.
pub struct LogObject {
    pub owner: String,
    pub records: Vec<Vec<Row>>,
    pub pieces: Vec<Vec<u8>>,
}

pub fn log_object(name: &str, file: &[u8], volume: u64) -> LogObject {
    let mut head = Front(file);
    assert_eq!((head.bytes(8), head.u16()), (&b"MOORSLOG"[..], 1));
    assert!((1..=3).contains(&head.u8()) && head.u16() == 1 && head.bytes(3) == [0; 3]);
    let (of, _epoch, number) = (head.u64(), head.u64(), head.u64());
    assert_eq!((of, format!("{number:020}")), (volume, name.to_owned()));
    let (_first, _last, _sequence, salt) = (head.u64(), head.u64(), head.u64(), head.bytes(32));
    assert_eq!((head.u32(), head.u32()), (crc32c::crc32c(&file[..96]), 0));
    let key = derived("mooring 2026-11 journal v1", volume, salt);
    let body = open(&key, 0, &file[..104], head.0);
    let mut rest = Front(&body);
    let owner_len = rest.u16();
    let owner = String::from_utf8(rest.bytes(owner_len.into()).to_vec()).unwrap();
    let (pieces, records) = (rest.u32(), rest.u32());
    let pieces = (0..pieces).map(|_| {
        let (_epoch, _pack, _offset, len) = (rest.u64(), rest.bytes(16), rest.u32(), rest.u32());
        rest.bytes(len as usize).to_vec()
    });
    let pieces = pieces.collect();
    let records = (0..records).map(|_| {
        let (_id, _sequence, len) = (rest.u64(), rest.u64(), rest.u32());
        batch(rest.bytes(len as usize))
    });
    let records = records.collect();
    assert!(rest.0.is_empty());
    LogObject { owner, records, pieces }
}
