//! How requests get to the disk: at once on the worker where nothing has to be waited for (`now`), else by an io_uring
//! where the host has one, else one after the other on the worker.
//!
//! The ring is made when the first request needs it: a guest that leaves its disk alone, or whose disk is in the host's
//! page cache, does not pay.
//!
//! Its eventfd hears of every completion. With `IORING_REGISTER_EVENTFD_ASYNC` it would hear of those of the kernel's
//! workers only (`io_eventfd_trigger`), and a read that waited for its page is completed by the thread that began it,
//! which is asleep in `epoll_wait`.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{EventfdFlags, eventfd};

use super::Blk;
use super::now::Now;
use super::request::{Failure, Operation, Request};
use crate::device::virtio::{Broken, Virtqueue};
use crate::memory::GuestRam;
use crate::sys::uring::{Transfer, Uring};

/// How many requests go on side by side.
const DEPTH: u32 = 64;

/// A request that is on its way.
type Flight = (Request, Operation);

/// A request that has come back.
pub(super) type Done = (Flight, io::Result<usize>);

/// The way to the disk, and the requests on it.
#[derive(Debug)]
pub(super) struct Engine {
    /// Readable when a request has come back. `None` if there was no eventfd to be had.
    completed: Option<OwnedFd>,
    /// Made when it is needed.
    ring: Option<Uring<Flight>>,
    /// The host has no io_uring, or none for us.
    is_refused: bool,
    pub(super) now: Now,
}

impl Default for Engine {
    fn default() -> Self {
        let completed = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).ok();
        Self { is_refused: completed.is_none(), completed, ring: None, now: Now::default() }
    }
}

impl Engine {
    /// One request after the other, as where there is no io_uring.
    #[cfg(test)]
    pub(super) fn synchronous() -> Self {
        Self { completed: None, is_refused: true, ..Self::default() }
    }

    /// Every request by the ring, as where the file system cannot tell what has to be waited for.
    #[cfg(test)]
    pub(super) fn ring_only() -> Self {
        Self { now: Now::never(), ..Self::default() }
    }

    #[cfg(test)]
    pub(super) fn has_ring(&self) -> bool {
        self.ring.is_some()
    }

    pub(super) fn source(&self) -> Option<BorrowedFd<'_>> {
        self.completed.as_ref().map(AsFd::as_fd)
    }

    /// The source has been heard.
    pub(super) fn acknowledge(&self) {
        if let Some(completed) = &self.completed {
            // Empty already if what it told of was seen before.
            let _ = rustix::io::read(completed, &mut [0; 8]);
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.ring.as_ref().is_none_or(Uring::is_idle)
    }

    /// Whether one more request can be begun.
    fn has_room(&self) -> bool {
        self.ring.as_ref().is_none_or(Uring::has_room)
    }

    pub(super) fn wait(&mut self) -> Result<(), Broken> {
        self.ring.as_mut().map_or(Ok(()), Uring::wait).map_err(Broken::Engine)
    }

    pub(super) fn done(&mut self) -> Option<Done> {
        self.ring.as_mut()?.done()
    }

    /// Leaves nothing on its way, not even what a ring that has failed will never finish.
    pub(super) fn reset(&mut self) {
        if !self.is_idle() {
            self.ring = None;
        }
    }

    fn submit(&mut self) -> Result<(), Broken> {
        self.ring.as_mut().map_or(Ok(()), Uring::submit).map_err(Broken::Engine)
    }

    fn ring(&mut self) -> Option<&mut Uring<Flight>> {
        if self.ring.is_none() && !self.is_refused {
            let made = self.completed.as_ref().map(|completed| Uring::new(DEPTH, completed.as_fd()));
            match made.transpose() {
                Ok(ring) => self.ring = ring,
                Err(error) => {
                    tracing::debug!(%error, "no io_uring: disk requests go one after the other");
                    self.is_refused = true;
                }
            }
        }
        self.ring.as_mut()
    }
}

impl Blk {
    /// Begins every request there is, as far as there is room.
    pub(super) fn take_all(&mut self, queue: &mut Virtqueue) -> Result<(), Broken> {
        self.storage.adopt();
        loop {
            queue.silence()?;
            let has_tokens = self.take_some(queue)?;
            self.engine.submit()?;
            // What the kernel has done while it took it.
            self.finish_done(queue)?;
            // Without tokens the doorbell stays silent: the timer rings. Without room as well: the next one that comes
            // back makes some.
            if !has_tokens || queue.is_to_rest() || !self.engine.has_room() || !queue.listen()? {
                return Ok(());
            }
        }
    }

    /// Begins requests, not many: those that have come back meanwhile are to be answered. Says whether there are tokens
    /// for more.
    fn take_some(&mut self, queue: &mut Virtqueue) -> Result<bool, Broken> {
        for _ in 0..DEPTH {
            if !self.engine.has_room() {
                break;
            }
            if !self.limit.may_begin() {
                return Ok(false);
            }
            let Some(chain) = queue.take()? else { break };
            let request = self.read_request(chain, queue.memory())?;
            self.limit.spend(request.cost(queue.memory())?);
            let (request, done) = match self.at_once(&request, queue.memory()) {
                Some(done) => (request, done),
                None => match self.begin(request, queue.memory()) {
                    Some(request) => {
                        // What was begun before is not to wait for this.
                        self.engine.submit()?;
                        let done = self.execute(&request, queue.memory());
                        (request, done)
                    }
                    None => continue,
                },
            };
            let written = self.conclude(&request, done, queue.memory())?;
            queue.answer(request.chain.head(), written)?;
        }
        Ok(true)
    }

    /// Sends the request on its way, or gives it back if it has to be served here.
    fn begin(&mut self, request: Request, memory: &GuestRam) -> Option<Request> {
        let Some(operation) = self.operation(&request) else { return Some(request) };
        let buffers = if operation.writes > 0 { &request.chain.writable } else { &request.chain.readable };
        let parts: Vec<_> = buffers.parts(operation.bytes.clone()).collect();
        let Operation { transfer, at, ref bytes, .. } = operation;
        let Some(file) = self.storage.alone(transfer, at, bytes).map(Arc::clone) else {
            return Some(request);
        };
        let Some(ring) = self.engine.ring() else { return Some(request) };
        let refused = ring.begin((request, operation), transfer, &file, at, memory, parts.into_iter());
        refused.map(|(request, _)| request)
    }

    /// Answers every request that has come back.
    pub(super) fn finish_done(&mut self, queue: &mut Virtqueue) -> Result<(), Broken> {
        while let Some(done) = self.engine.done() {
            self.finish(done, queue)?;
        }
        Ok(())
    }

    /// Answers a request that has come back.
    pub(super) fn finish(&mut self, done: Done, queue: &mut Virtqueue) -> Result<(), Broken> {
        let ((request, operation), moved) = done;
        let wanted = operation.bytes.len();
        let outcome = match moved {
            Ok(moved) if moved == wanted => {
                if operation.transfer == Transfer::Write {
                    self.storage.written(operation.at, wanted as u64);
                }
                Ok(operation.writes)
            }
            // Less than all, which ends of files and signals make: once more, until it is clear.
            Ok(_) => self.execute(&request, queue.memory()),
            // The kernel had no thread to do it on, and could not start one (`io_wq_enqueue`): this one does it.
            Err(error) if has_no_worker(&error) => self.execute(&request, queue.memory()),
            Err(error) => Err(Failure::Host(error)),
        };
        let written = self.conclude(&request, outcome, queue.memory())?;
        queue.answer(request.chain.head(), written)
    }
}

/// Whether an operation has come back undone, and not because of the file.
fn has_no_worker(error: &io::Error) -> bool {
    [Some(libc::ECANCELED), Some(libc::EAGAIN), Some(libc::EINTR)].contains(&error.raw_os_error())
}
