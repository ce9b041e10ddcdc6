//! Guest memory that a page server delivers as the guest touches it.
//!
//! The server may be a thread of this process or another process, ours or one that was written for Firecracker: it is
//! whoever is at the other end of a Unix socket ([`Server`]) and takes the handshake of `snapshot_format::handoff`. The
//! userfaultfd stays here as well, so that a server that comes back is given it again, and so that nobody who waits for a
//! page goes on with zeros when a server dies.
//!
//! A thread watches over the server (`watch`) for as long as a page is missing. A guest whose page cannot be had must
//! not go on: its memory is taken away under it (`pages::Pages::lose`), so that everybody who waits comes out with an
//! error, and the VM ends with a [`Lost`] that names the page.

mod connect;
mod handover;
mod pages;
mod probe;
mod watch;
mod zeros;

#[cfg(test)]
mod connect_test;
#[cfg(test)]
mod foreign_test;
#[cfg(test)]
mod idle_test;
#[cfg(test)]
mod lazy_test;

use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, MutexGuard, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::EventfdFlags;
use snapshot_format::handoff;
use snapshot_format::pages::Region;

use super::{GuestRam, OwnRun};
use crate::sys::uffd::{Faults, Uffd};
use pages::Pages;

pub use zeros::Here;
pub(super) use zeros::{Unproven, zeros};

/// Why memory cannot be delivered.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no userfaultfd to be had.
    #[error("cannot create a userfaultfd that serves the kernel's own faults")]
    Uffd(#[source] io::Error),
    /// Nobody listens where the page server should.
    #[error("cannot connect to the page server at `{}`", path.display())]
    Connect {
        /// Its socket.
        path: PathBuf,
        /// What the system answered.
        #[source]
        source: io::Error,
    },
    /// The handshake cannot be made.
    #[error("cannot describe guest memory to the page server")]
    Handshake(#[source] handoff::Error),
    /// The handshake cannot be sent.
    #[error("cannot hand guest memory over to the page server")]
    HandOver(#[source] io::Error),
    /// The thread that watches over the server, or its descriptors.
    #[error("cannot watch over the page server")]
    Watch(#[source] io::Error),
    /// A page that is to be saved is lost.
    #[error("guest memory cannot be delivered any more")]
    Lost(#[source] Lost),
    /// A page that is to be saved could not be had.
    #[error("cannot have the guest memory at {gpa:#x} delivered")]
    Deliver {
        /// Guest-physical address.
        gpa: u64,
        /// What the kernel answered.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// What somebody at a terminal can do about a page server that cannot be connected to, whose answer this is.
    pub fn connect_hint(source: &io::Error) -> &'static str {
        match source.kind() {
            io::ErrorKind::PermissionDenied => {
                "connecting takes the right to write to the socket: `rekindle-pages serve --socket-mode 0660 \
                 --socket-group GROUP`, and a directory that may be searched"
            }
            _ if connect::is_busy(source) => {
                "it is there, and has more connections waiting than it takes: a longer --pages-timeout, or another server"
            }
            _ => "start it first: `rekindle-pages serve --socket PATH IMAGE`",
        }
    }
}

/// Why a page cannot be had any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// It was asked for, and did not come.
    #[error("the page server has not delivered it within {0:?}")]
    Late(Duration),
    /// The connection has ended, and there is nobody else to turn to.
    #[error("the page server has gone")]
    Gone,
    /// The connection has ended, and no server has taken its place.
    #[error("the page server has gone, and none was there to take its place within {0:?}")]
    NotReplaced(Duration),
    /// The server says so.
    #[error("the page server cannot read it: {0}")]
    Told(String),
    /// The server does not serve this VM.
    #[error("the page server refuses to serve this VM: {0}")]
    Refused(String),
    /// This process cannot tell what is missing any more.
    #[error("this process cannot watch its memory: {0}")]
    Blind(String),
}

/// A page that is lost, and the guest with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the page at {gpa:#x} of guest memory is missing")]
pub struct Lost {
    /// Guest-physical address.
    pub gpa: u64,
    /// Why.
    #[source]
    pub cause: Cause,
}

impl Lost {
    /// What somebody at a terminal can do about it.
    pub const HINT: &str = "see what the page server says; restore the guest again once it serves, with a longer \
        --pages-timeout if it was only slow";
}

/// Who delivers.
#[derive(Debug)]
pub struct Server {
    /// A connection on which nothing was said yet.
    pub stream: UnixStream,
    /// Where another connection can be had if this one ends.
    pub path: Option<PathBuf>,
}

impl Server {
    /// Connects to the page server that listens at `path`. One that is not there yet, or takes no connection now, is waited
    /// for, up to `limit`; `waits` is called first, with the reason.
    ///
    /// # Errors
    /// There is none by then, or it may not be connected to.
    pub fn connect(path: PathBuf, limit: Duration, waits: impl FnOnce(&io::Error)) -> Result<Self, Error> {
        match connect::within(&path, limit, waits) {
            Ok(stream) => Ok(Self { stream, path: Some(path) }),
            Err(source) => Err(Error::Connect { path, source }),
        }
    }

    /// Whether it may be a handler that was written for another VMM, and expects every byte of the regions to be
    /// registered: nobody knows who listens at a path. At the other end of a socket pair is a server of this program.
    pub(super) fn may_be_foreign(&self) -> bool {
        self.path.is_some()
    }
}

/// How it delivers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The image, as its manifest names it.
    pub image_id: [u8; 16],
    /// Whether pages may come before they are touched.
    pub prefetch: bool,
    /// Whether it is to be seen which pages are touched and written.
    pub record: bool,
    /// How long a page may take.
    pub timeout: Duration,
}

/// What is known of a loss.
#[derive(Debug)]
pub struct Loss {
    lost: OnceLock<Lost>,
    told: Signal,
}

impl Loss {
    /// Readable once there is one.
    pub fn told(&self) -> &OwnedFd {
        &self.told.0
    }

    /// The page that is lost, if one is.
    pub fn get(&self) -> Option<&Lost> {
        self.lost.get()
    }
}

/// Memory that is being delivered, for as long as a page of it is missing. Dropped, it lets the server go: nobody may
/// use the memory any more then.
#[derive(Debug)]
pub struct Lazy {
    pages: Arc<Pages>,
    stop: Arc<Signal>,
    watch: Option<JoinHandle<()>>,
}

impl Lazy {
    /// Hands `ram`, whose regions are registered with `uffd` and lie in the memory file as `placement` says, over to
    /// `server`, and watches over it from here on. `zeros` is what of each region is registered, and need not be once the
    /// server is known to be one of ours; `unproven`, what need not be if it says so.
    pub(super) fn start(
        ram: GuestRam,
        placement: Vec<Region>,
        uffd: Arc<Uffd>,
        (zeros, unproven): (Vec<Vec<Range<usize>>>, Unproven),
        server: Server,
        options: &Options,
    ) -> Result<Self, Error> {
        let stop = Arc::new(Signal::new()?);
        let loss = Arc::new(Loss { lost: OnceLock::new(), told: Signal::new()? });
        let (tracks, is_foreign) = (uffd.tracks_writes(), server.may_be_foreign());
        let handshake =
            handover::handshake(&ram, &placement, options, tracks, (is_foreign, !unproven.is_empty()))?;
        let pages = Arc::new(Pages::new(ram, placement, uffd, loss, (zeros, unproven))?);
        match handover::hand_over(&server.stream, &handshake, pages.uffd()) {
            // It has hung up already, as it does on one VM too many: the watch finds that out, and looks for another.
            Err(error) if is_hung_up(&error) && server.path.is_some() => {}
            handed => handed.map_err(Error::HandOver)?,
        }
        let watch = watch::start(Arc::clone(&pages), server, handshake, options.timeout, Arc::clone(&stop))?;
        Ok(Self { pages, stop, watch: Some(watch) })
    }

    /// What becomes known of a loss.
    pub fn loss(&self) -> &Arc<Loss> {
        self.pages.loss()
    }

    /// Whether every page is there, and nobody is needed any more.
    pub fn is_complete(&self) -> bool {
        self.pages.is_complete()
    }

    /// Waits until every page is there, or `wanted` says that nobody wants that any more.
    ///
    /// # Errors
    /// One cannot be had.
    pub(super) fn fetch_all(&self, wanted: &dyn Fn() -> bool) -> Result<(), Error> {
        self.pages.fetch_all(wanted)
    }

    /// For as long as the guard lives, the memory is not taken away. Only pages that are there may be touched meanwhile.
    ///
    /// # Errors
    /// It is gone.
    pub(super) fn keep(&self) -> Result<MutexGuard<'_, ()>, Error> {
        self.pages.keep()
    }

    /// A way to end it from elsewhere.
    pub(super) fn knife(&self) -> Knife {
        Knife(Arc::clone(&self.pages))
    }

    /// Ends the delivering, and lets everybody go who waits for a page. Call only when nobody uses the memory any more.
    pub(super) fn let_go(&mut self) {
        if let Some(watch) = self.watch.take() {
            self.stop.give();
            // A panic there has been printed, and there is nothing left to watch over.
            let _ = watch.join();
            self.pages.let_go();
        }
    }

    /// What becomes known of pages that this process asks for itself.
    pub(super) fn probes(&self) -> Probes {
        Probes(Arc::clone(&self.pages))
    }
}

/// Pages that were asked for to see whether they come, and that the guest may not have touched.
#[derive(Debug)]
pub(super) struct Probes(Arc<Pages>);

impl Probes {
    /// All so far.
    pub(super) fn all(&self) -> Vec<OwnRun> {
        self.0.probed()
    }
}

impl Drop for Lazy {
    fn drop(&mut self) {
        self.let_go();
    }
}

/// What ends the waiting of a thread that cannot be told to stop.
#[derive(Debug)]
pub struct Knife(Arc<Pages>);

impl Knife {
    /// Whether somebody may be waiting for a page.
    pub fn may_be_needed(&self) -> bool {
        !self.0.is_complete()
    }

    /// Takes the memory away: whoever waits for a page comes out with an error, or stands still for good. The process has
    /// to end then.
    pub fn cut(&self) {
        self.0.take_away();
    }
}

/// Whether this process may have memory delivered.
///
/// # Errors
/// It may not, or the kernel cannot.
pub fn check() -> Result<(), Error> {
    Uffd::new(Faults::Delivered).map(drop).map_err(Error::Uffd)
}

fn is_hung_up(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

/// Something that one thread tells another.
#[derive(Debug)]
struct Signal(OwnedFd);

impl Signal {
    fn new() -> Result<Self, Error> {
        let made = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        made.map(Self).map_err(|errno| Error::Watch(errno.into()))
    }

    /// Makes it readable.
    fn give(&self) {
        // Fails only if it is full, and then it is readable.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }

    /// Makes it unreadable again.
    fn take(&self) {
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
    }
}
