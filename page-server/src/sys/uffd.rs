//! Somebody else's userfaultfd: its events, and pages placed in that process's memory.

use std::io::{self, IoSliceMut};
use std::mem::size_of;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use super::huge::{HUGE_BYTES, Staging};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl, readlink};
use rustix::io::{Errno, ReadWriteFlags, preadv2};
use userfaultfd::Uffd;

/// How many events are read at a time.
const BATCH: usize = 64;

/// Bytes of a `struct uffd_msg`, and what its first one says.
const MESSAGE_BYTES: usize = 32;
const PAGEFAULT: u8 = 0x12;
const FORK: u8 = 0x13;
const REMAP: u8 = 0x14;
const REMOVE: u8 = 0x15;
const UNMAP: u8 = 0x16;
/// The fault was a write.
const FLAG_WRITE: u64 = 1 << 0;

/// What `/proc` calls such a descriptor.
const NAME: &str = "anon_inode:[userfaultfd]";

/// `struct uffdio_copy` of linux/userfaultfd.h, and `struct uffdio_move`, which is alike.
#[repr(C)]
struct Copy {
    dst: u64,
    src: u64,
    len: u64,
    mode: u64,
    copy: i64,
}

/// `struct uffdio_zeropage`, and `struct uffdio_poison`, which is alike.
#[repr(C)]
struct Fill {
    start: u64,
    len: u64,
    mode: u64,
    filled: i64,
}

const _: () = assert!(size_of::<Copy>() == 40);
const _: () = assert!(size_of::<Fill>() == 32);

/// `_IOWR(0xaa, nr, type)` (asm-generic/ioctl.h).
const fn request(nr: u64, size: usize) -> u64 {
    (3 << 30) | ((size as u64) << 16) | (0xaa << 8) | nr
}

const UFFDIO_COPY: u64 = request(0x03, size_of::<Copy>());
const UFFDIO_ZEROPAGE: u64 = request(0x04, size_of::<Fill>());
/// Since Linux 6.8.
const UFFDIO_MOVE: u64 = request(0x05, size_of::<Copy>());
/// Since Linux 6.6.
const UFFDIO_POISON: u64 = request(0x08, size_of::<Fill>());
const COPY_MODE_WP: u64 = 1 << 1;

/// What the kernel tells of that process's memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A thread waits for the page at this address.
    Fault { address: u64, write: bool },
    /// These addresses were given back to the kernel (`MADV_DONTNEED`, `MADV_REMOVE`): they are zero from now on.
    Removed(Range<u64>),
    /// They are not mapped any more, or somewhere else.
    Unmapped(Range<u64>),
    /// The process has forked. What the child's descriptor is for is nobody's here: it was closed.
    Forked,
}

/// Whether pages may still be placed by those who share a userfaultfd.
#[derive(Default)]
struct Gate {
    is_shut: AtomicBool,
    /// Read for as long as a page is being placed.
    placing: RwLock<()>,
}

/// A userfaultfd of another process. Non-blocking.
pub(crate) struct Memory {
    uffd: Arc<Uffd>,
    gate: Arc<Gate>,
    /// Whether the kernel can be told for a single read that it is not to wait.
    can_be_told: bool,
    /// As on a kernel that has no `UFFDIO_POISON`.
    #[cfg(test)]
    pub(crate) lacks_poison: bool,
}

impl Memory {
    /// Takes a descriptor that came over a socket.
    ///
    /// # Errors
    /// It is something else.
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        let link = readlink(format!("/proc/self/fd/{}", fd.as_raw_fd()), Vec::new())?;
        if link.as_bytes() != NAME.as_bytes() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("the descriptor is no userfaultfd but `{}`", link.to_string_lossy()),
            ));
        }
        // Whoever made it may have forgotten; a blocking one could keep its session from everything else.
        fcntl_setfl(&fd, fcntl_getfl(&fd)? | OFlags::NONBLOCK)?;
        // SAFETY: the descriptor is owned by `fd`, which gives it up here, and it is a userfaultfd.
        let uffd = unsafe { Uffd::from_raw_fd(fd.into_raw_fd()) };
        Ok(Self {
            uffd: Arc::new(uffd),
            gate: Arc::default(),
            can_be_told: true,
            #[cfg(test)]
            lacks_poison: false,
        })
    }

    /// The same userfaultfd for another thread.
    pub(crate) fn share(&self) -> Self {
        Self {
            uffd: Arc::clone(&self.uffd),
            gate: Arc::clone(&self.gate),
            can_be_told: self.can_be_told,
            #[cfg(test)]
            lacks_poison: self.lacks_poison,
        }
    }

    /// Takes the userfaultfd from all others who share it: once this has returned true, they place no page and let no
    /// memory go any more (`ESRCH`), whatever they have read of it. Events may be read here from then on: nobody places
    /// an old page where one was removed.
    pub(crate) fn take_over(&mut self, deadline: Instant) -> bool {
        const BREATH: Duration = Duration::from_micros(100);
        self.gate.is_shut.store(true, Ordering::SeqCst);
        while let Err(TryLockError::WouldBlock) = self.gate.placing.try_write() {
            if Instant::now() >= deadline {
                return false;
            }
            thread::sleep(BREATH);
        }
        self.gate = Arc::default();
        true
    }

    /// Nobody takes the memory over while the guard lives.
    fn placing(&self) -> Result<RwLockReadGuard<'_, ()>, Errno> {
        let placing = self.gate.placing.read().unwrap_or_else(PoisonError::into_inner);
        if self.gate.is_shut.load(Ordering::SeqCst) { Err(Errno::SRCH) } else { Ok(placing) }
    }

    /// Reads what has happened since the last time; adds it to `events`. Says whether there may be more.
    ///
    /// # Errors
    /// The kernel does not tell: the process is gone, or never said which features it wants (`UFFDIO_API`).
    pub(crate) fn read(&mut self, events: &mut Vec<Event>) -> Result<bool, Errno> {
        let mut messages = [0; BATCH * MESSAGE_BYTES];
        let read = match self.read_now(&mut messages) {
            Err(Errno::AGAIN) => 0,
            read => read?,
        };
        let (whole, _) = messages[..read].as_chunks::<MESSAGE_BYTES>();
        events.extend(whole.iter().flat_map(known));
        Ok(whole.len() >= BATCH)
    }

    /// Reads without waiting, though the VMM, which has the same descriptor, may have it block by now: its session would
    /// outlive it. Linux before 6.10 cannot.
    fn read_now(&mut self, bytes: &mut [u8]) -> Result<usize, Errno> {
        /// Of no position.
        const ANYWHERE: u64 = u64::MAX;
        if self.can_be_told {
            let slices = &mut [IoSliceMut::new(bytes)];
            match preadv2(&self.uffd, slices, ANYWHERE, ReadWriteFlags::NOWAIT) {
                Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::SPIPE) => self.can_be_told = false,
                read => return read,
            }
        }
        rustix::io::read(&self.uffd, bytes)
    }

    /// Puts `bytes` at `address`, where no page is, and wakes whoever waits for it: as many bytes as could be placed
    /// before something was in the way, which the next call meets first.
    ///
    /// # Errors
    /// Nothing could be placed: `EEXIST`, there is a page; `EAGAIN`, events have to be read first; `ENOENT`, the range
    /// is not registered, or not all in one mapping; `ESRCH`, the process is gone, or the memory was taken over.
    pub(crate) fn copy(&self, address: u64, bytes: &[u8], protect: bool) -> Result<u64, Errno> {
        let _placing = self.placing()?;
        let mode = if protect { COPY_MODE_WP } else { 0 };
        let mut arg =
            Copy { dst: address, src: bytes.as_ptr() as u64, len: bytes.len() as u64, mode, copy: 0 };
        // SAFETY: `arg` has the layout of struct uffdio_copy; `src` and `len` are a live slice's, which the kernel reads;
        // what it writes to is another process's memory, as that process has asked for.
        let done = unsafe { libc::ioctl(self.uffd.as_raw_fd(), UFFDIO_COPY as _, &raw mut arg) };
        placed(done, arg.copy)
    }

    /// Puts the page that was made ready in `staging` at `address`, as it is: the huge page stays one if nothing was ever
    /// there. Call only if the memory is this process's own: the kernel looks for `staging` in the process that the
    /// descriptor is of. As [`Self::copy`].
    pub(crate) fn move_in(&self, address: u64, staging: &mut Staging) -> Result<u64, Errno> {
        let _placing = self.placing()?;
        let mut arg = Copy { dst: address, src: staging.address(), len: HUGE_BYTES, mode: 0, copy: 0 };
        // SAFETY: `arg` has the layout of struct uffdio_move; the page that goes is one of `staging`, which is borrowed,
        // and what is left of it there is zeros; the memory's owner has asked for what comes.
        let done = unsafe { libc::ioctl(self.uffd.as_raw_fd(), UFFDIO_MOVE as _, &raw mut arg) };
        placed(done, arg.copy)
    }

    /// Puts zeros there. As [`Self::copy`]; `EINVAL` where pages are of hugetlbfs.
    pub(crate) fn zero(&self, address: u64, len: u64) -> Result<u64, Errno> {
        let _placing = self.placing()?;
        let mut arg = Fill { start: address, len, mode: 0, filled: 0 };
        // SAFETY: `arg` has the layout of struct uffdio_zeropage.
        let done = unsafe { libc::ioctl(self.uffd.as_raw_fd(), UFFDIO_ZEROPAGE as _, &raw mut arg) };
        placed(done, arg.filled)
    }

    /// Makes whoever touches these addresses fail (SIGBUS) rather than wait for ever. As [`Self::copy`].
    pub(crate) fn poison(&self, address: u64, len: u64) -> Result<u64, Errno> {
        let _placing = self.placing()?;
        #[cfg(test)]
        if self.lacks_poison {
            return Err(Errno::INVAL);
        }
        let mut arg = Fill { start: address, len, mode: 0, filled: 0 };
        // SAFETY: `arg` has the layout of struct uffdio_poison.
        let done = unsafe { libc::ioctl(self.uffd.as_raw_fd(), UFFDIO_POISON as _, &raw mut arg) };
        placed(done, arg.filled)
    }

    /// Whether the kernel has `UFFDIO_POISON` (Linux 6.6). The argument of the request is at an address that no process has:
    /// a kernel that knows the request cannot read it (`EFAULT`), or wants events to be read first (`EAGAIN`); any other
    /// answers `EINVAL` (`userfaultfd_ioctl`).
    pub(crate) fn can_poison(&self) -> bool {
        #[cfg(test)]
        if self.lacks_poison {
            return false;
        }
        // SAFETY: the kernel reads nothing there, because the address is beyond those of any process.
        let done = unsafe { libc::ioctl(self.uffd.as_raw_fd(), UFFDIO_POISON as _, usize::MAX) };
        let answer = Errno::from_io_error(&io::Error::last_os_error());
        done != 0 && matches!(answer, Some(Errno::FAULT | Errno::AGAIN))
    }

    /// Wakes whoever waits for a page there; whose page is still missing asks again.
    pub(crate) fn wake(&self, address: u64, len: u64) {
        // Fails only for a range that is no range, and then nobody waits there.
        let _ = self.uffd.wake(address as *mut libc::c_void, len as usize);
    }

    /// Makes these addresses ordinary memory, whose missing pages are zero, and wakes whoever waits there.
    pub(crate) fn unregister(&self, address: u64, len: u64) -> Result<(), Errno> {
        let _placing = self.placing()?;
        match self.uffd.unregister(address as *mut libc::c_void, len as usize) {
            Err(userfaultfd::Error::SystemError(errno)) => Err(Errno::from_raw_os_error(errno as i32)),
            Err(_) => Err(Errno::IO),
            Ok(()) => Ok(()),
        }
    }
}

impl AsFd for Memory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.uffd.as_fd()
    }
}

/// What a call that places pages has done. The kernel says `EAGAIN` both for a part that was placed, with its length,
/// and for nothing, with a negative number in its place.
fn placed(done: libc::c_int, count: i64) -> Result<u64, Errno> {
    if done == 0 {
        return Ok(count.unsigned_abs());
    }
    let errno = Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO);
    match u64::try_from(count) {
        Ok(count) if errno == Errno::AGAIN && count > 0 => Ok(count),
        _ => Err(errno),
    }
}

/// What a `struct uffd_msg` of linux/userfaultfd.h says. One that is not known is of a feature that nobody here asked for.
fn known(message: &[u8; MESSAGE_BYTES]) -> impl Iterator<Item = Event> + use<> {
    let word = |at: usize| {
        let bytes = message[at..].first_chunk().expect("a message has four words");
        u64::from_ne_bytes(*bytes)
    };
    let [first, second, third] = [8, 16, 24].map(word);
    let (event, also) = match message[0] {
        PAGEFAULT => (Some(Event::Fault { address: second, write: first & FLAG_WRITE != 0 }), None),
        REMOVE => (Some(Event::Removed(first..second)), None),
        UNMAP => (Some(Event::Unmapped(first..second)), None),
        REMAP => {
            let gone = |start: u64| Event::Unmapped(start..start.saturating_add(third));
            (Some(gone(first)), Some(gone(second)))
        }
        FORK => {
            // The low half of the word, on the only architecture that there is.
            let child = first as u32 as RawFd;
            // SAFETY: the kernel has made the descriptor for whoever reads the message, which is done once.
            drop(unsafe { OwnedFd::from_raw_fd(child) });
            (Some(Event::Forked), None)
        }
        _ => (None, None),
    };
    event.into_iter().chain(also)
}
