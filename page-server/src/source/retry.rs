//! A second chance for a source that fails: a file server that is restarted, a disk path that changes over.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use super::{Counts, Error, PageSource};

#[cfg(test)]
#[path = "retry_test.rs"]
mod retry_test;

/// How long, and how often, reading is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// From the first attempt on: after that, the failure is final. Below what a VMM waits for a page, so that the cause
    /// is told and not only that nothing came.
    pub budget: Duration,
    /// Before the second attempt; doubled before each that follows.
    pub first_wait: Duration,
    /// The most between two attempts.
    pub longest_wait: Duration,
    /// A read that takes longer is worth a warning.
    pub slow: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            budget: Duration::from_secs(3),
            first_wait: Duration::from_millis(10),
            longest_wait: Duration::from_millis(500),
            slow: Duration::from_millis(500),
        }
    }
}

/// A source whose failures to read are not taken for final at once. Damage and change are: they do not pass.
#[derive(Debug)]
pub struct Retry<S> {
    inner: S,
    policy: Policy,
    counts: Arc<Counts>,
}

impl<S: PageSource> Retry<S> {
    /// `inner`, tried again as `policy` says.
    pub fn new(inner: S, policy: Policy) -> Self {
        Self::counted(inner, policy, Arc::default())
    }

    /// The same, with what is tried again counted in `counts`.
    pub fn counted(inner: S, policy: Policy, counts: Arc<Counts>) -> Self {
        Self { inner, policy, counts }
    }
}

impl<S: PageSource> PageSource for Retry<S> {
    fn len(&self) -> u64 {
        self.inner.len()
    }

    fn zeros(&self, offset: u64) -> u64 {
        self.inner.zeros(offset)
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        let started = Instant::now();
        let mut wait = self.policy.first_wait;
        let mut attempts = 1_u32;
        loop {
            let attempt = Instant::now();
            let error = match self.inner.read(offset, buffer) {
                Ok(()) => {
                    tell(self.policy.slow, attempts, attempt.elapsed(), started.elapsed(), offset);
                    return Ok(());
                }
                Err(error @ Error::Read { .. }) => error,
                Err(error) => return Err(error),
            };
            let left = self.policy.budget.saturating_sub(started.elapsed());
            if left.is_zero() {
                return Err(error);
            }
            // The last attempt is made when the budget ends, and not before.
            let pause = wait.min(left);
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                attempts,
                "reading failed; trying again in {pause:?}, for {left:?} at most"
            );
            thread::sleep(pause);
            self.counts.retries.fetch_add(1, Ordering::Relaxed);
            wait = (wait * 2).min(self.policy.longest_wait);
            attempts += 1;
        }
    }

    /// Once: while it is tried again, whoever has asked for something else would wait.
    fn read_ahead(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        self.inner.read_ahead(offset, buffer)
    }

    /// What fails is tried again, and that takes waiting.
    fn read_now(&self, offset: u64, buffer: &mut [u8]) -> Result<bool, Error> {
        match self.inner.read_now(offset, buffer) {
            Err(Error::Read { .. }) => Ok(false),
            read => read,
        }
    }
}

/// Says that it went well after all, or took long.
fn tell(slow: Duration, attempts: u32, last: Duration, all: Duration, offset: u64) {
    if attempts > 1 {
        tracing::info!(attempts, "reading at {offset:#x} succeeded after {all:?}");
    } else if last > slow {
        tracing::warn!("reading at {offset:#x} took {last:?}");
    }
}
