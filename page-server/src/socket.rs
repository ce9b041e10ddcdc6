//! A Unix socket that listens, and its file: only its owner can connect unless more was asked for, it is taken over only from
//! the dead, and removed only if ours.
//!
//! The VMM has the same for its own sockets. The two crates share nothing but the format of what they say, and a
//! listening socket is no part of that.

#[cfg(test)]
#[path = "socket_test.rs"]
mod socket_test;

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
};

use crate::access::Access;
use crate::activation;

/// How many connections may wait to be accepted: all VMs of a large host at once, after their server was replaced. The
/// kernel allows no more than net.core.somaxconn, which is as many since Linux 5.4.
const BACKLOG: i32 = 4096;

/// How long a directory that somebody else has locked is waited for: servers lock it for as long as a few system calls
/// take.
const PATIENCE: Duration = Duration::from_secs(1);

/// Why nobody can listen at a path.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Somebody listens there.
    #[error("another server listens on `{}` already", path.display())]
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

/// The longest path of a socket, in bytes.
const LONGEST_PATH: usize = 107;

/// A listening socket, non-blocking, and its file, which is removed when this is dropped.
#[derive(Debug)]
pub struct Socket {
    /// First: dropped before the listener, or another server would find a dead one's file and race for it.
    file: SocketFile,
    listener: UnixListener,
}

/// A socket's file, removed when this is dropped.
#[derive(Debug)]
struct SocketFile {
    /// Absolute.
    path: PathBuf,
    /// Device and inode of the file as it was made, if it was made here.
    identity: Option<(u64, u64)>,
}

impl Socket {
    /// Listens at `path`, with mode 0600 from the first instant. A socket that nobody listens on any more is replaced.
    ///
    /// # Errors
    /// The path is in use, no socket, or cannot be made.
    pub fn bind(path: &Path) -> Result<Self, Error> {
        Self::bind_for(path, Access::default())
    }

    /// The same for whoever `access` says. One that a service manager listens on at that path is taken as it is.
    ///
    /// # Errors
    /// As [`Self::bind`], or the file cannot be given to that group.
    pub fn bind_for(path: &Path, access: Access) -> Result<Self, Error> {
        let fail = |source: io::Error| Error::Listen { path: path.to_owned(), source };
        // 108 would fit without the NUL behind them, and the standard library's clients could not connect (unix(7)).
        if path.as_os_str().len() > LONGEST_PATH {
            return Err(fail(Errno::NAMETOOLONG.into()));
        }
        let absolute = std::path::absolute(path).map_err(fail)?;
        if let Some(listener) = activation::take(&absolute) {
            listener.set_nonblocking(true).map_err(fail)?;
            return Ok(Self { listener, file: SocketFile { path: absolute, identity: None } });
        }
        let address = SocketAddrUnix::new(path).map_err(|errno| fail(errno.into()))?;
        let _alone = alone(path);
        let bound = match bound(&address, access) {
            Err(Errno::ADDRINUSE) => {
                remove_dead(path, &address)?;
                bound(&address, access)
            }
            bound => bound,
        };
        let listener = UnixListener::from(bound.map_err(|errno| fail(errno.into()))?);
        let made = fs::symlink_metadata(&absolute).map_err(fail)?;
        let file = SocketFile { path: absolute, identity: Some((made.dev(), made.ino())) };
        let socket = Self { listener, file };
        access.apply(socket.path()).map_err(fail)?;
        listen(&socket.listener, BACKLOG).map_err(|errno| fail(errno.into()))?;
        Ok(socket)
    }

    /// Where its file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.file.path
    }

    /// Whether a service manager listens on it as well.
    pub(crate) fn is_passed(&self) -> bool {
        self.file.identity.is_none()
    }

    /// The listening end.
    #[must_use]
    pub fn listener(&self) -> &UnixListener {
        &self.listener
    }

    /// Removes the file and gives the listening end, without a descriptor more: a process at its limit has none.
    pub(crate) fn into_listener(self) -> UnixListener {
        self.listener
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_ours =
            fs::symlink_metadata(&self.path).is_ok_and(|now| Some((now.dev(), now.ino())) == self.identity);
        if is_ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove a socket");
        }
    }
}

/// Keeps other servers from making sockets in the same directory: between `bind` and `listen` one looks dead, and of two
/// that find a dead one the second would remove what the first has made. Nobody else can be kept from it, and where the
/// directory cannot be locked nobody is.
fn alone(path: &Path) -> Option<OwnedFd> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = open(parent, flags, Mode::empty()).ok()?;
    let deadline = Instant::now() + PATIENCE;
    while flock(&dir, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK) {
        if Instant::now() >= deadline {
            return None;
        }
        thread::sleep(Duration::from_millis(1));
    }
    Some(dir)
}

/// The mode is that of the socket's own inode, so it is set before there is a file.
fn bound(address: &SocketAddrUnix, access: Access) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::fs::fchmod(&socket, access.least())?;
    bind(&socket, address)?;
    Ok(socket)
}

/// Removes the file if it is a socket that refuses connections.
fn remove_dead(path: &Path, address: &SocketAddrUnix) -> Result<(), Error> {
    let fail = |source: io::Error| Error::Listen { path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(Error::NotASocket { path: path.to_owned() });
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(fail(error)),
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let probe = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None);
    match connect(probe.map_err(|errno| fail(errno.into()))?, address) {
        // A live server whose backlog is full answers EAGAIN.
        Ok(()) | Err(Errno::AGAIN) => Err(Error::InUse { path: path.to_owned() }),
        Err(Errno::CONNREFUSED) => fs::remove_file(path).map_err(fail),
        Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(fail(errno.into())),
    }
}
