//! An image that gains a part: a file that is given its name within the image's directory in one step.
//!
//! No other name in the directory is touched, whatever else lies there, and nothing is copied. Readers find the old part
//! or the new one, and never half of one.

use std::fs::{File, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FlockOperation, Mode, OFlags};
use rustix::fs::{flock, openat, renameat, unlinkat};
use rustix::io::Errno;

use super::open::open_part;
use super::temporary::{self, is_temporary};
use super::write::is_part_name;
use super::{Error, ImageDir, MEMORY, MEMORY_PACK, STATE};

/// Gives `image` the part `name` with `bytes`, in place of one of that name if it has one. It has the owner, the group
/// and the permissions of `state` as far as that is ours to give.
///
/// # Errors
/// Except for [`Error::SyncParent`], after which the part is there and may be gone after a power failure, an error
/// means that the image is as it was: it was removed since `image` was opened, or the part cannot be written.
pub fn replace_part(image: &ImageDir, name: &str, bytes: &[u8]) -> Result<(), Error> {
    let part = NewPart::create(image, name)?;
    let failed = |source| write_error(image, name, source);
    (&part.file).write_all(bytes).map_err(failed)?;
    keep_access(image, &part.file).map_err(failed)?;
    part.file.sync_all().map_err(failed)?;
    part.rename()?;
    let synced = image.dir().sync_all();
    synced.map_err(|source| Error::SyncParent { path: image.path().to_owned(), source })
}

/// Whether [`replace_part`] can write to the image: nobody wants to learn that only when there is something to write.
///
/// # Errors
/// As [`replace_part`], but for a disk that is full by then.
pub fn check_replaceable(image: &ImageDir, name: &str) -> Result<(), Error> {
    NewPart::create(image, name).map(drop)
}

/// A part under a temporary name. Dropped without [`rename`](Self::rename), it is removed.
struct NewPart<'image> {
    image: &'image ImageDir,
    name: &'image str,
    temporary: String,
    /// Locked, which tells those who sweep that its writer lives.
    file: File,
    is_renamed: bool,
}

impl<'image> NewPart<'image> {
    fn create(image: &'image ImageDir, name: &'image str) -> Result<Self, Error> {
        if !is_part_name(name) || [STATE, MEMORY, MEMORY_PACK].contains(&name) {
            return Err(Error::BadPart { name: name.to_owned() });
        }
        // What cannot be swept is in nobody's way: its name is another one.
        let _ = sweep(image, name);
        let temporary = temporary::name(name.as_ref()).into_string().expect("names of parts are ASCII");
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file =
            openat(image.dir(), &temporary, flags, Mode::RUSR | Mode::WUSR).map_err(|errno| match errno {
                // In a directory that has been removed.
                Errno::NOENT => Error::Replaced { path: image.path().to_owned() },
                errno => write_error(image, name, errno.into()),
            })?;
        let part = Self { image, name, temporary, file: File::from(file), is_renamed: false };
        match flock(&part.file, FlockOperation::NonBlockingLockExclusive) {
            // Without locks nobody can sweep either; who sweeps right now makes the rename fail.
            Ok(()) | Err(Errno::NOLCK | Errno::OPNOTSUPP | Errno::NOSYS | Errno::WOULDBLOCK) => Ok(part),
            Err(errno) => Err(write_error(image, name, errno.into())),
        }
    }

    fn rename(mut self) -> Result<(), Error> {
        let dir = self.image.dir();
        renameat(dir, &self.temporary, dir, self.name)
            .map_err(|errno| write_error(self.image, self.name, errno.into()))?;
        self.is_renamed = true;
        Ok(())
    }
}

impl Drop for NewPart<'_> {
    fn drop(&mut self) {
        if !self.is_renamed {
            // Nothing can be done about a failure here; the next writer sweeps.
            let _ = unlinkat(self.image.dir(), &self.temporary, AtFlags::empty());
        }
    }
}

fn write_error(image: &ImageDir, part: &str, source: std::io::Error) -> Error {
    Error::Write { path: image.path().to_owned(), part: part.to_owned(), source }
}

/// Who could read the image can read its new part.
fn keep_access(image: &ImageDir, file: &File) -> std::io::Result<()> {
    let state = open_part(image.dir(), image.path(), STATE);
    let Ok(Some((state, _))) = state else { return Ok(()) };
    let about = state.metadata()?;
    // Not ours to give away: then it is ours, and its group's if we are in that.
    if fchown(file, Some(about.uid()), Some(about.gid())).is_err() {
        let _ = fchown(file, None, Some(about.gid()));
    }
    file.set_permissions(Permissions::from_mode(about.mode() & 0o666))
}

/// Removes what killed writers of this part have left.
fn sweep(image: &ImageDir, name: &str) -> Result<(), Errno> {
    for entry in Dir::read_from(image.dir())? {
        let entry = entry?;
        let Ok(found) = entry.file_name().to_str() else { continue };
        if !is_temporary(found.as_ref(), Some(name.as_ref())) {
            continue;
        }
        let Ok(Some((file, _))) = open_part(image.dir(), Path::new(""), found) else { continue };
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            unlinkat(image.dir(), found, AtFlags::empty())?;
        }
    }
    Ok(())
}
