//! Bytes of files into another file, each to its own place: by sharing blocks (`FICLONERANGE`), else by the kernel
//! (`copy_file_range(2)`), else through a buffer.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use rustix::fs::{SeekFrom, copy_file_range, seek};
use rustix::io::Errno;

use super::frozen::CopyError;
use crate::sys::clone;

/// What blocks are multiples of: more than any file system's that shares them.
const BLOCK: u64 = 4096;
/// The most that is copied before somebody can ask whether it is still wanted.
const MOST: u64 = 16 << 20;

/// A file that is being filled. Neighbouring parts of one file are copied together.
pub(super) struct Transfer<'file> {
    to: &'file File,
    pending: Option<(&'file File, Range<u64>)>,
    may_share: bool,
    may_copy: bool,
}

impl<'file> Transfer<'file> {
    pub(super) fn new(to: &'file File) -> Self {
        Self { to, pending: None, may_share: true, may_copy: true }
    }

    /// Whether blocks can be shared, as far as is known. Where they cannot, bytes that were read are better written.
    pub(super) fn may_share(&self) -> bool {
        self.may_share
    }

    /// Writes bytes that are at hand.
    pub(super) fn write(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.to.write_all_at(bytes, at)
    }

    /// Copies bytes of `from`, now or with what comes next.
    pub(super) fn copy(&mut self, from: &'file File, bytes: Range<u64>) -> Result<(), CopyError> {
        match &mut self.pending {
            Some((file, before))
                if std::ptr::eq(*file, from)
                    && before.end == bytes.start
                    && bytes.end - before.start <= MOST =>
            {
                before.end = bytes.end;
                Ok(())
            }
            _ => {
                self.finish()?;
                self.pending = Some((from, bytes));
                Ok(())
            }
        }
    }

    /// Copies what is still pending.
    pub(super) fn finish(&mut self) -> Result<(), CopyError> {
        let Some((from, bytes)) = self.pending.take() else { return Ok(()) };
        let mut at = bytes.start;
        while let Some(data) = next_data(from, at..bytes.end).map_err(CopyError::Read)? {
            at = data.end;
            self.copy_data(from, data)?;
        }
        Ok(())
    }

    fn copy_data(&mut self, from: &File, bytes: Range<u64>) -> Result<(), CopyError> {
        let is_whole = bytes.start.is_multiple_of(BLOCK) && bytes.end.is_multiple_of(BLOCK);
        if self.may_share && is_whole {
            match clone::share(from, self.to, &bytes) {
                Ok(()) => return Ok(()),
                Err(e) if is_full(&e) => return Err(CopyError::Write(e)),
                Err(_) => self.may_share = false,
            }
        }
        let mut at = bytes.start;
        while self.may_copy && at < bytes.end {
            let (mut source, mut target) = (at, at);
            let len = usize::try_from(bytes.end - at).unwrap_or(usize::MAX);
            match copy_file_range(from, Some(&mut source), self.to, Some(&mut target), len) {
                Ok(0) => self.may_copy = false,
                Ok(done) => at += done as u64,
                Err(Errno::INTR) => {}
                Err(errno) if is_full(&errno.into()) => return Err(CopyError::Write(errno.into())),
                // What a failing disk answers is said by the call that reads or writes, not by one that does both.
                Err(_) => self.may_copy = false,
            }
        }
        by_hand(from, self.to, at..bytes.end)
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOSPC | Errno::DQUOT | Errno::FBIG))
}

fn by_hand(from: &File, to: &File, bytes: Range<u64>) -> Result<(), CopyError> {
    let mut buffer = vec![0; (bytes.end - bytes.start).min(256 << 10) as usize];
    let mut at = bytes.start;
    while at < bytes.end {
        let piece = (bytes.end - at).min(buffer.len() as u64) as usize;
        from.read_exact_at(&mut buffer[..piece], at).map_err(CopyError::Read)?;
        to.write_all_at(&buffer[..piece], at).map_err(CopyError::Write)?;
        at += piece as u64;
    }
    Ok(())
}

/// The next bytes of `range` that are no hole.
fn next_data(file: &File, range: Range<u64>) -> io::Result<Option<Range<u64>>> {
    if range.is_empty() {
        return Ok(None);
    }
    let start = match seek(file, SeekFrom::Data(range.start)) {
        Ok(start) => start,
        Err(Errno::NXIO) => return Ok(None),
        // A file system without holes.
        Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(Some(range)),
        Err(errno) => return Err(errno.into()),
    };
    if start >= range.end {
        return Ok(None);
    }
    let end = seek(file, SeekFrom::Hole(start))?.min(range.end);
    // A hole that was punched meanwhile leaves no data here; the file is written by nobody.
    Ok((start < end).then_some(start..end))
}
