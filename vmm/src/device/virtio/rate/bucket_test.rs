use std::time::{Duration, Instant};

use super::bucket::Bucket;
use crate::config::BucketConfig;

fn bucket(size: u64, refill_ms: u64, burst: u64) -> (Bucket, Instant) {
    (Bucket::full(BucketConfig::new(size, refill_ms, burst).unwrap()), Instant::now())
}

const MS: Duration = Duration::from_millis(1);

#[test]
fn a_full_bucket_gives_what_it_holds_and_fills_evenly() {
    let (mut bucket, start) = bucket(10, 1000, 0);
    for _ in 0..10 {
        assert_eq!(bucket.wait(start), None);
        bucket.spend(1);
    }
    assert_eq!(bucket.wait(start), Some(100 * MS));
    assert_eq!(bucket.wait(start + 30 * MS), Some(70 * MS));
    assert_eq!(bucket.wait(start + 99 * MS), Some(MS));
    assert_eq!(bucket.wait(start + 100 * MS), None);
    bucket.spend(1);
    assert_eq!(bucket.wait(start + 100 * MS), Some(100 * MS));
    // However long it takes, no more than full.
    assert_eq!(bucket.wait(start + 3600 * 1000 * MS), None);
    assert_eq!((bucket.tokens, bucket.part), (10, 0));
}

#[test]
fn what_costs_more_than_there_is_goes_and_the_next_waits_for_it() {
    let (mut bucket, start) = bucket(1000, 1000, 0);
    assert_eq!(bucket.wait(start), None);
    bucket.spend(5000);
    assert_eq!(bucket.wait(start), Some(4001 * MS));
    assert_eq!(bucket.wait(start + 4001 * MS), None);
    bucket.spend(u64::MAX);
    assert_eq!(bucket.tokens, 1 - i64::from(u32::MAX));
}

#[test]
fn a_burst_is_spent_first_and_once() {
    let (mut bucket, start) = bucket(10, 1000, 25);
    bucket.spend(20);
    assert_eq!((bucket.tokens, bucket.burst), (10, 5));
    bucket.spend(20);
    assert_eq!((bucket.tokens, bucket.burst), (-5, 0));
    assert_eq!(bucket.wait(start), Some(600 * MS));
    assert_eq!(bucket.wait(start + 3600 * 1000 * MS), None);
    assert_eq!((bucket.tokens, bucket.burst), (10, 0));
}

#[test]
fn nothing_is_lost_to_rounding_however_often_it_is_looked_at() {
    let (mut bucket, start) = bucket(7, 1000, 0);
    bucket.wait(start);
    bucket.spend(1_000_000);
    let steps = 1_000_003;
    for step in 1..=steps {
        bucket.wait(start + step * Duration::from_nanos(1717));
    }
    let gained = u128::from(steps) * 1717 * 7 / 1_000_000_000;
    assert_eq!(i128::from(bucket.tokens), 7 - 1_000_000 + gained as i128);
}

#[test]
fn the_wait_that_it_names_is_exact() {
    for (size, refill_ms) in
        [(1, 1), (3, 1), (1, 86_400_000), (1 << 50, 1), (999_999_937, 1000), (1 << 50, 86_400_000)]
    {
        let (mut bucket, start) = bucket(size, refill_ms, 0);
        bucket.wait(start);
        bucket.tokens = -12_345;
        let wait = bucket.wait(start).unwrap();
        let early = start + wait - Duration::from_nanos(1);
        assert!(bucket.clone().wait(early).is_some(), "{size} in {refill_ms}");
        assert_eq!(bucket.wait(start + wait), None, "{size} in {refill_ms}");
    }
}

#[test]
fn time_at_rest_does_not_count() {
    let (mut bucket, start) = bucket(10, 1000, 0);
    bucket.wait(start);
    bucket.spend(10);
    bucket.rest(start + 150 * MS);
    assert_eq!((bucket.tokens, bucket.part), (1, 500_000_000));
    bucket.spend(1);
    assert_eq!(bucket.wait(start + 3600 * 1000 * MS), Some(50 * MS));
    // A clock that seems to go back is one that stands still.
    assert_eq!(bucket.wait(start), Some(50 * MS));
}
