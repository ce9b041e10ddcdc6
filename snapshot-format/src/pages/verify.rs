//! Whether a `memory` file is still what was written.

use std::fmt;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use super::extents::next_extent;
use super::sums::{Page, data_page_sum, is_zero};
use super::{CHUNK_BYTES, CHUNK_PAGES, ChunkSums, Error, MemoryIndex, PAGE_BYTES};

/// Guest-physical addresses, for a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestRanges(pub Vec<Range<u64>>);

impl fmt::Display for GuestRanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("between two regions");
        }
        for (n, range) in self.0.iter().enumerate() {
            write!(f, "{}{:#x}..{:#x}", if n == 0 { "" } else { ", " }, range.start, range.end)?;
        }
        Ok(())
    }
}

/// Reads all data of `memory` and compares it with the index. Holes are not read, so the time follows the data, not
/// the guest's size: about 5 GB of data a second from the page cache.
///
/// Leaves the offset of the open file anywhere.
///
/// # Errors
/// The length differs, the first chunk that differs, or the file could not be read.
pub fn verify(memory: &File, index: &MemoryIndex) -> Result<(), Error> {
    let at_start = |source| Error::Read { offset: 0, source };
    index.check_len(memory.metadata().map_err(at_start)?.len())?;
    let mut check = Check { index, next: 0, sum: 0, data_pages: 0 };
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut at = 0;
    while let Some(extent) = next_extent(memory, at, index.file_pages().bytes())? {
        at = extent.start;
        while at < extent.end {
            let piece = &mut buffer[..((extent.end - at) as usize).min(BUFFER_BYTES)];
            memory.read_exact_at(piece, at).map_err(|source| Error::Read { offset: at, source })?;
            let (pages, _) = piece.as_chunks::<{ PAGE_BYTES as usize }>();
            for (page, bytes) in (at / PAGE_BYTES..).zip(pages) {
                check.advance(page / CHUNK_PAGES)?;
                check.page(page, bytes);
            }
            at += piece.len() as u64;
        }
    }
    check.finish()
}

/// Compares the sums of memory that was read in another way with the index.
///
/// # Errors
/// The length differs, the first chunk that differs, or the number of pages with data.
pub fn check_sums(index: &MemoryIndex, sums: ChunkSums) -> Result<(), Error> {
    let (file_pages, data_pages, sums) = sums.into_parts();
    index.check_len(file_pages.bytes())?;
    let mut check = Check { index, next: 0, sum: 0, data_pages };
    for (chunk, sum) in (0..).zip(sums) {
        check.advance(chunk)?;
        check.sum = sum;
    }
    check.finish()
}

/// Small enough for the second-level cache, large enough to make the system calls few. A multiple of the page size.
const BUFFER_BYTES: usize = 256 << 10;

/// The comparison as it goes through the file.
struct Check<'a> {
    index: &'a MemoryIndex,
    /// The chunk that `sum` belongs to; those before it are good.
    next: u64,
    /// Of the pages of `next` that were seen.
    sum: u64,
    data_pages: u64,
}

impl Check<'_> {
    /// Compares all chunks before `chunk`.
    fn advance(&mut self, chunk: u64) -> Result<(), Error> {
        while self.next < chunk {
            let stated = self.index.chunk_sums()[self.next as usize];
            if stated != self.sum {
                let guest = guest_ranges(self.index, self.next);
                return Err(Error::Chunk { chunk: self.next, guest, stated, computed: self.sum });
            }
            self.sum = 0;
            self.next += 1;
        }
        Ok(())
    }

    fn page(&mut self, page: u64, bytes: &Page) {
        // Not `sum != 0`: a guest can make up a page whose hash is 0.
        if !is_zero(bytes) {
            self.sum = self.sum.wrapping_add(data_page_sum(page, bytes));
            self.data_pages += 1;
        }
    }

    fn finish(mut self) -> Result<(), Error> {
        self.advance(self.index.chunk_sums().len() as u64)?;
        let (stated, actual) = (self.index.data_pages(), self.data_pages);
        if stated == actual { Ok(()) } else { Err(Error::DataPageCount { stated, actual }) }
    }
}

/// The guest addresses that lie in chunk `chunk` of the file.
fn guest_ranges(index: &MemoryIndex, chunk: u64) -> GuestRanges {
    let (chunk_start, chunk_end) = (chunk * CHUNK_BYTES, (chunk + 1) * CHUNK_BYTES);
    let within = |region: &super::Region| {
        let start = region.offset().get().max(chunk_start);
        let end = region.file_end().min(chunk_end);
        let guest = |offset: u64| region.guest().get() + (offset - region.offset().get());
        (start < end).then(|| guest(start)..guest(end))
    };
    GuestRanges(index.regions().iter().filter_map(within).collect())
}
