//! Temporary names, and what killed writers have left under them.
//!
//! Nothing is ever removed that an image's writer cannot have made: files with the names of parts, and then the empty
//! directory.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::hash::{BuildHasher, Hasher};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, FlockOperation, Mode, OFlags};
use rustix::fs::{flock, openat, statat, unlinkat};
use rustix::io::Errno;

use super::{Error, MEMORY, MEMORY_PACK, STATE, WORKING_SET};
use crate::overlay;

/// The longest name of a file (`NAME_MAX`).
const LONGEST: usize = 255;
/// What is behind the name in the longest temporary name.
const SUFFIX: usize = ".tmp-4294967295-0123456789abcdef".len();

/// A name that nothing has: `.NAME.tmp-PID-RANDOM`, of a long NAME as much as fits.
pub(super) fn name(name: &OsStr) -> OsString {
    // The standard library seeds this hasher from the system's random numbers.
    let random = std::hash::RandomState::new().build_hasher().finish();
    let mut temporary = prefix(name);
    temporary.push(format!("{}-{random:016x}", std::process::id()));
    temporary
}

fn prefix(name: &OsStr) -> OsString {
    let bytes = name.as_bytes();
    let mut end = bytes.len().min(LONGEST - 1 - SUFFIX);
    // Some file systems take whole characters only.
    while end > 0 && end < bytes.len() && bytes[end] & 0xc0 == 0x80 {
        end -= 1;
    }
    OsString::from_vec([b".", &bytes[..end], b".tmp-"].concat())
}

/// Whether a file name is a temporary one: of `name`, or of any.
pub(super) fn is_temporary(file_name: &OsStr, name: Option<&OsStr>) -> bool {
    let bytes = file_name.as_bytes();
    let rest = match name {
        Some(name) => bytes.strip_prefix(prefix(name).as_bytes()),
        None => {
            let marks = bytes.windows(5).rposition(|part| part == b".tmp-").filter(|at| *at > 1);
            marks.filter(|_| bytes.starts_with(b".")).map(|at| &bytes[at + 5..])
        }
    };
    let Some((pid, random)) = rest.and_then(|rest| std::str::from_utf8(rest).ok()?.split_once('-')) else {
        return false;
    };
    let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    pid.parse::<u32>().is_ok() && random.len() == 16 && random.chars().all(hex)
}

/// Removes the temporary directories that killed writers have left in `parent`; says how many.
///
/// A directory is stale if its lock can be had, for the kernel drops a lock when its owner dies. The process id in the
/// name is for people: the id may have been given to another process since, or belong to another container.
///
/// # Errors
/// `parent` cannot be listed.
pub fn sweep_stale(parent: &Path) -> Result<usize, Error> {
    sweep(parent, None)
}

/// The same for those of writers of `name`, or of any.
pub(super) fn sweep(parent: &Path, name: Option<&OsStr>) -> Result<usize, Error> {
    let failed = |source| Error::Sweep { path: parent.to_owned(), source };
    let mut swept = 0;
    for entry in fs::read_dir(parent).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if is_temporary(&entry.file_name(), name) && remove_if_stale(&entry.path()) {
            swept += 1;
        }
    }
    Ok(swept)
}

/// Removes the directory unless its owner lives or it cannot be told.
fn remove_if_stale(path: &Path) -> bool {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let Ok(dir) = openat(CWD, path, flags, Mode::empty()).map(File::from) else { return false };
    flock(&dir, FlockOperation::NonBlockingLockExclusive).is_ok() && is_at(&dir, path) && remove(&dir, path)
}

/// Whether `path` still names the directory `dir`. Its writer may have committed it between the opening and the locking:
/// then the temporary name is gone, and what is open is an image. Call with the lock held: its writer is dead or done, so
/// the answer stays true.
pub(super) fn is_at(dir: &File, path: &Path) -> bool {
    match (dir.metadata(), fs::symlink_metadata(path)) {
        (Ok(open), Ok(there)) => (open.dev(), open.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

/// Removes the directory `dir`, whose path is `path`, and the parts in it. Where anything else lies in it, it is left as it
/// is.
pub(super) fn remove(dir: &File, path: &Path) -> bool {
    let Ok(names) = parts(dir) else { return false };
    let Some(names) = names else { return false };
    names.iter().all(|name| unlinkat(dir, name, AtFlags::empty()).is_ok()) && fs::remove_dir(path).is_ok()
}

/// The names of the files in `dir`; `None` if there is anything that no writer of ours puts there.
fn parts(dir: &File) -> Result<Option<Vec<String>>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().to_str() else { return Ok(None) };
        if [".", ".."].contains(&name) {
            continue;
        }
        let about = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let is_file = FileType::from_raw_mode(about.st_mode) == FileType::RegularFile;
        if !is_file || !is_known(name) {
            return Ok(None);
        }
        names.push(name.to_owned());
    }
    Ok(Some(names))
}

/// Whether a writer of ours makes files of this name. A later version may make others, and then sweeps them itself.
fn is_known(name: &str) -> bool {
    [STATE, MEMORY, MEMORY_PACK, WORKING_SET].contains(&name) || name.starts_with(&overlay::part_name(""))
}
