//! Output of the runners, as they print it.

use super::*;

#[test]
fn libtest_results_add_up() {
    let output = "\
running 3 tests
test a ... ok
test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s

test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 4 filtered out; finished in 0.01s
";
    assert_eq!(totals(output), Totals { passed: 4, failed: 2, skipped: 5 });
    assert_eq!(totals(output).to_string(), "4 passed, 2 failed, 5 skipped");
}

#[test]
fn nextest_summaries_add_up_with_colours() {
    let output = "\x1b[32;1m     Summary\x1b[0m [   0.105s] \x1b[1m9\x1b[0m tests run: \x1b[1m6\x1b[0m \x1b[32;1mpassed\x1b[0m \
        (1 slow, 2 leaky), 1 failed, 2 timed out, 3 skipped";
    assert_eq!(totals(output), Totals { passed: 6, failed: 3, skipped: 3 });
    assert_eq!(totals("     Summary [   0.105s] 2/9 tests run: 1 passed, 1 failed, 0 skipped").failed, 1);
}

#[test]
fn outcomes_by_name() {
    let output = "\
test linux::boots ... ok
test linux::counts ... ignored, no stock guest runs here
test spark::verifies ... said something\u{20}
test spark::echo ... rekindle: warning FAILED
test spark::fill ... 12 MiB
running 5 tests
";
    let found = outcomes(output);
    assert_eq!(found["linux::boots"], Outcome::Passed);
    assert_eq!(found["linux::counts"], Outcome::Ignored);
    assert_eq!(found["spark::echo"], Outcome::Failed);
    assert_eq!(found.len(), 3);
}

fn names(output: &str) -> Vec<String> {
    failures(output).into_iter().collect()
}

#[test]
fn failures_are_read_off_their_headings() {
    let output = "failures:\n\n---- linux::one ----\ntest panicked: x\n\n---- src/lib.rs - two (line 3) stdout ----\n\n\
        failures:\n    linux::one\n";
    assert_eq!(names(output), ["linux::one", "src/lib.rs - two (line 3)"]);
    assert!(names("test result: ok. 3 passed").is_empty());
}

#[test]
fn failures_are_read_off_the_lines_of_nextest() {
    let output = "\
        PASS [   0.006s] (398/413) xtask lab::image::quoting
\x1b[31;1m        FAIL\x1b[0m [   0.005s] (399/413) \x1b[35;1mvmm\x1b[0m \x1b[36mdevice::\x1b[0m\x1b[34;1mlost\x1b[0m
     SIGABRT [   0.100s] vmm sys::died
     Summary [   0.105s] 413 tests run: 411 passed, 2 failed, 3 skipped
        FAIL [   0.005s] (399/413) vmm device::lost
";
    assert_eq!(names(output), ["vmm device::lost", "vmm sys::died"]);
}
