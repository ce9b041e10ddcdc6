//! Where a sparse `memory` file has data.

use std::fs::File;
use std::io;
use std::ops::Range;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

use super::{Error, PAGE_BYTES, PageCount};

/// All data of the first `pages` pages of `memory`, as byte ranges in order, in whole pages. The rest are holes.
///
/// Leaves the offset of the open file anywhere.
pub fn data_extents(memory: &File, pages: PageCount) -> Result<Vec<Range<u64>>, Error> {
    let mut extents = Vec::new();
    let mut from = 0;
    while let Some(extent) = next_extent(memory, from, pages.bytes())? {
        from = extent.end;
        extents.push(extent);
    }
    Ok(extents)
}

/// The next bytes from `from` on, widened to whole pages, that the file system says are data. Where it cannot tell,
/// all are.
pub(crate) fn next_extent(memory: &File, from: u64, len: u64) -> Result<Option<Range<u64>>, Error> {
    let failed = |source: Errno| Error::Read { offset: from, source: io::Error::from(source) };
    if from >= len {
        return Ok(None);
    }
    let start = match seek(memory, SeekFrom::Data(from)) {
        Ok(start) => start,
        Err(Errno::NXIO) => return Ok(None),
        Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(Some(from..len)),
        Err(errno) => return Err(failed(errno)),
    };
    let end = seek(memory, SeekFrom::Hole(start)).map_err(failed)?;
    let page = |offset: u64| offset.min(len).next_multiple_of(PAGE_BYTES);
    // A file system whose blocks are smaller than a page may begin an extent within one.
    let start = (start / PAGE_BYTES * PAGE_BYTES).max(from);
    Ok((start < len).then(|| start..page(end).max(start + PAGE_BYTES).min(len)))
}
