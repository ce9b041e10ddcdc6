//! The file that lists what is served (`--images-from`): read without waiting for anybody, and not beyond a bound.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, open};

use super::catalogue::Place;

#[cfg(test)]
#[path = "list_test.rs"]
mod list_test;

/// The longest list, in bytes: some ten thousand images.
const LONGEST: u64 = 1 << 20;

/// Why there is no list.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The system does not give it.
    #[error("cannot read the list `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// It could keep the server waiting, or change as it is read.
    #[error("the list `{}` is no regular file", path.display())]
    NotAFile {
        /// What is there.
        path: PathBuf,
    },
    /// It goes on and on.
    #[error("the list `{}` is longer than {LONGEST} bytes", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
    },
}

/// A line of a list.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entry {
    Image(PathBuf),
    Place(Place),
}

/// What the list at `path` says.
pub(super) fn read(path: &Path) -> Result<Vec<Entry>, Error> {
    let fail = |source: io::Error| Error::Read { path: path.to_owned(), source };
    // A FIFO would be waited for until it has a writer (fifo(7)), and meanwhile no signal would be looked at.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(open(path, flags, Mode::empty()).map_err(|errno| fail(errno.into()))?);
    if !file.metadata().map_err(fail)?.is_file() {
        return Err(Error::NotAFile { path: path.to_owned() });
    }
    let mut text = Vec::new();
    file.take(LONGEST + 1).read_to_end(&mut text).map_err(fail)?;
    if text.len() as u64 > LONGEST {
        return Err(Error::TooLong { path: path.to_owned() });
    }
    Ok(text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter_map(entry).collect())
}

/// What a line says; nothing if it is empty, or a remark.
fn entry(line: &[u8]) -> Option<Entry> {
    if line.is_empty() || line.starts_with(b"#") {
        return None;
    }
    let path = |bytes: &[u8]| PathBuf::from(std::ffi::OsStr::from_bytes(bytes));
    match line.iter().position(|byte| *byte == b'=') {
        Some(at) => {
            Some(Entry::Place(Place { socket: path(&line[..at]), image: Some(path(&line[at + 1..])) }))
        }
        None => Some(Entry::Image(path(line))),
    }
}
