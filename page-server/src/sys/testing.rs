//! Memory that somebody else has to fill: what a VMM has, without a guest.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

use snapshot_format::handoff::Mapping;
use userfaultfd::{FeatureFlags, Uffd, UffdBuilder};

/// An anonymous mapping, registered with a userfaultfd. Whoever touches it waits for the page.
#[derive(Debug)]
pub struct Memory {
    start: *mut u8,
    len: usize,
    page: usize,
    uffd: Option<Uffd>,
}

// SAFETY: the mapping is reached by volatile accesses and system calls only, which any thread may make.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// `len` bytes in pages of `page` bytes; of other than 4096 there have to be some reserved (hugetlbfs). Tells of
    /// removals, as Firecracker's does.
    ///
    /// # Errors
    /// The system has no such memory, or no userfaultfd for us.
    pub fn new(len: usize, page: usize) -> io::Result<Self> {
        let huge = if page == 4096 { 0 } else { libc::MAP_HUGETLB };
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | huge;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping, where the kernel wants it.
        let start = unsafe { libc::mmap(ptr::null_mut(), len, access, flags, -1, 0) };
        if ptr::eq(start, libc::MAP_FAILED) {
            return Err(io::Error::last_os_error());
        }
        let mut memory = Self { start: start.cast(), len, page, uffd: None };
        let features = FeatureFlags::EVENT_REMOVE | FeatureFlags::MISSING_HUGETLBFS;
        let mut builder = UffdBuilder::new();
        builder.close_on_exec(true).non_blocking(true).user_mode_only(false).require_features(features);
        let uffd = builder.create().map_err(io::Error::other)?;
        uffd.register(start, len).map_err(io::Error::other)?;
        memory.uffd = Some(uffd);
        Ok(memory)
    }

    /// Where it is, its bytes being those of a memory file from `offset` on.
    #[must_use]
    pub fn mapping(&self, offset: u64) -> Mapping {
        Mapping { address: self.start as u64, len: self.len as u64, offset, page_bytes: self.page as u64 }
    }

    /// The userfaultfd.
    #[must_use]
    pub fn uffd(&self) -> BorrowedFd<'_> {
        self.uffd.as_ref().expect("it has not been closed").as_fd()
    }

    /// Closes the userfaultfd here, as VMMs do that have handed it over: once nobody else has it, what is missing is zero.
    pub fn close(&mut self) {
        self.uffd = None;
    }

    /// The byte at `at`, as soon as it is there.
    #[must_use]
    pub fn byte(&self, at: usize) -> u8 {
        assert!(at < self.len);
        let place = self.start.wrapping_add(at);
        // SAFETY: within the mapping, by the assertion.
        unsafe { place.read_volatile() }
    }

    /// All bytes of the page at `at`.
    #[must_use]
    pub fn page(&self, at: usize) -> Vec<u8> {
        (at..at + self.page).map(|at| self.byte(at)).collect()
    }

    /// Writes a byte.
    pub fn write(&self, at: usize, byte: u8) {
        assert!(at < self.len);
        let place = self.start.wrapping_add(at);
        // SAFETY: as in `byte`.
        unsafe { place.write_volatile(byte) }
    }

    /// Gives pages back to the kernel: returns when whoever reads the userfaultfd knows.
    ///
    /// # Errors
    /// The range is none.
    pub fn give_back(&self, at: usize, len: usize) -> io::Result<()> {
        assert!(at.checked_add(len).is_some_and(|end| end <= self.len));
        // SAFETY: within the mapping, which nobody has a reference to.
        let done = unsafe { libc::madvise(self.start.wrapping_add(at).cast(), len, libc::MADV_DONTNEED) };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Has pages delivered, as by touching them: an error where touching would be fatal.
    ///
    /// # Errors
    /// A page is poisoned.
    pub fn populate(&self, at: usize, len: usize) -> io::Result<()> {
        assert!(at.checked_add(len).is_some_and(|end| end <= self.len));
        // SAFETY: as in `give_back`; it changes nothing that was there.
        let done =
            unsafe { libc::madvise(self.start.wrapping_add(at).cast(), len, libc::MADV_POPULATE_READ) };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Makes it ordinary memory: whoever waits gets zeros.
    pub fn release(&self) {
        if let Some(uffd) = &self.uffd {
            // Fails only for memory that is not registered, which is as well.
            let _ = uffd.unregister(self.start.cast(), self.len);
        }
    }

    /// Whether the page at `at` is there.
    #[must_use]
    pub fn is_there(&self, at: usize) -> bool {
        assert!(at < self.len);
        let mut there = 0_u8;
        let place = self.start.wrapping_add(at - at % 4096).cast();
        // SAFETY: asks about one page of the mapping, and writes one byte, which lives.
        let done = unsafe { libc::mincore(place, 4096, &raw mut there) };
        done == 0 && there & 1 == 1
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's, and nobody reaches it any more.
        unsafe { libc::munmap(self.start.cast(), self.len) };
    }
}

/// A userfaultfd as it is before `UFFDIO_API`.
pub(crate) fn unspoken() -> io::Result<OwnedFd> {
    // SAFETY: a new descriptor; the call takes flags only.
    let made = unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC | libc::O_NONBLOCK) };
    match i32::try_from(made) {
        // SAFETY: the descriptor was made here, and nobody else has it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}
