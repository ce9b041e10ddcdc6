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
mod tests {
    use super::*;

    #[test]
    fn zero_pages_are_holes_but_for_a_few_in_a_chunk() {
        assert_eq!(runs_to_write(&[]), []);
        assert_eq!(runs_to_write(&[false, true, true, false, true]), [1..3, 4..5]);
        let mut chunk = [true; CHUNK_PAGES as usize];
        chunk[..CHUNK_PAGES as usize / 8].fill(false);
        let whole = runs_to_write(&chunk);
        assert_eq!((whole.len(), &whole[0]), (1, &(0..512)));
        chunk[300] = false;
        assert_eq!(runs_to_write(&chunk), [64..300, 301..512]);
    }
}
