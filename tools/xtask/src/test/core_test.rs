//! Which of the core runs where.

use super::*;

#[test]
fn the_usual_lab_gets_what_it_has_not_run_yet() {
    let all: Vec<String> = NAMES.iter().map(|name| (*name).to_owned()).collect();
    let stock: Vec<String> = all.iter().filter(|name| name.starts_with("linux::")).cloned().collect();
    let labels = |places: &[Place]| places.iter().map(|place| place.label).collect::<Vec<_>>();
    let chosen = places(&all, &stock).unwrap();
    assert_eq!(labels(&chosen), ["intel", "oldest kernel", "newest kernel", "amd"]);
    assert_eq!(
        [chosen[0].batches[0].len(), chosen[1].batches[0].len()],
        [all.len() - NOT_ON_BOCHS.len(), all.len()]
    );
    assert_eq!(chosen[3].batches[0].len(), all.len() - stock.len());
    assert_eq!(labels(&places(&all, &all).unwrap()), ["intel", "oldest kernel", "newest kernel"]);
}

#[test]
fn a_name_that_no_test_has_is_an_error() {
    let all: Vec<String> = NAMES.iter().skip(1).map(|name| (*name).to_owned()).collect();
    assert!(places(&all, &[]).unwrap_err().to_string().contains(NAMES[0]));
}
