//! Which pages of a chunk are written to a `memory` file, and which are left to be a hole.

use std::ops::Range;

use super::CHUNK_PAGES;

/// From how many data pages on a chunk is written whole, its zero pages too: with all but an eighth of them, the file
/// takes an eighth more than it must at most.
const DENSE: usize = CHUNK_PAGES as usize * 7 / 8;

/// What to write of neighbouring pages of one chunk, each run at once; `data` says which of them are not zero.
///
/// A chunk that is nearly full is written as one piece. A file system with large folios (ext4 since Linux 6.16, XFS) then
/// keeps it in the page cache as one huge page, which a restore maps by one fault in place of 512.
#[must_use]
pub fn runs_to_write(data: &[bool]) -> Vec<Range<usize>> {
    if data.iter().filter(|data| **data).count() >= DENSE {
        return std::iter::once(0..data.len()).collect();
    }
    let mut page = 0;
    let runs = data.chunk_by(|a, b| a == b).map(|run| {
        page += run.len();
        (run.first() == Some(&true)).then_some(page - run.len()..page)
    });
    runs.flatten().collect()
}

#[cfg(test)]
#[path = "write_test.rs"]
mod write_test;
