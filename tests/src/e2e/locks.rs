//! fcntl locks on ranges of bytes, as databases take them.

use std::fs::File;
use std::io::{Error, Result};
use std::os::fd::AsRawFd;

/// Who is in the way of a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockHolder {
    /// First byte of its lock.
    pub start: i64,
    /// Bytes of its lock.
    pub length: i64,
    /// It is exclusive.
    pub exclusive: bool,
}

/// Takes an exclusive lock on `length` bytes from `start`; waits for it if told so.
pub fn lock_range(file: &File, start: i64, length: i64, wait: bool) -> Result<()> {
    let command = if wait { libc::F_SETLKW } else { libc::F_SETLK };
    call(file, command, &mut record(libc::F_WRLCK, start, length))
}

/// Gives it back.
pub fn unlock_range(file: &File, start: i64, length: i64) -> Result<()> {
    call(file, libc::F_SETLK, &mut record(libc::F_UNLCK, start, length))
}

/// Who is in the way of an exclusive lock on that range, if anybody is.
pub fn locked_by(file: &File, start: i64, length: i64) -> Result<Option<LockHolder>> {
    let mut record = record(libc::F_WRLCK, start, length);
    call(file, libc::F_GETLK, &mut record)?;
    let free = i32::from(record.l_type) == libc::F_UNLCK;
    Ok((!free).then_some(LockHolder {
        start: record.l_start,
        length: record.l_len,
        exclusive: i32::from(record.l_type) == libc::F_WRLCK,
    }))
}

fn record(kind: i32, start: i64, length: i64) -> libc::flock {
    // SAFETY: all zeros is a value of this plain structure.
    let mut record: libc::flock = unsafe { std::mem::zeroed() };
    // The constants are small; the system's structure keeps them in 16 bits.
    record.l_type = i16::try_from(kind).unwrap_or_default();
    record.l_whence = i16::try_from(libc::SEEK_SET).unwrap_or_default();
    (record.l_start, record.l_len) = (start, length);
    record
}

fn call(file: &File, command: i32, record: &mut libc::flock) -> Result<()> {
    // SAFETY: the file is open and the record lives through the call.
    let done = unsafe { libc::fcntl(file.as_raw_fd(), command, std::ptr::from_mut(record)) };
    if done == 0 { Ok(()) } else { Err(Error::last_os_error()) }
}
