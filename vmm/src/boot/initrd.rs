//! The initrd: read from its file straight into guest memory, as high as it fits.

use std::fs::File;

use vm_memory::{Bytes, GuestAddress};

use super::source::Source;
use super::{Error, Kernel, Placed};
use crate::memory::GuestRam;
use crate::memory::layout::{PAGE_SIZE, RamLayout};

const WHAT: &str = "the initrd";

/// An initrd file. It is the kernel that makes sense of it.
pub struct Initrd<'a> {
    source: Source<'a>,
}

impl<'a> Initrd<'a> {
    /// Takes an initrd file; nothing is read yet.
    ///
    /// # Errors
    /// Not a regular file.
    pub fn from_file(file: File) -> Result<Self, Error> {
        Ok(Self::from_source(Source::from_file(file, WHAT)?))
    }

    /// The same for bytes in memory.
    #[must_use]
    pub fn from_bytes(bytes: &'a [u8]) -> Self {
        Self::from_source(Source::from_bytes(bytes))
    }

    pub(super) fn from_source(source: Source<'a>) -> Self {
        Self { source }
    }

    /// Where it goes: on whole pages, above the kernel, as high as memory and kernel allow.
    pub(super) fn place(&self, kernel: &Kernel<'_>, ram: RamLayout) -> Result<Placed, Error> {
        let len = self.source.len();
        if len == 0 {
            return Err(Error::InitrdEmpty);
        }
        let floor = kernel.end().next_multiple_of(PAGE_SIZE);
        let ceiling = ram.low_end().min(kernel.initrd_limit());
        let start = ceiling.checked_sub(len).map(|start| start / PAGE_SIZE * PAGE_SIZE);
        match start.filter(|&start| start >= floor) {
            Some(gpa) => Ok(Placed { gpa, len }),
            None => Err(Error::InitrdTooLarge { len, room: ceiling.saturating_sub(floor) }),
        }
    }

    /// Reads it to its place. Call only with what [`Initrd::place`] returned.
    pub(super) fn load(&mut self, memory: &GuestRam, at: Placed) -> Result<Placed, Error> {
        let mut done = 0;
        // One read(2) moves less than 2 GiB.
        while done < at.len {
            let gpa = at.gpa + done;
            let left = (at.len - done) as usize;
            let n = memory
                .read_volatile_from(GuestAddress(gpa), &mut self.source, left)
                .map_err(|e| Error::write(WHAT, gpa, e))?;
            if n == 0 {
                let source = std::io::ErrorKind::UnexpectedEof.into();
                return Err(Error::Read { what: WHAT, source });
            }
            done += n as u64;
        }
        Ok(at)
    }
}
