//! What is tried again, and until when.

use super::super::mock::Mock;
use super::*;

fn policy(budget_ms: u64) -> Policy {
    let ms = Duration::from_millis;
    Policy { budget: ms(budget_ms), first_wait: ms(1), longest_wait: ms(4), slow: ms(500) }
}

fn failing(failures: Vec<Error>, budget_ms: u64) -> Retry<Mock> {
    let mock = Mock::numbered(2);
    *mock.failures.lock().unwrap() = failures;
    Retry::new(mock, policy(budget_ms))
}

#[test]
fn failures_that_pass_are_not_seen() {
    let source = failing((0..3).map(|_| Mock::io_error()).collect(), 10_000);
    let mut page = [0; 4096];
    source.read(4096, &mut page).unwrap();
    assert_eq!((page, source.inner.reads()), ([1; 4096], 4));
}

#[test]
fn failures_that_do_not_pass_are_final_when_the_budget_is_spent_and_not_before() {
    let source = failing((0..1000).map(|_| Mock::io_error()).collect(), 50);
    let started = Instant::now();
    assert!(matches!(source.read(0, &mut [0; 4096]), Err(Error::Read { .. })));
    assert!(started.elapsed() >= Duration::from_millis(50));
    assert!(source.inner.reads() > 5, "{} attempts", source.inner.reads());
    assert!(source.inner.reads() < 60, "{} attempts without waiting", source.inner.reads());
}

#[test]
fn damage_and_change_are_final_at_once() {
    let damaged = Error::Damaged { what: "mock".into(), offset: 0, how: "so".into() };
    for error in [damaged, Error::Changed { what: "mock".into() }] {
        let source = failing(vec![error], 10_000);
        assert!(source.read(0, &mut [0; 4096]).is_err());
        assert_eq!(source.inner.reads(), 1);
    }
    let source = failing(vec![Mock::io_error()], 0);
    assert!(source.read(0, &mut [0; 4096]).is_err(), "no budget, no second attempt");
    assert_eq!(source.inner.reads(), 1);
}
