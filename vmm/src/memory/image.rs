//! The memory of an image: a file that nobody writes, and the index that says where guest memory lies in it.

use std::fs::File;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;
use snapshot_format::{MemoryIndex, pages};

/// An image's `memory` file, open for reading, with its index.
///
/// Invariant: the file was as long as the index says when this was made. Committed images are never modified, so it
/// still is; should somebody truncate it all the same, the VM that runs from it ends with an error (`sys::bus_error` where
/// this process touches what is lost, the supervisor's watch where the guest does).
#[derive(Debug)]
pub struct Image {
    file: File,
    index: MemoryIndex,
}

impl Image {
    /// Call only with a file whose length has been checked against `index`.
    pub fn new(file: File, index: MemoryIndex) -> Self {
        Self { file, index }
    }

    /// The file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Whether the file still is as long as it was.
    pub fn check_len(&self) -> Result<(), pages::Error> {
        let about = self.file.metadata().map_err(|source| pages::Error::Read { offset: 0, source })?;
        self.index.check_len(about.len())
    }

    /// How many bytes from `offset` on are known to be zero without reading them: a hole of the file, if its file system
    /// tells.
    pub(crate) fn zeros(&self, offset: u64) -> u64 {
        let len = self.index.file_pages().bytes();
        let data = match seek(&self.file, SeekFrom::Data(offset)) {
            Ok(data) => data.min(len),
            // Behind the end of a file that was cut off everything looks like this.
            Err(Errno::NXIO) if self.check_len().is_ok() => len,
            Err(_) => offset,
        };
        data.saturating_sub(offset)
    }

    /// Where guest memory lies in it.
    pub fn index(&self) -> &MemoryIndex {
        &self.index
    }
}
