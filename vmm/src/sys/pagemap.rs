//! Which pages of a mapping are there, which are missing, and which this process holds for itself.
//!
//! Of an anonymous mapping the last are the pages that were ever touched; of a private mapping of a file, the pages that
//! were written. Linux 6.7 answers that in one call (`PAGEMAP_SCAN`, Documentation/admin-guide/mm/pagemap.rst);
//! before, `/proc/self/pagemap` is read page by page.

use std::fs::File;
use std::io;
use std::mem::size_of;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use vmm_sys_util::ioctl::ioctl_with_mut_ref;
use vmm_sys_util::ioctl_iowr_nr;

/// Size of the pages that the page map counts, in bytes.
pub(crate) const PAGE: usize = 4096;

/// `struct pm_scan_arg` of linux/fs.h.
#[repr(C)]
struct ScanArg {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

/// `struct page_region` of linux/fs.h.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct PageRegion {
    start: u64,
    end: u64,
    categories: u64,
}

const _: () = assert!(size_of::<ScanArg>() == 96);
const _: () = assert!(size_of::<PageRegion>() == 24);

ioctl_iowr_nr!(PAGEMAP_SCAN, b'f' as u32, 16, ScanArg);

const PAGE_IS_WRITTEN: u64 = 1 << 1;
const PAGE_IS_FILE: u64 = 1 << 2;
const PAGE_IS_PRESENT: u64 = 1 << 3;
const PAGE_IS_SWAPPED: u64 = 1 << 4;
const PAGE_IS_PFNZERO: u64 = 1 << 5;

/// Which pages are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Not a page of the file, not the shared zero page, and in memory or in swap.
    Private,
    /// In memory or in swap, whatever it is.
    Present,
    /// Neither in memory nor in swap.
    Missing,
    /// As `Private`, and written since it was write-protected by a userfaultfd.
    Written,
}

impl Kind {
    /// What the kernel is to look for: categories to invert, those that must all be there, and those of which one must.
    fn categories(self) -> (u64, u64, u64) {
        let there = PAGE_IS_PRESENT | PAGE_IS_SWAPPED;
        match self {
            Self::Private => (PAGE_IS_FILE | PAGE_IS_PFNZERO, PAGE_IS_FILE | PAGE_IS_PFNZERO, there),
            Self::Present => (0, 0, there),
            Self::Missing => (there, there, 0),
            Self::Written => {
                (PAGE_IS_FILE | PAGE_IS_PFNZERO, PAGE_IS_FILE | PAGE_IS_PFNZERO | PAGE_IS_WRITTEN, there)
            }
        }
    }

    /// Whether a page is of the kind, by its entry in `/proc/PID/pagemap`, which tells nothing of writes.
    fn fits(self, entry: u64) -> bool {
        let there = entry & (ENTRY_PRESENT | ENTRY_SWAPPED) != 0;
        match self {
            Self::Private => there && entry & ENTRY_FILE == 0,
            Self::Present | Self::Written => there,
            Self::Missing => !there,
        }
    }
}

/// Bits of an entry of `/proc/PID/pagemap`.
const ENTRY_PRESENT: u64 = 1 << 63;
const ENTRY_SWAPPED: u64 = 1 << 62;
const ENTRY_FILE: u64 = 1 << 61;

/// The private pages among the `len` bytes from address `start`, as byte ranges relative to `start`, in order.
/// `start` and `len` are multiples of the page size.
pub(crate) fn private_pages(start: usize, len: usize) -> io::Result<Vec<Range<usize>>> {
    PageMap::open()?.find(Kind::Private, start, len)
}

/// The page map of this process, open.
#[derive(Debug)]
pub(crate) struct PageMap(File);

impl PageMap {
    pub(crate) fn open() -> io::Result<Self> {
        File::open("/proc/self/pagemap").map(Self)
    }

    /// The pages that are there, in whatever form; as [`private_pages`].
    pub(crate) fn present(&self, start: usize, len: usize) -> io::Result<Vec<Range<usize>>> {
        self.find(Kind::Present, start, len)
    }

    /// The pages that this process holds for itself; as [`private_pages`].
    pub(crate) fn private(&self, start: usize, len: usize) -> io::Result<Vec<Range<usize>>> {
        self.find(Kind::Private, start, len)
    }

    /// The pages that were written since a userfaultfd had them write-protected.
    ///
    /// # Errors
    /// ENOTTY or EINVAL on kernels before 6.7, which cannot tell.
    pub(crate) fn written(&self, start: usize, len: usize) -> io::Result<Vec<Range<usize>>> {
        scan(&self.0, Kind::Written, start, len)
    }

    /// The pages that are neither in memory nor in swap; as [`private_pages`].
    pub(crate) fn missing(&self, start: usize, len: usize) -> io::Result<Vec<Range<usize>>> {
        self.find(Kind::Missing, start, len)
    }

    /// The first pages that are neither in memory nor in swap, up to the next that is: at most `len` bytes from `start`,
    /// relative to it.
    pub(crate) fn first_missing(&self, start: usize, len: usize) -> io::Result<Option<Range<usize>>> {
        let (mut from, end) = (start, start + len);
        // Large enough that a call is worth it, small enough that most of it is not looked at in vain.
        while from < end {
            let step = (end - from).min(FIRST_STEP);
            if let Some(Range { start: at, end: until }) =
                self.find(Kind::Missing, from, step)?.into_iter().next()
            {
                return Ok(Some(from - start + at..from - start + until));
            }
            from += step;
        }
        Ok(None)
    }

    fn find(&self, kind: Kind, start: usize, len: usize) -> io::Result<Vec<Range<usize>>> {
        match scan(&self.0, kind, start, len) {
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOTTY | libc::EINVAL)) => {
                read(&self.0, kind, start, len)
            }
            scanned => scanned,
        }
    }
}

/// How much is looked at for the first page of a kind.
const FIRST_STEP: usize = 64 << 20;

fn scan(pagemap: &File, kind: Kind, start: usize, len: usize) -> io::Result<Vec<Range<usize>>> {
    let (category_inverted, category_mask, category_anyof_mask) = kind.categories();
    let mut found = Vec::new();
    let mut regions = [PageRegion::default(); 256];
    let (mut from, end) = (start as u64, (start + len) as u64);
    while from < end {
        let mut arg = ScanArg {
            size: size_of::<ScanArg>() as u64,
            flags: 0,
            start: from,
            end,
            walk_end: 0,
            vec: regions.as_mut_ptr() as u64,
            vec_len: regions.len() as u64,
            max_pages: 0,
            category_inverted,
            category_mask,
            category_anyof_mask,
            return_mask: 0,
        };
        // SAFETY: `arg` has the layout of struct pm_scan_arg, and `vec` points to `vec_len` live regions, which the
        // kernel fills in.
        let filled = unsafe { ioctl_with_mut_ref(pagemap, PAGEMAP_SCAN(), &mut arg) };
        let filled = usize::try_from(filled).map_err(|_| io::Error::last_os_error())?;
        for region in regions.iter().take(filled) {
            push(&mut found, region.start as usize - start..region.end as usize - start);
        }
        if arg.walk_end <= from {
            break;
        }
        from = arg.walk_end;
    }
    Ok(found)
}

fn read(pagemap: &File, kind: Kind, start: usize, len: usize) -> io::Result<Vec<Range<usize>>> {
    let mut found = Vec::new();
    let mut entries = vec![0u8; 8 * 8192];
    let pages = len / PAGE;
    let mut page = 0;
    while page < pages {
        let batch = (pages - page).min(entries.len() / 8);
        let bytes = &mut entries[..batch * 8];
        pagemap.read_exact_at(bytes, ((start / PAGE + page) * 8) as u64)?;
        for (i, entry) in bytes.as_chunks::<8>().0.iter().enumerate() {
            if kind.fits(u64::from_ne_bytes(*entry)) {
                let at = (page + i) * PAGE;
                push(&mut found, at..at + PAGE);
            }
        }
        page += batch;
    }
    Ok(found)
}

/// Appends `next`, joined to the last range where they touch.
fn push(ranges: &mut Vec<Range<usize>>, next: Range<usize>) {
    match ranges.last_mut() {
        Some(last) if last.end == next.start => last.end = next.end,
        _ => ranges.push(next),
    }
}

#[cfg(test)]
#[path = "pagemap_test.rs"]
mod pagemap_test;
