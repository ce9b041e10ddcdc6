//! Disks that an image records, opened beneath directories that the user trusts, and nowhere else.
//!
//! The kernel resolves the path (`RESOLVE_BENEATH`, openat2(2)): neither `..` nor a link leads out of the directory, and
//! nothing that is renamed meanwhile changes that.

use std::fs::{File, FileType};
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, fcntl_setfl, openat, openat2};
use rustix::io::Errno;

use super::Error;

/// The first of `roots` that `path`, which is absolute, lies beneath by its name, and the rest of the path.
pub(crate) fn split<'path>(roots: &[PathBuf], path: &'path Path) -> Option<(PathBuf, &'path Path)> {
    let rest = |root: io::Result<PathBuf>| {
        let root = root.ok()?;
        let rest = path.strip_prefix(&root).ok().filter(|rest| !rest.as_os_str().is_empty())?;
        Some((root, rest))
    };
    // As the user has written it, or as it is without links: a path is recorded in either way.
    roots.iter().find_map(|root| rest(std::path::absolute(root)).or_else(|| rest(root.canonicalize())))
}

/// Opens the regular file `path` and gives its kind. Anything else is looked at and not opened.
pub(super) fn open(roots: &[PathBuf], path: &Path, read_only: bool) -> Result<(File, FileType), Error> {
    let (root, rest) = split(roots, path).ok_or_else(|| Error::Untrusted { path: path.to_owned() })?;
    let failed = |source: io::Error| Error::Open { path: path.to_owned(), source };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = openat(CWD, &root, flags, Mode::empty()).map_err(|e| failed(e.into()))?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let open = |flags| match openat2(&dir, rest, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
        // EAGAIN: something on the way was renamed, and the kernel cannot tell any more whether it leads out.
        Err(Errno::XDEV | Errno::LOOP | Errno::AGAIN) => {
            Err(Error::LeadsOut { path: path.to_owned(), root: root.clone() })
        }
        opened => opened.map(File::from).map_err(|e| failed(e.into())),
    };
    let kind = |file: &File| {
        let kind = file.metadata().map_err(failed)?.file_type();
        match kind.is_file() {
            true => Ok(kind),
            false if kind.is_block_device() => Err(Error::Untold { path: path.to_owned() }),
            false => Err(Error::Kind { path: path.to_owned() }),
        }
    };
    kind(&open(OFlags::PATH)?)?;
    // A pipe that is there by now must not be waited for.
    let access = if read_only { OFlags::RDONLY } else { OFlags::RDWR };
    let file = open(access | OFlags::NONBLOCK | OFlags::NOCTTY)?;
    let kind = kind(&file)?;
    // io_uring takes the flag for a wish not to wait for a device.
    fcntl_setfl(&file, OFlags::empty()).map_err(|e| failed(e.into()))?;
    Ok((file, kind))
}
