//! Looking at a client's folder through both doors.

use crate::clients::{Lines, Node};
use crate::volumes::{name, owner};
use crate::world::Life;
use bytes::Bytes;
use mooring_protocol::types::{FileKind, Ino};
use mooring_store::api::{ListQuery, Objects, Result};
use mooring_store::error::StoreError;
use mooring_store::volume::Volume;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long after the weather everything must work again.
const WITHIN: Duration = Duration::from_secs(30);

pub fn home(number: usize) -> String {
    format!("c{number}")
}

/// The inode a path leads to.
pub async fn find(volume: &dyn Objects, number: usize, path: &str) -> Result<Ino> {
    let mut ino = volume.lookup(&owner(), Ino::ROOT, &name(&home(number))).await?.ino;
    for part in path.split('/').filter(|part| !part.is_empty()) {
        ino = volume.lookup(&owner(), ino, &name(part)).await?.ino;
    }
    Ok(ino)
}

pub async fn parent<'a>(volume: &dyn Objects, number: usize, path: &'a str) -> Result<(Ino, &'a str)> {
    let (dir, leaf) = path.rsplit_once('/').unwrap_or(("", path));
    Ok((find(volume, number, dir).await?, leaf))
}

pub async fn read(volume: &dyn Objects, ino: Ino) -> Result<Bytes> {
    let mut all = Vec::new();
    loop {
        let before = all.len();
        let (parts, _) = volume.read(&owner(), ino, before as u64, 1 << 20).await?;
        parts.iter().for_each(|part| all.extend_from_slice(part));
        if all.len() == before {
            return Ok(all.into());
        }
    }
}

/// A client's folder.
pub async fn folder(volume: &dyn Objects, number: usize) -> Result<Lines> {
    let mut lines = Lines::new();
    let mut dirs = vec![(find(volume, number, "").await?, String::new())];
    while let Some((dir, at)) = dirs.pop() {
        let (mut cursor, mut end) = (Vec::new(), false);
        while !end {
            let (entries, last) = volume.readdir(&owner(), dir, &cursor, 50, true).await?;
            end = last;
            for entry in entries {
                cursor = entry.cursor();
                let path = format!("{at}{}", entry.name);
                if entry.kind == FileKind::Dir {
                    dirs.push((entry.ino, format!("{path}/")));
                    lines.insert(path, Node::Dir);
                    continue;
                }
                let attribute = match volume.getxattr(&owner(), entry.ino, b"user.sim").await {
                    Ok(value) => Some(value[0]),
                    Err(StoreError::NoAttribute) => None,
                    Err(error) => return Err(error),
                };
                let bytes = read(volume, entry.ino).await?;
                lines.insert(path, Node::File { bytes, attribute });
            }
        }
    }
    Ok(lines)
}

/// Asks until it is answered: reads may fail while the disk does.
pub async fn answered<T, F: Future<Output = Result<T>>>(life: &Life, ask: impl Fn() -> F) -> T {
    #[allow(clippy::disallowed_methods, reason = "a deadline of the test")]
    let began = Instant::now();
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(error) => {
                assert!(life.weather.get() || life.over.get(), "a read says {error:?}");
                assert!(began.elapsed() < WITHIN, "still {error:?}");
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
    }
}

pub async fn settled(life: &Life, number: usize) -> Lines {
    let volume: Arc<Volume> = life.volume.clone();
    answered(life, || folder(&*volume, number)).await
}

pub async fn listed(life: &Life, number: usize) -> Vec<String> {
    let prefix = format!("{}/", home(number));
    let keys = || async {
        let (mut after, mut keys) = (Vec::new(), Vec::new());
        loop {
            let query =
                ListQuery { prefix: prefix.clone().into_bytes(), after, limit: 9, ..ListQuery::default() };
            let page = life.volume.list(&owner(), &query).await?;
            for object in page.objects.iter().filter(|object| !object.marker) {
                keys.push(String::from_utf8_lossy(&object.key[prefix.len()..]).into_owned());
            }
            match page.next {
                Some(next) => after = next,
                None => break,
            }
        }
        // In the order of the folder's paths, not of keys.
        keys.sort();
        Ok(keys)
    };
    answered(life, keys).await
}
