//! Limits to and from a device's section.

use std::io;

use snapshot_format::state::{RateLimitState, TokenBucketState};

use super::RateLimit;
use super::bucket::{Bucket, MOST, refill_ns};
use crate::config::BucketConfig;

/// Why a saved limit cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The image says what no limit can be.
    #[error("a rate limit of {size} tokens in {refill_ms} ms with {tokens} left makes no sense")]
    Impossible {
        /// As saved.
        size: u64,
        /// As saved.
        refill_ms: u64,
        /// As saved.
        tokens: i64,
    },
    /// No timer is to be had.
    #[error("cannot create a timer")]
    Timer(#[source] io::Error),
}

impl RateLimit {
    /// What is left, not when it was looked at: a machine that is saved does not collect tokens.
    pub(crate) fn save(&self) -> RateLimitState {
        let Self { timer: _, bandwidth, operations } = self;
        let save =
            |bucket: &Option<Bucket>| bucket.as_ref().map_or_else(TokenBucketState::default, Bucket::save);
        RateLimitState { bandwidth: save(bandwidth), operations: save(operations) }
    }

    /// The limit as it was saved.
    ///
    /// # Errors
    /// It is none that can be, or there is no timer to be had.
    pub(crate) fn restore(state: &RateLimitState) -> Result<Self, Refused> {
        let RateLimitState { bandwidth, operations } = state;
        let (bandwidth, operations) = (Bucket::restore(*bandwidth)?, Bucket::restore(*operations)?);
        Self::assemble(bandwidth, operations).map_err(Refused::Timer)
    }
}

impl Bucket {
    fn save(&self) -> TokenBucketState {
        let Self { limit, seen: _, tokens, part, burst } = self;
        TokenBucketState {
            size: limit.size(),
            refill_ms: limit.refill_ms(),
            burst: limit.burst(),
            tokens: *tokens,
            part: *part,
            burst_left: *burst,
        }
    }

    fn restore(state: TokenBucketState) -> Result<Option<Self>, Refused> {
        if state == TokenBucketState::default() {
            return Ok(None);
        }
        let TokenBucketState { size, refill_ms, burst, tokens, part, burst_left } = state;
        let refused = Refused::Impossible { size, refill_ms, tokens };
        let Some(limit) = BucketConfig::new(size, refill_ms, burst) else { return Err(refused) };
        let is_possible = (-(MOST as i64)..=size as i64).contains(&tokens)
            && part < refill_ns(limit)
            && burst_left <= burst;
        if !is_possible {
            return Err(refused);
        }
        Ok(Some(Self { limit, seen: None, tokens, part, burst: burst_left }))
    }
}
