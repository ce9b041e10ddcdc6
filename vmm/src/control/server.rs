//! The threads behind the control socket.
//!
//! One thread accepts, and each connection has one of its own: a client that keeps its connection open and says
//! nothing would otherwise hold up everybody else, and requests that wait for the machine (a snapshot) must not stop
//! others from being refused. Connections are few, short and local, so threads cost less here than a second event
//! loop would. What the threads share with the machine is the mailbox and nothing else.

use std::collections::BTreeMap;
use std::io;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle, Scope};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use super::connection::{self, Limits};
use super::{ControlSocket, Error, Postbox};
use crate::repeated::Repeated;

/// Connections that are served at the same time; more of them wait to be accepted.
pub(super) const MAX_CONNECTIONS: usize = 8;
/// A connection's thread holds a 4 KiB chunk and shallow calls.
const STACK: usize = 256 * 1024;
/// How long to wait before accepting again when the process has run out of descriptors or threads.
const BREATH: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// A running control server; closes its connections and removes its socket when it is dropped.
///
/// Its threads inherit the signal mask of the thread that starts it.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    socket: ControlSocket,
    postbox: Postbox,
    limits: Limits,
    /// Set once, when the server is being dropped.
    closing: AtomicBool,
    /// Wakes the acceptor from its poll.
    wake: OwnedFd,
    open: Mutex<Connections>,
    /// Signalled when a connection ends, and on closing.
    freed: Condvar,
}

#[derive(Debug, Default)]
struct Connections {
    next: u64,
    streams: BTreeMap<u64, Arc<UnixStream>>,
}

impl Server {
    /// Serves `socket`, handing requests to the machine behind `postbox`.
    pub fn start(socket: ControlSocket, postbox: Postbox) -> Result<Self, Error> {
        Self::start_with(socket, postbox, Limits::default())
    }

    pub(super) fn start_with(socket: ControlSocket, postbox: Postbox, limits: Limits) -> Result<Self, Error> {
        // An accept after a poll must not block when the client has gone in between.
        socket.listener().set_nonblocking(true).map_err(Error::Start)?;
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let wake = eventfd(0, flags).map_err(|errno| Error::Start(errno.into()))?;
        let closing = AtomicBool::new(false);
        let (open, freed) = (Mutex::default(), Condvar::new());
        let shared = Arc::new(Shared { socket, postbox, limits, closing, wake, open, freed });
        let acceptor = thread::Builder::new()
            .name("control".into())
            .stack_size(STACK)
            .spawn({
                let shared = Arc::clone(&shared);
                move || thread::scope(|scope| shared.accept_all(scope))
            })
            .map_err(Error::Start)?;
        Ok(Self { shared, acceptor: Some(acceptor) })
    }
}

impl Drop for Server {
    /// Lets replies that are being written reach their clients: only the reading side of a connection is shut, so an
    /// idle one ends at once and a busy one after its reply, which takes the message limit at most.
    fn drop(&mut self) {
        let shared = &*self.shared;
        {
            let open = shared.connections();
            shared.closing.store(true, Ordering::Release);
            for stream in open.streams.values() {
                // Fails only where the client has gone already.
                let _ = stream.shutdown(Shutdown::Read);
            }
        }
        shared.freed.notify_all();
        if let Err(errno) = rustix::io::write(&shared.wake, &1u64.to_ne_bytes()) {
            // Cannot happen with a count of one; not joining is better than waiting for ever.
            tracing::warn!(error = %io::Error::from(errno), "cannot end the control server");
            return;
        }
        if self.acceptor.take().is_some_and(|acceptor| acceptor.join().is_err()) {
            tracing::warn!("the control server had panicked");
        }
    }
}

impl Shared {
    fn accept_all<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>) {
        let mut failures = Repeated::default();
        while self.wait_for_client() {
            match self.socket.listener().accept() {
                Ok((stream, _)) => self.spawn(scope, stream, &mut failures),
                Err(error) if is_transient(&error) => {}
                Err(error) => {
                    if let Some(times) = failures.again() {
                        tracing::warn!(%error, times, "cannot accept a control connection");
                    }
                    self.breathe();
                }
            }
        }
    }

    /// Waits for a free place and then for a client; false when the server is closing.
    fn wait_for_client(&self) -> bool {
        let mut open = self.connections();
        while open.streams.len() >= MAX_CONNECTIONS && !self.is_closing() {
            open = self.freed.wait(open).unwrap_or_else(PoisonError::into_inner);
        }
        drop(open);
        let mut fds =
            [PollFd::new(self.socket.listener(), PollFlags::IN), PollFd::new(&self.wake, PollFlags::IN)];
        // An interrupted poll comes round again through the accept, which finds nobody.
        let _ = poll(&mut fds, None);
        !self.is_closing()
    }

    fn spawn<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        stream: UnixStream,
        failures: &mut Repeated,
    ) {
        let stream = Arc::new(stream);
        let Some(id) = self.enter(&stream) else { return };
        let served =
            thread::Builder::new().name("control-client".into()).stack_size(STACK).spawn_scoped(scope, {
                move || {
                    let _leave = Leave { shared: self, id };
                    connection::serve(&stream, &self.postbox, self.limits, &self.closing);
                }
            });
        if let Err(error) = served {
            if let Some(times) = failures.again() {
                tracing::warn!(%error, times, "cannot serve a control connection");
            }
            self.leave(id);
            self.breathe();
        }
    }

    /// Notes a connection; `None` when the server is closing, which would no longer find it.
    fn enter(&self, stream: &Arc<UnixStream>) -> Option<u64> {
        let mut open = self.connections();
        if self.is_closing() {
            return None;
        }
        let id = open.next;
        open.next += 1;
        open.streams.insert(id, Arc::clone(stream));
        Some(id)
    }

    fn leave(&self, id: u64) {
        self.connections().streams.remove(&id);
        self.freed.notify_all();
    }

    fn breathe(&self) {
        let _ = poll(&mut [PollFd::new(&self.wake, PollFlags::IN)], Some(&BREATH));
    }

    fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    fn connections(&self) -> MutexGuard<'_, Connections> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives a connection's place back even if its thread panics.
struct Leave<'a> {
    shared: &'a Shared,
    id: u64,
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.shared.leave(self.id);
    }
}

/// Whether the client went away, or somebody else took it, before it was accepted.
fn is_transient(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, Interrupted, WouldBlock};
    matches!(error.kind(), WouldBlock | Interrupted | ConnectionAborted)
}
