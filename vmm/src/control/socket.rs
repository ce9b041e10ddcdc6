//! The control socket: [`ListeningSocket`], with errors that speak of it.

use std::os::unix::net::UnixListener;
use std::path::Path;

use super::Error;
use crate::socket::{self, ListeningSocket};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 16;

/// A control socket and its file, which is removed when this is dropped.
#[derive(Debug)]
pub struct ControlSocket(ListeningSocket);

impl ControlSocket {
    /// Listens at `path` with mode 0600. See [`ListeningSocket::bind`] for what may be there before.
    pub fn bind(path: &Path) -> Result<Self, Error> {
        ListeningSocket::bind(path, BACKLOG).map(Self).map_err(|error| match error {
            socket::Error::PathTooLong { path } => Error::PathTooLong { path },
            socket::Error::InUse { path } => Error::InUse { path },
            socket::Error::NotASocket { path } => Error::NotASocket { path },
            socket::Error::Listen { path, source } => Error::Listen { path, source },
        })
    }

    /// The listening end.
    pub fn listener(&self) -> &UnixListener {
        self.0.listener()
    }
}
