//! Threads that read what has to be waited for, so that the thread which answers faults does not.
//!
//! They are shared by all sessions of the process, started when they are wanted and ended when they are not: a server
//! whose pages are in the page cache has none.

#[cfg(test)]
#[path = "pool_test.rs"]
mod pool_test;

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};

use super::{Error, PageSource};
use crate::sys::signals;

/// The most threads: as many reads at once are enough for a disk, and for a source at the other end of a network.
const MOST: usize = 64;
/// The most that read what nobody waits for.
const MOST_AHEAD: usize = MOST / 2;
/// How long one waits for more to do.
const IDLE: Duration = Duration::from_secs(2);
/// Room for a source's own buffers, which are on the heap.
const STACK: usize = 256 << 10;

/// How much a read is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Haste {
    /// A thread waits for it: all the time that the source takes.
    Waiting,
    /// A thread waits for a part of it: one attempt.
    First,
    /// No thread waits for it: one attempt, after all others.
    Ahead,
}

/// Something to be read.
pub(crate) struct Job {
    pub(crate) source: Arc<dyn PageSource>,
    pub(crate) offset: u64,
    pub(crate) len: usize,
    pub(crate) haste: Haste,
    /// How whoever asks knows it again.
    pub(crate) id: u64,
    pub(crate) to: Arc<Mailbox>,
}

/// What was read, or why not.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub(crate) id: u64,
    pub(crate) bytes: Result<Vec<u8>, Error>,
}

/// Where what was read is put.
#[derive(Debug)]
pub(crate) struct Mailbox {
    arrived: Mutex<Vec<Arrived>>,
    told: OwnedFd,
}

impl Mailbox {
    /// # Errors
    /// The system has no descriptor for it.
    pub(crate) fn new() -> io::Result<Arc<Self>> {
        let told = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Arc::new(Self { arrived: Mutex::default(), told }))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arrived>> {
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, arrived: Arrived) {
        self.lock().push(arrived);
        // Fails only if it is full, and then it is readable.
        let _ = rustix::io::write(&self.told, &1_u64.to_ne_bytes());
    }

    /// Whether there is nothing in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Everything that has come.
    pub(crate) fn take(&self) -> Vec<Arrived> {
        // Before it is emptied, so that what comes in between is told of.
        let _ = rustix::io::read(&self.told, &mut [0; 8]);
        std::mem::take(&mut *self.lock())
    }
}

/// Readable once something has come.
impl AsFd for Mailbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.told.as_fd()
    }
}

#[derive(Default)]
struct State {
    first: VecDeque<Job>,
    ahead: VecDeque<Job>,
    threads: usize,
    idle: usize,
    /// How many read.
    busy: usize,
    /// How many read what nobody waits for.
    reading_ahead: usize,
}

impl State {
    /// The next that may be read now.
    fn next(&mut self) -> Option<Job> {
        if let Some(job) = self.first.pop_front() {
            self.busy += 1;
            return Some(job);
        }
        if self.reading_ahead >= MOST_AHEAD {
            return None;
        }
        let job = self.ahead.pop_front()?;
        self.reading_ahead += 1;
        self.busy += 1;
        Some(job)
    }

    /// Whether all threads that there may be have something to read that a thread waits for, or will have.
    fn is_full(&self) -> bool {
        self.threads >= MOST && self.threads - self.busy <= self.first.len()
    }
}

/// The threads, and what waits for them.
#[derive(Default)]
pub(crate) struct Pool {
    state: Mutex<State>,
    wanted: Condvar,
}

impl Pool {
    /// The one of this process.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<Pool> = OnceLock::new();
        SHARED.get_or_init(Self::default)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has it read.
    ///
    /// # Errors
    /// There is no thread for it, and none to be had. The job comes back. So does one that a thread waits for while all read:
    /// they may be held up by a source that hangs, and sessions of other images must not be held up with them.
    pub(crate) fn read(&'static self, job: Job) -> Result<(), Job> {
        let mut state = self.lock();
        if state.is_full() && job.haste != Haste::Ahead {
            return Err(job);
        }
        let queued = state.first.len() + state.ahead.len();
        if state.idle <= queued && state.threads < MOST {
            let started = thread::Builder::new().name("read".to_owned()).stack_size(STACK);
            match started.spawn(|| self.work()) {
                Ok(_) => state.threads += 1,
                Err(_) if state.threads == 0 => return Err(job),
                Err(error) => tracing::debug!(%error, "no further thread to read with"),
            }
        }
        match job.haste {
            Haste::Ahead => state.ahead.push_back(job),
            Haste::Waiting | Haste::First => state.first.push_back(job),
        }
        drop(state);
        self.wanted.notify_one();
        Ok(())
    }

    /// A thread waits for a read now that was to come ahead: it is read before what still is, if it has not begun.
    pub(crate) fn hasten(&self, to: &Arc<Mailbox>, id: u64) {
        let mut state = self.lock();
        let found = state.ahead.iter().position(|job| job.id == id && Arc::ptr_eq(&job.to, to));
        if let Some(mut job) = found.and_then(|at| state.ahead.remove(at)) {
            job.haste = Haste::First;
            state.first.push_back(job);
            drop(state);
            self.wanted.notify_one();
        }
    }

    fn work(&self) {
        signals::block_all();
        let mut state = self.lock();
        loop {
            let Some(job) = state.next() else {
                state.idle += 1;
                let (woken, waited) =
                    self.wanted.wait_timeout(state, IDLE).unwrap_or_else(PoisonError::into_inner);
                state = woken;
                state.idle -= 1;
                if waited.timed_out() && state.first.is_empty() && state.ahead.is_empty() {
                    state.threads -= 1;
                    return;
                }
                continue;
            };
            drop(state);
            let is_ahead = job.haste == Haste::Ahead;
            job.carry_out();
            state = self.lock();
            state.busy -= 1;
            state.reading_ahead -= usize::from(is_ahead);
        }
    }
}

impl Job {
    fn carry_out(self) {
        let Self { source, offset, len, haste, id, to } = self;
        let mut bytes = vec![0; len];
        let read = match haste {
            Haste::Waiting => source.read(offset, &mut bytes),
            Haste::First | Haste::Ahead => source.read_ahead(offset, &mut bytes),
        };
        to.put(Arrived { id, bytes: read.map(|()| bytes) });
    }
}
