//! A huge page that is made ready here and then moved into the guest's memory, which is this process's own.

use std::io;
use std::ptr;

use rustix::io::Errno;

/// Bytes of a huge page.
pub(crate) const HUGE_BYTES: u64 = 2 << 20;
const HUGE: usize = HUGE_BYTES as usize;

/// `MADV_COLLAPSE` of linux/mman.h, since Linux 6.1.
const MADV_COLLAPSE: libc::c_int = 25;

/// Room for one huge page. Empty again once it was moved.
#[derive(Debug)]
pub(crate) struct Staging {
    /// The mapping, which has room for the page wherever it begins.
    mapping: *mut u8,
    page: *mut u8,
}

// SAFETY: the mapping is this value's alone, and may be reached from any thread.
unsafe impl Send for Staging {}

impl Staging {
    /// Room for a page.
    ///
    /// # Errors
    /// There is no room, or the kernel has no huge pages.
    pub(crate) fn new() -> io::Result<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping, where the kernel wants it.
        let mapping = unsafe { libc::mmap(ptr::null_mut(), 2 * HUGE, access, flags, -1, 0) };
        if ptr::eq(mapping, libc::MAP_FAILED) {
            return Err(io::Error::last_os_error());
        }
        let mapping = mapping.cast::<u8>();
        let page = mapping.wrapping_add(mapping.align_offset(HUGE));
        let staging = Self { mapping, page };
        // SAFETY: within the mapping, of which only the size of pages changes.
        let done = unsafe { libc::madvise(page.cast(), HUGE, libc::MADV_HUGEPAGE) };
        if done == 0 { Ok(staging) } else { Err(io::Error::last_os_error()) }
    }

    /// Makes it one huge page.
    ///
    /// # Errors
    /// The kernel has none now, or never.
    pub(crate) fn make_huge(&mut self) -> Result<(), Errno> {
        for advice in [libc::MADV_POPULATE_WRITE, MADV_COLLAPSE] {
            // SAFETY: within the mapping, whose bytes stay as they are.
            if unsafe { libc::madvise(self.page.cast(), HUGE, advice) } != 0 {
                return Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO));
            }
        }
        Ok(())
    }

    /// What is in it: zeros, after it was moved.
    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the mapping has room for so many bytes from there on, nobody else reaches them while `self` is borrowed,
        // and any byte is a byte.
        unsafe { std::slice::from_raw_parts_mut(self.page, HUGE) }
    }

    /// Where it is.
    pub(crate) fn address(&self) -> u64 {
        self.page as u64
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's, and nobody reaches it any more.
        unsafe { libc::munmap(self.mapping.cast(), 2 * HUGE) };
    }
}

/// Has the kernel make no table of small pages at `address` of this process, where a huge page is to come, when somebody
/// touches what is missing there; or make one again.
///
/// # Errors
/// Nothing is mapped there, or the kernel has no huge pages.
pub(crate) fn mark_huge(address: u64, is_expected: bool) -> io::Result<()> {
    let advice = if is_expected { libc::MADV_HUGEPAGE } else { libc::MADV_NOHUGEPAGE };
    // SAFETY: only the size of pages may change, wherever that is.
    let done = unsafe { libc::madvise(address as *mut libc::c_void, HUGE, advice) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
