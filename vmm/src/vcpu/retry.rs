//! How often `KVM_RUN` is called again after EAGAIN, and when that is given up.

use std::time::{Duration, Instant};

/// For how long a `KVM_RUN` that refuses at once is called again. The limit of processes may be reached only for a
/// moment.
const LIMIT: Duration = Duration::from_secs(2);
/// The first pause between two calls, which doubles each time, and the longest. A kick waits for at most one of them.
const PAUSES: (Duration, Duration) = (Duration::from_micros(50), Duration::from_millis(10));
/// A call that has taken so long has waited in the kernel, as for INIT or SIPI, and was no refusal.
const WAITED: Duration = Duration::from_millis(100);

/// The calls in a row that were refused.
#[derive(Debug, Default)]
pub(super) struct Retry(Option<Refused>);

#[derive(Debug)]
struct Refused {
    since: Instant,
    /// When the vCPU was told to call again.
    last: Instant,
    pause: Option<Duration>,
}

impl Retry {
    /// A call was not refused.
    pub(super) fn reset(&mut self) {
        self.0 = None;
    }

    /// A call was refused at `now`: how long to pause before the next one, `None` to give up. The first refusal costs no
    /// pause, because a vCPU that has got its INIT or SIPI is told EAGAIN once.
    pub(super) fn refused(&mut self, now: Instant) -> Option<Duration> {
        let known = self.0.take().filter(|refused| now.saturating_duration_since(refused.last) < WAITED);
        let (since, pause) = match known {
            None => (now, None),
            Some(refused) if now.saturating_duration_since(refused.since) >= LIMIT => return None,
            Some(Refused { since, pause, .. }) => {
                (since, Some(pause.map_or(PAUSES.0, |pause| (pause * 2).min(PAUSES.1))))
            }
        };
        let length = pause.unwrap_or_default();
        self.0 = Some(Refused { since, last: now + length, pause });
        Some(length)
    }
}
