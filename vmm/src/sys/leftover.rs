//! Files that this process has to remove at its end, however it ends: known to signal handlers as well.
//!
//! A table of fixed size that is read without a lock. Whoever makes such a file removes it in the ordinary way, too;
//! this is for the end that leaves no time for that.

use std::ffi::{CStr, CString, c_char};
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// More than any VM has; what does not fit is only removed in the ordinary way.
const MOST: usize = 16;

/// A file, by its path and by what it was when it was made.
struct Entry {
    path: CString,
    identity: (u64, u64),
}

/// Null, or an entry that is never freed: a signal handler may be reading it.
static ENTRIES: [AtomicPtr<Entry>; MOST] = [const { AtomicPtr::new(ptr::null_mut()) }; MOST];

/// A file is in the table for as long as this lives.
#[derive(Debug)]
pub(crate) struct Listed(Option<usize>);

/// Enters the file at the absolute `path` with that device and inode.
pub(crate) fn list(path: &Path, identity: (u64, u64)) -> Listed {
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else { return Listed(None) };
    let entry = Box::into_raw(Box::new(Entry { path, identity }));
    let free = ENTRIES.iter().position(|slot| {
        slot.compare_exchange(ptr::null_mut(), entry, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    });
    Listed(free)
}

impl Drop for Listed {
    fn drop(&mut self) {
        if let Some(slot) = self.0.and_then(|slot| ENTRIES.get(slot)) {
            slot.store(ptr::null_mut(), Ordering::SeqCst);
        }
    }
}

/// Whether a file is listed.
pub(crate) fn is_any() -> bool {
    ENTRIES.iter().any(|slot| !slot.load(Ordering::SeqCst).is_null())
}

/// Removes every listed file that is still the one that was listed. Async-signal-safe.
pub(crate) fn remove_all() {
    for slot in &ENTRIES {
        let entry = slot.load(Ordering::SeqCst);
        // SAFETY: null, or an entry that was published whole and is never freed nor changed.
        let Some(Entry { path, identity }) = (unsafe { entry.as_ref() }) else { continue };
        if is_still(path, *identity) {
            unlink(path.as_ptr());
        }
    }
}

fn is_still(path: &CStr, identity: (u64, u64)) -> bool {
    let mut about = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: a path that ends in NUL, and room for the structure; lstat(2) is async-signal-safe.
    if unsafe { libc::lstat(path.as_ptr(), about.as_mut_ptr()) } != 0 {
        return false;
    }
    // SAFETY: the call has filled it in.
    let about = unsafe { about.assume_init() };
    (about.st_dev, about.st_ino) == identity
}

fn unlink(path: *const c_char) {
    // SAFETY: the caller has a path that ends in NUL; unlink(2) is async-signal-safe.
    unsafe { libc::unlink(path) };
}

#[cfg(test)]
#[path = "leftover_test.rs"]
mod leftover_test;
