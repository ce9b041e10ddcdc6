//! What lies behind a disk on the host: a regular file or a block device, opened, locked and measured.
//!
//! Knows sectors and bytes, and nothing of requests.

use std::fs::{File, FileType, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;
use vm_memory::VolatileSlice;

use super::{format, lock};
use crate::sys::vectored;

/// The unit of a disk: 512 bytes, whatever the host's disk has (virtio 1.2, 5.2.4).
pub const SECTOR: u64 = 512;

/// Zeroes, where the file system has no quicker way to make some.
static ZEROES: [u8; 64 << 10] = [0; 64 << 10];

/// Why a disk cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name is none that a disk can have.
    #[error("disk id `{id}` is not 1 to 20 of a-z A-Z 0-9 - _ .")]
    Id {
        /// What was given.
        id: String,
    },
    /// It cannot be opened.
    #[error("cannot open disk `{}`", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system answered.
        #[source]
        source: io::Error,
    },
    /// It is a directory, a pipe or something else that has no sectors.
    #[error("disk `{}` is neither a regular file nor a block device", path.display())]
    Kind {
        /// The file.
        path: PathBuf,
    },
    /// It has no sectors, or part of one.
    #[error("disk `{}` has {len} bytes, which is no whole number of 512-byte sectors, or none", path.display())]
    Length {
        /// The file.
        path: PathBuf,
        /// Its length in bytes.
        len: u64,
    },
    /// It looks like a disk image of another kind.
    #[error("disk `{}` begins as a {format} file does, whose bytes are not the disk's", path.display())]
    Container {
        /// The file.
        path: PathBuf,
        /// The kind, as `qemu-img` calls it.
        format: &'static str,
    },
    /// Somebody else writes to it, or reads what we would write to.
    #[error("disk `{}` is in use by another VM or program", path.display())]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// It is not as long as when the image was taken.
    #[error("disk `{}` has {len} bytes, it had {saved} when the image was taken", path.display())]
    Resized {
        /// The file.
        path: PathBuf,
        /// Its length in bytes.
        len: u64,
        /// Its length in the image.
        saved: u64,
    },
    /// It was written to since the image was taken, so the guest's memory and its disk do not belong together.
    #[error("disk `{}` was modified since the image was taken", path.display())]
    Modified {
        /// The file.
        path: PathBuf,
    },
    /// It is a block device, which does not tell when it was modified.
    #[error("nothing tells whether block device `{}` was modified since the image was taken; say that it is right by \
        naming it again", path.display())]
    Untold {
        /// The device.
        path: PathBuf,
    },
    /// The image records it, and nothing says that the image may have it.
    #[error("disk `{}` is recorded by the image alone", path.display())]
    Untrusted {
        /// The file.
        path: PathBuf,
    },
    /// On the way to it there is a link, or `..`, that leads out of the directory that is trusted.
    #[error("the way to disk `{}` leads out of `{}`", path.display(), root.display())]
    LeadsOut {
        /// The file.
        path: PathBuf,
        /// The directory.
        root: PathBuf,
    },
    /// There is no place for what the guest writes over a base.
    #[error("cannot keep what the guest writes in `{}`", directory.display())]
    Overlay {
        /// The directory.
        directory: PathBuf,
        /// What the system answered.
        #[source]
        source: io::Error,
    },
    /// The image says what no disk can be.
    #[error("the image's record of disk `{}` makes no sense", path.display())]
    Record {
        /// The file.
        path: PathBuf,
    },
}

/// A file or a block device that is a guest's disk. It is locked for as long as this lives: by one guest that may
/// write to it, or by any number that read it.
#[derive(Debug)]
pub struct Disk {
    path: PathBuf,
    file: Arc<File>,
    is_read_only: bool,
    /// Whether it is a regular file, which tells when it was modified.
    pub(super) is_file: bool,
    /// In bytes: a multiple of [`SECTOR`], not 0.
    len: u64,
}

impl Disk {
    /// Opens the disk at `path`.
    ///
    /// # Errors
    /// It does not exist, cannot be opened that way, is not made of sectors, or another process has it.
    pub fn open(path: &Path, read_only: bool) -> Result<Self, Error> {
        Self::open_if(path, read_only, |_| Ok(()))
    }

    /// The same, if `allowed` has nothing against what there is, which is asked before it is opened.
    pub(super) fn open_if(
        path: &Path,
        read_only: bool,
        allowed: impl FnOnce(FileType) -> Result<(), Error>,
    ) -> Result<Self, Error> {
        let failed = |source| Error::Open { path: path.to_owned(), source };
        // Looked at before it is opened: to open a pipe would wait for its other end.
        let kind = std::fs::metadata(path).map_err(failed)?.file_type();
        if !kind.is_file() && !kind.is_block_device() {
            return Err(Error::Kind { path: path.to_owned() });
        }
        allowed(kind)?;
        let mut options = OpenOptions::new();
        options.read(true).write(!read_only);
        if kind.is_block_device() && !read_only {
            // The kernel's own lock of block devices (`bd_prepare_to_claim`): against mounts, swap, md and dm.
            options.custom_flags(libc::O_EXCL);
        }
        let file = options.open(path).map_err(|e| match Errno::from_io_error(&e) {
            Some(Errno::BUSY) => Error::Busy { path: path.to_owned() },
            _ => failed(e),
        })?;
        Self::opened(file, kind, path, read_only)
    }

    /// The disk at `path`, which is open as `file` and of this kind.
    pub(super) fn opened(
        mut file: File,
        kind: FileType,
        path: &Path,
        read_only: bool,
    ) -> Result<Self, Error> {
        let failed = |source| Error::Open { path: path.to_owned(), source };
        let len = file.seek(SeekFrom::End(0)).map_err(failed)?;
        if len == 0 || !len.is_multiple_of(SECTOR) {
            return Err(Error::Length { path: path.to_owned(), len });
        }
        lock::lock(&file, path, read_only)?;
        let path = std::path::absolute(path).map_err(failed)?;
        Ok(Self { path, file: Arc::new(file), is_read_only: read_only, is_file: kind.is_file(), len })
    }

    /// This disk, if it does not begin as a container of another program does.
    ///
    /// # Errors
    /// It does, or cannot be read.
    pub fn unless_container(self) -> Result<Self, Error> {
        format::check_raw(&self.file, &self.path).map(|()| self)
    }

    /// Its absolute path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// In bytes: a multiple of [`SECTOR`], not 0.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "no disk is empty")]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether nobody may write to it.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.is_read_only
    }

    /// When the file was last modified, in nanoseconds since 1970; `None` for a block device, where that says nothing,
    /// and where the file system does not tell.
    #[must_use]
    pub fn modified_ns(&self) -> Option<i64> {
        let metadata = self.is_file.then(|| self.file.metadata().ok()).flatten()?;
        Some(metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec()))
    }

    /// The file, for whoever reads and writes it.
    pub(super) fn file(&self) -> &Arc<File> {
        &self.file
    }
}

pub(super) fn read(file: &File, to: &[VolatileSlice<'_>], at: u64) -> io::Result<()> {
    vectored::read_exact_at(file, to, at)
}

pub(super) fn write(file: &File, from: &[VolatileSlice<'_>], at: u64) -> io::Result<()> {
    vectored::write_all_at(file, from, at)
}

pub(super) fn flush(file: &File) -> io::Result<()> {
    file.sync_data()
}

/// Gives space back to the host, where the host can take it: the driver cares no more for what is there.
pub(super) fn discard(file: &File, at: u64, bytes: u64) -> io::Result<()> {
    match allocate(file, FallocateFlags::PUNCH_HOLE, at, bytes) {
        Err(e) if is_unsupported(e) => Ok(()),
        done => Ok(done?),
    }
}

/// Makes zeros, and gives their space back to the host if it `may_unmap`.
pub(super) fn zero(file: &File, at: u64, bytes: u64, may_unmap: bool) -> io::Result<()> {
    let way = if may_unmap { FallocateFlags::PUNCH_HOLE } else { FallocateFlags::ZERO_RANGE };
    match allocate(file, way, at, bytes) {
        Err(e) if is_unsupported(e) => {
            let mut done = 0;
            while done < bytes {
                let piece = &ZEROES[..ZEROES.len().min((bytes - done) as usize)];
                file.write_all_at(piece, at + done)?;
                done += piece.len() as u64;
            }
            Ok(())
        }
        done => Ok(done?),
    }
}

fn allocate(file: &File, how: FallocateFlags, at: u64, bytes: u64) -> Result<(), Errno> {
    if bytes == 0 {
        return Ok(());
    }
    fallocate(file, how | FallocateFlags::KEEP_SIZE, at, bytes)
}

fn is_unsupported(error: Errno) -> bool {
    [Errno::OPNOTSUPP, Errno::NOSYS, Errno::INVAL].contains(&error)
}
