//! The signals that ask a process to end, as something to poll instead of something that strikes.

use std::fs::File;
use std::io::{self, Read};
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::ptr;

/// The signals that ask a VM to end.
const ENDING: [libc::c_int; 3] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP];

/// Leaves the signals that ask a VM to end to other threads. Call first thing in a thread that may be started before
/// [`EndSignals::watch`]: it would be struck.
pub(crate) fn leave_to_others() {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises the set that it is given.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    for signal in ENDING {
        // SAFETY: the set is initialised, and these are signals.
        unsafe { libc::sigaddset(set.as_mut_ptr(), signal) };
    }
    // SAFETY: the set is initialised; no old mask is asked for. Fails for bad arguments only.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), ptr::null_mut()) };
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
/// setrlimit(2)): a guest must outlive a snapshot that cannot be written.
pub(crate) fn survive_file_size_limit() -> io::Result<()> {
    // SAFETY: ignoring a signal installs no code.
    let before = unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    if before == libc::SIG_ERR { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Readable when one of SIGTERM, SIGINT and SIGHUP has come.
#[derive(Debug)]
pub(crate) struct EndSignals(File);

impl EndSignals {
    /// Blocks the signals for this thread and all that it starts from now on, and watches them. Call before any
    /// other thread is started: one that has them unblocked would be struck.
    pub(crate) fn watch() -> io::Result<Self> {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigemptyset initialises the set that it is given.
        unsafe { libc::sigemptyset(set.as_mut_ptr()) };
        // What whoever started us wants ignored (nohup, a background job) stays ignored: blocked, it would be queued.
        for signal in ENDING.into_iter().filter(|&signal| !is_ignored(signal)) {
            // SAFETY: the set is initialised, and these are signals.
            unsafe { libc::sigaddset(set.as_mut_ptr(), signal) };
        }
        // SAFETY: the set is initialised; no old mask is asked for.
        let blocked = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), ptr::null_mut()) };
        if blocked != 0 {
            return Err(io::Error::from_raw_os_error(blocked));
        }
        // SAFETY: the set is initialised; -1 asks for a new descriptor.
        let fd = unsafe { libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a new descriptor that nobody else owns.
        Ok(Self(unsafe { File::from_raw_fd(fd) }))
    }

    /// The same signals for another thread, which only asks whether there are any.
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// Whether a signal has come that [`Self::take`] has not taken.
    pub(crate) fn is_pending(&self) -> bool {
        let mut fd = libc::pollfd { fd: self.0.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one live pollfd, and no waiting.
        unsafe { libc::poll(&raw mut fd, 1, 0) > 0 }
    }

    /// The next signal that has come; never blocks.
    pub(crate) fn take(&mut self) -> Option<i32> {
        let mut info = [0u8; size_of::<libc::signalfd_siginfo>()];
        self.0.read_exact(&mut info).ok()?;
        // `ssi_signo` is the first field of the structure.
        let number = u32::from_ne_bytes([info[0], info[1], info[2], info[3]]);
        i32::try_from(number).ok()
    }
}

impl AsRawFd for EndSignals {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
