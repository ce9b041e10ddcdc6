//! Many VMs at once: a listening socket, a thread for each session, an orderly end.
//!
//! A connection costs a thread only while there are fewer than [`Config::max_sessions`]; what comes beyond stays in the
//! socket's queue until there is room: a VM of another make would not come again, and would wait for ever. When the server
//! is to end it takes those who have connected already and no others, delivers to each VM every page that is missing, and
//! then goes.

use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::sockopt;

use crate::descriptors::Doubling;
use crate::endpoint::{Endpoint, Images, Retired};
use crate::image::Served;
use crate::notify::Notify;
use crate::session::{self, End, Foreigners, Options, Received, Session};
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
    /// Pages could not be delivered while the sessions came to their end.
    #[error("pages that VMs missed when the server was told to end are lost: {vms} VM(s)")]
    Lost {
        /// How many.
        vms: usize,
        /// The first of those pages, and why.
        #[source]
        first: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// The VMs that lost a page while the server came to its end.
#[derive(Default)]
struct Losses {
    vms: usize,
    first: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The signals that ask the server to end, watched.
#[derive(Debug)]
pub struct Signals {
    end: EndSignals,
    /// SIGHUP, by itself: a terminal that goes may send it twice, and the second must not cut the drain short.
    hang_up: Option<EndSignals>,
    /// What SIGHUP asks for: to read the list again, or to end.
    reloads: bool,
}

impl Signals {
    /// SIGTERM and SIGINT, and SIGHUP unless the process has inherited that it is ignored. Call in the first thread before
    /// any other is started.
    ///
    /// # Errors
    /// The system has no descriptor for it.
    pub fn watch() -> Result<Self, Error> {
        let end = EndSignals::watch().map_err(Error::SetUp)?;
        let hang_up = EndSignals::watch_hang_ups_unless_ignored().map_err(Error::SetUp)?;
        Ok(Self { end, hang_up, reloads: false })
    }

    /// SIGTERM and SIGINT; and SIGHUP, which asks for the list of what is served to be read again. Call as [`Self::watch`].
    ///
    /// # Errors
    /// The system has no descriptor for it.
    pub fn watch_with_reload() -> Result<Self, Error> {
        let end = EndSignals::watch().map_err(Error::SetUp)?;
        let hang_up = EndSignals::watch_hang_ups().map_err(Error::SetUp)?;
        Ok(Self { end, hang_up: Some(hang_up), reloads: true })
    }

    /// What has been asked for since the last time.
    fn take(&mut self) -> Option<Happened> {
        if self.end.take() {
            return Some(Happened::End);
        }
        let hung_up = self.hang_up.as_mut().is_some_and(EndSignals::take);
        hung_up.then_some(if self.reloads { Happened::Reload } else { Happened::End })
    }
}

/// What the threads of a server share.
struct Shared {
    metrics: Metrics,
    options: Options,
    /// Readable once the server is to end, for all who look.
    stop: OwnedFd,
    sessions: AtomicUsize,
    max_sessions: usize,
    /// Readable once a session has ended since it was last read.
    room: OwnedFd,
    /// Notified whenever a session ends.
    ended: (Mutex<()>, Condvar),
    /// How often no connection could be taken.
    starved: Mutex<Doubling>,
    next: AtomicU64,
    /// Whether the server has been told to end.
    ending: AtomicBool,
    lost: Mutex<Losses>,
    /// The VMs of other makes, whose memory must not be let go while a page is missing.
    foreigners: Foreigners,
}

/// Changes what is served, as whatever lists it says by now; gives the endpoints that are not wanted any more.
pub type Reload<'a> = dyn FnMut(&mut Vec<Endpoint>) -> Vec<Endpoint> + 'a;

/// Serves what is at each of `endpoints` to whoever connects there, until a signal comes; then drains. SIGHUP has
/// `reload` called if `signals` say so.
///
/// # Errors
/// Connections cannot be waited for, draining took too long, or a page was lost meanwhile.
pub fn run(
    endpoints: Vec<Endpoint>,
    config: Config,
    metrics: Metrics,
    signals: &mut Signals,
    reload: &mut Reload<'_>,
    notify: &Notify,
) -> Result<(), Error> {
    let Config { max_sessions, drain, session } = config;
    let event = |flags| eventfd(0, EventfdFlags::CLOEXEC | flags).map_err(|errno| Error::SetUp(errno.into()));
    let shared = Arc::new(Shared {
        metrics,
        options: session,
        stop: event(EventfdFlags::empty())?,
        sessions: AtomicUsize::new(0),
        max_sessions,
        room: event(EventfdFlags::NONBLOCK)?,
        ended: Default::default(),
        starved: Mutex::default(),
        next: AtomicU64::new(1),
        ending: AtomicBool::new(false),
        lost: Mutex::default(),
        foreigners: Foreigners::default(),
    });
    shared.watch(&endpoints);
    notify.ready();
    endpoints.iter().for_each(tell);
    let ended = serve(&shared, endpoints, drain, signals, reload, notify);
    if ended.is_err() {
        // Whyever: the process ends next, and with it the descriptors that keep its VMs waiting.
        shared.foreigners.forsake_all();
    }
    ended
}

fn serve(
    shared: &Arc<Shared>,
    mut endpoints: Vec<Endpoint>,
    drain: Duration,
    signals: &mut Signals,
    reload: &mut Reload<'_>,
    notify: &Notify,
) -> Result<(), Error> {
    let mut retired: Vec<Retired> = Vec::new();
    loop {
        let all_taken = shared.take_rest(&mut retired)?;
        match wait(&endpoints, signals, shared, all_taken)? {
            Happened::End => break,
            Happened::Reload => {
                let removed = reload(&mut endpoints);
                shared.watch(&endpoints);
                retired.extend(give_up(removed));
            }
            Happened::Connected => {
                for endpoint in &endpoints {
                    accept(endpoint.listener(), endpoint.shared_images(), shared)?;
                }
            }
        }
    }
    notify.stopping();
    shared.ending.store(true, Ordering::SeqCst);
    // Whoever connects from here on is told so by the system, and may find the next server there.
    retired.extend(give_up(endpoints));
    rustix::io::write(&shared.stop, &1_u64.to_ne_bytes()).map_err(|errno| Error::SetUp(errno.into()))?;
    shared.wait_for_sessions(drain, signals, retired)
}

fn tell(endpoint: &Endpoint) {
    tracing::info!(images = endpoint.images().len(), "listening on `{}`", endpoint.path().display());
}

fn give_up(endpoints: Vec<Endpoint>) -> Vec<Retired> {
    let give_up = |endpoint: Endpoint| {
        let path = endpoint.path().to_owned();
        let retired = endpoint.retire();
        tracing::info!("not listening on `{}` any more", path.display());
        retired
    };
    endpoints.into_iter().filter_map(give_up).collect()
}

/// What a server wakes for.
#[derive(Debug, PartialEq, Eq)]
enum Happened {
    /// It is to end.
    End,
    /// It is to look what it serves.
    Reload,
    /// Somebody has connected, or there is room for whoever has.
    Connected,
}

/// Waits for a signal, or for a connection that there is room for; a moment only unless `all_taken`, because a descriptor
/// that is closed wakes no poll.
fn wait(
    endpoints: &[Endpoint],
    signals: &mut Signals,
    shared: &Shared,
    all_taken: bool,
) -> Result<Happened, Error> {
    const MOMENT: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
    loop {
        let mut watched =
            vec![PollFd::new(&signals.end, PollFlags::IN), PollFd::new(&shared.room, PollFlags::IN)];
        let hang_up = signals.hang_up.as_ref();
        watched.extend(hang_up.map(|hang_up| PollFd::new(hang_up, PollFlags::IN)));
        if shared.has_room() {
            watched.extend(endpoints.iter().map(|at| PollFd::new(at.listener(), PollFlags::IN)));
        }
        match poll(&mut watched, (!all_taken).then_some(&MOMENT)) {
            Err(Errno::INTR) => continue,
            polled => polled.map_err(|errno| Error::Wait(errno.into()))?,
        };
        let happened: Vec<bool> = watched.iter().map(|watched| !watched.revents().is_empty()).collect();
        drop(watched);
        if let Some(asked) = signals.take() {
            return Ok(asked);
        }
        if happened[1] {
            let _ = rustix::io::read(&shared.room, &mut [0; 8]);
        }
        if happened[1..].contains(&true) || !all_taken {
            return Ok(Happened::Connected);
        }
    }
}

/// Takes one connection, if there is one and room for it, and gives it a thread.
fn accept(listener: &UnixListener, images: &Images, shared: &Arc<Shared>) -> Result<(), Error> {
    if !shared.has_room() {
        return Ok(());
    }
    match listener.accept() {
        Ok((stream, _)) => {
            shared.start(stream, Arc::clone(images));
            Ok(())
        }
        Err(error) => shared.passing(error),
    }
}

impl Shared {
    /// The metrics are of what is served by now as well.
    fn watch(&self, endpoints: &[Endpoint]) {
        for image in endpoints.iter().flat_map(Endpoint::images) {
            image.look_for_zeros();
            self.metrics.watch(&image.path().display().to_string(), image.counts());
        }
    }

    fn has_room(&self) -> bool {
        self.sessions.load(Ordering::SeqCst) < self.max_sessions
    }

    /// Takes those who had connected to sockets that were given up, as far as there is room; forgets the sockets that
    /// have none left. False where the system lacks what taking one needs.
    fn take_rest(self: &Arc<Self>, retired: &mut Vec<Retired>) -> Result<bool, Error> {
        while self.has_room() {
            let Some(last) = retired.last() else { break };
            match last.next() {
                Ok(Some((stream, images))) => self.start(stream, images),
                Ok(None) => drop(retired.pop()),
                Err(error) => return self.passing(error).map(|()| false),
            }
        }
        Ok(true)
    }

    /// Serves a connection on a thread of its own.
    fn start(self: &Arc<Self>, stream: UnixStream, images: Images) {
        self.sessions.fetch_add(1, Ordering::SeqCst);
        self.foreigners.expect();
        // Where there is no thread, the connection is still wanted here.
        let stream = Arc::new(Mutex::new(Some(stream)));
        let (of_thread, its_stream) = (Arc::clone(self), Arc::clone(&stream));
        let started = thread::Builder::new().name("session".to_owned()).spawn(move || {
            signals::block_all();
            let stream = its_stream.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(stream) = stream {
                of_thread.serve(stream, &images);
            }
            of_thread.leave();
        });
        if let Err(error) = started {
            tracing::warn!(%error, "a VM is turned away: there is no thread for it");
            if let Some(stream) = stream.lock().unwrap_or_else(PoisonError::into_inner).take() {
                self.turn_away(stream, Instant::now() + Duration::from_secs(1));
            }
            self.foreigners.enter(0, None);
            self.leave();
        }
    }

    /// One of ours looks for another server. Any other does not, and must not wait for memory that nobody fills.
    fn turn_away(&self, stream: UnixStream, until: Instant) {
        /// Whoever has connected to be served has said so, and is heard in the shorter time as well.
        const PATIENCE: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(200));
        self.metrics.refused.inc();
        let left = until.saturating_duration_since(Instant::now());
        session::turn_away(stream, left.clamp(PATIENCE.0, PATIENCE.1));
    }

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

    fn serve(&self, stream: UnixStream, images: &[Arc<Served>]) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let pid = sockopt::socket_peercred(&stream).map_or(0, |peer| peer.pid.as_raw_nonzero().get());
        let received = session::receive(stream, self.options.handshake);
        self.foreigners.enter(number, received.as_ref().ok().and_then(Received::foreign));
        match received {
            Ok(received) => self.serve_received(received, images, number, pid),
            Err(error) => self.refuse(pid, &error),
        }
        self.foreigners.leave(number);
    }

    fn serve_received(&self, received: Received, images: &[Arc<Served>], number: u64, pid: i32) {
        let name = number.to_string();
        let image = received.image(images).map(|image| image.path().display().to_string());
        let stats = self.metrics.of_session(&name, &image.unwrap_or_default());
        match Session::new(received, images, &self.options, stats.clone()) {
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
                        self.note_loss(error);
                    }
                }
                self.metrics.sessions.dec();
            }
            Err(error) => self.refuse(pid, &error),
        }
        self.metrics.forget(&name, &stats);
    }

    /// What the server ends with, if it is ending.
    fn note_loss(&self, error: impl std::error::Error + Send + Sync + 'static) {
        if self.ending.load(Ordering::SeqCst) {
            let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
            lost.vms += 1;
            lost.first.get_or_insert(error.into());
        }
    }

    /// No session is left.
    fn verdict(&self) -> Result<(), Error> {
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        let vms = lost.vms;
        lost.first.take().map_or(Ok(()), |first| Err(Error::Lost { vms, first }))
    }

    fn refuse(&self, pid: i32, error: &session::Error) {
        self.metrics.refused.inc();
        tracing::warn!(pid, "a VM is refused: {}", session::chain(error));
    }

    fn leave(&self) {
        self.sessions.fetch_sub(1, Ordering::SeqCst);
        // Fails only if it is full, and then it is readable.
        let _ = rustix::io::write(&self.room, &1_u64.to_ne_bytes());
        let _guard = self.ended.0.lock().unwrap_or_else(PoisonError::into_inner);
        self.ended.1.notify_all();
    }

    /// Waits until no session is left, and nobody who could still become one. A second signal, or the limit, ends the wait.
    fn wait_for_sessions(
        self: &Arc<Self>,
        limit: Duration,
        signals: &mut Signals,
        mut retired: Vec<Retired>,
    ) -> Result<(), Error> {
        /// How often a second signal is looked for.
        const LOOK: Duration = Duration::from_millis(100);
        /// How long those may take who have connected and are not served any more.
        const QUEUE: Duration = Duration::from_secs(5);
        /// How long a descriptor is waited for once no session is left to free one: as long as one that asks for the metrics
        /// may keep its own.
        const LACK: Duration = Duration::from_secs(2);
        let mut lacking: Option<Instant> = None;
        let start = Instant::now();
        // None that the clock knows is none at all.
        let deadline = start.checked_add(limit);
        loop {
            let all_taken = self.take_rest(&mut retired)?;
            let guard = self.ended.0.lock().unwrap_or_else(PoisonError::into_inner);
            let left = self.sessions.load(Ordering::SeqCst);
            lacking = (left == 0 && !all_taken).then(|| lacking.unwrap_or_else(Instant::now));
            let is_hopeless = lacking.is_some_and(|since| since.elapsed() >= LACK);
            if is_hopeless {
                tracing::warn!("no descriptor is left to look whether another VM has connected");
            }
            if left == 0 && (retired.is_empty() || is_hopeless) {
                return self.verdict();
            }
            let is_late = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            if is_late || signals.end.take() {
                drop(guard);
                self.foreigners.forsake_all();
                let waiting =
                    retired.iter().flat_map(|retired| std::iter::from_fn(|| retired.next().ok().flatten()));
                let until = Instant::now() + QUEUE;
                let waiting = waiting.map(|(stream, _)| self.turn_away(stream, until)).count();
                if let Some(trace) = &self.options.trace {
                    trace.flush();
                }
                return Err(Error::NotDrained { left: left + waiting, after: start.elapsed() });
            }
            if left > 0 {
                drop(self.ended.1.wait_timeout(guard, LOOK).unwrap_or_else(PoisonError::into_inner));
            }
        }
    }
}
