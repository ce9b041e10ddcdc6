//! Calls that are refused: again and again, and not for ever.

use std::time::{Duration, Instant};

use super::retry::Retry;

#[test]
fn a_call_that_is_refused_at_once_is_given_up_after_a_while_and_not_made_in_a_spin() {
    let (mut retry, start) = (Retry::default(), Instant::now());
    let (mut now, mut calls) = (start, 0);
    while let Some(pause) = retry.refused(now) {
        assert_eq!(pause.is_zero(), calls == 0, "the first one is made again at once, and no other");
        assert!(pause <= Duration::from_millis(10), "a kick waits for {pause:?}");
        now += pause + Duration::from_micros(5);
        calls += 1;
    }
    let took = now - start;
    assert!((Duration::from_secs(2)..Duration::from_secs(3)).contains(&took), "given up after {took:?}");
    assert!(calls < 300, "{calls} calls");
}

#[test]
fn a_call_that_waits_in_the_kernel_is_no_refusal() {
    let (mut retry, mut now) = (Retry::default(), Instant::now());
    for _ in 0..100 {
        assert_eq!(retry.refused(now), Some(Duration::ZERO));
        now += Duration::from_secs(1);
    }
}

#[test]
fn one_call_that_is_not_refused_begins_anew() {
    let (mut retry, mut now) = (Retry::default(), Instant::now());
    for _ in 0..10_000 {
        for _ in 0..3 {
            now += retry.refused(now).expect("not given up") + Duration::from_millis(1);
        }
        retry.reset();
    }
}
