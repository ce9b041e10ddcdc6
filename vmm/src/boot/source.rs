//! Where a kernel or an initrd is read from: a regular file, or bytes of this program.

use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom};

use vm_memory::bitmap::BitmapSlice;
use vm_memory::{ReadVolatile, VolatileMemoryError, VolatileSlice};

use super::Error;

/// Bytes from the start of a file up to `end`; what comes after cannot be seen.
pub(super) struct Source<'a> {
    bytes: Bytes<'a>,
    /// The position in `bytes`, kept here because both kinds have to be held back at `end`.
    position: u64,
    end: u64,
}

enum Bytes<'a> {
    File(File),
    Memory(Cursor<&'a [u8]>),
}

impl<'a> Source<'a> {
    /// Refuses what is not a regular file: a directory cannot be read, a pipe cannot be sought in.
    pub(super) fn from_file(mut file: File, what: &'static str) -> Result<Self, Error> {
        let about = file.metadata().map_err(Error::read(what))?;
        if !about.is_file() {
            return Err(Error::NotAFile { what });
        }
        file.rewind().map_err(Error::read(what))?;
        Ok(Self { bytes: Bytes::File(file), position: 0, end: about.len() })
    }

    pub(super) fn from_bytes(bytes: &'a [u8]) -> Self {
        Self { bytes: Bytes::Memory(Cursor::new(bytes)), position: 0, end: bytes.len() as u64 }
    }

    /// Length of what can be seen, in bytes.
    pub(super) fn len(&self) -> u64 {
        self.end
    }

    /// Hides everything from `end` on. Never shows more than before.
    pub(super) fn cut(&mut self, end: u64) {
        self.end = self.end.min(end);
    }

    /// Reads at `offset` until `buffer` is full or the file ends, and returns how much there was.
    pub(super) fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.seek(SeekFrom::Start(offset))?;
        let wanted = buffer.len() as u64;
        let mut rest = buffer;
        Ok(io::copy(&mut self.take(wanted), &mut rest)? as usize)
    }

    fn left(&self) -> usize {
        usize::try_from(self.end.saturating_sub(self.position)).unwrap_or(usize::MAX)
    }
}

impl Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = buffer.len().min(self.left());
        let n = match &mut self.bytes {
            Bytes::File(file) => file.read(&mut buffer[..len])?,
            Bytes::Memory(cursor) => cursor.read(&mut buffer[..len])?,
        };
        self.position += n as u64;
        Ok(n)
    }
}

impl Seek for Source<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(distance) => self.end.checked_add_signed(distance),
            SeekFrom::Current(distance) => self.position.checked_add_signed(distance),
        };
        let position = position.ok_or(io::ErrorKind::InvalidInput)?;
        self.position = match &mut self.bytes {
            Bytes::File(file) => file.seek(SeekFrom::Start(position))?,
            Bytes::Memory(cursor) => cursor.seek(SeekFrom::Start(position))?,
        };
        Ok(position)
    }
}

impl ReadVolatile for Source<'_> {
    fn read_volatile<B: BitmapSlice>(
        &mut self,
        buffer: &mut VolatileSlice<B>,
    ) -> Result<usize, VolatileMemoryError> {
        let mut part = buffer.subslice(0, buffer.len().min(self.left()))?;
        let n = match &mut self.bytes {
            Bytes::File(file) => file.read_volatile(&mut part)?,
            Bytes::Memory(cursor) => cursor.read_volatile(&mut part)?,
        };
        self.position += n as u64;
        Ok(n)
    }
}
