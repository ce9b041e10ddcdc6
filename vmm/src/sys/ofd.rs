//! Locks on bytes of a file that belong to the open file description (`F_OFD_SETLK` of fcntl(2)). `flock(2)` does not see
//! them, nor they it.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;

use libc::{c_int, c_short, flock, off_t};

/// The end of every file: a range up to here covers what the file may yet grow by.
pub(crate) const END: u64 = u64::MAX;

/// What a lock is compatible with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Other shared ones. The file must be open for reading.
    Shared,
    /// None. The file must be open for writing.
    Exclusive,
}

/// Takes a lock without waiting; says whether it was to be had.
///
/// # Errors
/// The file system has no such locks.
pub(crate) fn try_lock(file: &File, kind: Kind, bytes: &Range<u64>) -> io::Result<bool> {
    match call(file, libc::F_OFD_SETLK, kind, bytes) {
        Ok(_) => Ok(true),
        Err(e) if [Some(libc::EAGAIN), Some(libc::EACCES)].contains(&e.raw_os_error()) => Ok(false),
        Err(e) => Err(e),
    }
}

/// Whether another open file description holds any lock on these bytes.
///
/// # Errors
/// As [`try_lock`].
pub(crate) fn is_locked(file: &File, bytes: &Range<u64>) -> io::Result<bool> {
    call(file, libc::F_OFD_GETLK, Kind::Exclusive, bytes).map(|kind| kind != libc::F_UNLCK)
}

/// Gives back the kind that the kernel has left in the request.
fn call(file: &File, command: c_int, kind: Kind, bytes: &Range<u64>) -> io::Result<c_int> {
    let kind = match kind {
        Kind::Shared => libc::F_RDLCK,
        Kind::Exclusive => libc::F_WRLCK,
    };
    // A length of 0 means up to the end, wherever that will be.
    let len = if bytes.end == END { 0 } else { bytes.end.saturating_sub(bytes.start) };
    let number =
        |bytes: u64| off_t::try_from(bytes).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput));
    let mut request = flock {
        l_type: kind as c_short,
        l_whence: libc::SEEK_SET as c_short,
        l_start: number(bytes.start)?,
        l_len: number(len)?,
        // Must be 0 for this kind of lock.
        l_pid: 0,
    };
    // SAFETY: the call reads and writes one `flock`, which lives here.
    let done = unsafe { libc::fcntl(file.as_raw_fd(), command, &raw mut request) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(request.l_type.into()) }
}
