//! Requests that need not wait for the host's disk: what is in the page cache, and writes into it.
//!
//! To copy 4 KiB takes less time than to tell a ring of it, and far less than the kernel's workers take, to which a ring
//! hands each buffered write on file systems that cannot say whether it would wait (ext4: `ext4_buffered_write_iter` refuses
//! `IOCB_NOWAIT`). There a write is tried as any program's is; one that takes long sends the next ones to the ring.
//!
//! Only this queue's requests wait for a copy that is made here: the thread is the device's own.

use std::fs::File;
use std::io;
use std::time::{Duration, Instant};

use vm_memory::VolatileSlice;

use super::Blk;
use super::request::{Failure, Request};
use crate::memory::GuestRam;
use crate::sys::uring::Transfer;
use crate::sys::vectored::{read_now, write_now};

/// The largest request that is tried. Larger ones keep the queue waiting for longer than the ring costs.
const MOST: usize = 256 << 10;
/// A write that has taken longer had to wait.
const LONG: Duration = Duration::from_millis(1);
/// For so many times as long as a write has waited no other one is tried: a host that is short of memory for dirty pages
/// holds up a queue for a twentieth of the time at most.
const PATIENCE: u32 = 20;

/// What is known of the disk's file.
#[derive(Debug)]
pub(super) struct Now {
    /// Whether the file system can tell what has to be waited for.
    reads: bool,
    writes: bool,
    /// Whether anything is tried.
    is_on: bool,
    /// No write is tried before this.
    not_before: Option<Instant>,
}

impl Default for Now {
    fn default() -> Self {
        Self { reads: true, writes: true, is_on: true, not_before: None }
    }
}

impl Now {
    #[cfg(test)]
    pub(super) fn never() -> Self {
        Self { is_on: false, ..Self::default() }
    }

    fn read(&mut self, file: &File, to: &[VolatileSlice<'_>], at: u64, wanted: usize) -> bool {
        self.reads && whole(read_now(file, to, at), wanted, &mut self.reads)
    }

    fn write(&mut self, file: &File, from: &[VolatileSlice<'_>], at: u64, wanted: usize) -> bool {
        self.writes && whole(write_now(file, from, at), wanted, &mut self.writes)
    }

    /// Whether a write that may wait is tried.
    fn may_wait(&self) -> bool {
        !self.writes && self.not_before.is_none_or(|then| Instant::now() >= then)
    }

    fn has_taken(&mut self, time: Duration) {
        self.not_before = (time > LONG).then(|| Instant::now() + time * PATIENCE);
    }
}

/// Whether all was done. What was done in part is done again by whoever does all of it.
fn whole(done: io::Result<usize>, wanted: usize, is_supported: &mut bool) -> bool {
    match done {
        Ok(bytes) => bytes == wanted,
        Err(e) => {
            *is_supported =
                ![Some(libc::EOPNOTSUPP), Some(libc::ENOSYS), Some(libc::EINVAL)].contains(&e.raw_os_error());
            false
        }
    }
}

impl Blk {
    /// Does what is asked if it can be done here and now. `None`: somebody else has to do it, all of it.
    pub(super) fn at_once(&mut self, request: &Request, memory: &GuestRam) -> Option<Result<u32, Failure>> {
        let operation = self.operation(request)?;
        let (at, bytes) = (operation.at, operation.bytes.clone());
        let wanted = bytes.len();
        if !self.engine.now.is_on || wanted > MOST {
            return None;
        }
        let file = self.storage.alone(operation.transfer, at, &bytes)?;
        match operation.transfer {
            Transfer::Read => {
                let to = request.chain.writable.slices(memory, bytes).ok()?;
                self.engine.now.read(file, &to, at, wanted).then_some(Ok(operation.writes))
            }
            Transfer::Write => {
                let from = request.chain.readable.slices(memory, bytes).ok()?;
                if self.engine.now.write(file, &from, at, wanted) {
                    self.storage.written(at, wanted as u64);
                    return Some(Ok(operation.writes));
                }
                if !self.engine.now.may_wait() {
                    return None;
                }
                let begun = Instant::now();
                let done = self.execute(request, memory);
                self.engine.now.has_taken(begun.elapsed());
                Some(done)
            }
            Transfer::Sync => None,
        }
    }
}
