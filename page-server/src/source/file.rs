//! Guest memory in a sparse file of its own length: the `memory` of an image, or a raw one of anybody's.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;
use snapshot_format::pages::{self, PAGE_BYTES, PageCount, data_extents};

use super::{Error, Guarded, PageSource};

#[cfg(test)]
#[path = "file_test.rs"]
mod file_test;

/// A memory file. Vouches for nothing but that the file is the one that was opened: see [`super::Checked`].
#[derive(Debug)]
pub struct MemoryFile {
    guarded: Guarded,
}

impl MemoryFile {
    /// The file at `path`.
    ///
    /// # Errors
    /// As [`Self::new`], or it cannot be opened.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let what = format!("`{}`", path.display());
        match File::open(path) {
            Ok(file) => Self::new(file, what),
            Err(source) => Err(Error::Read { what, offset: 0, source }),
        }
    }

    /// The memory file `file`, which messages call `what`.
    ///
    /// # Errors
    /// It is no regular file of whole pages, or is longer than a memory file may be.
    pub fn new(file: File, what: String) -> Result<Self, Error> {
        let guarded = Guarded::new(file, what)?;
        match PageCount::from_bytes(guarded.len()) {
            Ok(_) => Ok(Self { guarded }),
            Err(error) => {
                let what = guarded.what().to_owned();
                Err(Error::Damaged { what, offset: 0, how: format!("it is no memory file: {error}") })
            }
        }
    }

    /// For somebody who compares all that is read with checksums: see [`Guarded::vouched_for`].
    #[must_use]
    pub fn vouched_for(self) -> Self {
        Self { guarded: self.guarded.vouched_for() }
    }

    /// What messages call it.
    pub fn what(&self) -> &str {
        self.guarded.what()
    }

    /// The bytes, in whole pages, that are data rather than holes: what a layer says over those below it.
    ///
    /// # Errors
    /// It cannot be read, or the file system does not tell holes from zeros: then all of it would be data, and the
    /// zeros of the holes would hide what lies below.
    pub fn extents(&self) -> Result<Vec<Range<u64>>, Error> {
        let failed = |offset, source| self.guarded.failed(offset, source);
        let file = self.guarded.file();
        let pages = PageCount::from_bytes(self.len()).expect("it was checked when it was opened");
        let extents = data_extents(file, pages).map_err(|error| match error {
            pages::Error::Read { offset, source } => failed(offset, source),
            other => failed(0, io::Error::other(other)),
        })?;
        let data: u64 = extents.iter().map(|extent| extent.end - extent.start).sum();
        let blocks = file.metadata().map_err(|source| failed(0, source))?.blocks();
        // A file system that does not know says that all is data. So would one that compresses, of a layer without a
        // single hole, which is no layer.
        if data == self.len() && blocks.saturating_mul(512) < data {
            return Err(failed(0, io::Error::other("its file system does not tell holes from zeros")));
        }
        self.guarded.check()?;
        Ok(extents)
    }
}

impl PageSource for MemoryFile {
    fn len(&self) -> u64 {
        self.guarded.len()
    }

    /// Asks the file system where the next data is: one system call, and one to see that the file is still whole,
    /// because behind the end of one that was cut off everything looks like a hole.
    fn zeros(&self, offset: u64) -> u64 {
        if offset >= self.len() {
            return 0;
        }
        let data = match seek(self.guarded.file(), SeekFrom::Data(offset)) {
            Ok(data) => data.min(self.len()) / PAGE_BYTES * PAGE_BYTES,
            Err(Errno::NXIO) => self.len(),
            // What cannot be told is read.
            Err(_) => return 0,
        };
        let zeros = data.saturating_sub(offset);
        if zeros == 0 || self.guarded.check().is_err() { 0 } else { zeros }
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        self.guarded.read(offset, buffer)
    }

    fn read_now(&self, offset: u64, buffer: &mut [u8]) -> Result<bool, Error> {
        self.guarded.read_now(offset, buffer)
    }
}
