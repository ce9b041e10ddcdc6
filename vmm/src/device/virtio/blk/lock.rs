//! Locks of disks: against two programs that use one disk, not against malice.
//!
//! Two kinds, which do not see each other: `flock(2)`, which tools of the shell take, and locks on bytes that belong to
//! the open file description, which QEMU and Cloud Hypervisor take.

use std::fs::{File, TryLockError};
use std::io;
use std::ops::Range;
use std::path::Path;

use super::Error;
use crate::sys::ofd::{self, Kind};

/// QEMU locks one byte for each permission that it uses, from the first of these on, and one for each that it lets nobody
/// else use, from the second on; and fails if another process has the other byte (`block/file-posix.c`, `RAW_LOCK_*`).
const USED: u64 = 100;
const NOT_SHARED: u64 = 200;
/// Room for permissions.
const PERMISSIONS: u64 = 64;
/// Permissions, by number (`BLK_PERM_*`).
const CONSISTENT_READ: u64 = 0;
const WRITE: u64 = 1;
const RESIZE: u64 = 3;

/// Locks a disk that is written, or one that is only read, for as long as the file is open.
pub(super) fn lock(file: &File, path: &Path, is_shared: bool) -> Result<(), Error> {
    let busy = || Error::Busy { path: path.to_owned() };
    let flocked = if is_shared { file.try_lock_shared() } else { file.try_lock() };
    let locked = match flocked {
        Ok(()) => bytes(file, is_shared),
        Err(TryLockError::WouldBlock) => return Err(busy()),
        Err(TryLockError::Error(error)) => Err(error),
    };
    match locked {
        Ok(true) => Ok(()),
        Ok(false) => Err(busy()),
        Err(error) => {
            tracing::warn!(%error, path = %path.display(), "this disk cannot be locked; see to it that one VM uses it");
            Ok(())
        }
    }
}

/// Locks bytes: all of them for a writer. A reader leaves out those that would tell QEMU that it writes.
fn bytes(file: &File, is_shared: bool) -> io::Result<bool> {
    if !is_shared {
        return ofd::try_lock(file, Kind::Exclusive, &(0..ofd::END));
    }
    let byte = |of: u64, permission: u64| of + permission..of + permission + 1;
    let others = [byte(USED, WRITE), byte(USED, RESIZE), byte(NOT_SHARED, CONSISTENT_READ)];
    let own: [Range<u64>; 4] = [
        0..USED + CONSISTENT_READ + 1,
        byte(NOT_SHARED, WRITE),
        byte(NOT_SHARED, RESIZE),
        NOT_SHARED + PERMISSIONS..ofd::END,
    ];
    for range in &own {
        if !ofd::try_lock(file, Kind::Shared, range)? {
            return Ok(false);
        }
    }
    // Looked at when ours are there: of two that come at once, one sees the other.
    for range in &others {
        if ofd::is_locked(file, range)? {
            return Ok(false);
        }
    }
    Ok(true)
}
