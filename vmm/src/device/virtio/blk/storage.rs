//! Where a disk's bytes are: in the file that was named, or in an overlay over it.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use vm_memory::VolatileSlice;

use super::Error;
use super::disk::{self, Disk};
use super::overlay::{Frozen, Overlay};
use crate::sys::uring::Transfer;

/// What lies behind a disk.
#[derive(Debug)]
pub enum Storage {
    /// The file itself.
    Plain(Disk),
    /// A file that is never written, and what the guest writes beside it.
    Overlay(Overlay),
}

/// What of a disk has to be brought to the host's disk for an image, while the guest may run.
#[derive(Debug)]
pub enum Leftover {
    /// What the guest has written: an image must not be newer than the disk that goes with it.
    Written(Arc<File>),
    /// The layers of an overlay.
    Overlay(Frozen),
}

impl From<Disk> for Storage {
    fn from(disk: Disk) -> Self {
        Self::Plain(disk)
    }
}

impl Storage {
    /// The file that was named.
    #[must_use]
    pub fn disk(&self) -> &Disk {
        match self {
            Self::Plain(disk) => disk,
            Self::Overlay(overlay) => overlay.base(),
        }
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.disk().path()
    }

    /// In bytes: a multiple of 512, not 0.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "no disk is empty")]
    pub fn len(&self) -> u64 {
        self.disk().len()
    }

    /// Whether the guest may only read it.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        match self {
            Self::Plain(disk) => disk.is_read_only(),
            Self::Overlay(_) => false,
        }
    }

    /// What is left to be done for an image of this instant. Call only while no request is on its way.
    ///
    /// # Errors
    /// There is no place for a further layer.
    pub fn freeze(&mut self) -> Result<Option<Leftover>, Error> {
        match self {
            Self::Plain(disk) => {
                Ok((!disk.is_read_only()).then(|| Leftover::Written(Arc::clone(disk.file()))))
            }
            Self::Overlay(overlay) => Ok(Some(Leftover::Overlay(overlay.freeze()?))),
        }
    }

    /// Takes into use what was made of its layers meanwhile.
    pub(super) fn adopt(&mut self) {
        if let Self::Overlay(overlay) = self {
            overlay.adopt();
        }
    }

    pub(super) fn read(&self, to: &[VolatileSlice<'_>], at: u64) -> io::Result<()> {
        match self {
            Self::Plain(disk) => disk::read(disk.file(), to, at),
            Self::Overlay(overlay) => overlay.read(to, at),
        }
    }

    pub(super) fn write(&mut self, from: &[VolatileSlice<'_>], at: u64) -> io::Result<()> {
        match self {
            Self::Plain(disk) => disk::write(disk.file(), from, at),
            Self::Overlay(overlay) => overlay.write(from, at),
        }
    }

    pub(super) fn flush(&self) -> io::Result<()> {
        match self {
            Self::Plain(disk) => disk::flush(disk.file()),
            // Its file has no name: what a crash of the host would leave of it, nobody could ever open.
            Self::Overlay(_) => Ok(()),
        }
    }

    pub(super) fn discard(&mut self, at: u64, bytes: u64) -> io::Result<()> {
        match self {
            Self::Plain(disk) => disk::discard(disk.file(), at, bytes),
            Self::Overlay(overlay) => overlay.write_zeroes(at, bytes),
        }
    }

    pub(super) fn write_zeroes(&mut self, at: u64, bytes: u64, may_unmap: bool) -> io::Result<()> {
        match self {
            Self::Plain(disk) => disk::zero(disk.file(), at, bytes, may_unmap),
            Self::Overlay(overlay) => overlay.write_zeroes(at, bytes),
        }
    }

    /// The file on which one operation does all of it, if there is one.
    pub(super) fn alone(&self, transfer: Transfer, at: u64, bytes: &Range<u32>) -> Option<&Arc<File>> {
        match (self, transfer) {
            (Self::Plain(disk), _) => Some(disk.file()),
            (Self::Overlay(overlay), Transfer::Read) => overlay.readable_at_once(at, bytes.len() as u64),
            (Self::Overlay(overlay), Transfer::Write) => Some(overlay.own()),
            (Self::Overlay(_), Transfer::Sync) => None,
        }
    }

    /// A write on the file of [`Self::alone`] has come back, whole.
    pub(super) fn written(&mut self, at: u64, bytes: u64) {
        if let Self::Overlay(overlay) = self {
            overlay.written(at, bytes);
        }
    }
}
