//! One VM: from its connection to its end.
//!
//! `accept` receives the handshake, `run` is the loop. A session has a thread of its own, and everything
//! that it is told may be a lie: what it takes is bounded by what is served, and what it does to memory is what that
//! memory's owner has asked for.

mod accept;
mod foreign;
mod lookout;
mod lost;
mod peer;
mod run;
#[cfg(test)]
mod slow_test;

use std::io;
use std::num::NonZero;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::fault::{Deliverer, Ended, Grain};
use crate::image::Served;
use crate::prefetch::Queue;
use crate::stats::Stats;
use crate::trace::Trace;

pub(crate) use accept::{Received, receive, turn_away};
pub(crate) use foreign::Foreigners;
use lookout::Lookout;
use peer::Peer;
pub(crate) use run::{End, chain};

/// How sessions are served.
#[derive(Clone, Debug)]
pub struct Options {
    /// How much is delivered for a fault.
    pub grain: Grain,
    /// For how long a session looks for the next fault before it sleeps.
    pub poll: Duration,
    /// Whether working sets are delivered ahead.
    pub prefetch: bool,
    /// Where every fault is written down.
    pub trace: Option<Arc<Trace>>,
    /// How long a connection may take to say what it wants.
    pub handshake: Duration,
    /// Whether VMs of ours are left to the next server when this one is to end, rather than given all their pages.
    pub handover: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            grain: Grain::default(),
            poll: Duration::from_micros(50),
            prefetch: true,
            trace: None,
            handshake: Duration::from_secs(5),
            handover: false,
        }
    }
}

/// How many CPUs this process may use.
fn cpus() -> usize {
    static CPUS: OnceLock<usize> = OnceLock::new();
    *CPUS.get_or_init(|| std::thread::available_parallelism().map_or(1, NonZero::get))
}

/// Why a connection becomes no session.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The connection broke.
    #[error("cannot receive the handshake")]
    Receive(#[source] Errno),
    /// The other side closed it.
    #[error("the connection was closed after {len} bytes of a handshake")]
    Closed {
        /// How many had come.
        len: usize,
    },
    /// It said nothing, or not all.
    #[error("no whole handshake within {limit:?}")]
    Late {
        /// How long was waited.
        limit: Duration,
    },
    /// What it said is no handshake.
    #[error("the handshake is refused")]
    Handshake(#[source] snapshot_format::handoff::Error),
    /// More bytes than any handshake has.
    #[error("the handshake is longer than {max} bytes")]
    TooLong {
        /// How many there may be.
        max: usize,
    },
    /// No descriptor came along, or more than one.
    #[error("{count} descriptors came with the handshake, where there is one userfaultfd")]
    Descriptors {
        /// How many.
        count: usize,
    },
    /// One came along, and this process had no room for it. Whoever sent it may do so again.
    #[error("no descriptor is left for the userfaultfd that came with the handshake")]
    NoRoom,
    /// It is something else.
    #[error("cannot use the descriptor that came with the handshake")]
    Descriptor(#[source] io::Error),
    /// Its image is not served here.
    #[error("no image `{id}` is served here")]
    NoSuchImage {
        /// As the VMM calls it.
        id: String,
    },
    /// It does not say which, and several would fit, or none.
    #[error("the VMM does not name its image, and {fitting} of those served fit its {bytes} bytes of memory")]
    Which {
        /// How many fit.
        fitting: usize,
        /// Where its memory ends in the file.
        bytes: u64,
    },
    /// Its regions go beyond the image.
    #[error("the VMM wants memory up to {end:#x} of an image of {len:#x} bytes")]
    Beyond {
        /// Where its regions end in the file.
        end: u64,
        /// The image's length.
        len: u64,
    },
}

/// A VM that is served.
pub(crate) struct Session {
    socket: UnixStream,
    deliverer: Deliverer,
    ahead: Queue,
    /// Whether the VMM understands what a server says.
    is_ours: bool,
    /// The process of a VMM that does not.
    peer: Option<Arc<Peer>>,
    /// The first page that is lost to it.
    lost: Option<Ended>,
    /// How many are.
    losses: u64,
    /// A page is lost, could not be poisoned, and the process could not be ended: its memory must stay registered.
    is_kept: bool,
    lookout: Lookout,
    options: Options,
}

impl Session {
    /// The VM is this very process: huge pages can be made ready here and moved there.
    pub(crate) fn serves_itself(&mut self) {
        if self.deliverer.use_huge_pages(self.ahead.left()) {
            self.ahead.prefer_huge_pages();
        }
    }

    /// Everything that was received, and what is served, put together. A VMM of ours that is refused is told why.
    ///
    /// # Errors
    /// They do not fit.
    pub(crate) fn new(
        mut received: Received,
        served: &[Arc<Served>],
        options: &Options,
        stats: Stats,
    ) -> Result<Self, Error> {
        match accept::choose(&received.handshake, served) {
            Ok(image) => Ok(accept::session(received, image, options, stats)),
            Err(error) => {
                let is_ours = received.handshake.hello.is_some();
                accept::refuse(&mut received.socket, is_ours, &error);
                if let Some(foreign) = received.foreign() {
                    lost::forsake(foreign, Instant::now() + lost::FORSAKING);
                }
                Err(error)
            }
        }
    }
}
