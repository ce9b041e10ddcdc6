//! One token bucket, exact to the nanosecond, over whatever clock its caller has.

use std::time::{Duration, Instant};

use crate::config::BucketConfig;

/// A bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bucket {
    // Configuration.
    pub limit: BucketConfig,
    // Transient: when the bucket was last looked into. `None` while time stands still.
    pub seen: Option<Instant>,
    // Guest-visible state.
    /// At most the limit's size. Less than none after an operation that has cost more than there was.
    pub tokens: i64,
    /// What has flowed in beyond whole tokens, in parts of a token: less than [`refill_ns`].
    pub part: u64,
    /// What is left of the limit's burst.
    pub burst: u64,
}

/// The most that one operation is charged: no chain of descriptors has more bytes.
pub(super) const MOST: u64 = u32::MAX as u64;

/// How many parts a token has: as many as an empty bucket needs nanoseconds to fill up.
pub(super) fn refill_ns(limit: BucketConfig) -> u64 {
    // Bounded by the config: a day.
    limit.refill_ms() * 1_000_000
}

impl Bucket {
    pub(super) fn full(limit: BucketConfig) -> Self {
        Self { limit, seen: None, tokens: limit.size() as i64, part: 0, burst: limit.burst() }
    }

    /// How long the next operation has to wait, if at all.
    pub(super) fn wait(&mut self, now: Instant) -> Option<Duration> {
        self.refill(now);
        if self.tokens > 0 || self.burst > 0 {
            return None;
        }
        // Until there is one. With at most 2^32 missing and a day to fill one token this is less than 2^79.
        let missing = u128::from(self.tokens.unsigned_abs()) + 1;
        let parts = missing * u128::from(refill_ns(self.limit)) - u128::from(self.part);
        let ns = parts.div_ceil(self.limit.size().into());
        Some(Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX)))
    }

    /// Takes what an operation costs, whether it is there or not.
    pub(super) fn spend(&mut self, tokens: u64) {
        let tokens = tokens.min(MOST);
        let of_burst = tokens.min(self.burst);
        self.burst -= of_burst;
        // Nothing is begun while there are less than none, so this goes no lower than -MOST.
        self.tokens = self.tokens.saturating_sub_unsigned(tokens - of_burst);
    }

    /// Takes in what has flowed until now; what flows from here on is lost until the next look.
    pub(super) fn rest(&mut self, now: Instant) {
        self.refill(now);
        self.seen = None;
    }

    fn refill(&mut self, now: Instant) {
        let passed =
            self.seen.replace(now).map_or(Duration::ZERO, |seen| now.saturating_duration_since(seen));
        // 2^94 times 2^50 at most.
        let parts = passed.as_nanos() * u128::from(self.limit.size()) + u128::from(self.part);
        let refill = u128::from(refill_ns(self.limit));
        let size = self.limit.size() as i64;
        let gained = i64::try_from(parts / refill).unwrap_or(i64::MAX);
        self.tokens = self.tokens.saturating_add(gained);
        self.part = (parts % refill) as u64;
        if self.tokens >= size {
            (self.tokens, self.part) = (size, 0);
        }
    }
}
