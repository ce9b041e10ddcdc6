//! When a session may look for faults without sleeping.
//!
//! A session that looks out answers a fault some 20 us sooner, for a CPU. That is a gain only while nobody else wants the
//! CPU, so it looks out only while fewer sessions than CPUs were met by faults lately, and stops for a while as soon as
//! it was taken off its CPU for another thread of the host. It does not yield to see whether there is one: whoever yields
//! gives up its turn, and a fault would wait for the next.

#[cfg(test)]
#[path = "lookout_test.rs"]
mod lookout_test;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Within how much time sessions count as busy at once.
const EPOCH: Duration = Duration::from_millis(2);
/// Whoever was away for so long between two looks has shared its CPU: a look takes a microsecond.
const AWAY: Duration = Duration::from_micros(30);
/// For how long it does not look out then, at first and at most.
const REST: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(160));

/// Sessions that look out, in this process.
static LOOKING: AtomicUsize = AtomicUsize::new(0);
/// The sessions that answered faults, by time.
static BUSY: Busy = Busy(AtomicU64::new(0));

/// How many sessions answered faults in this epoch and in the one before: the epoch's number, and 16 bits for each count.
struct Busy(AtomicU64);

impl Busy {
    const COUNT: u64 = 0xffff;

    /// `word` as of `epoch`.
    fn at(word: u64, epoch: u64) -> (u64, u64) {
        let (of, now, before) = (word >> 32, word >> 16 & Self::COUNT, word & Self::COUNT);
        match epoch.wrapping_sub(of) & 0xffff_ffff {
            0 => (now, before),
            1 => (0, now),
            _ => (0, 0),
        }
    }

    /// Counts a session. Call once a session and epoch.
    fn count(&self, epoch: u64) {
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
            let (now, before) = Self::at(word, epoch);
            Some((epoch & 0xffff_ffff) << 32 | (now + 1).min(Self::COUNT) << 16 | before)
        });
    }

    /// How many there are.
    fn sessions(&self, epoch: u64) -> u64 {
        let (now, before) = Self::at(self.0.load(Ordering::Relaxed), epoch);
        now.max(before)
    }
}

/// The number of the epoch that `now` lies in.
fn epoch(now: Instant) -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    let since = now.saturating_duration_since(*START.get_or_init(|| now));
    (since.as_micros() / EPOCH.as_micros()) as u64
}

/// One session's part in it.
#[derive(Debug, Default)]
pub(super) struct Lookout {
    /// When it was counted last.
    counted: Option<u64>,
    /// Until when it does not look out, and for how long.
    rest: Option<(Instant, Duration)>,
}

impl Lookout {
    /// It has answered faults.
    pub(super) fn answered(&mut self, now: Instant) {
        let epoch = epoch(now);
        if self.counted != Some(epoch) {
            self.counted = Some(epoch);
            BUSY.count(epoch);
        }
    }

    /// Calls `found` again and again for `limit`, until it gives something other than `None`. `None` at once where the CPU is
    /// better left to others: it is the last of `cpus`, or wanted.
    pub(super) fn look<T>(
        &mut self,
        limit: Duration,
        cpus: usize,
        mut found: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        let start = Instant::now();
        if self.rest.is_some_and(|(until, _)| start < until) || BUSY.sessions(epoch(start)) >= cpus as u64 {
            return None;
        }
        // One CPU is left to the guests, however short this is.
        if LOOKING.fetch_add(1, Ordering::Relaxed) + 1 >= cpus {
            LOOKING.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let mut looked = start;
        let seen = loop {
            if let Some(seen) = found() {
                break Some(seen);
            }
            std::hint::spin_loop();
            let now = Instant::now();
            if now - looked >= AWAY {
                self.share(now);
                break found();
            }
            if now - start >= limit {
                break None;
            }
            looked = now;
        };
        LOOKING.fetch_sub(1, Ordering::Relaxed);
        if seen.is_some() && self.rest.is_some_and(|(until, rest)| looked >= until + rest) {
            self.rest = None;
        }
        seen
    }

    /// Another thread wants the CPU.
    fn share(&mut self, now: Instant) {
        let rest = self.rest.map_or(REST.0, |(_, rest)| (rest * 2).min(REST.1));
        self.rest = Some((now + rest, rest));
    }
}
