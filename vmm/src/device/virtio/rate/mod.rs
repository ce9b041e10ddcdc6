//! Rate limits: what a queue may carry, in bytes and in operations. What is over a limit waits in its queue, so a
//! machine that comes to rest never waits for tokens.
//!
//! Knows time and numbers, and nothing of what is counted.

mod bucket;
mod saved;

#[cfg(test)]
mod bucket_test;
#[cfg(test)]
mod rate_test;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

use crate::config::RateLimitConfig;
use bucket::Bucket;
pub use saved::Refused;

/// The limit of one queue, and the timer that says when it may go on.
#[derive(Debug)]
pub(crate) struct RateLimit {
    // Connections.
    /// Readable when there may be tokens again. `None` if nothing is limited.
    timer: Option<OwnedFd>,
    // Guest-visible state.
    bandwidth: Option<Bucket>,
    operations: Option<Bucket>,
}

impl RateLimit {
    /// A limit with full buckets.
    ///
    /// # Errors
    /// No timer is to be had.
    pub(crate) fn new(config: &RateLimitConfig) -> io::Result<Self> {
        let RateLimitConfig { bandwidth, operations } = *config;
        Self::assemble(bandwidth.map(Bucket::full), operations.map(Bucket::full))
    }

    /// No limit, which costs nothing.
    pub(crate) fn none() -> Self {
        Self { timer: None, bandwidth: None, operations: None }
    }

    fn assemble(bandwidth: Option<Bucket>, operations: Option<Bucket>) -> io::Result<Self> {
        let is_limited = bandwidth.is_some() || operations.is_some();
        let timer =
            || timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK);
        Ok(Self { timer: is_limited.then(timer).transpose()?, bandwidth, operations })
    }

    /// Whether one more operation may be begun now. If not, [`Self::source`] becomes readable when it may.
    pub(crate) fn may_begin(&mut self) -> bool {
        let Some(timer) = &self.timer else { return true };
        let now = Instant::now();
        let wait = [&mut self.bandwidth, &mut self.operations].into_iter().flatten();
        match wait.filter_map(|bucket| bucket.wait(now)).max() {
            None => true,
            Some(wait) => {
                // A timer of ours that is set to a time of ours cannot be refused.
                let _ = timerfd_settime(timer, TimerfdTimerFlags::empty(), &once_in(wait));
                false
            }
        }
    }

    /// An operation was begun, of so many bytes. It may cost more than there is: what comes after it waits for that.
    pub(crate) fn spend(&mut self, bytes: u64) {
        if let Some(bandwidth) = &mut self.bandwidth {
            bandwidth.spend(bytes);
        }
        if let Some(operations) = &mut self.operations {
            operations.spend(1);
        }
    }

    /// Time stands still for the limit until it is asked again: call when the machine comes to rest.
    pub(crate) fn rest(&mut self) {
        let now = Instant::now();
        [&mut self.bandwidth, &mut self.operations].into_iter().flatten().for_each(|bucket| bucket.rest(now));
    }

    /// Readable when there may be tokens again.
    pub(crate) fn source(&self) -> Option<BorrowedFd<'_>> {
        self.timer.as_ref().map(AsFd::as_fd)
    }

    /// The source has been heard, or not: it is silent after this.
    pub(crate) fn acknowledge(&self) {
        if let Some(timer) = &self.timer {
            // Fails if it was silent.
            let _ = rustix::io::read(timer, &mut [0; 8]);
        }
    }
}

fn once_in(wait: Duration) -> Itimerspec {
    // A duration of zero would mean never.
    let wait = wait.max(Duration::from_nanos(1));
    let once = Timespec {
        tv_sec: wait.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: wait.subsec_nanos().into(),
    };
    Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: once }
}
