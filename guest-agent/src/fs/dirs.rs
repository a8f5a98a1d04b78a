//! Listing directories, a page at a time, whatever their size.
//!
//! While the kernel takes one page, the next is on its way: the gateway and this VM work at the same time. What is asked
//! ahead is at most one page old, and of no moment before the directory was opened or rewound.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use mooring_protocol::message::{Reply, Request};
use mooring_protocol::types::Ino;
use rustix::io::Errno;
use tokio::task::JoinHandle;

use super::convert::kind_bits;
use super::{Door, errno, odd};
use crate::fuse::{DirEntry, DirPage, NodeId, Opened, Result};

/// Entries asked for at once.
const PAGE: u32 = 512;
/// Cookies 1 and 2 are `.` and `..`.
const DOTS: u64 = 2;
/// Pages whose beginnings are remembered, for `seekdir` backwards: 512 * 16 Ki entries and more are listed, but only
/// forwards.
const MAX_MARKS: usize = 16 << 10;

/// An open directory: the page being read, and where the pages before it began.
pub struct OpenDir {
    ino: Ino,
    place: tokio::sync::Mutex<Place>,
}

#[derive(Default)]
struct Place {
    /// Cookie before the page's first entry.
    base: u64,
    page: Arc<Vec<DirEntry>>,
    /// Cursor after the page's last entry.
    after: Vec<u8>,
    end: bool,
    /// Cookie and cursor at which pages began.
    marks: Vec<(u64, Vec<u8>)>,
    /// The page after this one.
    ahead: Option<JoinHandle<Result<Fetched>>>,
}

/// A page as it came.
struct Fetched {
    entries: Vec<DirEntry>,
    /// Cursor after the last entry.
    after: Option<Vec<u8>>,
    end: bool,
}

impl Door {
    pub(super) fn op_opendir(&self, id: NodeId) -> Result<Opened> {
        let ino = self.to_ino(id)?;
        let fh = self.next_dir.fetch_add(1, Ordering::Relaxed);
        self.dirs.lock().insert(fh, Arc::new(OpenDir { ino, place: tokio::sync::Mutex::default() }));
        Ok(Opened { fh, ..Opened::default() })
    }

    pub(super) async fn op_readdir(&self, fh: u64, cookie: u64) -> Result<DirPage> {
        let dir = self.dirs.lock().get(&fh).cloned().ok_or(Errno::BADF)?;
        if cookie < DOTS {
            // From the beginning the directory is read anew, as rewinddir(3) promises.
            *dir.place.lock().await = Place { base: DOTS, ..Place::default() };
            return Ok(self.dots(dir.ino, cookie));
        }
        let mut place = dir.place.lock().await;
        if cookie < place.base {
            place.seek_back(cookie)?;
        }
        loop {
            let len = place.page.len() as u64;
            if cookie < place.base + len {
                let from = usize::try_from(cookie - place.base).map_err(|_| Errno::INVAL)?;
                return Ok(self.page(&place, from));
            }
            if place.end {
                return Ok(self.page(&place, place.page.len()));
            }
            self.next_page(dir.ino, &mut place).await?;
        }
    }

    async fn next_page(&self, ino: Ino, place: &mut Place) -> Result<()> {
        // Should the caller go away while it waits, the page is asked for again.
        let Fetched { entries, after, end } = match place.ahead.take() {
            Some(ahead) => ahead.await.map_err(|_| Errno::IO)??,
            None => self.ask_page(ino, place.after.clone()).await?,
        };
        place.base += place.page.len() as u64;
        if place.marks.len() < MAX_MARKS {
            place.marks.push((place.base, place.after.clone()));
        }
        if let Some(after) = after {
            place.after = after;
        }
        place.end = end;
        place.page = Arc::new(entries);
        place.ahead = match self.this.upgrade() {
            Some(door) if !end => {
                let after = place.after.clone();
                Some(self.runtime.spawn(async move { door.ask_page(ino, after).await }))
            }
            _ => None,
        };
        Ok(())
    }

    async fn ask_page(&self, ino: Ino, after: Vec<u8>) -> Result<Fetched> {
        // Attributes come along: who lists mostly looks next, and is then answered from here.
        let request = Request::ReadDir { ino, after, limit: PAGE, plus: true };
        let (entries, end) = match self.ask(request).await.map_err(errno)? {
            Reply::Entries { entries, end } => (entries, end),
            other => return Err(odd(&other)),
        };
        if entries.is_empty() && !end {
            return Err(Errno::PROTO);
        }
        let after = entries.last().map(|last| last.cursor());
        let entries = entries.into_iter().map(|e| DirEntry {
            ino: self.to_node(e.ino),
            kind: kind_bits(e.kind),
            name: Bytes::copy_from_slice(e.name.as_bytes()),
        });
        Ok(Fetched { entries: entries.collect(), after, end })
    }

    fn page(&self, place: &Place, from: usize) -> DirPage {
        DirPage { entries: place.page.clone(), from, base: place.base }
    }

    fn dots(&self, ino: Ino, cookie: u64) -> DirPage {
        let dot = |name: &'static [u8]| DirEntry {
            ino: self.to_node(ino),
            kind: libc::S_IFDIR,
            name: Bytes::from_static(name),
        };
        DirPage {
            entries: Arc::new(vec![dot(b"."), dot(b"..")]),
            // Below 2, so it fits.
            from: cookie as usize,
            base: 0,
        }
    }
}

impl Place {
    fn seek_back(&mut self, cookie: u64) -> Result<()> {
        let at = self.marks.partition_point(|(base, _)| *base <= cookie);
        let (base, after) = self.marks.get(at.wrapping_sub(1)).cloned().ok_or(Errno::INVAL)?;
        self.marks.truncate(at.saturating_sub(1));
        *self = Place { base, after, marks: std::mem::take(&mut self.marks), ..Place::default() };
        Ok(())
    }
}
