//! A TAP interface of the host, attached. Knows frames with their headers, and nothing of queues.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use libc::{TUN_F_CSUM, TUN_F_TSO_ECN, TUN_F_TSO4, TUN_F_TSO6};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::net::netdevice::name_to_index;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use vm_memory::VolatileSlice;

use super::HEADER;
use super::features::feature;
use crate::config::TapName;
use crate::sys::{tap, vectored};

/// Where TAPs are attached.
const TUN: &str = "/dev/net/tun";

/// Why a TAP cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such interface. It is not created: it would belong to nobody, and be no part of any network.
    #[error("there is no network interface `{tap}`")]
    NoSuch {
        /// Its name.
        tap: String,
    },
    /// It is an interface of another kind.
    #[error("network interface `{tap}` is not a TAP with one queue")]
    Kind {
        /// Its name.
        tap: String,
    },
    /// Another VM has it.
    #[error("TAP `{tap}` is in use by another process")]
    Busy {
        /// Its name.
        tap: String,
    },
    /// It belongs to somebody else.
    #[error("TAP `{tap}` is not ours to use")]
    Denied {
        /// Its name.
        tap: String,
    },
    /// TAPs cannot be attached at all.
    #[error("cannot open {TUN}")]
    Open(#[source] io::Error),
    /// The kernel does not do what every kernel of the last decade does.
    #[error("cannot set up TAP `{tap}`")]
    SetUp {
        /// Its name.
        tap: String,
        /// What the system answered.
        #[source]
        source: io::Error,
    },
    /// It carries shorter packets than the guest was told.
    #[error(
        "TAP `{tap}` has an MTU of {mtu}, the guest's interface one of {guest}: longer packets would be lost"
    )]
    Mtu {
        /// Its name.
        tap: String,
        /// Its MTU.
        mtu: u16,
        /// What the guest was told when it booted.
        guest: u16,
    },
    /// The image's name for the interface is none.
    #[error("network interface id `{id}` of the image makes no sense")]
    Id {
        /// As saved.
        id: String,
    },
    /// The image says what no TAP can be.
    #[error("the image's record of TAP `{tap}` makes no sense")]
    Record {
        /// As saved.
        tap: String,
    },
}

/// What has come of a wish for a frame.
#[derive(Debug)]
pub(super) enum Received {
    /// A header and a frame, of so many bytes together.
    Frame(u32),
    /// A frame that did not fit, or was none. It is lost.
    Useless,
    /// Nothing is there.
    Nothing,
    /// Nothing will ever be.
    Lost(io::Error),
}

/// What has become of a frame.
#[derive(Debug)]
pub(super) enum Sent {
    /// It is on its way.
    Yes,
    /// It was refused, because of itself or of the interface's state: as on any wire, it is lost.
    Refused(io::Error),
    /// There is no room for it now.
    NotNow,
    /// The TAP is gone.
    Lost(io::Error),
}

/// A TAP interface, attached for as long as this lives.
#[derive(Debug)]
pub struct Tap {
    name: TapName,
    fd: OwnedFd,
    mtu: u16,
    /// Whether it is a TAP, and not a socket that stands for one.
    is_tap: bool,
    /// Frames lost on this side of the TAP.
    losses: AtomicU64,
}

impl Tap {
    /// Attaches the TAP `name`.
    ///
    /// # Errors
    /// It does not exist, is something else, or is not to be had.
    pub fn open(name: &TapName) -> Result<Self, Error> {
        let tap = || name.as_str().to_owned();
        let set_up = |source: io::Error| Error::SetUp { tap: tap(), source };
        let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None);
        let socket = socket.map_err(|e| set_up(e.into()))?;
        let index = || name_to_index(&socket, name.as_str());
        let before = index().map_err(|_| Error::NoSuch { tap: tap() })?;
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = open(TUN, flags, Mode::empty()).map_err(|e| Error::Open(e.into()))?;
        tap::attach(fd.as_fd(), name.as_str()).map_err(|e| match Errno::from_io_error(&e) {
            Some(Errno::BUSY) => Error::Busy { tap: tap() },
            Some(Errno::INVAL) => Error::Kind { tap: tap() },
            Some(Errno::PERM) => Error::Denied { tap: tap() },
            _ => set_up(e),
        })?;
        // Had it gone meanwhile, there would be a new one of that name now, which goes with the descriptor.
        if index() != Ok(before) {
            return Err(Error::NoSuch { tap: tap() });
        }
        tap::set_header_len(fd.as_fd(), HEADER as i32).map_err(set_up)?;
        let mtu = tap::mtu(socket.as_fd(), name.as_str()).map_err(set_up)?;
        let mtu = u16::try_from(mtu).unwrap_or(u16::MAX);
        Ok(Self { name: name.clone(), fd, mtu, is_tap: true, losses: AtomicU64::new(0) })
    }

    /// A datagram socket that stands for a TAP: what its peer sends are headers with frames.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn of_socket(name: &TapName, fd: OwnedFd) -> Self {
        Self { name: name.clone(), fd, mtu: 1500, is_tap: false, losses: AtomicU64::new(0) }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &TapName {
        &self.name
    }

    /// The longest packet that it carries, in bytes, as it was when it was attached.
    #[must_use]
    pub fn mtu(&self) -> u16 {
        self.mtu
    }

    /// Lets the host hand over what a driver with these features takes: packets without a checksum, and segments that
    /// are not cut up yet.
    pub(super) fn set_offload(&self, features: u64) {
        let mut flags = 0;
        // The rest presupposes the first (5.1.3.1), for the kernel as well.
        if features & feature::GUEST_CSUM != 0 {
            let all = [
                (feature::GUEST_CSUM, TUN_F_CSUM),
                (feature::GUEST_TSO4, TUN_F_TSO4),
                (feature::GUEST_TSO6, TUN_F_TSO6),
                (feature::GUEST_ECN, TUN_F_TSO_ECN),
            ];
            flags = all
                .iter()
                .filter(|(feature, _)| features & feature != 0)
                .fold(0, |all, (_, flag)| all | flag);
        }
        let done = if self.is_tap { tap::set_offload(self.fd.as_fd(), flags) } else { Ok(()) };
        if let Err(error) = done {
            // It is gone, then, as the next frame will tell.
            tracing::debug!(%error, tap = self.name.as_str(), "the TAP takes no offloads");
        }
    }

    pub(super) fn receive(&self, memory: &[VolatileSlice<'_>]) -> Received {
        match vectored::receive(self.fd.as_fd(), memory) {
            // The end of a file.
            Ok(Some(0)) => Received::Lost(io::ErrorKind::UnexpectedEof.into()),
            Ok(Some(len)) => match u32::try_from(len) {
                Ok(len) if len >= HEADER => Received::Frame(len),
                _ => Received::Useless,
            },
            Ok(None) => Received::Useless,
            Err(e) => match Errno::from_io_error(&e) {
                Some(Errno::AGAIN | Errno::INTR) => Received::Nothing,
                // The kernel is short of something, or could not make sense of a packet.
                Some(Errno::NOMEM | Errno::NOBUFS | Errno::INVAL) => Received::Useless,
                _ => Received::Lost(e),
            },
        }
    }

    pub(super) fn send(&self, memory: &[VolatileSlice<'_>]) -> Sent {
        match vectored::send(self.fd.as_fd(), memory) {
            Ok(()) => Sent::Yes,
            Err(e) => match Errno::from_io_error(&e) {
                Some(Errno::AGAIN) => Sent::NotNow,
                Some(Errno::BADFD | Errno::BADF | Errno::PIPE | Errno::CONNREFUSED) => Sent::Lost(e),
                _ => Sent::Refused(e),
            },
        }
    }
}

impl Tap {
    /// A frame was lost that was none, did not fit, or had nowhere to go. A guest may lose as many as it likes, so the
    /// log hears of each power of two.
    pub(super) fn count_loss(&self) {
        let losses = self.losses.fetch_add(1, Ordering::Relaxed) + 1;
        if losses.is_power_of_two() {
            tracing::debug!(losses, tap = self.name.as_str(), "frames were lost");
        }
    }

    /// A frame was lost because the kernel did not want it.
    pub(super) fn refuse(&self, error: &io::Error) {
        if self.losses.load(Ordering::Relaxed) == 0 {
            tracing::debug!(%error, tap = self.name.as_str(), "the TAP refuses a frame of the guest");
        }
        self.count_loss();
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
