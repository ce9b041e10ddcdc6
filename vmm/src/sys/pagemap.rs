//! Which pages of a mapping are there, which are missing, and which this process holds for itself.
//!
//! Of an anonymous mapping the last are the pages that were ever touched; of a private mapping of a file, the pages that
//! were written. Linux 6.7 answers that in one call (`PAGEMAP_SCAN`, Documentation/admin-guide/mm/pagemap.rst);
//! before, `/proc/self/pagemap` is read page by page.
//!
//! Two kinds of page table entries are not what they seem to be:
//!
//! - The kernel's zero page (`PAGE_IS_PFNZERO`) does not mean that nothing was written. Pages that were written with zeros
//!   are replaced by it: by KSM (`use_zero_pages`), and since Linux 6.12 when a huge page is split
//!   (`try_to_map_unused_to_zeropage`). A read fault on a private mapping of a file maps the file's page instead. So where
//!   the zero page is, the process's own page is zero, whatever lies below.
//! - A marker that write protection by a userfaultfd leaves where there is no page (`PTE_MARKER_UFFD_WP`) counts as
//!   swapped. It counts as not written as well, which a page in swap does only if it is still protected, and so is as it
//!   was delivered. Neither is anything that this process has written.

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

/// Of a mapping whose writes are tracked (`UFFD_FEATURE_WP_ASYNC`).
const PAGE_IS_WPALLOWED: u64 = 1 << 0;
/// Not write-protected; of no meaning where there is no page.
const PAGE_IS_WRITTEN: u64 = 1 << 1;
const PAGE_IS_FILE: u64 = 1 << 2;
const PAGE_IS_PRESENT: u64 = 1 << 3;
const PAGE_IS_SWAPPED: u64 = 1 << 4;
const PAGE_IS_PFNZERO: u64 = 1 << 5;

/// Which pages are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// There, and not a page of the file.
    Private,
    /// In memory, or in swap and not write-protected.
    Present,
    /// Not `Present`.
    Missing,
    /// As `Private`, and written since it was write-protected by a userfaultfd. The zero page never is protected.
    Written,
}

impl Kind {
    /// What the kernel is to look for: categories to invert, those that must all be there, and those of which one must.
    /// What it finds may not be of the kind: see [`Self::has`].
    fn categories(self) -> (u64, u64, u64) {
        let there = PAGE_IS_PRESENT | PAGE_IS_SWAPPED;
        match self {
            Self::Private => (PAGE_IS_FILE, PAGE_IS_FILE, there),
            Self::Present => (0, 0, there),
            Self::Missing => (PAGE_IS_PRESENT, PAGE_IS_PRESENT, 0),
            Self::Written => (PAGE_IS_FILE, PAGE_IS_FILE | PAGE_IS_WRITTEN, there),
        }
    }

    /// Whether a page that the kernel has found is of the kind.
    fn has(self, categories: u64) -> bool {
        let is = |category| categories & category != 0;
        let is_protected = is(PAGE_IS_WPALLOWED) && !is(PAGE_IS_WRITTEN);
        let in_swap = is(PAGE_IS_SWAPPED) && !is_protected;
        match self {
            Self::Private | Self::Present | Self::Written => is(PAGE_IS_PRESENT) || in_swap,
            Self::Missing => !in_swap,
        }
    }

    /// Whether a page is of the kind, by its entry in `/proc/PID/pagemap`, which tells nothing of writes.
    fn fits(self, entry: u64) -> bool {
        let in_swap = entry & ENTRY_SWAPPED != 0 && entry & ENTRY_PROTECTED == 0;
        let there = entry & ENTRY_PRESENT != 0 || in_swap;
        match self {
            // The zero page is no page of a file here either.
            Self::Private => there && entry & ENTRY_FILE == 0,
            Self::Present | Self::Written => there,
            Self::Missing => !there,
        }
    }
}

/// Pages that this process holds for itself, as byte ranges relative to an address, each list in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Own {
    /// Pages of any content.
    pub(crate) data: Vec<Range<usize>>,
    /// Pages that are known to be zero. None where the kernel does not say: they are in `data` then.
    pub(crate) zeros: Vec<Range<usize>>,
}

/// Bits of an entry of `/proc/PID/pagemap`.
const ENTRY_PRESENT: u64 = 1 << 63;
const ENTRY_SWAPPED: u64 = 1 << 62;
const ENTRY_FILE: u64 = 1 << 61;
/// Write-protected by a userfaultfd, since Linux 5.14.
const ENTRY_PROTECTED: u64 = 1 << 57;

/// The private pages among the `len` bytes from address `start`, as byte ranges relative to `start`. `start` and `len` are
/// multiples of the page size.
pub(crate) fn private_pages(start: usize, len: usize) -> io::Result<Own> {
    PageMap::open()?.private(start, len)
}

/// The page map of this process, open.
#[derive(Debug)]
pub(crate) struct PageMap(File);

impl PageMap {
    pub(crate) fn open() -> io::Result<Self> {
        File::open("/proc/self/pagemap").map(Self)
    }

    /// The pages that are there, in whatever form, as byte ranges relative to `start`, in order.
    pub(crate) fn present(&self, start: usize, len: usize) -> io::Result<Vec<Range<usize>>> {
        self.find(Kind::Present, start, len)
    }

    /// The pages that this process holds for itself; as [`private_pages`].
    pub(crate) fn private(&self, start: usize, len: usize) -> io::Result<Own> {
        match scan(&self.0, Kind::Private, start, len) {
            Err(error) if is_unknown(&error) => {
                Ok(Own { data: read(&self.0, Kind::Private, start, len)?, zeros: Vec::new() })
            }
            scanned => scanned,
        }
    }

    /// The pages that were written since a userfaultfd had them write-protected.
    ///
    /// # Errors
    /// ENOTTY or EINVAL on kernels before 6.7, which cannot tell.
    pub(crate) fn written(&self, start: usize, len: usize) -> io::Result<Own> {
        scan(&self.0, Kind::Written, start, len)
    }

    /// The pages that are neither in memory nor in swap, and those in swap that are still as they were delivered; as
    /// [`Self::present`].
    pub(crate) fn missing(&self, start: usize, len: usize) -> io::Result<Vec<Range<usize>>> {
        self.find(Kind::Missing, start, len)
    }

    /// The first pages that are [missing](Self::missing), up to the next that is not: at most `len` bytes from `start`,
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
            Err(error) if is_unknown(&error) => read(&self.0, kind, start, len),
            scanned => scanned.map(|found| found.data),
        }
    }
}

/// Whether a kernel says that it has no `PAGEMAP_SCAN`.
pub(crate) fn is_unknown(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOTTY | libc::EINVAL))
}

/// How much is looked at for the first page of a kind.
const FIRST_STEP: usize = 64 << 20;

/// What the kernel says of the pages that it finds.
const RETURNED: u64 =
    PAGE_IS_WPALLOWED | PAGE_IS_WRITTEN | PAGE_IS_PRESENT | PAGE_IS_SWAPPED | PAGE_IS_PFNZERO;

/// What is found of `kind`. Only private pages are told apart by what is in them: the others are all `data`.
fn scan(pagemap: &File, kind: Kind, start: usize, len: usize) -> io::Result<Own> {
    let is_told_apart = matches!(kind, Kind::Private | Kind::Written);
    let (category_inverted, category_mask, category_anyof_mask) = kind.categories();
    let mut found = Own::default();
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
            return_mask: RETURNED,
        };
        // SAFETY: `arg` has the layout of struct pm_scan_arg, and `vec` points to `vec_len` live regions, which the
        // kernel fills in.
        let filled = unsafe { ioctl_with_mut_ref(pagemap, PAGEMAP_SCAN(), &mut arg) };
        let filled = usize::try_from(filled).map_err(|_| io::Error::last_os_error())?;
        for region in regions.iter().take(filled) {
            let pages = region.start as usize - start..region.end as usize - start;
            if kind.has(region.categories) {
                let is_zero = is_told_apart && region.categories & PAGE_IS_PFNZERO != 0;
                push(if is_zero { &mut found.zeros } else { &mut found.data }, pages);
            }
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
