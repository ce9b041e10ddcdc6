//! Coming to rest: the wish, whether it is fulfilled, and for how long that is waited for.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use vmm_sys_util::eventfd::EventFd;

/// How often a wait looks whether it is to be given up.
const SLICE: Duration = Duration::from_millis(20);

/// How long a machine may take to come to rest.
#[derive(Clone, Copy)]
pub struct Patience<'a> {
    /// Then at the latest it is given up.
    pub deadline: Instant,
    /// Whether it is to be given up at once.
    pub is_over: &'a dyn Fn() -> bool,
}

impl Patience<'_> {
    /// For how long to wait before asking again; `None` if it is given up.
    pub(crate) fn slice(&self) -> Option<Duration> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        (!left.is_zero() && !(self.is_over)()).then(|| left.min(SLICE))
    }
}

/// A device that has begun what the host does not complete.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{device} waits for the host to complete what it has begun, for {} s so far", waited.as_secs_f32())]
pub struct Busy {
    /// The device.
    pub device: String,
    /// For how long was waited.
    pub waited: Duration,
}

/// The wish that a worker stops: the flag is read between requests, the eventfd ends a wait.
#[derive(Clone, Debug)]
pub(super) struct Stop {
    pub flag: Arc<AtomicBool>,
    pub event: Arc<EventFd>,
    rested: Arc<Rested>,
}

/// Whether a worker has come to rest, for whoever waits for that without a lock on its device.
#[derive(Debug, Default)]
pub struct Rested {
    is_rested: Mutex<bool>,
    changed: Condvar,
}

impl Rested {
    /// Waits until the worker is at rest, or `patience` is at its end: whether it is at rest.
    pub(crate) fn wait(&self, patience: &Patience<'_>) -> bool {
        let mut is_rested = self.lock();
        while !*is_rested {
            let Some(slice) = patience.slice() else { return false };
            is_rested = self.changed.wait_timeout(is_rested, slice).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.is_rested.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stop {
    pub(super) fn new() -> io::Result<Self> {
        let event = EventFd::new(libc::EFD_NONBLOCK | libc::EFD_CLOEXEC)?;
        Ok(Self { flag: Arc::default(), event: Arc::new(event), rested: Arc::default() })
    }

    pub(super) fn rested(&self) -> Arc<Rested> {
        Arc::clone(&self.rested)
    }

    /// The worker is to stop.
    pub(super) fn ask(&self) {
        self.flag.store(true, Ordering::SeqCst);
        // Fails only if it is full, and then it is readable.
        let _ = self.event.write(1);
    }

    /// There is no wish, and a worker that is about to start. Call only while there is none.
    pub(super) fn clear(&self) {
        let _ = self.event.read();
        *self.rested.lock() = false;
        self.flag.store(false, Ordering::SeqCst);
    }

    /// The worker is to go on. False if it has stopped already.
    pub(super) fn take_back(&self) -> bool {
        let is_rested = self.rested.lock();
        if !*is_rested {
            self.flag.store(false, Ordering::SeqCst);
            let _ = self.event.read();
        }
        !*is_rested
    }

    /// The worker has nothing on its way any more: whether it stops now, which it says to whoever waits. `must` says
    /// that it cannot go on in any case.
    pub(super) fn rest(&self, must: bool) -> bool {
        let mut is_rested = self.rested.lock();
        *is_rested = must || self.flag.load(Ordering::SeqCst);
        if *is_rested {
            self.rested.changed.notify_all();
        }
        *is_rested
    }
}
