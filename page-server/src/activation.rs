//! Sockets that a service manager listens on for this server, found by their paths.
//!
//! A connection that comes while no server runs waits there for the next one, so that a restart turns nobody away.

#[cfg(test)]
#[path = "activation_test.rs"]
mod activation_test;

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::net::{SocketType, sockopt};

use crate::sys::inherited;

/// Those that no option has named yet.
static PASSED: Mutex<Vec<OwnedFd>> = Mutex::new(Vec::new());

/// Takes over what was passed. Call before the process opens anything: where the environment names more descriptors than were
/// passed, the rest of those numbers would be its own.
pub fn receive() {
    PASSED.lock().unwrap_or_else(PoisonError::into_inner).extend(inherited::take());
}

/// The socket that was passed and listens at `path`, which is absolute.
pub(crate) fn take(path: &Path) -> Option<UnixListener> {
    take_from(&mut PASSED.lock().unwrap_or_else(PoisonError::into_inner), path)
}

fn take_from(passed: &mut Vec<OwnedFd>, path: &Path) -> Option<UnixListener> {
    let found = passed.iter().position(|socket| listens_at(socket).is_some_and(|at| at == path))?;
    Some(UnixListener::from(passed.remove(found)))
}

/// Where a socket listens, if it is a stream socket with a path.
fn listens_at(socket: &OwnedFd) -> Option<PathBuf> {
    let is_stream = sockopt::socket_type(socket).ok()? == SocketType::STREAM;
    let listens = sockopt::socket_acceptconn(socket).ok()?;
    let address = rustix::net::getsockname(socket).ok()?;
    let address = rustix::net::SocketAddrUnix::try_from(address).ok()?;
    let path = PathBuf::from(OsStr::from_bytes(address.path()?.to_bytes()));
    (is_stream && listens).then_some(path)
}

/// Those that were passed and that no option names, as messages call them: whoever wrote the service's files meant something
/// by them.
#[must_use]
pub fn unclaimed() -> Vec<String> {
    let passed = PASSED.lock().unwrap_or_else(PoisonError::into_inner);
    let name = |socket: &OwnedFd| match listens_at(socket) {
        Some(path) => format!("`{}`", path.display()),
        None => "one that is no listening Unix stream socket".to_owned(),
    };
    passed.iter().map(name).collect()
}
