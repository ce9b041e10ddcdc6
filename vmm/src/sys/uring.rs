//! Reads and writes of files that go on while the caller does something else (io_uring(7)).
//!
//! Knows files, guest memory and slots of a ring; what an operation is for is the caller's tag.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;

use io_uring::{IoUring, opcode, squeue, types};
use libc::iovec;
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestRegionCollection};

use super::ram::RamRegion;

/// Guest memory that an operation reads or fills.
type Memory = GuestRegionCollection<RamRegion>;

/// The most pieces of memory in one operation (`UIO_MAXIOV`).
const MOST_PIECES: usize = 1024;

/// A ring, and the operations that are on their way. Dropping it waits for them.
pub(crate) struct Uring<T> {
    ring: IoUring,
    /// By slot, which is the operation's `user_data`.
    flights: Vec<Option<Flight<T>>>,
}

/// An operation on its way, with everything that the kernel uses until it is done.
struct Flight<T> {
    tag: T,
    _pieces: Pieces,
    _file: Arc<File>,
    _memory: Memory,
}

/// Addresses in guest memory.
struct Pieces {
    _list: Box<[iovec]>,
}

// SAFETY: the addresses are of mappings that belong to no thread, and nothing here dereferences them.
unsafe impl Send for Pieces {}

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transfer {
    /// From the file into memory.
    Read,
    /// From memory into the file.
    Write,
    /// Everything that was written before, to the disk (`fdatasync(2)`).
    Sync,
}

impl<T> std::fmt::Debug for Uring<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Uring").field("is_idle", &self.is_idle()).finish_non_exhaustive()
    }
}

impl<T> Uring<T> {
    /// A ring with room for `depth` operations, that writes `completed` whenever one is done.
    pub(crate) fn new(depth: u32, completed: BorrowedFd<'_>) -> io::Result<Self> {
        let ring = IoUring::new(depth)?;
        ring.submitter().register_eventfd(completed.as_raw_fd())?;
        Ok(Self { ring, flights: (0..depth).map(|_| None).collect() })
    }

    /// Whether one more operation can be begun.
    pub(crate) fn has_room(&self) -> bool {
        self.flights.iter().any(Option::is_none)
    }

    /// Whether nothing is on its way, or about to be.
    pub(crate) fn is_idle(&self) -> bool {
        self.flights.iter().all(Option::is_none)
    }

    /// Begins an operation on `file` from byte `at` on, with the memory at `parts`. The kernel hears of it with
    /// [`Self::submit`]. Gives the tag back if a part lies outside of memory or across two regions, there are more
    /// than [`MOST_PIECES`], or there is no room.
    pub(crate) fn begin(
        &mut self,
        tag: T,
        transfer: Transfer,
        file: &Arc<File>,
        at: u64,
        memory: &Memory,
        parts: impl Iterator<Item = (GuestAddress, usize)>,
    ) -> Option<T> {
        let piece = |(gpa, len): (GuestAddress, usize)| {
            let slice = memory.get_slice(gpa, len).ok()?;
            Some(iovec { iov_base: slice.ptr_guard_mut().as_ptr().cast(), iov_len: len })
        };
        let pieces: Option<Box<[iovec]>> = parts.map(piece).collect();
        let free = self.flights.iter().position(Option::is_none);
        let (Some(pieces), Some(slot)) = (pieces.filter(|pieces| pieces.len() <= MOST_PIECES), free) else {
            return Some(tag);
        };
        let (fd, count) = (types::Fd(file.as_raw_fd()), pieces.len() as u32);
        let entry: squeue::Entry = match transfer {
            Transfer::Read => opcode::Readv::new(fd, pieces.as_ptr(), count).offset(at).build(),
            Transfer::Write => opcode::Writev::new(fd, pieces.as_ptr(), count).offset(at).build(),
            Transfer::Sync => opcode::Fsync::new(fd).flags(types::FsyncFlags::DATASYNC).build(),
        };
        // SAFETY: the descriptor, the list of pieces and the memory that they name are owned by the flight, which
        // stays in its slot until the kernel says that the operation is done; moving the box does not move the list.
        let pushed = unsafe { self.ring.submission().push(&entry.user_data(slot as u64)) };
        if pushed.is_err() {
            return Some(tag);
        }
        self.flights[slot] = Some(Flight {
            tag,
            _pieces: Pieces { _list: pieces },
            _file: Arc::clone(file),
            _memory: memory.clone(),
        });
        None
    }

    /// Tells the kernel of what was begun.
    ///
    /// # Errors
    /// The kernel refuses the ring altogether.
    pub(crate) fn submit(&mut self) -> io::Result<()> {
        if self.ring.submission().is_empty() { Ok(()) } else { self.enter(0) }
    }

    /// Tells the kernel of what was begun, and waits until an operation is done, if one is on its way.
    ///
    /// # Errors
    /// As [`Self::submit`].
    pub(crate) fn wait(&mut self) -> io::Result<()> {
        if self.is_idle() { Ok(()) } else { self.enter(1) }
    }

    fn enter(&mut self, wanted: usize) -> io::Result<()> {
        loop {
            match self.ring.submit_and_wait(wanted) {
                Ok(_) if self.ring.submission().is_empty() => return Ok(()),
                Ok(_) => {}
                // The kernel is short of memory for the moment, or was interrupted: it has taken nothing.
                Err(e)
                    if [Some(libc::EINTR), Some(libc::EAGAIN), Some(libc::EBUSY)]
                        .contains(&e.raw_os_error()) =>
                {
                    std::thread::yield_now();
                }
                Err(e) => return Err(e),
            }
        }
    }

    /// The next operation that is done: its tag, and how many bytes it has moved.
    pub(crate) fn done(&mut self) -> Option<(T, io::Result<usize>)> {
        let entry = self.ring.completion().next()?;
        let flight = self.flights.get_mut(entry.user_data() as usize)?.take()?;
        let moved = usize::try_from(entry.result());
        Some((flight.tag, moved.map_err(|_| io::Error::from_raw_os_error(-entry.result()))))
    }
}

impl<T> Drop for Uring<T> {
    fn drop(&mut self) {
        while !self.is_idle() {
            if self.wait().is_err() {
                // The kernel may still use the memory: it must stay where it is, for ever.
                self.flights.drain(..).for_each(std::mem::forget);
                return;
            }
            while self.done().is_some() {}
        }
    }
}
