//! A userfaultfd (userfaultfd(2)): faults on registered memory wait until somebody delivers the page.
//!
//! Knows addresses and lengths, and leaves reading the faults to whoever the descriptor is handed to.

use std::ffi::c_void;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use userfaultfd::{FeatureFlags, RegisterMode, UffdBuilder};

/// `UFFD_FEATURE_WP_ASYNC` of linux/userfaultfd.h: a write to a protected page takes the protection off and goes on, and
/// the page map tells later. Since Linux 6.7.
const WP_ASYNC: FeatureFlags = FeatureFlags::from_bits_retain(1 << 15);
/// `UFFDIO_REGISTER_MODE_WP` of linux/userfaultfd.h.
const MODE_WP: RegisterMode = RegisterMode::from_bits_retain(1 << 1);

/// What happens to registered memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Faults {
    /// A page that is not there is waited for.
    Delivered,
    /// As well, and pages that are delivered write-protected tell whether they were written.
    DeliveredAndTracked,
    /// Pages come as they would, one by one: the kernel maps no neighbours along.
    OneByOne,
}

/// A userfaultfd.
#[derive(Debug)]
pub(crate) struct Uffd {
    fd: userfaultfd::Uffd,
    faults: Faults,
}

impl Uffd {
    /// A new one, that also serves faults of the kernel's own (KVM's, a system call's), which is a privilege:
    /// `/dev/userfaultfd` gives it, and where there is none CAP_SYS_PTRACE does.
    ///
    /// # Errors
    /// The errno of whatever the kernel refuses; EINVAL if it cannot track writes.
    pub(crate) fn new(faults: Faults) -> io::Result<Self> {
        let features = match faults {
            Faults::Delivered => FeatureFlags::empty(),
            Faults::DeliveredAndTracked | Faults::OneByOne => WP_ASYNC,
        };
        let mut builder = UffdBuilder::new();
        builder.close_on_exec(true).non_blocking(true).user_mode_only(false).require_features(features);
        Ok(Self { fd: builder.create().map_err(errno)?, faults })
    }

    /// Whether pages that are delivered tell whether they were written.
    pub(crate) fn tracks_writes(&self) -> bool {
        self.faults == Faults::DeliveredAndTracked
    }

    /// Registers `len` bytes from `start`, whole pages of this process. Those that are there stay as they are.
    pub(crate) fn register(&self, start: usize, len: usize) -> io::Result<()> {
        let mode = match self.faults {
            Faults::Delivered => RegisterMode::MISSING,
            Faults::DeliveredAndTracked => RegisterMode::MISSING | MODE_WP,
            Faults::OneByOne => MODE_WP,
        };
        self.fd.register_with_mode(start as *mut c_void, len, mode).map(drop).map_err(errno)
    }

    /// Takes `len` bytes from `start` out: what is missing there is as if it had never been registered. Whoever waits
    /// for a page of them goes on. Parts that are not registered do no harm.
    pub(crate) fn unregister(&self, start: usize, len: usize) -> io::Result<()> {
        self.fd.unregister(start as *mut c_void, len).map_err(errno)
    }

    /// Lets everybody who waits for a page there try again, whatever is mapped by now.
    pub(crate) fn wake(&self, start: usize, len: usize) -> io::Result<()> {
        self.fd.wake(start as *mut c_void, len).map_err(errno)
    }
}

impl AsFd for Uffd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn errno(error: userfaultfd::Error) -> io::Error {
    match error {
        userfaultfd::Error::SystemError(errno) => io::Error::from_raw_os_error(errno as i32),
        userfaultfd::Error::OpenDevUserfaultfd(error) => error,
        other => io::Error::other(other),
    }
}
