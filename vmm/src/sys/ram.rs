//! One mapped piece of guest RAM.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use memmap2::{MmapOptions, MmapRaw};
use vm_memory::{
    GuestAddress, GuestMemoryError, GuestMemoryRegion, GuestMemoryRegionBytes, GuestUsize,
    MemoryRegionAddress, VolatileSlice,
};

use super::holes::Holes;
use super::pagemap::{PAGE, PageMap};
use super::uffd::Uffd;

/// What a page is that the guest has given back.
#[derive(Debug)]
enum Below {
    /// Zeros, as before it was touched.
    Nothing,
    /// A page of the file again, unless the mapping is replaced there, which these holes say.
    File(Mutex<Holes>),
    /// Somebody's to deliver, except where it was taken out of the userfaultfd: these holes are zeros.
    Delivered {
        uffd: Arc<Uffd>,
        holes: Mutex<Holes>,
        /// Set once every page is there: nothing lies below any more.
        complete: AtomicBool,
    },
}

/// How pages are touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// They are read.
    Read,
    /// They are written, so that a private copy of a file's page is made.
    Write,
}

/// Bytes of a huge page.
pub(crate) const HUGE: usize = 2 << 20;

/// Mapped memory.
#[derive(Debug)]
struct Mapping {
    whole: MmapRaw,
    /// Bytes of `whole` before the first that is used; less than [`HUGE`].
    skipped: usize,
    /// Bytes that are used. Invariant: `skipped + len <= whole.len()`.
    len: usize,
}

impl From<MmapRaw> for Mapping {
    fn from(whole: MmapRaw) -> Self {
        let len = whole.len();
        Self { whole, skipped: 0, len }
    }
}

impl Mapping {
    /// Zeroed memory that takes space only where it is touched (`MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE`), at an
    /// address that differs from `base` by a multiple of [`HUGE`]: only then can a huge page of this process be one of the
    /// guest's as well. The kernel sees to that by itself since Linux 6.7, but from 6.13 on only where `len` is a multiple
    /// of [`HUGE`], too.
    fn anonymous(base: GuestAddress, len: usize) -> io::Result<Self> {
        let map = |len| MmapOptions::new().len(len).no_reserve_swap().map_anon().map(MmapRaw::from);
        let whole = map(len)?;
        let skipped = |at: &MmapRaw| (base.0 as usize).wrapping_sub(at.as_ptr() as usize) % HUGE;
        if len < HUGE || skipped(&whole) == 0 {
            return Ok(whole.into());
        }
        drop(whole);
        let whole = map(len.checked_add(HUGE).ok_or(io::ErrorKind::InvalidInput)?)?;
        let skipped = skipped(&whole);
        Ok(Self { whole, skipped, len })
    }

    fn start(&self) -> *mut u8 {
        self.whole.as_mut_ptr().wrapping_add(self.skipped)
    }

    fn len(&self) -> usize {
        self.len
    }
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
    mapping: Mapping,
    below: Below,
}

impl RamRegion {
    /// Zeroed memory that takes space only where it is touched.
    pub fn anonymous(base: GuestAddress, len: usize) -> io::Result<Self> {
        Self::checked(base, Mapping::anonymous(base, len)?, Below::Nothing)
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
        Self::checked(base, MmapRaw::from(mapping).into(), Below::File(Mutex::default()))
    }

    /// Memory whose pages are delivered through `uffd` as they are touched, but for the byte ranges of `zeros`, which are
    /// zeroed memory as in [`Self::anonymous`]. They are page-aligned and do not overlap.
    pub(crate) fn delivered(
        base: GuestAddress,
        len: usize,
        uffd: &Arc<Uffd>,
        zeros: &[Range<usize>],
    ) -> io::Result<Self> {
        let mapping = Mapping::anonymous(base, len)?;
        let mut holes = Holes::default();
        zeros.iter().filter(|range| !range.is_empty()).for_each(|range| holes.insert(range.clone()));
        let ends = holes.ranges().map(|hole| (hole.start, hole.end)).chain([(len, len)]);
        let mut at = 0;
        for (start, end) in ends {
            if at < start {
                uffd.register(mapping.start() as usize + at, start - at)?;
            }
            at = end;
        }
        let (tracks_writes, complete) = (uffd.tracks_writes(), AtomicBool::new(false));
        let below = Below::Delivered { uffd: Arc::clone(uffd), holes: Mutex::new(holes), complete };
        let region = Self::checked(base, mapping, below)?;
        // Not for what is delivered: a write fault there makes a huge page before it is told to the server and thrown away
        // (`__do_huge_pmd_anonymous_page`), and what comes is small, but where the server has made one ready. Nor where pages
        // are watched, which are to be seen one by one.
        if !tracks_writes {
            region.taken_back().iter().for_each(|zeros| region.ask_for_huge_pages(zeros));
        }
        Ok(region)
    }

    fn checked(base: GuestAddress, mapping: Mapping, below: Below) -> io::Result<Self> {
        base.0.checked_add(mapping.len() as u64).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Self { base, mapping, below })
    }

    /// Takes pages from the guest: they take no space any more, and read as zero. `bytes` are offsets in the region,
    /// page-aligned. The guest may run, and use the pages again at once.
    ///
    /// In a mapping of a file each stretch that is to read as zero needs a mapping of its own, of which a process may not
    /// have many. Beyond that pages go back to what the file has: they take no space of this process either, and the guest
    /// is shown nothing but what it had there before.
    ///
    /// Gives back whether that was done. It is not where pages are delivered, beyond as many stretches: to read as anything
    /// they would have to be delivered again.
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
                let mut holes = lock(holes);
                if holes.cover(&bytes) {
                    return self.empty(&bytes).map(|()| true);
                }
                if !holes.has_room() {
                    return self.empty(&bytes).map(|()| true);
                }
                self.replace(&bytes)?;
                holes.insert(bytes);
                Ok(true)
            }
            Below::Delivered { uffd, holes, complete } => {
                let mut holes = lock(holes);
                if complete.load(Ordering::SeqCst) || holes.cover(&bytes) {
                    return self.empty(&bytes).map(|()| true);
                }
                if !holes.has_room() {
                    return Ok(false);
                }
                // In this order: a page that was dropped first would be waited for again, and somebody who has not
                // heard of this would deliver it as it was in the image.
                uffd.unregister(self.host_address() + bytes.start, bytes.len())?;
                holes.insert(bytes.clone());
                self.empty(&bytes).map(|()| true)
            }
        }
    }

    /// Takes pages out of the delivering that are zero below: where none is there, the kernel's zeros are from here on.
    /// `zeros` are page-aligned offsets in the region; those that do not fit into the list stay as they are.
    pub(crate) fn keep_zeros(&self, zeros: &[Range<usize>]) -> io::Result<()> {
        let Below::Delivered { uffd, holes, complete } = &self.below else { return Ok(()) };
        for range in zeros.iter().filter(|range| range.start < range.end && range.end <= self.mapping.len()) {
            let mut holes = lock(holes);
            if complete.load(Ordering::SeqCst) || !holes.has_room() {
                break;
            }
            // In this order: what is in a hole is not asked for any more.
            uffd.unregister(self.host_address() + range.start, range.len())?;
            holes.insert(range.clone());
        }
        Ok(())
    }

    /// The offsets of what was taken back and is not what lies below any more: whatever is there that the guest has not
    /// written since is zero.
    pub(crate) fn taken_back(&self) -> Vec<Range<usize>> {
        match &self.below {
            Below::Nothing => Vec::new(),
            Below::File(holes) | Below::Delivered { holes, .. } => lock(holes).ranges().collect(),
        }
    }

    /// The first bytes that are still to be delivered, if there are any among those from `from` on: offsets in the region,
    /// whole pages, at most `most` bytes.
    pub(crate) fn first_missing(
        &self,
        map: &PageMap,
        from: usize,
        most: usize,
    ) -> io::Result<Option<Range<usize>>> {
        let Below::Delivered { holes, .. } = &self.below else { return Ok(None) };
        let (start, len) = (self.host_address(), self.mapping.len());
        let mut at = from;
        while let Some(missing) = map.first_missing(start + at, len - at)? {
            let missing = at + missing.start..at + missing.end;
            let holes = lock(holes);
            // What is in a hole is not missing; what comes before the next one is.
            match holes.end_of(missing.start) {
                Some(end) if end >= len => break,
                Some(end) => at = end,
                None => {
                    let end = holes.next_after(missing.start).unwrap_or(len);
                    return Ok(Some(
                        missing.start..missing.end.min(end).min(missing.start.saturating_add(most)),
                    ));
                }
            }
        }
        Ok(None)
    }

    /// Ends the delivering. Call only when no page is missing: what was would be zero.
    pub(crate) fn complete(&self) -> io::Result<()> {
        if let Below::Delivered { uffd, holes, complete } = &self.below {
            let _holes = lock(holes);
            uffd.unregister(self.host_address(), self.mapping.len())?;
            complete.store(true, Ordering::SeqCst);
        }
        Ok(())
    }

    /// Lets everybody go who waits for a page: what is missing is zero from here on.
    pub(crate) fn let_go(&self, map: &PageMap) -> io::Result<()> {
        let Below::Delivered { uffd, .. } = &self.below else { return Ok(()) };
        let (start, len) = (self.host_address(), self.mapping.len());
        if !uffd.tracks_writes() {
            return uffd.unregister(start, len);
        }
        // The pages that are there stay registered, or all of them would count as written.
        let missing = map.missing(start, len)?;
        missing.into_iter().try_for_each(|range| uffd.unregister(start + range.start, range.len()))
    }

    /// Has the pages of a part brought in, as if they had all been touched. `bytes` are offsets in the region. Waits for
    /// pages that somebody is to deliver.
    ///
    /// # Errors
    /// EFAULT if a page cannot be had, EINVAL before Linux 5.14.
    pub(crate) fn populate(&self, bytes: &Range<usize>, access: Access) -> io::Result<()> {
        if bytes.start > bytes.end || bytes.end > self.mapping.len() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let advice = match access {
            Access::Read => libc::MADV_POPULATE_READ,
            Access::Write => libc::MADV_POPULATE_WRITE,
        };
        let start = self.mapping.start().wrapping_add(bytes.start);
        loop {
            // SAFETY: the range is within the mapping, which lives as long as `self`; no byte of it changes by this.
            let done = unsafe { libc::madvise(start.cast(), bytes.len(), advice) };
            match io::Error::last_os_error() {
                _ if done == 0 => return Ok(()),
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error => return Err(error),
            }
        }
    }

    /// As [`Self::populate`], of what nobody has touched yet: what is there stays as it is, because to replace a page under
    /// a guest that reads it costs more than it saves. What was taken back stays so, but for what is taken back in this
    /// very moment, which may take space again.
    pub(crate) fn populate_ahead(
        &self,
        map: &PageMap,
        bytes: &Range<usize>,
        access: Access,
    ) -> io::Result<()> {
        let parts = match &self.below {
            Below::Nothing => std::iter::once(bytes.clone()).collect(),
            Below::File(holes) | Below::Delivered { holes, .. } => lock(holes).outside(bytes),
        };
        for part in parts {
            for missing in map.missing(self.host_address() + part.start, part.len())? {
                self.populate(&(part.start + missing.start..part.start + missing.end), access)?;
            }
        }
        Ok(())
    }

    /// Has the kernel use huge pages, if it has any, where the first byte of one is touched within `bytes` (offsets in the
    /// region): it does so unasked only where `transparent_hugepage/enabled` is `always`.
    pub(crate) fn ask_for_huge_pages(&self, bytes: &Range<usize>) {
        if bytes.start > bytes.end || bytes.end > self.mapping.len() {
            return;
        }
        let start = self.mapping.start().wrapping_add(bytes.start);
        // SAFETY: the range is within the mapping, which lives as long as `self`; no byte of it changes by this.
        if unsafe { libc::madvise(start.cast(), bytes.len(), libc::MADV_HUGEPAGE) } != 0 {
            // A kernel without them, and small ones do as well.
            tracing::debug!(error = %io::Error::last_os_error(), "there are no huge pages");
        }
    }

    /// Takes all of the memory away for good: whoever touches it from here on gets SIGBUS, or EFAULT from the kernel.
    /// `nothing` is an empty file that stays empty.
    pub(crate) fn sever(&self, nothing: &File) -> io::Result<()> {
        let start = self.mapping.start();
        let (access, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_FIXED);
        // SAFETY: as in `replace`; an access beyond the end of the file raises SIGBUS, which `bus_error` turns into an
        // orderly end.
        let placed =
            unsafe { libc::mmap(start.cast(), self.mapping.len(), access, flags, nothing.as_raw_fd(), 0) };
        if ptr::eq(placed, libc::MAP_FAILED) { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Drops anonymous pages, those of a private mapping's file among them. `bytes` lie in the mapping.
    fn empty(&self, bytes: &Range<usize>) -> io::Result<()> {
        let start = self.mapping.start().wrapping_add(bytes.start);
        // SAFETY: the range is within the mapping, which lives as long as `self`, and nobody has a reference to guest
        // memory: it is reached through volatile accesses only, to which a page that turns zero is a legal change.
        let done = unsafe { libc::madvise(start.cast(), bytes.len(), libc::MADV_DONTNEED) };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Puts anonymous memory in the place of a part of the mapping. `bytes` lie in it.
    fn replace(&self, bytes: &Range<usize>) -> io::Result<()> {
        let start = self.mapping.start().wrapping_add(bytes.start);
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
        self.mapping.start() as usize
    }
}

fn lock(holes: &Mutex<Holes>) -> MutexGuard<'_, Holes> {
    holes.lock().unwrap_or_else(PoisonError::into_inner)
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
            .map(|addr| self.mapping.start().wrapping_add(addr.0 as usize))
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
        let start = self.mapping.start().wrapping_add(offset.0 as usize);
        // SAFETY: `count` bytes from `start` lie inside the mapping by the check above, and the mapping lives as long
        // as `self`, which the slice borrows.
        Ok(unsafe { VolatileSlice::new(start, count) })
    }
}

impl GuestMemoryRegionBytes for RamRegion {}

#[cfg(test)]
#[path = "ram_test.rs"]
mod ram_test;
