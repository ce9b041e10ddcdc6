//! A Unix socket that listens, and its file: made so that only its owner can connect, taken over only from the dead,
//! removed only if ours. Knows nothing of what is said there.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
};

use crate::sys::leftover::{self, Listed};

/// The longest path of a socket, in bytes.
pub const LONGEST_PATH: usize = 107;

/// Why nobody can listen at a path.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The path does not fit into a socket address.
    #[error("socket path `{}` is longer than the {LONGEST_PATH} bytes that a socket address holds", path.display())]
    PathTooLong {
        /// The path.
        path: PathBuf,
    },
    /// Somebody listens there.
    #[error("another VM listens on `{}` already", path.display())]
    InUse {
        /// The path.
        path: PathBuf,
    },
    /// There is something that is not a socket.
    #[error("`{}` exists and is not a socket", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The socket could not be made.
    #[error("cannot listen on `{}`", path.display())]
    Listen {
        /// The path.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

/// A listening Unix socket and its file, which is removed when this is dropped.
#[derive(Debug)]
pub struct ListeningSocket {
    listener: UnixListener,
    /// Absolute, so that a later change of the working directory does not matter.
    path: PathBuf,
    /// Device and inode of the file as it was made: somebody else's file at the path is left alone.
    identity: (u64, u64),
    /// Removed also if the process ends without dropping this.
    _listed: Listed,
}

impl ListeningSocket {
    /// Listens at `path` with mode 0600; `backlog` connections may wait to be accepted.
    ///
    /// A file that is there already is an error, unless it is a socket that nobody listens on: such a one was left by
    /// a VM that was killed, and is replaced. Two VMs that find the same dead socket at the same instant can still
    /// take it from each other; each path is meant for one VM.
    ///
    /// # Errors
    /// The path is too long, in use, no socket, or cannot be made.
    pub fn bind(path: &Path, backlog: i32) -> Result<Self, Error> {
        // 108 would fit without the NUL behind them, and the standard library's clients could not connect (unix(7)).
        if path.as_os_str().len() > LONGEST_PATH {
            return Err(Error::PathTooLong { path: path.to_owned() });
        }
        let address = SocketAddrUnix::new(path)
            .map_err(|errno| Error::Listen { path: path.to_owned(), source: errno.into() })?;
        let fail = |source: io::Error| Error::Listen { path: path.to_owned(), source };
        let socket = match bound(&address) {
            Err(Errno::ADDRINUSE) => {
                remove_dead(path, &address)?;
                bound(&address)
            }
            result => result,
        }
        .map_err(|errno| fail(errno.into()))?;
        let absolute = std::path::absolute(path).map_err(fail)?;
        let made = fs::symlink_metadata(&absolute).map_err(fail)?;
        let identity = (made.dev(), made.ino());
        let listed = leftover::list(&absolute, identity);
        // From here on the file is removed whatever fails.
        let socket = Self { listener: UnixListener::from(socket), path: absolute, identity, _listed: listed };
        listen(&socket.listener, backlog).map_err(|errno| fail(errno.into()))?;
        Ok(socket)
    }

    /// The listening end.
    #[must_use]
    pub fn listener(&self) -> &UnixListener {
        &self.listener
    }

    /// Where it listens, absolute.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for ListeningSocket {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|now| (now.dev(), now.ino()) == self.identity);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove a socket");
        }
    }
}

/// A socket bound to `address`, whose file has mode 0600 from its first instant: `unix_bind_bsd` takes the mode of
/// the socket's own inode, so it is set before the bind and there is no moment for another user to connect in.
fn bound(address: &SocketAddrUnix) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    bind(&socket, address)?;
    Ok(socket)
}

/// Removes the file at `path` if it is a socket that refuses connections, and otherwise says what it is.
fn remove_dead(path: &Path, address: &SocketAddrUnix) -> Result<(), Error> {
    let fail = |source: io::Error| Error::Listen { path: path.to_owned(), source };
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        // Its owner has just removed it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(fail(error)),
    };
    if !found.file_type().is_socket() {
        return Err(Error::NotASocket { path: path.to_owned() });
    }
    // Non-blocking: a live server with a full backlog answers EAGAIN instead of holding us.
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let probe =
        socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(|e| fail(e.into()))?;
    match connect(&probe, address) {
        Ok(()) | Err(Errno::AGAIN) => Err(Error::InUse { path: path.to_owned() }),
        Err(Errno::CONNREFUSED) => fs::remove_file(path).or_else(|error| match error.kind() {
            io::ErrorKind::NotFound => Ok(()),
            _ => Err(fail(error)),
        }),
        Err(Errno::NOENT) => Ok(()),
        Err(other) => Err(fail(other.into())),
    }
}
