//! A descriptor that becomes readable at the next deadline.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

#[derive(Debug)]
pub(super) struct Timer {
    fd: OwnedFd,
    /// The earliest deadline that was asked for since it last rang.
    armed: Option<Instant>,
}

impl Timer {
    pub(super) fn new() -> rustix::io::Result<Self> {
        let fd = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        Ok(Self { fd, armed: None })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Rings at `at`, or earlier if that was asked for as well.
    pub(super) fn arm(&mut self, at: Instant, now: Instant) {
        if self.armed.is_some_and(|armed| armed <= at) {
            return;
        }
        let left = at.saturating_duration_since(now);
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        // A time of 0 would disarm it.
        let value = Timespec {
            tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()).max(1),
        };
        let spec = Itimerspec { it_interval: zero, it_value: value };
        match timerfd_settime(&self.fd, TimerfdTimerFlags::empty(), &spec) {
            Ok(_) => self.armed = Some(at),
            Err(error) => tracing::warn!(%error, "a time limit of the vsock device cannot be set"),
        }
    }

    /// It has rung.
    pub(super) fn heard(&mut self) {
        // Empty if it was armed anew since; then it rings again.
        let _ = rustix::io::read(&self.fd, &mut [0; 8]);
        self.armed = None;
    }
}
