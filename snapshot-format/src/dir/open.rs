//! Opening a committed image, for reading only.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

use super::{Error, MEMORY, STATE};
use crate::header::MAX_STATE_BYTES;

/// A committed image: its `state` as bytes, its `memory` as an open file.
///
/// Parts are opened relative to the directory that was opened first, so a rename of the image in between cannot mix
/// two of them.
#[derive(Debug)]
pub struct ImageDir {
    path: PathBuf,
    dir: File,
    state: Vec<u8>,
    memory: File,
    memory_len: u64,
}

impl ImageDir {
    /// Opens the image at `path`, which may be a link to the directory; its parts may not be links.
    ///
    /// Reads all of `state`, at most 64 MiB, and nothing of `memory`.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = match openat(CWD, path, flags, Mode::empty()) {
            Ok(dir) => File::from(dir),
            Err(Errno::NOTDIR) => {
                return Err(Error::NotAnImage { path: path.to_owned(), why: "it is not a directory" });
            }
            Err(errno) => return Err(Error::Open { path: path.to_owned(), source: errno.into() }),
        };
        let Some((file, len)) = open_part(&dir, path, STATE)? else {
            return Err(Error::NotAnImage { path: path.to_owned(), why: "it has no file `state`" });
        };
        let state = read_state(&file, len, path)?;
        let Some((memory, memory_len)) = open_part(&dir, path, MEMORY)? else {
            return Err(Error::MissingPart { path: path.to_owned(), part: MEMORY.to_owned() });
        };
        Ok(Self { path: path.to_owned(), dir, state, memory, memory_len })
    }

    /// The path as it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The bytes of `state`, for [`crate::StateReader::parse`].
    pub fn state(&self) -> &[u8] {
        &self.state
    }

    /// The file `memory`, open for reading.
    pub fn memory(&self) -> &File {
        &self.memory
    }

    /// Length of `memory` in bytes when it was opened, for [`crate::MemoryIndex::check_len`].
    pub fn memory_len(&self) -> u64 {
        self.memory_len
    }

    /// Another part of the image, open for reading; `None` if the image does not have it.
    pub fn part(&self, name: &str) -> Result<Option<File>, Error> {
        if !super::write::is_part_name(name) {
            return Err(Error::BadPart { name: name.to_owned() });
        }
        Ok(open_part(&self.dir, &self.path, name)?.map(|(file, _)| file))
    }
}

/// Opens a part, without following a link and without waiting for a pipe's writer, and returns its length.
fn open_part(dir: &File, image: &Path, name: &str) -> Result<Option<(File, u64)>, Error> {
    let path = || image.join(name);
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match openat(dir, name, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT) => return Ok(None),
        // A link; a socket, or a device without a driver.
        Err(Errno::LOOP | Errno::NXIO | Errno::NODEV) => return Err(Error::NotRegular { path: path() }),
        Err(errno) => return Err(Error::Read { path: path(), source: errno.into() }),
    };
    let metadata = file.metadata().map_err(|source| Error::Read { path: path(), source })?;
    if !metadata.is_file() {
        return Err(Error::NotRegular { path: path() });
    }
    Ok(Some((file, metadata.len())))
}

/// Reads `state` whole. The bound holds even if the file grows while it is read.
fn read_state(file: &File, len: u64, image: &Path) -> Result<Vec<u8>, Error> {
    let too_large = || Error::StateTooLarge { path: image.join(STATE) };
    if len > MAX_STATE_BYTES {
        return Err(too_large());
    }
    // One byte more than expected, so that the read that finds the end needs no larger buffer.
    let mut state = Vec::with_capacity(len as usize + 1);
    let read = file.take(MAX_STATE_BYTES + 1).read_to_end(&mut state);
    read.map_err(|source| Error::Read { path: image.join(STATE), source })?;
    if state.len() as u64 > MAX_STATE_BYTES { Err(too_large()) } else { Ok(state) }
}
