//! The blocking client behind `rekindle snapshot`, `pause`, `resume` and `stop`.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::io::{Errno, ioctl_fionbio};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use super::http::{self, IncomingReply, Wire};
use super::route::{self, FaultBody};
use super::{Answer, Error, Fault, Request};
use crate::socket::LONGEST_PATH;

/// How long a VM may take to answer anything but a snapshot.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// How often to look for the socket of a VM that has just been started.
const LOOK_AGAIN: Duration = Duration::from_millis(1);
/// How long a VM may take to read a request.
const SEND_LIMIT: Duration = Duration::from_secs(10);

/// A connection to one VM, for one request.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    path: PathBuf,
    /// If it is not the usual one.
    patience: Option<Duration>,
}

impl Client {
    /// Connects to the VM that listens at `path`. A VM that has too many clients leaves the next ones waiting, for
    /// [`PATIENCE`] at most.
    pub fn connect(path: &Path) -> Result<Self, Error> {
        Ok(Self { stream: stream(path, PATIENCE)?, path: path.to_owned(), patience: None })
    }

    /// The same with another limit in place of [`PATIENCE`], and of a snapshot's none. It counts from here on.
    pub fn connect_patiently(path: &Path, patience: Duration) -> Result<Self, Error> {
        let start = Instant::now();
        let stream = stream(path, patience)?;
        let left = patience.saturating_sub(start.elapsed());
        Ok(Self { stream, path: path.to_owned(), patience: Some(left) })
    }

    /// The same for a VM that has just been started, whose socket may take up to `limit` to be there.
    pub fn connect_within(path: &Path, limit: Duration) -> Result<Self, Error> {
        let deadline = Instant::now() + limit;
        loop {
            match Self::connect(path) {
                Err(Error::NoVm { .. }) if Instant::now() < deadline => std::thread::sleep(LOOK_AGAIN),
                connected => return connected,
            }
        }
    }

    /// Another limit in place of [`PATIENCE`].
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = Some(patience);
        self
    }

    /// Asks, and waits for the answer: for ever for a snapshot, whose time depends on the guest and the disk, unless told
    /// otherwise. What is given up on is not begun by the VM, which sees that its client has gone.
    pub fn ask(self, request: &Request) -> Result<Answer, Error> {
        let spelled = route::spell(request)?;
        let mut wire = Wire::new(&self.stream);
        // A server that refuses a request early has answered before it was written in full: look for that first.
        let sent = wire.write_request(&spelled, SEND_LIMIT);
        let patience = match request {
            Request::Snapshot(_) => self.patience,
            _ => Some(self.patience.unwrap_or(PATIENCE)),
        };
        let deadline = patience.map(|patience| Instant::now() + patience);
        let received = match (wire.read_reply(deadline), sent) {
            (Err(_), Err(unsent)) => Err(unsent),
            (received, _) => received,
        };
        let IncomingReply { status, exit_code, body } = received.map_err(|error| self.lost(error))?;
        let foreign = |what| Error::Protocol { path: self.path.clone(), what };
        match status {
            204 => Ok(Answer::Done),
            200 => route::parse_answer(request, &body).ok_or_else(|| foreign("an answer to something else")),
            _ => {
                let fault: FaultBody =
                    serde_json::from_slice(&body).map_err(|_| foreign("an error without a message"))?;
                let exit_code = exit_code.filter(|code| (1..=5).contains(code)).unwrap_or(Fault::FAILED);
                Err(Error::Fault(Fault { message: fault.fault_message, exit_code }))
            }
        }
    }

    fn lost(&self, error: http::Error) -> Error {
        let path = self.path.clone();
        match error {
            http::Error::Io(source) => Error::Lost { path, source },
            http::Error::CutShort => Error::Lost { path, source: io::ErrorKind::UnexpectedEof.into() },
            http::Error::Late => Error::Silent { path, limit: self.patience.unwrap_or(PATIENCE) },
            http::Error::Syntax(_) | http::Error::Length | http::Error::TransferEncoding => {
                Error::Protocol { path, what: "not HTTP/1.1" }
            }
            http::Error::HeadTooLong | http::Error::BodyTooLong { .. } => {
                Error::Protocol { path, what: "an answer that is too long" }
            }
        }
    }
}

/// Connects, and waits up to `limit` while the backlog is full, which connect(2) would do without end.
fn stream(path: &Path, limit: Duration) -> Result<UnixStream, Error> {
    if path.as_os_str().len() > LONGEST_PATH {
        return Err(Error::PathTooLong { path: path.to_owned() });
    }
    let unreached = |errno: Errno| unreached(path, errno.into());
    let address = SocketAddrUnix::new(path).map_err(unreached)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(unreached)?;
    let deadline = Instant::now() + limit;
    loop {
        match connect(&socket, &address) {
            Ok(()) => break,
            Err(Errno::AGAIN) if Instant::now() < deadline => std::thread::sleep(LOOK_AGAIN),
            Err(Errno::AGAIN) => return Err(Error::Silent { path: path.to_owned(), limit }),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(unreached(errno)),
        }
    }
    ioctl_fionbio(&socket, false).map_err(unreached)?;
    Ok(socket.into())
}

fn unreached(path: &Path, source: io::Error) -> Error {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Error::NoVm { path, source },
        _ => Error::Connect { path, source },
    }
}
