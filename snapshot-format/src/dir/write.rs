//! Writing an image: everything into a directory beside the target, which then gets its name in one step.
//!
//! The steps of a commit, each of which must be on disk before the next:
//! - files before the directory that names them, because a name without its bytes would be a half image;
//! - the directory before the rename, because the rename makes it visible;
//! - the parent last, because only then does the name survive a power failure.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::fs::{flock, linkat, mkdirat, openat, renameat, renameat_with, statat};
use rustix::io::Errno;

use super::open::open_part;
use super::temporary;
use super::{Error, ImageDir, MEMORY, STATE};
use crate::header::MAGIC;
use crate::pages::next_extent;

/// An image that is being written. Dropped without [`commit`](Self::commit), it leaves nothing behind.
#[derive(Debug)]
pub struct ImageWriter {
    target: PathBuf,
    parent: PathBuf,
    /// `parent`, open: it stays the same directory if somebody renames it meanwhile.
    parent_dir: File,
    /// The last component of `target`.
    name: OsString,
    /// Name of the temporary directory in `parent`.
    temporary: OsString,
    /// The temporary directory, open and locked: the lock tells [`super::sweep_stale`] that its owner lives.
    dir: File,
    /// The parts that were handed out, to be flushed at the commit.
    parts: Vec<(String, File)>,
    committed: bool,
}

impl ImageWriter {
    /// Makes the temporary directory `.NAME.tmp-PID-RANDOM` with mode 0700 beside `out`, and removes what a killed
    /// writer of the same name has left there; what others have left is removed when this is dropped, when nobody waits.
    ///
    /// # Errors
    /// `out` exists, be it a dangling link, or is to lie in an image, or its parent cannot be written to.
    pub fn create(out: &Path) -> Result<Self, Error> {
        let target = out.to_owned();
        let (parent, name) = split(out)?;
        let failed = |errno: Errno| Error::Create { path: target.clone(), source: errno.into() };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let parent_dir = File::from(openat(CWD, &parent, flags, Mode::empty()).map_err(failed)?);
        if exists(&parent_dir, &name).map_err(failed)? {
            return Err(Error::Exists { path: target });
        }
        if is_image(&parent_dir, &parent) {
            return Err(Error::WithinImage { path: target });
        }
        // What cannot be swept is in nobody's way: its name is another one.
        let _ = temporary::sweep(&parent, Some(&name));
        let (temporary, dir) = make_temporary(&parent_dir, &name).map_err(failed)?;
        Ok(Self { target, parent, parent_dir, name, temporary, dir, parts: Vec::new(), committed: false })
    }

    /// Creates `memory`, open for reading and writing.
    pub fn memory(&mut self) -> Result<File, Error> {
        self.part(MEMORY)
    }

    /// Creates another part, open for reading and writing.
    ///
    /// # Errors
    /// The name is `state`, is not plain, or was created before.
    pub fn part(&mut self, name: &str) -> Result<File, Error> {
        self.check_name(name)?;
        let file = self.create_part(name)?;
        let kept = file.try_clone().map_err(|source| self.write_error(name, source))?;
        self.parts.push((name.to_owned(), kept));
        Ok(file)
    }

    /// Takes a part over from `from`, without copying it where that is possible: as another name of the same file, for
    /// committed images are never modified. Where the file system cannot, or will not let us (another file system, a
    /// file of somebody else's), it is copied, holes and all.
    ///
    /// # Errors
    /// As [`part`](Self::part); or `from` has no such part, or it cannot be read or copied.
    pub fn share(&mut self, from: &ImageDir, name: &str) -> Result<(), Error> {
        self.check_name(name)?;
        let missing = || Error::MissingPart { path: from.path().to_owned(), part: name.to_owned() };
        // Not a link, nor anything else that could be linked by its name and is no part.
        let source = from.part(name)?.ok_or_else(missing)?;
        match linkat(from.dir(), name, &self.dir, name, AtFlags::empty()) {
            Ok(()) => {
                let linked = openat(
                    &self.dir,
                    name,
                    OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                    Mode::empty(),
                );
                let linked = linked.map(File::from).map_err(|errno| self.write_error(name, errno.into()))?;
                self.parts.push((name.to_owned(), linked));
                Ok(())
            }
            Err(Errno::NOENT) => Err(missing()),
            Err(
                Errno::XDEV | Errno::PERM | Errno::ACCESS | Errno::MLINK | Errno::OPNOTSUPP | Errno::NOSYS,
            ) => {
                let copy = self.create_part(name)?;
                copy_sparse(&source, &copy).map_err(|source| self.write_error(name, source))?;
                self.parts.push((name.to_owned(), copy));
                Ok(())
            }
            Err(errno) => Err(self.write_error(name, errno.into())),
        }
    }

    /// Writes `state`, flushes everything to disk and gives the image its name, unless something has it by now.
    ///
    /// # Errors
    /// Except for [`Error::SyncParent`] an error means that there is no image and the temporary directory is gone.
    pub fn commit(mut self, state: &[u8]) -> Result<(), Error> {
        self.write_state(state)?;
        self.flush()?;
        self.rename()?;
        self.committed = true;
        self.sync_parent()
    }

    fn write_state(&mut self, state: &[u8]) -> Result<(), Error> {
        let mut file = self.create_part(STATE)?;
        file.write_all(state).map_err(|source| self.write_error(STATE, source))?;
        self.parts.push((STATE.to_owned(), file));
        Ok(())
    }

    /// Sees to it that everything is on disk: what is lacking then is the name.
    fn flush(&self) -> Result<(), Error> {
        for (name, part) in &self.parts {
            part.sync_all().map_err(|source| self.write_error(name, source))?;
        }
        self.dir.sync_all().map_err(|source| self.write_error(".", source))
    }

    fn sync_parent(&self) -> Result<(), Error> {
        self.parent_dir.sync_all().map_err(|source| Error::SyncParent { path: self.target.clone(), source })
    }

    /// Whether a part of that name can still be made.
    fn check_name(&self, name: &str) -> Result<(), Error> {
        let taken = name == STATE || self.parts.iter().any(|(part, _)| part == name);
        if taken || !is_part_name(name) {
            return Err(Error::BadPart { name: name.to_owned() });
        }
        Ok(())
    }

    fn create_part(&self, name: &str) -> Result<File, Error> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&self.dir, name, flags, Mode::RUSR | Mode::WUSR);
        file.map(File::from).map_err(|errno| self.write_error(name, errno.into()))
    }

    /// Renames the temporary directory without replacing anything.
    fn rename(&self) -> Result<(), Error> {
        let (from, to) = (&self.temporary, &self.name);
        let renamed = renameat_with(&self.parent_dir, from, &self.parent_dir, to, RenameFlags::NOREPLACE);
        let renamed = match renamed {
            // The file system has no such flag (9p and NFS have not).
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => self.rename_checked(),
            renamed => renamed,
        };
        renamed.map_err(|errno| match errno {
            Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR => Error::Exists { path: self.target.clone() },
            errno => Error::Rename { path: self.target.clone(), source: errno.into() },
        })
    }

    /// What appears between the check and the rename can be replaced only if it is an empty directory: rename(2)
    /// refuses everything else.
    pub(super) fn rename_checked(&self) -> Result<(), Errno> {
        if exists(&self.parent_dir, &self.name)? {
            return Err(Errno::EXIST);
        }
        renameat(&self.parent_dir, &self.temporary, &self.parent_dir, &self.name)
    }

    fn write_error(&self, part: &str, source: io::Error) -> Error {
        Error::Write { path: self.target.clone(), part: part.to_owned(), source }
    }
}

impl Drop for ImageWriter {
    fn drop(&mut self) {
        if !self.committed {
            // Nothing can be done about a failure here; the next writer sweeps.
            temporary::remove(&self.dir, &self.parent.join(&self.temporary));
        }
        let _ = temporary::sweep(&self.parent, None);
    }
}

/// Copies the data of `source` to `copy`, an empty file, and leaves its holes. Leaves the offset of `source` anywhere.
fn copy_sparse(source: &File, copy: &File) -> io::Result<()> {
    const PIECE: usize = 1 << 20;
    let len = source.metadata()?.len();
    copy.set_len(len)?;
    let mut buffer = vec![0; PIECE];
    let mut at = 0;
    while let Some(extent) = next_extent(source, at, len).map_err(io::Error::other)? {
        at = extent.start;
        while at < extent.end {
            let piece = &mut buffer[..((extent.end - at) as usize).min(PIECE)];
            source.read_exact_at(piece, at)?;
            copy.write_all_at(piece, at)?;
            at += piece.len() as u64;
        }
    }
    Ok(())
}

/// Makes a directory of a new name and locks it.
fn make_temporary(parent: &File, name: &OsStr) -> Result<(OsString, File), Errno> {
    const ATTEMPTS: usize = 16;
    for _ in 0..ATTEMPTS {
        let temporary = temporary::name(name);
        match mkdirat(parent, &temporary, Mode::RWXU) {
            Err(Errno::EXIST) => continue,
            made => made?,
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = match openat(parent, &temporary, flags, Mode::empty()) {
            // Somebody swept it before it was locked.
            Err(Errno::NOENT) => continue,
            dir => File::from(dir?),
        };
        match flock(&dir, FlockOperation::NonBlockingLockExclusive) {
            // Somebody is sweeping it right now.
            Err(Errno::WOULDBLOCK) => continue,
            // Without locks nobody can sweep either.
            Err(Errno::NOLCK | Errno::OPNOTSUPP | Errno::NOSYS) => return Ok((temporary, dir)),
            locked => locked?,
        }
        // Somebody may have swept it between the two calls; now that it is locked, nobody can.
        if dir.metadata().is_ok_and(|metadata| metadata.nlink() > 0) && exists(parent, &temporary)? {
            return Ok((temporary, dir));
        }
    }
    Err(Errno::EXIST)
}

/// Whether `name` can be a part of an image: plain, and no path.
pub(super) fn is_part_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    !name.is_empty() && name.len() <= 255 && !name.starts_with('.') && name.chars().all(allowed)
}

/// The directory that `out` lies in, and its name there.
fn split(out: &Path) -> Result<(PathBuf, OsString), Error> {
    let (Some(parent), Some(name)) = (out.parent(), out.file_name()) else {
        return Err(Error::BadTarget { path: out.to_owned() });
    };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    Ok((parent.to_owned(), name.to_owned()))
}

/// Whether the directory is an image's: then a directory in it would be neither the image's nor carried along with it.
fn is_image(dir: &File, path: &Path) -> bool {
    let Ok(Some((state, _))) = open_part(dir, path, STATE) else { return false };
    let mut magic = [0; MAGIC.len()];
    state.read_exact_at(&mut magic, 0).is_ok() && magic == MAGIC
}

fn exists(parent: &File, name: &OsStr) -> Result<bool, Errno> {
    match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno),
    }
}
