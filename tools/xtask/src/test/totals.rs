//! Reads what test runners print, and adds it up.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::AddAssign;

/// How many tests ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Did what they should.
    pub passed: u64,
    /// Did not.
    pub failed: u64,
    /// Were not run.
    pub skipped: u64,
}

impl AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

/// How one named test ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// `ok`
    Passed,
    /// `FAILED`
    Failed,
    /// `ignored`
    Ignored,
}

/// Adds up every summary in `output`: libtest's `test result:` lines, and nextest's `Summary` line.
pub fn totals(output: &str) -> Totals {
    let mut sum = Totals::default();
    for line in output.lines().map(plain) {
        let line = line.trim();
        if let Some((_, counts)) = line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". ")) {
            let count = |what| count(counts, what);
            let skipped = count("ignored") + count("filtered out");
            sum += Totals { passed: count("passed"), failed: count("failed"), skipped };
        } else if let Some((_, counts)) =
            line.strip_prefix("Summary [").and_then(|rest| rest.split_once("run: "))
        {
            let count = |what| count(counts, what);
            let failed = count("failed") + count("timed out") + count("exec failed");
            sum += Totals { passed: count("passed"), failed, skipped: count("skipped") };
        }
    }
    sum
}

/// How each test ended that libtest, or something that prints like it, reports in `output`.
pub fn outcomes(output: &str) -> BTreeMap<String, Outcome> {
    let line = |line: &str| {
        let (name, ending) = line.trim().strip_prefix("test ")?.split_once(" ... ")?;
        // What the test itself printed may stand between its name and how it ended, or follow as a reason.
        let outcome = match ending.trim_end() {
            end if end.starts_with("ignored") => Outcome::Ignored,
            end if end.ends_with("FAILED") => Outcome::Failed,
            end if end.ends_with("ok") => Outcome::Passed,
            _ => return None,
        };
        Some((name.trim().to_owned(), outcome))
    };
    output.lines().filter_map(|text| line(&plain(text))).collect()
}

/// The tests that failed, in the order of their names: by libtest's headings above what each of them printed, and by
/// nextest's lines.
pub fn failures(output: &str) -> BTreeSet<String> {
    let heading = |line: &str| {
        let name = line.strip_prefix("---- ")?.strip_suffix(" ----")?;
        Some(name.strip_suffix(" stdout").unwrap_or(name).to_owned())
    };
    let nextest = |line: &str| {
        let (how, rest) = line.split_once(" [")?;
        let bad = ["FAIL", "TIMEOUT", "ABORT", "XFAIL"].contains(&how) || how.starts_with("SIG");
        let (_, name) = rest.split_once(']').filter(|_| bad)?;
        // Some versions count the tests before the name.
        let name = name.trim_start();
        let counted = name.strip_prefix('(').and_then(|rest| rest.split_once(") "));
        Some(counted.map_or(name, |(_, name)| name).trim().to_owned())
    };
    let lines = output.lines().map(plain);
    lines.filter_map(|line| heading(line.trim()).or_else(|| nextest(line.trim()))).collect()
}

/// The number before `what` in a list such as `3 passed (1 slow), 1 failed; 0 ignored`; 0 where it is not
/// listed.
fn count(counts: &str, what: &str) -> u64 {
    let items = counts.split([',', ';']).map(|item| item.split('(').next().unwrap_or_default().trim());
    items.filter_map(|item| item.strip_suffix(what)?.trim_end().parse::<u64>().ok()).sum()
}

/// A line without its colours.
fn plain(line: &str) -> String {
    let mut text = String::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("\x1b[") {
        text.push_str(before);
        rest = after.split_once('m').map_or("", |(_, after)| after);
    }
    text + rest
}

#[cfg(test)]
#[path = "totals_test.rs"]
mod totals_test;
