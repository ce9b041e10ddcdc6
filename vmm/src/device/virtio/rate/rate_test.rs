use rustix::event::{PollFd, PollFlags, poll};
use snapshot_format::state::{RateLimitState, TokenBucketState};

use super::*;
use crate::config::BucketConfig;

/// So long that no test sees it.
const DAY_MS: u64 = BucketConfig::MAX_REFILL_MS;

fn limit(bandwidth: Option<BucketConfig>, operations: Option<BucketConfig>) -> RateLimit {
    RateLimit::new(&RateLimitConfig { bandwidth, operations }).unwrap()
}

#[test]
fn no_limit_has_no_timer_and_no_end() {
    let mut limit = limit(None, None);
    for _ in 0..1000 {
        assert!(limit.may_begin());
        limit.spend(u64::MAX);
    }
    assert!(limit.source().is_none() && RateLimit::none().source().is_none());
    assert_eq!(limit.save(), RateLimitState::default());
}

#[test]
fn both_buckets_have_to_have_something() {
    let mut limit = limit(BucketConfig::new(100, DAY_MS, 0), BucketConfig::new(3, DAY_MS, 0));
    for _ in 0..3 {
        assert!(limit.may_begin());
        limit.spend(1);
    }
    assert!(!limit.may_begin(), "no operation is left");
    let mut limit = limit_of_bytes(100, DAY_MS);
    assert!(limit.may_begin());
    limit.spend(100);
    assert!(!limit.may_begin(), "no byte is left");
}

fn limit_of_bytes(size: u64, refill_ms: u64) -> RateLimit {
    limit(BucketConfig::new(size, refill_ms, 0), BucketConfig::new(1000, DAY_MS, 0))
}

#[test]
fn the_timer_tells_when_it_may_go_on() {
    let mut limit = limit_of_bytes(1, 20);
    limit.spend(1);
    assert!(!limit.may_begin());
    poll(&mut [PollFd::new(&limit.source().unwrap(), PollFlags::IN)], None).unwrap();
    limit.acknowledge();
    assert!(limit.may_begin(), "not woken too early");
    limit.acknowledge();
    let silent = Timespec { tv_sec: 0, tv_nsec: 0 };
    assert_eq!(poll(&mut [PollFd::new(&limit.source().unwrap(), PollFlags::IN)], Some(&silent)), Ok(0));
}

#[test]
fn what_is_left_comes_back() {
    let mut limit = limit(BucketConfig::new(100, DAY_MS, 7), BucketConfig::new(3, DAY_MS, 0));
    assert!(limit.may_begin());
    limit.spend(150);
    limit.rest();
    let state = limit.save();
    let TokenBucketState { size, burst, tokens, burst_left, .. } = state.bandwidth;
    assert_eq!((size, burst, tokens, burst_left), (100, 7, -43, 0));
    assert_eq!(state.operations.tokens, 2);
    let mut limit = RateLimit::restore(&state).unwrap();
    assert_eq!(limit.save(), state);
    assert!(!limit.may_begin());
    assert!(RateLimit::restore(&RateLimitState::default()).unwrap().may_begin());
}

#[test]
fn limits_that_cannot_be_are_refused() {
    let good = limit(BucketConfig::new(100, 1000, 7), None).save();
    let refuse = |change: &dyn Fn(&mut TokenBucketState)| {
        let mut state = good;
        change(&mut state.bandwidth);
        let refused = RateLimit::restore(&state).unwrap_err();
        assert!(matches!(refused, Refused::Impossible { .. }), "{state:?}");
    };
    refuse(&|s| s.size = 0);
    refuse(&|s| s.size = u64::MAX);
    refuse(&|s| s.refill_ms = 0);
    refuse(&|s| s.refill_ms = u64::MAX);
    refuse(&|s| s.burst = u64::MAX);
    refuse(&|s| s.tokens = 101);
    refuse(&|s| s.tokens = i64::MIN);
    refuse(&|s| s.part = 1_000_000_000);
    refuse(&|s| s.burst_left = 8);
}
