//! An image that gains a part: another directory with the same files and the new one, exchanged with the old.
//!
//! Whoever has the old one open, or its memory mapped, keeps it: its files have other names now and go on. Whoever opens
//! the image by its name finds the old one or the new one, and never none.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::Path;

use rustix::fs::{FlockOperation, Mode, OFlags, RenameFlags};
use rustix::fs::{flock, openat, renameat_with};
use rustix::io::Errno;

use super::{Error, ImageDir, ImageWriter};

/// Gives `image` the part `name` with `bytes`, in place of one of that name if it has one. Takes no more room than the
/// part; the others are the same files as before.
///
/// # Errors
/// Except for [`Error::SyncParent`], after which the part is there and may be gone after a power failure, an error
/// means that the image is as it was: it was replaced since `image` was opened, another process is replacing it, the
/// file system cannot exchange directories, or the part cannot be written.
pub fn replace_part(image: &ImageDir, name: &str, bytes: &[u8]) -> Result<(), Error> {
    // A link to an image stays one: it is the directory itself that is exchanged.
    let path = fs::canonicalize(image.path())
        .map_err(|source| Error::Open { path: image.path().to_owned(), source })?;
    let mut writer = ImageWriter::beside(&path)?;
    let old = lock(&writer, image)?;
    let mut part = writer.part(name)?;
    part.write_all(bytes).map_err(|source| Error::Write {
        path: path.clone(),
        part: name.to_owned(),
        source,
    })?;
    for other in image.part_names()? {
        if other != name {
            writer.take_over(image, &other)?;
        }
    }
    keep_access(&writer, &old, &path)?;
    writer.flush()?;
    exchange(&mut writer, &path, image)?;
    let synced = writer.sync_parent();
    if synced.is_ok() {
        // What is in the way of that is in nobody's: once the lock is gone, the next writer of this name sweeps.
        let _ = fs::remove_dir_all(writer.parent.join(&writer.temporary));
    }
    drop(old);
    synced
}

/// Who could read the image can read it still.
fn keep_access(writer: &ImageWriter, old: &File, path: &Path) -> Result<(), Error> {
    let failed = |source| Error::Write { path: path.to_owned(), part: ".".to_owned(), source };
    let about = old.metadata().map_err(failed)?;
    // Not ours to give away: then it is ours, as any image that we write.
    let _ = fchown(&writer.dir, Some(about.uid()), Some(about.gid()));
    writer.dir.set_permissions(about.permissions()).map_err(failed)
}

/// Locks what has the image's name now, if it is `image`. Two that replace the same image cannot both have the lock, and
/// when the first is done the name is another directory's.
fn lock(writer: &ImageWriter, image: &ImageDir) -> Result<File, Error> {
    let path = || image.path().to_owned();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let old = openat(&writer.parent_dir, &writer.name, flags, Mode::empty());
    let old = old.map(File::from).map_err(|errno| Error::Open { path: path(), source: errno.into() })?;
    if !same(&old, image) {
        return Err(Error::Replaced { path: path() });
    }
    match flock(&old, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => return Err(Error::Busy { path: path() }),
        // Without locks, the check after the exchange is all there is.
        Ok(()) | Err(Errno::NOLCK | Errno::OPNOTSUPP | Errno::NOSYS) => {}
        Err(errno) => return Err(Error::Open { path: path(), source: errno.into() }),
    }
    // Somebody may have been through with it between the two calls.
    let now = openat(&writer.parent_dir, &writer.name, flags, Mode::empty()).map(File::from);
    match now {
        Ok(now) if same(&now, image) => Ok(old),
        _ => Err(Error::Replaced { path: path() }),
    }
}

fn same(dir: &File, image: &ImageDir) -> bool {
    let (Ok(dir), Ok(image)) = (dir.metadata(), image.dir().metadata()) else { return false };
    (dir.dev(), dir.ino()) == (image.dev(), image.ino())
}

/// Gives the new directory the image's name and the old one the temporary one, in one step.
pub(super) fn exchange(writer: &mut ImageWriter, path: &Path, image: &ImageDir) -> Result<(), Error> {
    let parent = &writer.parent_dir;
    let swap = || renameat_with(parent, &writer.temporary, parent, &writer.name, RenameFlags::EXCHANGE);
    match swap() {
        Ok(()) => {}
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::XDEV) => {
            return Err(Error::NoExchange { path: path.to_owned() });
        }
        Err(Errno::NOENT) => return Err(Error::Replaced { path: path.to_owned() }),
        Err(errno) => return Err(Error::Rename { path: path.to_owned(), source: errno.into() }),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let went = openat(parent, &writer.temporary, flags, Mode::empty()).map(File::from);
    if went.is_ok_and(|went| same(&went, image)) {
        writer.committed = true;
        return Ok(());
    }
    // Somebody who takes no locks has put something else there, which must not be removed: back with it. If that fails,
    // neither may be.
    let back = swap();
    writer.committed = back.is_err();
    Err(Error::Replaced { path: path.to_owned() })
}
