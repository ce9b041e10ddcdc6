//! What a service manager is told (`NOTIFY_SOCKET`, sd_notify(3)): that this server is ready, and that it ends.

#[cfg(test)]
#[path = "notify_test.rs"]
mod notify_test;

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Where a service manager wants to be told, if there is one.
#[derive(Debug)]
pub struct Notify(Option<OsString>);

impl Notify {
    /// As the environment says.
    #[must_use]
    pub fn from_env() -> Self {
        Self::to(std::env::var_os("NOTIFY_SOCKET"))
    }

    fn to(socket: Option<OsString>) -> Self {
        Self(socket.filter(|socket| !socket.is_empty()))
    }

    /// The socket listens.
    pub fn ready(&self) {
        self.tell("READY=1\nSTATUS=serving\n");
    }

    /// It was told to end, and delivers what is missing.
    pub fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=delivering what is missing\n");
    }

    /// Whoever does not hear that is no reason not to serve.
    fn tell(&self, state: &str) {
        let Some(socket) = &self.0 else { return };
        let told =
            address(socket).and_then(|to| UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &to));
        if let Err(error) = told {
            tracing::warn!(%error, socket = %socket.display(), "the service manager cannot be told");
        }
    }
}

/// A path, or a name in the abstract namespace behind `@`.
fn address(socket: &OsStr) -> io::Result<SocketAddr> {
    match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        [b'/', ..] => SocketAddr::from_pathname(socket),
        _ => Err(io::Error::other("it is neither a path nor an abstract name")),
    }
}
