//! Further tries, of labs that print what they are told to.

use super::*;

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn place(label: &'static str, batches: &[&[&str]]) -> Place {
    let batches = batches.iter().map(|batch| names(batch)).collect();
    Place { label, batches, ..Place::asked_for(&lab::Options::default(), &[]) }
}

/// What is printed in each try; and the names that each was given.
fn tried(all: &[&str], prints: &[&str]) -> (Ended, Vec<Vec<String>>) {
    let tries = Mutex::new(Vec::new());
    let ended = spread(1, &[place("", &[all])], |_, asked| {
        let mut tries = tries.lock().unwrap();
        tries.push(asked.to_vec());
        prints[tries.len() - 1].to_owned()
    });
    (ended, tries.into_inner().unwrap())
}

#[test]
fn what_passes_is_not_tried_again() {
    let (ended, tries) = tried(&["a", "b"], &["test a ... ok\ntest b ... ignored (no)\n"]);
    assert_eq!(tries.len(), 1);
    assert_eq!(ended.outcomes["a"], Outcome::Passed);
    assert_eq!(ended.outcomes["b"], Outcome::Ignored);
    assert!(ended.again.is_empty());
}

#[test]
fn a_few_failures_are_tried_again_and_told() {
    let first = "test a ... FAILED\ntest b ... ok\ntest c ... FAILED\n";
    let last = "test c ... FAILED\n";
    let (ended, tries) = tried(&["a", "b", "c"], &[first, "test a ... ok\ntest c ... FAILED\n", last]);
    assert_eq!(tries, [names(&["a", "b", "c"]), names(&["a", "c"]), names(&["c"])]);
    assert_eq!(ended.again, ["a"]);
    let outcomes: Vec<Outcome> = ended.outcomes.values().copied().collect();
    assert_eq!(outcomes, [Outcome::Passed, Outcome::Passed, Outcome::Failed]);
}

#[test]
fn many_failures_are_not_the_labs() {
    let all = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];
    let first = all.map(|name| format!("test {name} ... FAILED\n")).concat();
    let (ended, tries) = tried(&all, &[&first]);
    assert_eq!(tries.len(), 1);
    assert_eq!(ended.outcomes.len(), all.len());
    assert!(ended.outcomes.values().all(|outcome| *outcome == Outcome::Failed));
}

#[test]
fn what_did_not_end_and_what_had_no_turn_is_tried_again_and_is_a_failure_at_last() {
    let (ended, tries) = tried(&["a", "b", "c"], &["test a ... ok\ntest b ... ", "test b ... ok\n", ""]);
    assert_eq!(tries[1], names(&["b", "c"]));
    assert_eq!(ended.again, ["b"]);
    assert_eq!(ended.outcomes["c"], Outcome::Failed);
}

#[test]
fn each_stock_guest_has_a_lab_of_its_own_and_all_have_their_turn() {
    let all = names(&["linux::a", "spark::a", "linux::b", "spark::b"]);
    let expected = [names(&["spark::a", "spark::b"]), names(&["linux::a"]), names(&["linux::b"])];
    assert_eq!(batches(&all), expected);
    let usual = Place::asked_for(&lab::Options::default(), &all);
    let ended = spread(2, &[usual], |_, asked| passed(asked));
    assert!(all.iter().all(|name| ended.outcomes[name] == Outcome::Passed));
}

fn passed(asked: &[String]) -> String {
    asked.iter().map(|name| format!("test {name} ... ok\n")).collect()
}

#[test]
fn one_test_in_two_places_has_two_outcomes() {
    let places = [place("", &[&["spark::a"]]), place("intel", &[&["spark::a", "spark::b"]])];
    let ended = spread(
        2,
        &places,
        |place, asked| {
            if place.label.is_empty() { passed(asked) } else { passed(&asked[1..]) }
        },
    );
    let outcomes: Vec<(&str, Outcome)> =
        ended.outcomes.iter().map(|(name, outcome)| (name.as_str(), *outcome)).collect();
    let expected = [
        ("intel: spark::a", Outcome::Failed),
        ("intel: spark::b", Outcome::Passed),
        ("spark::a", Outcome::Passed),
    ];
    assert_eq!(outcomes, expected);
}

#[test]
fn a_lab_that_is_asked_for_is_named() {
    let intel = lab::Options { cpu: lab::Cpu::Intel, ..lab::Options::default() };
    assert_eq!(Place::asked_for(&intel, &[]).titled("spark::a"), "intel: spark::a");
    assert_eq!(Place::asked_for(&lab::Options::default(), &[]).titled("spark::a"), "spark::a");
}
