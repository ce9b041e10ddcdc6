//! One mapped piece of guest RAM.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::ptr;
use std::sync::{Mutex, PoisonError};

use memmap2::{MmapOptions, MmapRaw};
use vm_memory::{
    GuestAddress, GuestMemoryError, GuestMemoryRegion, GuestMemoryRegionBytes, GuestUsize,
    MemoryRegionAddress, VolatileSlice,
};

use super::holes::Holes;
use super::pagemap::PAGE;

/// What a page is that the guest has given back.
#[derive(Debug)]
enum Below {
    /// Zeros, as before it was touched.
    Nothing,
    /// A page of the file again, unless the mapping is replaced there, which these holes say.
    File(Mutex<Holes>),
}

/// A mapping of `len` bytes that the guest sees from `base`.
///
/// The mapping lives as long as this value, and a region is reached only through shared handles to it
/// (`vm_memory::GuestRegionCollection` keeps them in `Arc`s).
///
/// Invariant: `base + mapping.len()` does not overflow, and the mapping is readable and writable.
#[derive(Debug)]
pub struct RamRegion {
    base: GuestAddress,
    mapping: MmapRaw,
    below: Below,
}

impl RamRegion {
    /// Zeroed memory that takes space only where it is touched (`MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE`).
    pub fn anonymous(base: GuestAddress, len: usize) -> io::Result<Self> {
        let mapping = MmapOptions::new().len(len).no_reserve_swap().map_anon()?;
        Self::checked(base, mapping.into(), Below::Nothing)
    }

    /// The `len` bytes of `file` from `offset`; what the guest writes goes to private copies of the pages
    /// (`MAP_PRIVATE | MAP_NORESERVE`). Call only after checking that the file is that long.
    pub fn private_file(base: GuestAddress, file: &File, offset: u64, len: usize) -> io::Result<Self> {
        let mut options = MmapOptions::new();
        options.len(len).offset(offset).no_reserve_swap();
        // SAFETY: a mapped file may change under us, which is why nobody here ever makes a slice of it: guest
        // memory is reached through volatile accesses only, and any value is a legal value of guest memory. A file
        // that shrinks raises SIGBUS, which `bus_error` turns into an orderly end.
        let mapping = unsafe { options.map_copy(file) }?;
        Self::checked(base, mapping.into(), Below::File(Mutex::default()))
    }

    fn checked(base: GuestAddress, mapping: MmapRaw, below: Below) -> io::Result<Self> {
        base.0.checked_add(mapping.len() as u64).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Self { base, mapping, below })
    }

    /// Takes pages from the guest: they take no space any more, and read as zero. `bytes` are offsets in the region,
    /// page-aligned. The guest may run, and use the pages again at once.
    ///
    /// Gives back whether that was done. In a mapping of a file each stretch needs a mapping of its own, of which a
    /// process may not have many; what does not fit stays as it is.
    ///
    /// # Errors
    /// The range is not one of the region's, or the kernel is short of memory. The pages are as they were, or zero.
    pub(crate) fn take_back(&self, bytes: Range<usize>) -> io::Result<bool> {
        let is_inside = bytes.start < bytes.end && bytes.end <= self.mapping.len();
        if !is_inside || !bytes.start.is_multiple_of(PAGE) || !bytes.end.is_multiple_of(PAGE) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        match &self.below {
            Below::Nothing => self.empty(&bytes).map(|()| true),
            Below::File(holes) => {
                let mut holes = holes.lock().unwrap_or_else(PoisonError::into_inner);
                if holes.cover(&bytes) {
                    return self.empty(&bytes).map(|()| true);
                }
                if !holes.has_room() {
                    return Ok(false);
                }
                self.replace(&bytes)?;
                holes.insert(bytes);
                Ok(true)
            }
        }
    }

    /// The offsets of what was taken back and is not what lies below any more: whatever is there that the guest has not
    /// written since is zero.
    pub(crate) fn taken_back(&self) -> Vec<Range<usize>> {
        match &self.below {
            Below::Nothing => Vec::new(),
            Below::File(holes) => holes.lock().unwrap_or_else(PoisonError::into_inner).ranges().collect(),
        }
    }

    /// Drops anonymous pages. `bytes` lie in the mapping.
    fn empty(&self, bytes: &Range<usize>) -> io::Result<()> {
        let start = self.mapping.as_mut_ptr().wrapping_add(bytes.start);
        // SAFETY: the range is within the mapping, which lives as long as `self`, and nobody has a reference to guest
        // memory: it is reached through volatile accesses only, to which a page that turns zero is a legal change.
        let done = unsafe { libc::madvise(start.cast(), bytes.len(), libc::MADV_DONTNEED) };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Puts anonymous memory in the place of a part of the mapping. `bytes` lie in it.
    fn replace(&self, bytes: &Range<usize>) -> io::Result<()> {
        let start = self.mapping.as_mut_ptr().wrapping_add(bytes.start);
        let (access, flags) = (
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED,
        );
        // SAFETY: as in `empty`; the range stays mapped with the same access, and is unmapped with the rest.
        let placed = unsafe { libc::mmap(start.cast(), bytes.len(), access, flags, -1, 0) };
        if ptr::eq(placed, libc::MAP_FAILED) { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Where the region begins in this process.
    pub(crate) fn host_address(&self) -> usize {
        self.mapping.as_ptr() as usize
    }
}

impl GuestMemoryRegion for RamRegion {
    type B = ();

    fn len(&self) -> GuestUsize {
        self.mapping.len() as GuestUsize
    }

    fn start_addr(&self) -> GuestAddress {
        self.base
    }

    fn bitmap(&self) {}

    fn get_host_address(&self, addr: MemoryRegionAddress) -> Result<*mut u8, GuestMemoryError> {
        self.check_address(addr)
            .map(|addr| self.mapping.as_mut_ptr().wrapping_add(addr.0 as usize))
            .ok_or(GuestMemoryError::InvalidBackendAddress)
    }

    fn get_slice(
        &self,
        offset: MemoryRegionAddress,
        count: usize,
    ) -> Result<VolatileSlice<'_>, GuestMemoryError> {
        let inside = offset.0.checked_add(count as u64).is_some_and(|end| end <= self.len());
        if !inside {
            return Err(GuestMemoryError::InvalidBackendAddress);
        }
        let start = self.mapping.as_mut_ptr().wrapping_add(offset.0 as usize);
        // SAFETY: `count` bytes from `start` lie inside the mapping by the check above, and the mapping lives as long
        // as `self`, which the slice borrows.
        Ok(unsafe { VolatileSlice::new(start, count) })
    }
}

impl GuestMemoryRegionBytes for RamRegion {}
