//! The tests that run in the lab, and what became of each of them by name: also of those that never ended, or that never
//! had their turn.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use super::PACKAGE;
use super::run::Heard;
use super::totals::{self, Outcome};
use crate::{lab, process};

#[cfg(test)]
#[path = "in_lab_test.rs"]
mod in_lab_test;

/// The most failures that can be the lab's own. What is broken fails more often, and every time.
const LAB_LOSES: usize = 6;

/// What became of each test, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// In the try that counts.
    pub outcomes: BTreeMap<String, Outcome>,
    /// Those that passed, but not at once.
    pub again: Vec<String>,
}

/// The names of the tests whose names contain `filter`, as the programs list them.
pub fn listed(programs: &[PathBuf], filter: &str) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for program in programs {
        let said = process::output(Command::new(program).arg("--list"))?;
        names.extend(said.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned));
    }
    names.retain(|name| name.contains(filter));
    Ok(names)
}

/// Runs the tests of these names, and what failed a second time in a fresh lab.
///
/// The lab's hardware is software: in it, a guest with several CPUs may be lost that no real host would lose, and where
/// the host has too little time for it, a guest may wait for longer than any test does. So a few failures get a second
/// try, and so does what had no turn because the lab itself died. The report names them: a test that often needs its
/// second try is a test to look at.
pub fn run(
    options: &lab::Options,
    programs: &[PathBuf],
    names: &[String],
    env: &[(OsString, OsString)],
) -> Ended {
    twice(names, |names, nth| {
        // What is left over is little; it may not take as long as all.
        let options = lab::Options { timeout: options.timeout / nth, ..options.clone() };
        once(&options, programs, names, env).unwrap_or_else(|(heard, why)| {
            // A lab that fails is a failure of its tests, and no reason to withhold what ran before.
            eprintln!("error: {why:#}");
            heard
        })
    })
}

/// `run` gets the names, and which try this is; it gives what was printed.
fn twice(names: &[String], run: impl Fn(&[String], u64) -> String) -> Ended {
    let mut outcomes = totals::outcomes(&run(names, 1));
    let lost = |outcomes: &BTreeMap<String, Outcome>| -> Vec<String> {
        let fine = |name: &&String| matches!(outcomes.get(*name), Some(Outcome::Passed | Outcome::Ignored));
        names.iter().filter(|name| !fine(name)).cloned().collect()
    };
    let first = lost(&outcomes);
    let failed = outcomes.values().filter(|outcome| **outcome == Outcome::Failed).count();
    let mut again = Vec::new();
    if !first.is_empty() && failed <= LAB_LOSES {
        eprintln!("\n> once more, in a fresh lab: {}", first.join(" "));
        outcomes.extend(totals::outcomes(&run(&first, 2)));
        let second = lost(&outcomes);
        again = first.into_iter().filter(|name| !second.contains(name)).collect();
    }
    for name in lost(&outcomes) {
        outcomes.insert(name, Outcome::Failed);
    }
    outcomes.retain(|name, _| names.contains(name));
    Ended { outcomes, again }
}

/// Runs the test programs in one lab, one after another; their standard output, also where the lab failed.
fn once(
    options: &lab::Options,
    programs: &[PathBuf],
    names: &[String],
    env: &[(OsString, OsString)],
) -> std::result::Result<String, (String, anyhow::Error)> {
    eprintln!("\n> in the lab: {} tests of {PACKAGE}", names.len());
    // The arguments after the script are its positional parameters: the programs.
    let script = "status=0; for test; do \"$test\" || status=1; done; exit $status";
    let mut command: Vec<OsString> = ["sh", "-c", script, "sh"].map(OsString::from).to_vec();
    command.extend(programs.iter().map(|program| program.as_os_str().to_owned()));
    let mut env = env.to_vec();
    env.push(("REKINDLE_ONLY".into(), names.join(" ").into()));
    let heard = Heard::default();
    let streams =
        lab::Streams { out: Box::new(heard.tee(std::io::stdout())), err: Box::new(std::io::stderr()) };
    match lab::run(options, &lab::Job { command, env }, streams) {
        Ok(_) => Ok(heard.text()),
        Err(why) => Err((heard.text(), why)),
    }
}
