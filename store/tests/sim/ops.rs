//! What a client can do, and doing it.

use crate::look::{find, home, parent};
use crate::volumes::name;
use crate::world::Life;
use bytes::Bytes;
use mooring_protocol::types::{Ino, NewNode, RenameMode, SetAttr, XattrMode};
use mooring_store::api::{Condition, ObjectMeta, Objects, PartInfo, Result, Tree, WriteAt};

/// Paths are those below the client's folder.
pub enum Op {
    Create(String),
    Mkdir(String),
    Write(String, u64, Bytes),
    Append(String, Bytes),
    Truncate(String, u64),
    Rename(String, String),
    Remove(String),
    Attribute(String, u8),
    Put(String, Bytes),
    Parts(String, Vec<Bytes>),
    Copy(String, String, u64),
    Delete(String),
    Fsync(String),
    Sync,
}

impl std::fmt::Debug for Op {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Op::Create(at) => write!(f, "create {at}"),
            Op::Mkdir(at) => write!(f, "mkdir {at}"),
            Op::Write(at, offset, data) => write!(f, "write {at} at {offset}, {} bytes", data.len()),
            Op::Append(at, data) => write!(f, "append {at}, {} bytes", data.len()),
            Op::Truncate(at, size) => write!(f, "truncate {at} to {size}"),
            Op::Rename(from, to) => write!(f, "rename {from} to {to}"),
            Op::Remove(at) => write!(f, "remove {at}"),
            Op::Attribute(at, value) => write!(f, "attribute of {at} is {value}"),
            Op::Put(at, data) => write!(f, "put {at}, {} bytes", data.len()),
            Op::Parts(at, parts) => write!(f, "put {at} in {} parts", parts.len()),
            Op::Copy(from, to, len) => write!(f, "copy {from} to {to}, {len} bytes"),
            Op::Delete(at) => write!(f, "delete {at}"),
            Op::Fsync(at) => write!(f, "fsync {at}"),
            Op::Sync => f.write_str("sync"),
        }
    }
}

/// Does it; tells whether everything up to it is durable then.
pub async fn carry_out(life: &Life, number: usize, op: &Op) -> Result<bool> {
    let (volume, cx) = (&*life.volume, life.caller());
    match op {
        Op::Create(path) | Op::Mkdir(path) => {
            let (dir, leaf) = parent(volume, number, path).await?;
            let file = NewNode::File { open: None };
            let node = if matches!(op, Op::Mkdir(_)) { NewNode::Dir } else { file };
            volume.create(&cx, dir, &name(leaf), 0o755, (0, 0), &node).await?;
        }
        Op::Write(path, offset, data) => {
            let ino = find(volume, number, path).await?;
            volume.write(&cx, ino, WriteAt::Offset(*offset), data.clone(), None, false).await?;
        }
        Op::Append(path, data) => {
            let ino = find(volume, number, path).await?;
            volume.write(&cx, ino, WriteAt::End, data.clone(), None, false).await?;
        }
        Op::Truncate(path, size) => {
            let ino = find(volume, number, path).await?;
            volume.setattr(&cx, ino, &SetAttr { size: Some(*size), ..SetAttr::default() }).await?;
        }
        Op::Rename(from, to) => {
            let ((dir, leaf), (there, new)) =
                (parent(volume, number, from).await?, parent(volume, number, to).await?);
            volume.rename(&cx, dir, &name(leaf), there, &name(new), RenameMode::Replace).await?;
        }
        Op::Remove(path) => {
            let (dir, leaf) = parent(volume, number, path).await?;
            volume.unlink(&cx, dir, &name(leaf)).await?;
        }
        Op::Attribute(path, value) => {
            let ino = find(volume, number, path).await?;
            volume.setxattr(&cx, ino, b"user.sim", &[*value], XattrMode::Set).await?;
        }
        Op::Put(path, data) => {
            put(life, number, path, std::slice::from_ref(data), None).await?;
            return Ok(true);
        }
        Op::Copy(from, to, len) => {
            let source = find(volume, number, from).await?;
            put(life, number, to, &[], Some((source, *len))).await?;
            return Ok(true);
        }
        Op::Parts(path, parts) => {
            in_parts(life, number, path, parts).await?;
            return Ok(true);
        }
        Op::Delete(path) => {
            let key = format!("{}/{path}", home(number));
            volume.delete(&cx, key.as_bytes(), &Condition::default()).await?;
            return Ok(true);
        }
        Op::Fsync(path) => {
            volume.fsync(&cx, find(volume, number, path).await?).await?;
            return Ok(true);
        }
        Op::Sync => {
            volume.sync().await?;
            return Ok(true);
        }
    }
    Ok(false)
}

async fn put(
    life: &Life,
    number: usize,
    path: &str,
    data: &[Bytes],
    source: Option<(Ino, u64)>,
) -> Result<()> {
    let (volume, cx) = (&*life.volume, life.caller());
    let staged = volume.stage(&cx).await?;
    let done = async {
        for part in data {
            volume.stage_write(&cx, staged, part.clone()).await?;
        }
        if let Some((source, len)) = source {
            volume.stage_copy(&cx, source, 0, len, staged).await?;
        }
        let (key, etag) = (format!("{}/{path}", home(number)), format!("{:032x}", life.stamp()));
        volume.put(&cx, staged, key.as_bytes(), etag, ObjectMeta::default(), &Condition::default()).await
    };
    match done.await {
        Ok(_) => Ok(()),
        Err(error) => {
            let _ = volume.stage_abort(&cx, staged).await;
            Err(error)
        }
    }
}

async fn in_parts(life: &Life, number: usize, path: &str, parts: &[Bytes]) -> Result<()> {
    let (volume, cx) = (&*life.volume, life.caller());
    let key = format!("{}/{path}", home(number));
    let upload = volume.upload_create(&cx, key.as_bytes(), ObjectMeta::default()).await?;
    let mut named = Vec::new();
    for (at, data) in (1..).zip(parts) {
        let staged = volume.stage(&cx).await?;
        volume.stage_write(&cx, staged, data.clone()).await?;
        let (etag, size) = (format!("{at:032x}"), data.len() as u64);
        named.push((at, etag.clone()));
        let part = PartInfo { number: at, size, etag, checksums: Vec::new(), modified: cx.now };
        volume.upload_part(&cx, key.as_bytes(), &upload.id, part, staged).await?;
    }
    let when = Condition::default();
    volume.upload_complete(&cx, key.as_bytes(), &upload.id, &named, Vec::new(), &when).await.map(drop)
}
