//! Where a kernel or an initrd is read from: a regular file, or bytes of this program.
//!
//! A read(2) may return less than was asked for, long before the end of the file: 9p returns at most its `msize`, one call
//! moves less than 2 GiB, and a signal may interrupt it. The loaders take a short read for the end of the file, so
//! [`Source`] reads on until the buffer is full.

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
    /// As a file on 9p: one call returns no more than so many bytes, and every second call is interrupted.
    #[cfg(test)]
    Short {
        bytes: Cursor<&'a [u8]>,
        most: usize,
        interrupted: bool,
    },
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

    /// The same, through reads of at most `most` bytes, of which every second one is interrupted.
    #[cfg(test)]
    pub(super) fn from_short_reads(bytes: &'a [u8], most: usize) -> Self {
        let end = bytes.len() as u64;
        Self { bytes: Bytes::Short { bytes: Cursor::new(bytes), most, interrupted: false }, position: 0, end }
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
            #[cfg(test)]
            Bytes::Short { bytes, most, interrupted } => {
                interrupt(interrupted)?;
                bytes.read(&mut buffer[..len.min(*most)])?
            }
        };
        self.position += n as u64;
        Ok(n)
    }
}

/// Every second call fails as read(2) does when a signal handler has run.
#[cfg(test)]
fn interrupt(interrupted: &mut bool) -> io::Result<()> {
    *interrupted = !*interrupted;
    if *interrupted { Err(io::ErrorKind::Interrupted.into()) } else { Ok(()) }
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
            #[cfg(test)]
            Bytes::Short { bytes, .. } => bytes.seek(SeekFrom::Start(position))?,
        };
        Ok(position)
    }
}

impl Source<'_> {
    /// One read(2).
    fn read_once<B: BitmapSlice>(
        &mut self,
        buffer: &mut VolatileSlice<'_, B>,
    ) -> Result<usize, VolatileMemoryError> {
        match &mut self.bytes {
            Bytes::File(file) => file.read_volatile(buffer),
            Bytes::Memory(cursor) => cursor.read_volatile(buffer),
            #[cfg(test)]
            Bytes::Short { bytes, most, interrupted } => {
                interrupt(interrupted).map_err(VolatileMemoryError::IOError)?;
                let len = buffer.len().min(*most);
                bytes.read_volatile(&mut buffer.subslice(0, len)?)
            }
        }
    }
}

impl ReadVolatile for Source<'_> {
    /// Fills `buffer`, or reads up to the end of what can be seen. An error after some bytes were read is raised by the next
    /// call.
    fn read_volatile<B: BitmapSlice>(
        &mut self,
        buffer: &mut VolatileSlice<B>,
    ) -> Result<usize, VolatileMemoryError> {
        let len = buffer.len().min(self.left());
        let mut filled = 0;
        while filled < len {
            let n = match self.read_once(&mut buffer.subslice(filled, len - filled)?) {
                Ok(0) => break,
                Ok(n) => n,
                Err(VolatileMemoryError::IOError(e)) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) if filled > 0 => break,
                Err(e) => return Err(e),
            };
            filled += n;
            self.position += n as u64;
        }
        Ok(filled)
    }
}
