//! Byte layout of an object of the log. Little endian.
//!
//! ```text
//! head (104)  magic "MOORSLOG" | version u16 | kind u8 | 0 [5] | volume u64 | epoch u64 | number u64 | first record u64
//!             | last record u64 | sequence of the last u64 | salt [32] | crc32c u32 of the head before | 0 u32
//! body        sealed, tag included; the head is bound:
//!             owner: length u16, UTF-8 | pieces u32 | records u32
//!             piece:  epoch u64 | pack id [16] | offset u32 | length u32 | bytes as they stand in the pack
//!             record: id u64 | sequence u64 | length u32 | body as in the journal
//! ```
//!
//! Each object has a key of its own, from its salt, so its one nonce is never used twice.

use super::UpstreamError;
use crate::pack::PackId;
use crate::seal::{KeyGeneration, TAG_BYTES, VolumeKeys};
use bytes::{Buf, Bytes};
use mooring_policy::rng::Random;

const MAGIC: &[u8; 8] = b"MOORSLOG";
const VERSION: u16 = 1;
const HEAD_BYTES: usize = 104;
const CRC_AT: usize = 96;
/// An object's seal has one nonce: its key is its own.
const NONCE: u64 = 0;

/// What an object is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It carries records.
    Records = 1,
    /// Somebody opened the volume.
    Opened = 2,
    /// Somebody closed it: the store has everything.
    Closed = 3,
    /// Somebody opened the volume, and whoever had it may live. It is never removed: it stands where that one puts its
    /// next object, however late.
    Taken = 4,
}

impl Kind {
    /// Whether it is the first of an epoch.
    pub fn opens(self) -> bool {
        matches!(self, Kind::Opened | Kind::Taken)
    }
}

/// The head of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub kind: Kind,
    pub volume: u64,
    pub epoch: u64,
    pub number: u64,
    /// The first record in it; one behind `last_id` when it has none.
    pub first_id: u64,
    /// The last record the log has, with this object.
    pub last_id: u64,
    pub last_seq: u64,
    /// The data key that sealed it; filled in when it is.
    pub generation: KeyGeneration,
    pub salt: [u8; 32],
}

/// Bytes of a pack that is not in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Epoch in the pack's name.
    pub epoch: u64,
    pub pack: PackId,
    pub offset: u32,
    pub bytes: Bytes,
}

/// A record of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub id: u64,
    pub seq: u64,
    pub body: Bytes,
}

/// An object, opened.
#[derive(Debug)]
pub(super) struct Object {
    pub head: Head,
    pub owner: String,
    pub pieces: Vec<Piece>,
    pub records: Vec<Record>,
}

impl Object {
    /// About what it takes in the store.
    pub fn bytes(&self) -> usize {
        let pieces: usize = self.pieces.iter().map(|piece| piece.bytes.len()).sum();
        pieces + self.records.iter().map(|record| record.body.len()).sum::<usize>()
    }
}

impl Head {
    fn encode(&self) -> [u8; HEAD_BYTES] {
        let mut out = [0; HEAD_BYTES];
        out[..8].copy_from_slice(MAGIC);
        out[8..10].copy_from_slice(&VERSION.to_le_bytes());
        out[10] = self.kind as u8;
        out[11..13].copy_from_slice(&self.generation.0.to_le_bytes());
        let words = [self.volume, self.epoch, self.number, self.first_id, self.last_id, self.last_seq];
        for (word, to) in words.into_iter().zip(out[16..64].chunks_exact_mut(8)) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        out[64..CRC_AT].copy_from_slice(&self.salt);
        let crc = crc32c::crc32c(&out[..CRC_AT]);
        out[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
        out
    }

    fn decode(bytes: &[u8], name: &str) -> Result<Self, UpstreamError> {
        let corrupt =
            |detail: &str| UpstreamError::Corrupt { object: name.to_owned(), detail: detail.to_owned() };
        let head = bytes.get(..HEAD_BYTES).ok_or_else(|| corrupt("it is too short"))?;
        let mut rest = &head[8..];
        let version = rest.get_u16_le();
        let crc = (&head[CRC_AT..]).get_u32_le();
        if &head[..8] != MAGIC || crc != crc32c::crc32c(&head[..CRC_AT]) {
            return Err(corrupt("its head does not check"));
        }
        if version > VERSION {
            let object = name.to_owned();
            return Err(UpstreamError::Version { object, found: version, supported: VERSION });
        }
        let kind = match rest.get_u8() {
            1 => Kind::Records,
            2 => Kind::Opened,
            3 => Kind::Closed,
            4 => Kind::Taken,
            _ => return Err(corrupt("it is of no known kind")),
        };
        // Zero in what was written before there were generations.
        let generation = KeyGeneration(rest.get_u16_le().max(1));
        rest.advance(3);
        let mut words = [0; 6];
        words.iter_mut().for_each(|word| *word = rest.get_u64_le());
        let [volume, epoch, number, first_id, last_id, last_seq] = words;
        let mut salt = [0; 32];
        rest.copy_to_slice(&mut salt);
        Ok(Self { kind, volume, epoch, number, first_id, last_id, last_seq, generation, salt })
    }
}

/// What goes into an object besides its head.
pub(super) struct Content<'a> {
    pub owner: &'a str,
    pub pieces: &'a [Piece],
    pub records: &'a [Record],
}

/// Encodes and seals an object. `head.salt` is filled in.
pub(super) fn encode(
    head: &mut Head,
    content: &Content<'_>,
    keys: &VolumeKeys,
    random: &dyn Random,
) -> Result<Vec<u8>, UpstreamError> {
    random.fill(&mut head.salt);
    head.generation = keys.generation();
    let pieces: usize = content.pieces.iter().map(|piece| 32 + piece.bytes.len()).sum();
    let records: usize = content.records.iter().map(|record| 20 + record.body.len()).sum();
    let owner = &content.owner.as_bytes()[..content.owner.len().min(256)];
    let mut out = Vec::with_capacity(HEAD_BYTES + 10 + owner.len() + pieces + records + TAG_BYTES);
    let encoded = head.encode();
    out.extend_from_slice(&encoded);
    out.extend_from_slice(&(owner.len() as u16).to_le_bytes());
    out.extend_from_slice(owner);
    out.extend_from_slice(&(content.pieces.len() as u32).to_le_bytes());
    out.extend_from_slice(&(content.records.len() as u32).to_le_bytes());
    for piece in content.pieces {
        out.extend_from_slice(&piece.epoch.to_le_bytes());
        out.extend_from_slice(&piece.pack.0.to_be_bytes());
        out.extend_from_slice(&piece.offset.to_le_bytes());
        out.extend_from_slice(&(piece.bytes.len() as u32).to_le_bytes());
        out.extend_from_slice(&piece.bytes);
    }
    for record in content.records {
        out.extend_from_slice(&record.id.to_le_bytes());
        out.extend_from_slice(&record.seq.to_le_bytes());
        out.extend_from_slice(&(record.body.len() as u32).to_le_bytes());
        out.extend_from_slice(&record.body);
    }
    keys.journal(head.generation, &head.salt)?.seal_tail(NONCE, &encoded, &mut out, HEAD_BYTES)?;
    Ok(out)
}

/// Opens an object that stands under `number`.
pub(super) fn decode(
    bytes: Bytes,
    number: u64,
    keys: &VolumeKeys,
    name: &str,
) -> Result<Object, UpstreamError> {
    let corrupt =
        |detail: &str| UpstreamError::Corrupt { object: name.to_owned(), detail: detail.to_owned() };
    let head = Head::decode(&bytes, name)?;
    if head.number != number || head.volume != keys.volume().get() {
        return Err(corrupt("it belongs elsewhere"));
    }
    let mut sealed = bytes[HEAD_BYTES..].to_vec();
    let cipher = keys.journal(head.generation, &head.salt)?;
    let len =
        cipher.open(NONCE, &bytes[..HEAD_BYTES], &mut sealed).map_err(|error| corrupt(&error.to_string()))?;
    let len = len.len();
    sealed.truncate(len);
    let parsed = parse(Bytes::from(sealed)).ok_or_else(|| corrupt("its body has an unknown form"))?;
    let (owner, pieces, records) = parsed;
    Ok(Object { head, owner, pieces, records })
}

fn parse(mut body: Bytes) -> Option<(String, Vec<Piece>, Vec<Record>)> {
    let len = usize::from(body.try_get_u16_le().ok()?);
    let owner = String::from_utf8(take(&mut body, len)?.to_vec()).ok()?;
    let (pieces, records) = (body.try_get_u32_le().ok()?, body.try_get_u32_le().ok()?);
    let (mut all, mut rows) = (Vec::new(), Vec::new());
    for _ in 0..pieces {
        let epoch = body.try_get_u64_le().ok()?;
        let pack = PackId(body.try_get_u128().ok()?);
        let offset = body.try_get_u32_le().ok()?;
        let len = body.try_get_u32_le().ok()? as usize;
        all.push(Piece { epoch, pack, offset, bytes: take(&mut body, len)? });
    }
    for _ in 0..records {
        let (id, seq) = (body.try_get_u64_le().ok()?, body.try_get_u64_le().ok()?);
        let len = body.try_get_u32_le().ok()? as usize;
        rows.push(Record { id, seq, body: take(&mut body, len)? });
    }
    body.is_empty().then_some((owner, all, rows))
}

fn take(body: &mut Bytes, len: usize) -> Option<Bytes> {
    (body.len() >= len).then(|| body.split_to(len))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::seal::TenantKey;
    use mooring_policy::ids::VolumeId;
    use mooring_policy::rng::SeededRandom;

    #[test]
    fn objects_round_trip_and_changed_ones_do_not_open() {
        let random = SeededRandom::new(3);
        let keys = TenantKey::generate(&random).volume(VolumeId(9));
        let mut head = Head {
            kind: Kind::Records,
            volume: 9,
            epoch: 2,
            number: 5,
            first_id: 7,
            last_id: 8,
            last_seq: 80,
            generation: KeyGeneration::FIRST,
            salt: [0; 32],
        };
        let piece = Piece { epoch: 1, pack: PackId(77), offset: 56, bytes: Bytes::from_static(b"piece") };
        let record = |id| Record { id, seq: id * 10, body: Bytes::from_static(b"body") };
        let (pieces, records) = ([piece], [record(7), record(8)]);
        let content = Content { owner: "host a", pieces: &pieces, records: &records };
        let bytes = encode(&mut head, &content, &keys, &random).unwrap();
        let object = decode(bytes.clone().into(), 5, &keys, "x").unwrap();
        assert_eq!((object.head, object.owner.as_str()), (head, "host a"));
        assert_eq!((object.pieces, object.records), (pieces.to_vec(), records.to_vec()));
        assert!(decode(bytes.clone().into(), 6, &keys, "x").is_err(), "moved to another number");
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            // The last word of the head is not used, and bound all the same.
            assert!(decode(flipped.into(), 5, &keys, "x").is_err(), "byte {at}");
            assert!(decode(bytes[..at].to_vec().into(), 5, &keys, "x").is_err(), "cut to {at}");
        }
    }
}
