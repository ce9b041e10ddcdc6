//! Where tests go, and how the two places add up.

use super::*;

#[test]
fn the_host_decides_what_goes_to_the_lab() {
    let options = Options::default();
    assert_eq!(lab_filter(&options, &Kvm::Hardware("kvm_intel")), None);
    assert_eq!(lab_filter(&options, &Kvm::Emulating("kvm_pvm")).as_deref(), Some("linux::"));
    assert_eq!(lab_filter(&options, &Kvm::Unusable("gone".into())).as_deref(), Some(""));
    let without = Options { no_lab: true, ..Options::default() };
    assert_eq!(lab_filter(&without, &Kvm::Unusable("gone".into())), None);
    let only = Options { only_lab: true, filter: Some("linux::date".into()), ..Options::default() };
    assert_eq!(lab_filter(&only, &Kvm::Hardware("kvm_amd")).as_deref(), Some("linux::date"));
}

#[test]
fn a_test_that_moved_to_the_lab_is_not_skipped() {
    let here = "test linux::a ... ignored, no stock guest\ntest spark::b ... ok\n\
        test result: ok. 1 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out";
    let there =
        "test linux::a ... ok\ntest result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 1 filtered out";
    let mut tally = Tally { ok: true, ..Tally::default() };
    tally.add(&(true, here.to_owned()));
    let ran = add_lab(&mut tally, here, &(true, there.to_owned()), &[]);
    assert_eq!(tally.totals, Totals { passed: 2, failed: 0, skipped: 0 });
    assert_eq!(ran, [("linux::a".to_owned(), Outcome::Passed)]);
}

#[test]
fn cargo_tells_where_it_put_programs() {
    let messages = r#"{"reason":"compiler-artifact","target":{"name":"vmm"},"executable":null}
{"reason":"compiler-artifact","target":{"name":"rekindle"},"profile":{"test":false},"executable":"/srv/target/release/rekindle"}
{"reason":"compiler-artifact","target":{"name":"spark"},"profile":{"test":true},"executable":"/srv/target/release/deps/spark-1"}
{"reason":"build-finished","success":true}
"#;
    assert_eq!(
        executables(messages, false),
        [("rekindle".to_owned(), "/srv/target/release/rekindle".into())]
    );
    assert_eq!(
        executables(messages, true),
        [("spark".to_owned(), "/srv/target/release/deps/spark-1".into())]
    );
}

#[test]
fn a_few_failures_in_the_lab_get_a_second_try_and_many_do_not() {
    let failed = |names: &[&str]| {
        let headings: String = names.iter().map(|name| format!("---- {name} ----\nlost\n")).collect();
        (false, format!("{headings}test result: FAILED. 1 passed; {} failed; 0 ignored", names.len()))
    };
    let first = failed(&["linux::a", "linux::b"]);
    let again = second_try(&first, |names| {
        assert_eq!(names, ["linux::a", "linux::b"]);
        (false, "test linux::a ... ok\ntest linux::b ... FAILED\n".to_owned())
    });
    assert_eq!(again, ["linux::a"]);
    let mut tally = Tally { ok: true, ..Tally::default() };
    add_lab(&mut tally, "", &first, &again);
    assert_eq!((tally.ok, tally.totals), (false, Totals { passed: 2, failed: 1, skipped: 0 }));

    let mut tally = Tally { ok: true, ..Tally::default() };
    add_lab(&mut tally, "", &failed(&["linux::a"]), &["linux::a".to_owned()]);
    assert_eq!((tally.ok, tally.totals), (true, Totals { passed: 2, failed: 0, skipped: 0 }));

    let never = |_: &[String]| panic!("nothing is tried again");
    assert!(second_try(&failed(&["a", "b", "c", "d"]), never).is_empty());
    assert!(second_try(&(false, "the lab died".to_owned()), never).is_empty());
}
