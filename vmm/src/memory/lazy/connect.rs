//! Connecting to a page server: what passes is waited for, what does not is said at once.

use std::io;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

/// How soon it is tried again, at first and in the end.
const PAUSE: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(100));

/// More wait to be taken than the server lets wait.
#[derive(Debug, thiserror::Error)]
#[error("it has as many connections waiting as it allows")]
struct Busy;

/// Whether a connection failed because the server is busy.
pub(super) fn is_busy(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Busy>())
}

/// Connects, without waiting for a server that takes no connections.
pub(super) fn now(path: &Path) -> io::Result<UnixStream> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match connect(&socket, &SocketAddrUnix::new(path)?) {
        Ok(()) => Ok(socket.into()),
        // A full backlog (`unix_stream_connect`). By this number, anybody would take it for a shortage of this process's.
        Err(Errno::AGAIN) => Err(io::Error::other(Busy)),
        Err(errno) => Err(errno.into()),
    }
}

/// Connects, and waits up to `limit` for a server that is not there yet or has no room. `waits` is called before that.
pub(super) fn within(path: &Path, limit: Duration, waits: impl FnOnce(&io::Error)) -> io::Result<UnixStream> {
    let (start, mut pause, mut waits) = (Instant::now(), PAUSE.0, Some(waits));
    loop {
        let error = match now(path) {
            Err(error) if passes(path, &error) => error,
            done => return done,
        };
        let left = limit.saturating_sub(start.elapsed());
        if left.is_zero() {
            return Err(error);
        }
        if let Some(waits) = waits.take() {
            waits(&error);
        }
        thread::sleep(pause.min(left));
        pause = (pause * 2).min(PAUSE.1);
    }
}

/// No file, a socket that no server listens on any more or yet, or no room. What is no socket (`unix_find_bsd`: ECONNREFUSED)
/// does not become one.
fn passes(path: &Path, error: &io::Error) -> bool {
    let is_socket = || std::fs::metadata(path).is_ok_and(|about| about.file_type().is_socket());
    match error.kind() {
        io::ErrorKind::NotFound => true,
        io::ErrorKind::ConnectionRefused => is_socket(),
        _ => is_busy(error),
    }
}
