//! The control socket of a VM: HTTP/1.1 on a Unix socket, its requests, its server and its client.
//!
//! The server owns no VM: it hands a [`Request`] to whoever runs the machine through a [`Mailbox`] and sends back what
//! comes out. It decides nothing about the VM, so everything that a request means is written where the machine is.
//!
//! ```text
//! client -> socket -> connection thread -> Postbox .. eventfd .. Mailbox -> machine's event loop
//!        <- http   <-                   <- Reply ------------------------- Letter::reply
//! ```

use std::io;
use std::path::PathBuf;
use std::time::Duration;

pub mod client;
mod connection;
mod fault;
mod http;
mod mailbox;
mod request;
mod route;
mod server;
mod socket;

pub use client::Client;
pub use fault::{Fault, print_chain};
pub use mailbox::{Asker, Letter, Mailbox, Postbox};
pub use request::{
    Answer, Balloon, BalloonStats, Description, Reply, Request, SnapshotRequest, SnapshotSummary, VmState,
};
pub use server::Server;
pub use socket::ControlSocket;

#[cfg(test)]
mod client_test;
#[cfg(test)]
mod fault_test;
#[cfg(test)]
mod mailbox_test;
#[cfg(test)]
mod route_test;
#[cfg(test)]
mod server_test;
#[cfg(test)]
mod socket_test;

/// What failed between a VM and its clients.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The path does not fit into a socket address.
    #[error("control socket path `{}` is longer than the 107 bytes that a socket address holds", path.display())]
    PathTooLong {
        /// The path.
        path: PathBuf,
    },
    /// Another VM listens there.
    #[error("a VM listens on `{}` already", path.display())]
    InUse {
        /// The path.
        path: PathBuf,
    },
    /// There is something that is not a socket.
    #[error("control socket path `{}` exists and is not a socket", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The socket could not be made.
    #[error("cannot listen on the control socket `{}`", path.display())]
    Listen {
        /// The path.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The server's thread could not be started.
    #[error("cannot start the control server")]
    Start(#[source] io::Error),
    /// Nobody accepts connections there.
    #[error("no VM listens on `{}`", path.display())]
    NoVm {
        /// The path.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The socket is there and cannot be used.
    #[error("cannot connect to the control socket `{}`", path.display())]
    Connect {
        /// The path.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The connection broke while it was used.
    #[error("lost the VM on `{}` before it answered", path.display())]
    Lost {
        /// The path.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// No answer in time.
    #[error("the VM on `{}` did not answer within {limit:?}", path.display())]
    Silent {
        /// The path.
        path: PathBuf,
        /// How long was waited.
        limit: Duration,
    },
    /// What came back is not an answer of this program's.
    #[error("what listens on `{}` does not speak the control protocol: {what}", path.display())]
    Protocol {
        /// The path.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// JSON cannot carry the path.
    #[error("path `{}` is not UTF-8 and cannot be sent to a VM", path.display())]
    PathNotUtf8 {
        /// The path.
        path: PathBuf,
    },
    /// The VM refused the request or failed at it.
    #[error("{}", .0.message)]
    Fault(Fault),
}

impl Error {
    /// What somebody at a terminal can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::PathTooLong { .. } => "use a shorter path, for example one below /run or /tmp",
            Self::InUse { .. } => {
                "give each VM its own --api-socket, or end the other one with `rekindle stop`"
            }
            Self::NotASocket { .. } => "remove it or give another --api-socket",
            Self::Listen { .. } => "the directory must exist and be writable",
            Self::NoVm { .. } => {
                "give the --api-socket that the VM was started with; it is removed when the VM ends"
            }
            Self::Connect { .. } => "the socket belongs to the user who started the VM",
            Self::Silent { .. } => {
                "the VM may be busy with a snapshot, and does not begin what was given up on; ask again, or end its process"
            }
            Self::Protocol { .. } => "give the --api-socket that the VM was started with",
            Self::PathNotUtf8 { .. } => "give a path that is UTF-8",
            Self::Start(_) | Self::Lost { .. } | Self::Fault(_) => return None,
        })
    }
}
