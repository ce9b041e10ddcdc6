//! Second tries, of labs that print what they are told to.

use std::cell::Cell;

use super::*;

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// What is printed in the first try and in the second; and how many there were.
fn tried(all: &[&str], prints: [&str; 2], second: &[&str]) -> (Ended, u64) {
    let tries = Cell::new(0);
    let ended = twice(&names(all), |asked, nth| {
        tries.set(nth);
        assert_eq!(asked, names(if nth == 1 { all } else { second }));
        prints[nth as usize - 1].to_owned()
    });
    (ended, tries.get())
}

#[test]
fn what_passes_is_not_tried_again() {
    let (ended, tries) = tried(&["a", "b"], ["test a ... ok\ntest b ... ignored (no)\n", ""], &[]);
    assert_eq!(tries, 1);
    assert_eq!(ended.outcomes["a"], Outcome::Passed);
    assert_eq!(ended.outcomes["b"], Outcome::Ignored);
    assert!(ended.again.is_empty());
}

#[test]
fn a_few_failures_are_tried_again_and_told() {
    let first = "test a ... FAILED\ntest b ... ok\ntest c ... FAILED\n";
    let (ended, _) = tried(&["a", "b", "c"], [first, "test a ... ok\ntest c ... FAILED\n"], &["a", "c"]);
    assert_eq!(ended.again, ["a"]);
    let outcomes: Vec<Outcome> = ended.outcomes.values().copied().collect();
    assert_eq!(outcomes, [Outcome::Passed, Outcome::Passed, Outcome::Failed]);
}

#[test]
fn many_failures_are_not_the_labs() {
    let all = ["a", "b", "c", "d", "e", "f", "g"];
    let first = all.map(|name| format!("test {name} ... FAILED\n")).concat();
    let (ended, tries) = tried(&all, [&first, ""], &[]);
    assert_eq!(tries, 1);
    assert!(ended.outcomes.values().all(|outcome| *outcome == Outcome::Failed));
}

#[test]
fn what_did_not_end_and_what_had_no_turn_is_tried_again_and_is_a_failure_at_last() {
    let first = "test a ... ok\ntest b ... ";
    let (ended, tries) = tried(&["a", "b", "c"], [first, "test b ... ok\n"], &["b", "c"]);
    assert_eq!(tries, 2);
    assert_eq!(ended.again, ["b"]);
    assert_eq!(ended.outcomes["c"], Outcome::Failed);
}
