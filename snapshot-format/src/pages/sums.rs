//! Checksums of guest memory.
//!
//! The sum of a chunk is the wrapping sum, over those of its pages that have a byte other than zero, of the page's
//! XXH3-64 seeded with the page's number in the file. So a chunk without data has sum 0 and is never looked at; the
//! cost follows the data and not the guest's size; it is the same whether a zero page is a hole or was written out;
//! two pages that changed places are found; and pages may be added in any order, by several threads.

use super::{CHUNK_BYTES, CHUNK_PAGES, Error, PAGE_BYTES, PageCount};
use twox_hash::XxHash3_64;

/// One page's bytes.
pub(super) type Page = [u8; PAGE_BYTES as usize];

/// What page number `page` of the file adds to its chunk's sum; 0 if it is all zero.
pub fn page_sum(page: u64, bytes: &Page) -> u64 {
    if is_zero(bytes) { 0 } else { data_page_sum(page, bytes) }
}

/// [`page_sum`] of a page that is known to have data.
pub(super) fn data_page_sum(page: u64, bytes: &Page) -> u64 {
    XxHash3_64::oneshot_with_seed(page, bytes)
}

/// The sum of the pages in `bytes`, the first of which is page `first` of the file. A last piece that is no whole
/// page is taken as if zeros filled it.
pub fn chunk_sum(first: u64, bytes: &[u8]) -> u64 {
    let (pages, rest) = bytes.as_chunks::<{ PAGE_BYTES as usize }>();
    let mut sum = 0_u64;
    for (page, bytes) in (first..).zip(pages) {
        sum = sum.wrapping_add(page_sum(page, bytes));
    }
    if !rest.is_empty() {
        let mut padded = [0; PAGE_BYTES as usize];
        padded[..rest.len()].copy_from_slice(rest);
        sum = sum.wrapping_add(page_sum(first + pages.len() as u64, &padded));
    }
    sum
}

/// Whether there is nothing but zeros. Compares words, and stops at the first 64 bytes that have one set.
#[inline]
pub fn is_zero(bytes: &[u8]) -> bool {
    let (lines, rest) = bytes.as_chunks::<64>();
    lines.iter().all(|line| line.iter().fold(0, |any, byte| any | byte) == 0)
        && rest.iter().all(|byte| *byte == 0)
}

/// The checksums of a `memory` file while it is being written.
#[derive(Clone, Debug)]
pub struct ChunkSums {
    file_pages: PageCount,
    /// One for each chunk of the file.
    sums: Vec<u64>,
    data_pages: u64,
}

impl ChunkSums {
    /// The sums of a file of that length, all of it holes.
    pub fn new(file_pages: PageCount) -> Self {
        let chunks = file_pages.bytes().div_ceil(CHUNK_BYTES) as usize;
        Self { file_pages, sums: vec![0; chunks], data_pages: 0 }
    }

    /// Takes page `page` of the file into account and says whether it has data, and so must be written. Pages may
    /// come in any order, each of them once; a page that never comes is a hole.
    ///
    /// # Errors
    /// The file has no such page.
    pub fn add(&mut self, page: u64, bytes: &Page) -> Result<bool, Error> {
        if page >= self.file_pages.get() {
            return Err(Error::FileBound { value: page.saturating_mul(PAGE_BYTES) });
        }
        if is_zero(bytes) {
            return Ok(false);
        }
        let sum = &mut self.sums[(page / CHUNK_PAGES) as usize];
        *sum = sum.wrapping_add(data_page_sum(page, bytes));
        self.data_pages += 1;
        Ok(true)
    }

    /// Adds what another thread has counted of the same file, from other pages.
    ///
    /// # Errors
    /// It is of a file of another length.
    pub fn merge(&mut self, other: &Self) -> Result<(), Error> {
        if other.file_pages != self.file_pages {
            return Err(Error::FileLength {
                stated: self.file_pages.bytes(),
                actual: other.file_pages.bytes(),
            });
        }
        for (sum, more) in self.sums.iter_mut().zip(&other.sums) {
            *sum = sum.wrapping_add(*more);
        }
        self.data_pages += other.data_pages;
        Ok(())
    }

    /// Length of the file, pages with data, sums.
    pub(super) fn into_parts(self) -> (PageCount, u64, Vec<u64>) {
        (self.file_pages, self.data_pages, self.sums)
    }
}
