//! One mapped piece of guest RAM.

use std::fs::File;
use std::io;

use memmap2::{MmapOptions, MmapRaw};
use vm_memory::{
    GuestAddress, GuestMemoryError, GuestMemoryRegion, GuestMemoryRegionBytes, GuestUsize,
    MemoryRegionAddress, VolatileSlice,
};

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
}

impl RamRegion {
    /// Zeroed memory that takes space only where it is touched (`MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE`).
    pub fn anonymous(base: GuestAddress, len: usize) -> io::Result<Self> {
        let mapping = MmapOptions::new().len(len).no_reserve_swap().map_anon()?;
        Self::checked(base, mapping.into())
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
        Self::checked(base, mapping.into())
    }

    fn checked(base: GuestAddress, mapping: MmapRaw) -> io::Result<Self> {
        base.0.checked_add(mapping.len() as u64).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Self { base, mapping })
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
