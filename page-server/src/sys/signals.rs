//! SIGTERM and SIGINT as a descriptor to poll.

use std::fs::File;
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

/// The signals that ask a server to end.
const SIGNALS: [libc::c_int; 2] = [libc::SIGTERM, libc::SIGINT];

/// Blocked from here on, and read instead.
#[derive(Debug)]
pub(crate) struct EndSignals(File);

impl EndSignals {
    /// Call in the first thread before any other is started, so that all inherit the mask.
    pub(crate) fn watch() -> io::Result<Self> {
        Self::of(&SIGNALS)
    }

    /// The same for SIGHUP.
    pub(crate) fn watch_hang_ups() -> io::Result<Self> {
        Self::of(&[libc::SIGHUP])
    }

    fn of(signals: &[libc::c_int]) -> io::Result<Self> {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: fills the set in.
        unsafe { libc::sigemptyset(set.as_mut_ptr()) };
        // SAFETY: the call before has filled it in.
        let mut set = unsafe { set.assume_init() };
        for signal in signals.iter().copied() {
            // SAFETY: a valid set, and a signal that there is.
            unsafe { libc::sigaddset(&raw mut set, signal) };
        }
        // SAFETY: a valid set; the old mask is not asked for.
        let blocked = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, ptr::null_mut()) };
        if blocked != 0 {
            return Err(io::Error::from_raw_os_error(blocked));
        }
        // SAFETY: a valid set.
        let fd = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new, and nobody else's.
        Ok(Self(File::from(unsafe { OwnedFd::from_raw_fd(fd) })))
    }

    /// Whether one has come since the last time.
    pub(crate) fn take(&mut self) -> bool {
        let mut about = [0; size_of::<libc::signalfd_siginfo>()];
        self.0.read_exact(&mut about).is_ok()
    }
}

impl AsFd for EndSignals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Keeps every signal from the calling thread: they are for the first one.
pub(crate) fn block_all() {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: fills the set in.
    unsafe { libc::sigfillset(set.as_mut_ptr()) };
    // SAFETY: the set was filled in; the call fails only for an unknown way of changing the mask.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), ptr::null_mut()) };
}
