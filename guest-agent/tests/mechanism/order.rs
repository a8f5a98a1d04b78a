//! The order of a recall: new state published, kernel emptied, and only then acknowledged.

use std::fs::{self, File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::stage::Stage;
use mooring_protocol::types::Ino;

const PAGE: usize = 4096;

/// One page of a file, mapped, so that the kernel can be asked whether it is cached.
struct Mapped(*mut libc::c_void);

// SAFETY: the address is only handed to mincore and munmap, never read through.
unsafe impl Send for Mapped {}
// SAFETY: as above.
unsafe impl Sync for Mapped {}

impl Mapped {
    fn new(file: &File) -> Mapped {
        // SAFETY: a new mapping at an address the kernel picks; nothing of ours is there.
        let at = unsafe {
            libc::mmap(std::ptr::null_mut(), PAGE, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), 0)
        };
        assert_ne!(at, libc::MAP_FAILED);
        Mapped(at)
    }

    fn is_cached(&self) -> bool {
        let mut vec = 0u8;
        // SAFETY: the mapping is one page long, so the kernel writes one byte.
        let result = unsafe { libc::mincore(self.0, PAGE, &raw mut vec) };
        assert_eq!(result, 0);
        vec & 1 == 1
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: made by Mapped::new with this length, and unmapped once.
        unsafe { libc::munmap(self.0, PAGE) };
    }
}

#[test]
fn a_recall_is_acknowledged_after_the_kernel_has_dropped_the_pages() {
    let stage = Stage::set(&[false, false], Duration::from_secs(60));
    fs::write(stage.at(0).join("file"), vec![1; PAGE]).unwrap();
    let reader = File::open(stage.at(1).join("file")).unwrap();
    let writer = OpenOptions::new().write(true).open(stage.at(0).join("file")).unwrap();
    let ino = {
        use std::os::unix::fs::MetadataExt;
        Ino::new(reader.metadata().unwrap().ino()).unwrap()
    };
    let mapped = Arc::new(Mapped::new(&reader));
    let (acknowledged, cached_then) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    {
        let (mapped, acknowledged, cached_then) = (mapped.clone(), acknowledged.clone(), cached_then.clone());
        stage.gateway.on_recalled(move |session, of| {
            if session.0 == 2 && of == ino {
                acknowledged.fetch_add(1, Ordering::SeqCst);
                cached_then.fetch_add(u32::from(mapped.is_cached()), Ordering::SeqCst);
            }
        });
    }
    for round in 2..30u8 {
        let mut buffer = [0; PAGE];
        reader.read_exact_at(&mut buffer, 0).unwrap();
        assert!(mapped.is_cached(), "read under a lease, so kept");
        writer.write_all_at(&[round; PAGE], 0).unwrap();
        assert!(!mapped.is_cached(), "the write has returned, so nothing old is left");
        reader.read_exact_at(&mut buffer, 0).unwrap();
        assert_eq!(buffer, [round; PAGE]);
    }
    assert!(acknowledged.load(Ordering::SeqCst) >= 28, "every round recalled the reader's lease");
    assert_eq!(cached_then.load(Ordering::SeqCst), 0, "no acknowledgement found a page still cached");
}

#[test]
fn pages_are_kept_while_nobody_else_writes() {
    let stage = Stage::set(&[false, false], Duration::from_secs(60));
    fs::write(stage.at(0).join("file"), vec![1; PAGE]).unwrap();
    assert_eq!(fs::read(stage.at(1).join("file")).unwrap().len(), PAGE);
    let before = stage.agents[1].status().mounts[0].requests;
    let reader = File::open(stage.at(1).join("file")).unwrap();
    let mapped = Mapped::new(&reader);
    assert!(mapped.is_cached(), "pages of an earlier open are still there");
    let mut buffer = [0; PAGE];
    for _ in 0..100 {
        reader.read_exact_at(&mut buffer, 0).unwrap();
    }
    let asked = stage.agents[1].status().mounts[0].requests - before;
    assert!(asked < 10, "100 reads of a cached page asked the agent {asked} times");
}
