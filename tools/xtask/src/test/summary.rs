//! What a run of all tests came to: printed last, and kept in a file for whoever prints it again.

use std::fmt;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::in_lab::Ended;
use super::run::Ran;
use super::totals::{self, Outcome, Totals};
use crate::place;

#[cfg(test)]
#[path = "summary_test.rs"]
mod summary_test;

/// Everything that has run so far.
#[derive(Debug, Default)]
pub struct Summary {
    totals: Totals,
    /// Tests, and programs that ended badly without saying which test it was.
    failed: Vec<String>,
    /// Passed in the second try.
    again: Vec<String>,
    /// The kinds of KVM that tests ran on.
    ran_on: Vec<String>,
}

impl Summary {
    /// Adds what a test runner printed. `what` names it where it fails without naming a test.
    pub fn add(&mut self, what: &str, ran: &Ran) {
        self.totals += totals::totals(&ran.out);
        self.totals += totals::totals(&ran.err);
        let mut failed = totals::failures(&ran.out);
        failed.extend(totals::failures(&ran.err));
        if !ran.ok && failed.is_empty() {
            failed.insert(format!("{what}, which names no test"));
        }
        self.failed.extend(failed);
    }

    /// Adds a kind of KVM that tests ran on.
    pub fn ran_on(&mut self, what: String) {
        self.ran_on.push(what);
    }

    /// Adds what ran in the labs, and takes off again what was skipped `here` for that reason.
    pub fn add_lab(&mut self, here: &str, there: &Ended) {
        let here = totals::outcomes(here);
        for (name, outcome) in &there.outcomes {
            let skipped_here = here.get(name) == Some(&Outcome::Ignored);
            match outcome {
                Outcome::Ignored if skipped_here => continue,
                Outcome::Ignored => self.totals.skipped += 1,
                Outcome::Passed => self.totals.passed += 1,
                Outcome::Failed => {
                    self.totals.failed += 1;
                    self.failed.push(name.clone());
                }
            }
            if skipped_here {
                self.totals.skipped = self.totals.skipped.saturating_sub(1);
            }
        }
        self.again.extend(there.again.iter().cloned());
        self.ran_on.extend(there.labs.iter().cloned());
    }

    /// Whether nothing failed.
    pub fn is_good(&self) -> bool {
        self.failed.is_empty() && self.totals.failed == 0
    }

    /// Where it is kept.
    fn path() -> PathBuf {
        place::target().join("test-summary.txt")
    }

    /// Removes that of an earlier run.
    pub fn forget() -> Result<()> {
        match fs::remove_file(Self::path()) {
            Err(why) if why.kind() != std::io::ErrorKind::NotFound => {
                Err(why).context("cannot remove an older summary")
            }
            _ => Ok(()),
        }
    }

    /// Keeps it.
    pub fn keep(&self) -> Result<()> {
        fs::write(Self::path(), self.to_string()).context("cannot write the summary of the tests")
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for what in &self.ran_on {
            writeln!(f, "ran on {what}")?;
        }
        for name in &self.again {
            writeln!(f, "passed in its second try: {name}")?;
        }
        for name in &self.failed {
            writeln!(f, "FAILED: {name}")?;
        }
        writeln!(f, "{}", self.totals)
    }
}
