//! Opening a committed image, for reading only.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, statat};
use rustix::io::Errno;

use super::temporary::is_temporary;
use super::write::is_part_name;
use super::{Error, MEMORY, MEMORY_PACK, STATE, WORKING_SET};
use crate::header::MAX_STATE_BYTES;
use crate::pages::PageCount;
use crate::working_set::{self, WorkingSet};

/// A committed image: its `state` as bytes, its `memory` as an open file if it has one.
///
/// Parts are opened relative to the directory that was opened first, so a rename of the image in between cannot mix
/// two of them.
#[derive(Debug)]
pub struct ImageDir {
    path: PathBuf,
    dir: File,
    state: Vec<u8>,
    memory: Option<(File, u64)>,
}

/// How often an image is opened again that was replaced in the middle of it. Somebody who adds parts that fast has
/// something else in mind.
const ATTEMPTS: usize = 8;

impl ImageDir {
    /// Opens the image at `path`, which may be a link to the directory; its parts may not be links.
    ///
    /// Reads all of `state`, at most 64 MiB, and nothing of `memory`, which may be elsewhere or packed: who needs it
    /// asks for it with [`memory`](Self::memory).
    pub fn open(path: &Path) -> Result<Self, Error> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut attempt = 1;
        loop {
            let dir = match openat(CWD, path, flags, Mode::empty()) {
                Ok(dir) => File::from(dir),
                Err(Errno::NOTDIR) => {
                    return Err(Error::NotAnImage { path: path.to_owned(), why: "it is not a directory" });
                }
                Err(errno) => return Err(Error::Open { path: path.to_owned(), source: errno.into() }),
            };
            // A new commit takes the old directory's parts away while they are being opened.
            match Self::from_dir(dir, path) {
                Err(Error::Replaced { .. }) if attempt < ATTEMPTS => attempt += 1,
                opened => return opened,
            }
        }
    }

    fn from_dir(dir: File, path: &Path) -> Result<Self, Error> {
        let Some((file, len)) = open_part(&dir, path, STATE)? else {
            return Err(Error::NotAnImage { path: path.to_owned(), why: "it has no file `state`" });
        };
        let too_large = || Error::StateTooLarge { path: path.join(STATE) };
        let failed = |source| Error::Read { path: path.join(STATE), source };
        let state = read_bounded(&file, len, MAX_STATE_BYTES).map_err(failed)?.ok_or_else(too_large)?;
        let memory = open_part(&dir, path, MEMORY)?;
        Ok(Self { path: path.to_owned(), dir, state, memory })
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
    ///
    /// # Errors
    /// The image has none, or has it packed.
    pub fn memory(&self) -> Result<&File, Error> {
        Ok(&self.memory_part()?.0)
    }

    /// Length of `memory` in bytes when it was opened, for [`crate::MemoryIndex::check_len`].
    ///
    /// # Errors
    /// As [`memory`](Self::memory).
    pub fn memory_len(&self) -> Result<u64, Error> {
        Ok(self.memory_part()?.1)
    }

    fn memory_part(&self) -> Result<&(File, u64), Error> {
        if let Some(memory) = &self.memory {
            return Ok(memory);
        }
        let path = self.path.clone();
        Err(match self.part(MEMORY_PACK)? {
            Some(_) => Error::Packed { path },
            None => Error::MissingPart { path, part: MEMORY.to_owned() },
        })
    }

    /// Whether the image has a file `memory`.
    pub fn has_memory(&self) -> bool {
        self.memory.is_some()
    }

    /// Another part of the image, open for reading; `None` if the image does not have it.
    pub fn part(&self, name: &str) -> Result<Option<File>, Error> {
        if !is_part_name(name) {
            return Err(Error::BadPart { name: name.to_owned() });
        }
        Ok(open_part(&self.dir, &self.path, name)?.map(|(file, _)| file))
    }

    /// The names of all parts that are there, sorted, those that this build does not know included.
    pub fn part_names(&self) -> Result<Vec<String>, Error> {
        let failed = |errno: Errno| Error::Read { path: self.path.clone(), source: errno.into() };
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_str().ok().filter(|name| is_part_name(name));
            let Some(name) = name else { continue };
            if entry.file_type() == FileType::RegularFile || self.is_regular(name).map_err(failed)? {
                names.push(name.to_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    /// What lies in the directory and is no part of an image, sorted: other directories, links, sockets, files with names
    /// that no part has. It is nobody's business but its owner's, and goes nowhere with the image.
    pub fn others(&self) -> Result<Vec<OsString>, Error> {
        let failed = |errno: Errno| Error::Read { path: self.path.clone(), source: errno.into() };
        let mut others = Vec::new();
        for entry in Dir::read_from(&self.dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            let part = name.to_str().filter(|name| is_part_name(name));
            let is_part = part.map_or(Ok(false), |name| self.is_regular(name)).map_err(failed)?;
            if !is_part && name != "." && name != ".." && !is_temporary(name, None) {
                others.push(name.to_owned());
            }
        }
        others.sort();
        Ok(others)
    }

    /// For file systems that do not say so when they list a directory.
    fn is_regular(&self, name: &str) -> Result<bool, Errno> {
        match statat(&self.dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(about) => Ok(FileType::from_raw_mode(about.st_mode) == FileType::RegularFile),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    /// The part `working-set`, of an image that its manifest calls `image_id`; `None` if the image has none.
    ///
    /// # Errors
    /// It is damaged, of a later version or of another image. The image is none the worse for it.
    pub fn working_set(
        &self,
        image_id: [u8; 16],
        file_pages: PageCount,
    ) -> Result<Option<WorkingSet>, working_set::Error> {
        let part = open_part(&self.dir, &self.path, WORKING_SET).map_err(working_set::Error::Part)?;
        let Some((file, len)) = part else { return Ok(None) };
        let bytes = read_bounded(&file, len, working_set::MAX_BYTES).map_err(working_set::Error::Read)?;
        let bytes = bytes.ok_or(working_set::Error::TooLarge)?;
        WorkingSet::parse(&bytes, image_id, file_pages).map(Some)
    }

    /// The open directory.
    pub(super) fn dir(&self) -> &File {
        &self.dir
    }
}

/// Opens a part, without following a link and without waiting for a pipe's writer, and returns its length.
pub(super) fn open_part(dir: &File, image: &Path, name: &str) -> Result<Option<(File, u64)>, Error> {
    let path = || image.join(name);
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match openat(dir, name, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT) if was_replaced(dir, image) => {
            return Err(Error::Replaced { path: image.to_owned() });
        }
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

/// Whether the path names another directory by now, and the one that was opened is being removed. If it names nothing
/// any more, nobody has replaced it.
fn was_replaced(dir: &File, image: &Path) -> bool {
    let (Ok(opened), Ok(now)) = (dir.metadata(), std::fs::metadata(image)) else { return false };
    (opened.dev(), opened.ino()) != (now.dev(), now.ino())
}

/// Reads a file whole; `None` if it is longer than `max`. The bound holds even if the file grows while it is read.
fn read_bounded(file: &File, len: u64, max: u64) -> io::Result<Option<Vec<u8>>> {
    if len > max {
        return Ok(None);
    }
    // One byte more than expected, so that the read that finds the end needs no larger buffer.
    let mut bytes = Vec::with_capacity(len as usize + 1);
    file.take(max + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= max).then_some(bytes))
}
