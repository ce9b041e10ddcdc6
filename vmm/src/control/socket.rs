//! The socket's file: made so that only its owner can connect, taken over only from the dead, removed only if ours.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
};

use super::Error;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 16;

/// A listening Unix socket and its file, which is removed when this is dropped.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    /// Absolute, so that a later change of the working directory does not matter.
    path: PathBuf,
    /// Device and inode of the file as it was made: somebody else's file at the path is left alone.
    identity: (u64, u64),
}

impl ControlSocket {
    /// Listens at `path` with mode 0600.
    ///
    /// A file that is there already is an error, unless it is a socket that nobody listens on: such a one was left by
    /// a VM that was killed, and is replaced. Two VMs that find the same dead socket at the same instant can still
    /// take it from each other; each path is meant for one VM.
    pub fn bind(path: &Path) -> Result<Self, Error> {
        let address = SocketAddrUnix::new(path).map_err(|errno| match errno {
            Errno::NAMETOOLONG => Error::PathTooLong { path: path.to_owned() },
            other => Error::Listen { path: path.to_owned(), source: other.into() },
        })?;
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
        // From here on the file is removed whatever fails.
        let socket =
            Self { listener: UnixListener::from(socket), path: absolute, identity: (made.dev(), made.ino()) };
        listen(&socket.listener, BACKLOG).map_err(|errno| fail(errno.into()))?;
        Ok(socket)
    }

    /// The listening end.
    pub fn listener(&self) -> &UnixListener {
        &self.listener
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|now| (now.dev(), now.ino()) == self.identity);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the control socket");
        }
    }
}

/// A socket bound to `address`, whose file has mode 0600 from its first instant: `unix_bind_bsd` takes the mode of
/// the socket's own inode, so it is set before the bind and there is no moment for another user to connect in.
fn bound(address: &SocketAddrUnix) -> Result<std::os::fd::OwnedFd, Errno> {
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
