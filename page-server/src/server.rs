//! Many VMs at once: a listening socket, a thread for each session, an orderly end.
//!
//! A connection costs a thread only while there are fewer than [`Config::max_sessions`]; what comes beyond is closed at
//! once. When the server is to end it takes no further VMs, delivers to each of its own every page that is missing, and
//! then goes.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::sockopt;

use crate::descriptors::Doubling;
use crate::image::Served;
use crate::notify::Notify;
use crate::session::{self, End, Options, Session};
use crate::socket::Socket;
use crate::stats::Metrics;
use crate::sys::signals::{self, EndSignals};

/// How a server serves.
#[derive(Clone, Debug)]
pub struct Config {
    /// The most VMs at once, those included that have not said yet what they want.
    pub max_sessions: usize,
    /// How long the sessions may take to deliver what is missing when the server is to end.
    pub drain: Duration,
    /// How each VM is served.
    pub session: Options,
}

impl Default for Config {
    fn default() -> Self {
        Self { max_sessions: 512, drain: Duration::from_secs(60), session: Options::default() }
    }
}

/// Why a server could not go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be set up.
    #[error("cannot set up the server")]
    SetUp(#[source] io::Error),
    /// It cannot wait for connections.
    #[error("cannot wait for connections")]
    Wait(#[source] io::Error),
    /// Some sessions had not come to their end.
    #[error("{left} VMs had not been given all their pages after {after:?}, and lose what is missing")]
    NotDrained {
        /// How many.
        left: usize,
        /// How long was waited.
        after: Duration,
    },
}

/// The signals that ask the server to end, watched.
#[derive(Debug)]
pub struct Signals(EndSignals);

impl Signals {
    /// Call in the first thread before any other is started.
    ///
    /// # Errors
    /// The system has no descriptor for it.
    pub fn watch() -> Result<Self, Error> {
        EndSignals::watch().map(Self).map_err(Error::SetUp)
    }
}

/// What the threads of a server share.
struct Shared {
    served: Vec<Arc<Served>>,
    metrics: Metrics,
    options: Options,
    /// Readable once the server is to end, for all who look.
    stop: OwnedFd,
    sessions: AtomicUsize,
    /// Notified whenever a session ends.
    ended: (Mutex<()>, Condvar),
    /// How often no connection could be taken.
    starved: Mutex<Doubling>,
    next: AtomicU64,
}

/// Serves `images` to whoever connects to `socket`, until a signal comes; then drains.
///
/// # Errors
/// Connections cannot be waited for, or draining took too long.
pub fn run(
    socket: Socket,
    images: Vec<Arc<Served>>,
    config: Config,
    metrics: Metrics,
    signals: &mut Signals,
    notify: &Notify,
) -> Result<(), Error> {
    let Config { max_sessions, drain, session } = config;
    for image in &images {
        metrics.watch(&image.path().display().to_string(), image.counts());
    }
    let stop = eventfd(0, EventfdFlags::CLOEXEC).map_err(|errno| Error::SetUp(errno.into()))?;
    let shared = Arc::new(Shared {
        served: images,
        metrics,
        options: session,
        stop,
        sessions: AtomicUsize::new(0),
        ended: Default::default(),
        starved: Mutex::default(),
        next: AtomicU64::new(1),
    });
    notify.ready();
    tracing::info!(images = shared.served.len(), "listening on `{}`", socket.path().display());
    while !wait(&socket, signals)? {
        accept(&socket, max_sessions, &shared)?;
    }
    notify.stopping();
    // Nobody connects any more: whoever tries is told so by the system, and may find the next server there.
    drop(socket);
    rustix::io::write(&shared.stop, &1_u64.to_ne_bytes()).map_err(|errno| Error::SetUp(errno.into()))?;
    shared.wait_for_sessions(drain, signals)
}

/// Waits for a connection or a signal; says whether it was a signal.
fn wait(socket: &Socket, signals: &mut Signals) -> Result<bool, Error> {
    loop {
        let mut watched =
            [PollFd::new(socket.listener(), PollFlags::IN), PollFd::new(&signals.0, PollFlags::IN)];
        match poll(&mut watched, None) {
            Err(Errno::INTR) => continue,
            polled => polled.map_err(|errno| Error::Wait(errno.into()))?,
        };
        let [connected, signalled] = watched.map(|watched| !watched.revents().is_empty());
        if signalled && signals.0.take() {
            return Ok(true);
        }
        if connected {
            return Ok(false);
        }
    }
}

/// Takes one connection, and gives it a thread if there is one to be had.
fn accept(socket: &Socket, max_sessions: usize, shared: &Arc<Shared>) -> Result<(), Error> {
    let stream = match socket.listener().accept() {
        Ok((stream, _)) => stream,
        Err(error) => return shared.passing(error),
    };
    if shared.sessions.fetch_add(1, Ordering::SeqCst) >= max_sessions {
        shared.leave();
        shared.metrics.refused.inc();
        tracing::warn!(max_sessions, "a VM is turned away: there are as many as there may be");
        return Ok(());
    }
    let of_thread = Arc::clone(shared);
    let started = thread::Builder::new().name("session".to_owned()).spawn(move || {
        signals::block_all();
        of_thread.serve(stream);
        of_thread.leave();
    });
    if let Err(error) = started {
        shared.leave();
        shared.metrics.refused.inc();
        tracing::warn!(%error, "a VM is turned away: there is no thread for it");
    }
    Ok(())
}

impl Shared {
    /// What accepting may fail by without the server's having to end: a peer that left, a lack that passes.
    fn passing(&self, error: io::Error) -> Result<(), Error> {
        /// The connection is still there, and would be met again at once.
        const BREATH: Duration = Duration::from_millis(50);
        match Errno::from_io_error(&error) {
            Some(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED | Errno::PERM) => Ok(()),
            Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                let times = self.starved.lock().unwrap_or_else(PoisonError::into_inner).count();
                if let Some(times) = times {
                    tracing::warn!(%error, times, "no VM can be taken at the moment");
                }
                thread::sleep(BREATH);
                Ok(())
            }
            _ => Err(Error::Wait(error)),
        }
    }

    fn serve(&self, stream: UnixStream) {
        let name = self.next.fetch_add(1, Ordering::Relaxed).to_string();
        let pid = sockopt::socket_peercred(&stream).map_or(0, |peer| peer.pid.as_raw_nonzero().get());
        let received = match session::receive(stream, self.options.handshake) {
            Ok(received) => received,
            Err(error) => return self.refuse(pid, &error),
        };
        let image = received.image(&self.served).map(|image| image.path().display().to_string());
        let stats = self.metrics.of_session(&name, &image.unwrap_or_default());
        match Session::new(received, &self.served, &self.options, stats.clone()) {
            Ok(session) => {
                self.metrics.accepted.inc();
                self.metrics.sessions.inc();
                tracing::info!(session = name, pid, "a VM is served");
                match session.run(Some(&self.stop)) {
                    End::VmGone => tracing::info!(session = name, "the VM has ended"),
                    End::Complete => tracing::info!(session = name, "every page is delivered"),
                    End::Left => tracing::info!(session = name, "the VM is left to the next server"),
                    End::Lost(error) => {
                        self.metrics.lost.inc();
                        tracing::error!(session = name, pid, "{}", session::chain(&error));
                    }
                }
                self.metrics.sessions.dec();
            }
            Err(error) => self.refuse(pid, &error),
        }
        self.metrics.forget(&name, &stats);
    }

    fn refuse(&self, pid: i32, error: &session::Error) {
        self.metrics.refused.inc();
        tracing::warn!(pid, "a VM is refused: {}", session::chain(error));
    }

    fn leave(&self) {
        self.sessions.fetch_sub(1, Ordering::SeqCst);
        let _guard = self.ended.0.lock().unwrap_or_else(PoisonError::into_inner);
        self.ended.1.notify_all();
    }

    /// Waits until no session is left. A second signal, or the limit, ends the wait.
    fn wait_for_sessions(&self, limit: Duration, signals: &mut Signals) -> Result<(), Error> {
        /// How often a second signal is looked for.
        const LOOK: Duration = Duration::from_millis(100);
        let start = Instant::now();
        // None that the clock knows is none at all.
        let deadline = start.checked_add(limit);
        let mut guard = self.ended.0.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let left = self.sessions.load(Ordering::SeqCst);
            if left == 0 {
                return Ok(());
            }
            let is_late = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            if is_late || signals.0.take() {
                if let Some(trace) = &self.options.trace {
                    trace.flush();
                }
                return Err(Error::NotDrained { left, after: start.elapsed() });
            }
            guard = self.ended.1.wait_timeout(guard, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
