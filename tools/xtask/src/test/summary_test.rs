//! How two places add up.

use std::collections::BTreeMap;

use super::*;

fn ran(ok: bool, out: &str) -> Ran {
    Ran { ok, out: out.to_owned(), err: String::new() }
}

fn ended(outcomes: &[(&str, Outcome)], again: &[&str]) -> Ended {
    let outcomes: BTreeMap<String, Outcome> =
        outcomes.iter().map(|(name, outcome)| ((*name).to_owned(), *outcome)).collect();
    Ended { outcomes, again: again.iter().map(|name| (*name).to_owned()).collect(), labs: Vec::new() }
}

const HERE: &str = "test linux::a ... ignored, no stock guest\ntest spark::b ... ok\n\
    test result: ok. 1 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out";

#[test]
fn a_test_that_moved_to_the_lab_is_not_skipped() {
    let mut summary = Summary::default();
    summary.add("spark", &ran(true, HERE));
    summary.add_lab(HERE, &ended(&[("linux::a", Outcome::Passed)], &[]));
    assert!(summary.is_good());
    assert_eq!(summary.to_string(), "2 passed, 0 failed, 0 skipped\n");
}

#[test]
fn a_second_try_and_a_failure_are_named_above_the_counts() {
    let mut summary = Summary::default();
    summary.add("spark", &ran(true, HERE));
    let there =
        [("linux::a", Outcome::Failed), ("linux::c", Outcome::Passed), ("linux::d", Outcome::Ignored)];
    summary.add_lab(HERE, &ended(&there, &["linux::c"]));
    assert!(!summary.is_good());
    let text = "passed in its second try: linux::c\nFAILED: linux::a\n2 passed, 1 failed, 1 skipped\n";
    assert_eq!(summary.to_string(), text);
}

#[test]
fn the_kinds_of_kvm_are_named_and_one_name_in_two_places_counts_twice() {
    let mut summary = Summary::default();
    summary.add("spark", &ran(true, HERE));
    let mut there = ended(&[("intel: spark::b", Outcome::Passed), ("linux::a", Outcome::Passed)], &[]);
    there.labs.push("Intel VMX, Linux 6.1 on Bochs: 1 tests".into());
    summary.ran_on("/dev/kvm: kvm_pvm".into());
    summary.add_lab(HERE, &there);
    let text = "ran on /dev/kvm: kvm_pvm\nran on Intel VMX, Linux 6.1 on Bochs: 1 tests\n3 passed, 0 failed, 0 skipped\n";
    assert_eq!(summary.to_string(), text);
}

#[test]
fn a_program_that_dies_is_a_failure() {
    let mut summary = Summary::default();
    summary.add("deps/input-1", &ran(false, "test input::a ... "));
    assert!(!summary.is_good());
    assert!(summary.to_string().starts_with("FAILED: deps/input-1, which names no test\n"));
}
