//! The host's side: the socket at which host programs ask for a port of the guest's, and the sockets beside it that
//! stand for the host's ports.
//!
//! The protocol is Firecracker's: a host program connects to the socket, sends `CONNECT PORT` and a line feed, and reads
//! `OK HOSTPORT` and a line feed once the guest has accepted; what the guest sends to port P of the host arrives at the
//! socket whose path is this one's with `_P` behind it.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::net::{
    AddressFamily, RecvFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, connect, recv,
    socket_with,
};

use super::packet::NO_PORT;
use crate::socket::{self, ListeningSocket};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 128;
/// The longest line that asks for a port, with its end: `CONNECT 4294967295`.
const LINE: usize = 32;

/// Why the device cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody can listen there.
    #[error("cannot open the vsock socket")]
    Socket(#[source] socket::Error),
    /// With a port behind it, the path does not fit into a socket address.
    #[error("vsock socket path `{}` is longer than {} bytes, and a port has to fit behind it", path.display(), Host::LONGEST_PATH)]
    PathTooLong {
        /// The path, absolute.
        path: PathBuf,
    },
    /// Descriptors for waiting could not be had.
    #[error("cannot set up the vsock device")]
    SetUp(#[source] io::Error),
    /// The image says what no device can be.
    #[error("the image's record of its vsock device makes no sense: {problem}")]
    Record {
        /// What is wrong with it.
        problem: &'static str,
    },
}

/// The socket, listening. Its file is removed when this is dropped.
#[derive(Debug)]
pub struct Host {
    socket: ListeningSocket,
}

impl Host {
    /// The longest path of the socket, absolute, in bytes: `_` and ten digits have to fit behind it.
    pub const LONGEST_PATH: usize = 107 - 11;

    /// Listens at `path`.
    ///
    /// # Errors
    /// The path is too long, somebody listens there, there is another file, or its directory is not there.
    pub fn listen(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Socket(socket::Error::Listen { path: path.to_owned(), source });
        let path = std::path::absolute(path).map_err(failed)?;
        if path.as_os_str().len() > Self::LONGEST_PATH {
            return Err(Error::PathTooLong { path });
        }
        let socket = ListeningSocket::bind(&path, BACKLOG).map_err(Error::Socket)?;
        socket.listener().set_nonblocking(true).map_err(Error::SetUp)?;
        Ok(Self { socket })
    }

    /// The path of the socket, absolute.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.socket.path()
    }

    pub(super) fn listener(&self) -> BorrowedFd<'_> {
        self.socket.listener().as_fd()
    }

    /// The next host program that wants something, if there is one.
    pub(super) fn accept(&self) -> io::Result<Option<UnixStream>> {
        loop {
            match accept_with(self.socket.listener(), SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
                Ok(stream) => return Ok(Some(stream.into())),
                Err(rustix::io::Errno::AGAIN) => return Ok(None),
                // It has left again.
                Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNABORTED) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Connects to whoever serves port `port` of the host. Never waits: a server with a full backlog refuses.
    pub(super) fn connect(&self, port: u32) -> io::Result<UnixStream> {
        let mut path = OsString::from(self.path());
        path.push(format!("_{port}"));
        let address = SocketAddrUnix::new(Path::new(&path))?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let stream = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        connect(&stream, &address)?;
        Ok(stream.into())
    }
}

/// A host program that has not said yet which port it wants.
#[derive(Debug)]
pub(super) struct Client {
    pub stream: UnixStream,
    /// When it is given up.
    pub deadline: Instant,
}

/// How far a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// Its line has not come yet, or not all of it.
    Nothing,
    /// For this port.
    Port(u32),
    /// For nothing that there is, or it has left.
    Nonsense,
}

impl Client {
    /// Takes the line from the socket if it is there, and nothing behind it, which is for the guest.
    pub(super) fn ask(&self) -> Asked {
        let mut line = [0; LINE];
        let there = match recv(&self.stream, &mut line, RecvFlags::PEEK | RecvFlags::DONTWAIT) {
            Ok((len, _)) => &line[..len.min(LINE)],
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return Asked::Nothing,
            Err(_) => return Asked::Nonsense,
        };
        let Some(end) = there.iter().position(|byte| *byte == b'\n') else {
            let may_come = !there.is_empty() && there.len() < LINE;
            return if may_come { Asked::Nothing } else { Asked::Nonsense };
        };
        let Some(port) = port(&there[..end]) else { return Asked::Nonsense };
        // Just seen, so all of it is there.
        match recv(&self.stream, &mut [0; LINE][..=end], RecvFlags::DONTWAIT) {
            Ok((len, _)) if len == end + 1 => Asked::Port(port),
            _ => Asked::Nonsense,
        }
    }
}

/// The port that `line` asks for.
fn port(line: &[u8]) -> Option<u32> {
    let (verb, number) = std::str::from_utf8(line).ok()?.split_once(' ')?;
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    if !verb.eq_ignore_ascii_case("connect") || !is_number {
        return None;
    }
    number.parse().ok().filter(|port| *port != NO_PORT)
}
