//! A file that nobody may change while it is served, and what is noticed if somebody does.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::unix::fs::{FileExt, MetadataExt};

use rustix::io::{ReadWriteFlags, preadv2};

use super::Error;

/// An open file with what it was when it was opened. Every read is checked against that before its bytes are used.
///
/// Length and time of modification tell. The time of change (`ctime`) does not: a new commit of the image gives the
/// file another name, which changes it. What a host does not notice: a writer with a mapping, until the kernel
/// writes the page back; a writer that sets the time back. Whoever has checksums for every byte that
/// he reads needs none of it ([`Self::vouched_for`]).
#[derive(Debug)]
pub struct Guarded {
    file: File,
    what: String,
    stamp: Stamp,
    /// Whether whoever reads compares what he gets with checksums, every time.
    is_vouched_for: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    len: u64,
    modified: (i64, i64),
}

impl Stamp {
    fn of(file: &File) -> io::Result<Self> {
        let about = file.metadata()?;
        Ok(Self { len: about.len(), modified: (about.mtime(), about.mtime_nsec()) })
    }
}

impl Guarded {
    /// The regular file `file`, which messages call `what`.
    ///
    /// # Errors
    /// It is none, or nothing can be learnt of it.
    pub fn new(file: File, what: String) -> Result<Self, Error> {
        let about = file.metadata();
        let about = about.map_err(|source| Error::Read { what: what.clone(), offset: 0, source })?;
        if !about.is_file() {
            return Err(Error::Damaged { what, offset: 0, how: "it is no regular file".to_owned() });
        }
        let stamp = Stamp { len: about.len(), modified: (about.mtime(), about.mtime_nsec()) };
        Ok(Self { file, what, stamp, is_vouched_for: false })
    }

    /// For somebody who compares all that he reads with checksums: a file that was only touched, or whose changed part is
    /// not read, is as good as before.
    #[must_use]
    pub fn vouched_for(self) -> Self {
        Self { is_vouched_for: true, ..self }
    }

    /// Its length when it was opened.
    pub fn len(&self) -> u64 {
        self.stamp.len
    }

    /// Whether it was empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What messages call it.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// The file. Whoever learns something from it calls [`Self::check`] before he relies on it.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Fills `buffer` from `offset` on.
    ///
    /// # Errors
    /// It cannot be read, or is not what it was and nobody vouches for it.
    pub fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        match self.file.read_exact_at(buffer, offset) {
            // Within the length that it had: it has been cut off.
            Err(source)
                if source.kind() == io::ErrorKind::UnexpectedEof
                    && offset + buffer.len() as u64 <= self.stamp.len =>
            {
                Err(self.changed())
            }
            Err(source) => Err(self.failed(offset, source)),
            Ok(()) if self.is_vouched_for => Ok(()),
            Ok(()) => self.check(),
        }
    }

    /// Fills `buffer` from `offset` on, if the page cache has all of it: says whether it has. Where the file system cannot
    /// tell (`EOPNOTSUPP`), nobody knows.
    ///
    /// # Errors
    /// It is not what it was, and nobody vouches for it.
    pub fn read_now(&self, offset: u64, buffer: &mut [u8]) -> Result<bool, Error> {
        let len = buffer.len();
        match preadv2(&self.file, &mut [IoSliceMut::new(buffer)], offset, ReadWriteFlags::NOWAIT) {
            Ok(read) if read == len && self.is_vouched_for => Ok(true),
            Ok(read) if read == len => self.check().map(|()| true),
            // Whoever reads it all finds out what is in the way.
            Ok(_) | Err(_) => Ok(false),
        }
    }

    /// Whether it still is what it was.
    ///
    /// # Errors
    /// It is not, or that cannot be told.
    pub fn check(&self) -> Result<(), Error> {
        let now = Stamp::of(&self.file).map_err(|source| self.failed(0, source))?;
        if now == self.stamp { Ok(()) } else { Err(self.changed()) }
    }

    fn changed(&self) -> Error {
        Error::Changed { what: self.what.clone() }
    }

    pub(super) fn failed(&self, offset: u64, source: io::Error) -> Error {
        Error::Read { what: self.what.clone(), offset, source }
    }
}
