//! SIGTERM, SIGINT and SIGHUP as descriptors to poll, and SIGXFSZ as an error.

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

    /// The same, unless whoever started this process wants it ignored (nohup): blocked, it would be queued.
    pub(crate) fn watch_hang_ups_unless_ignored() -> io::Result<Option<Self>> {
        if is_ignored(libc::SIGHUP) { Ok(None) } else { Self::watch_hang_ups().map(Some) }
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

fn is_ignored(signal: libc::c_int) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: asks for the action of a valid signal, into a structure of the right type, and sets none.
    let asked = unsafe { libc::sigaction(signal, ptr::null(), action.as_mut_ptr()) };
    // SAFETY: all zeros is a valid `sigaction`, and the call may have filled it in.
    let action = unsafe { action.assume_init() };
    asked == 0 && action.sa_sigaction == libc::SIG_IGN
}

/// Lets a write beyond the process's file size limit fail with EFBIG instead of ending the process (SIGXFSZ,
/// setrlimit(2)): VMs must outlive a trace or a log that cannot be written.
pub(crate) fn survive_file_size_limit() -> io::Result<()> {
    // SAFETY: ignoring a signal installs no code.
    let before = unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    if before == libc::SIG_ERR { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Keeps every signal from the calling thread: they are for the first one.
pub(crate) fn block_all() {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: fills the set in.
    unsafe { libc::sigfillset(set.as_mut_ptr()) };
    // SAFETY: the set was filled in; the call fails only for an unknown way of changing the mask.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), ptr::null_mut()) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_size_limit_ends_no_process() {
        survive_file_size_limit().unwrap();
        assert!(is_ignored(libc::SIGXFSZ));
        // SAFETY: a signal that there is, and which is ignored.
        assert_eq!(unsafe { libc::raise(libc::SIGXFSZ) }, 0);
    }

    #[test]
    fn a_hang_up_is_watched_unless_it_is_ignored() {
        let dispose = |how| {
            // SAFETY: neither the default nor ignoring installs code.
            assert_ne!(unsafe { libc::signal(libc::SIGHUP, how) }, libc::SIG_ERR);
        };
        dispose(libc::SIG_IGN);
        assert!(EndSignals::watch_hang_ups_unless_ignored().unwrap().is_none());
        dispose(libc::SIG_DFL);
        let mut watched = EndSignals::watch_hang_ups_unless_ignored().unwrap().unwrap();
        assert!(!watched.take());
        // SAFETY: a signal that there is, for this thread, which has it blocked.
        assert_eq!(unsafe { libc::raise(libc::SIGHUP) }, 0);
        assert!(watched.take() && !watched.take());
    }
}
