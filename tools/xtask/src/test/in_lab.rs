//! The tests that run in the lab, and what became of each of them by name: also of those that never ended, or that never
//! had their turn.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::Result;

use super::run::Heard;
use super::totals::{self, Outcome};
use super::{PACKAGE, STOCK};
use crate::{lab, process};

#[cfg(test)]
#[path = "in_lab_test.rs"]
mod in_lab_test;

/// The most failures, second tries included, that can be the lab's own. What is broken fails more often, and every time.
const LAB_LOSES: usize = 8;
/// How often a test is tried at most.
const TRIES: u32 = 3;
/// How long a lab with a single test in it may take, in seconds. The test gives up far earlier.
const SINGLE: u64 = 900;

/// What became of each test, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// In the try that counts.
    pub outcomes: BTreeMap<String, Outcome>,
    /// Those that passed, but not at once, in the order in which they did.
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

/// Runs the tests of these names in as many labs at a time as there are CPUs, and what failed again in a fresh lab.
///
/// The lab's hardware is software: in it, a guest may be lost that no real host would lose, and where the host has too
/// little time for it, a guest may wait for longer than any test does. So a few failures get further tries, and so does
/// what had no turn because the lab itself died. The report names them: a test that often needs its second try is a test
/// to look at.
pub fn run(
    options: &lab::Options,
    programs: &[PathBuf],
    names: &[String],
    env: &[(OsString, OsString)],
) -> Result<Ended> {
    let lab = lab::Lab::ensure(options.cpu, options.host_kernel)?;
    let labs = thread::available_parallelism().map_or(1, usize::from);
    let memory = options.memory.unwrap_or_else(|| lab::default_memory(labs as u64));
    let options = lab::Options { memory: Some(memory), ..options.clone() };
    eprintln!("\n> in the lab, {labs} at a time: {} tests of {PACKAGE}", names.len());
    Ok(spread(labs, names, |names| once(&lab, &options, programs, names, env)))
}

/// What is run in one lab: each test that boots a stock Linux for itself, so that a lab that dies takes no other with
/// it; the others, which are many and short, together.
fn batches(names: &[String]) -> VecDeque<Vec<String>> {
    let (stock, others): (Vec<String>, Vec<String>) =
        names.iter().cloned().partition(|name| name.starts_with(STOCK));
    let others = Some(others).filter(|others| !others.is_empty());
    others.into_iter().chain(stock.into_iter().map(|name| vec![name])).collect()
}

/// What has become of all so far.
#[derive(Debug, Default)]
struct Progress {
    ended: Ended,
    failures: usize,
}

/// `run` gets the names for one lab, and gives what was printed there.
fn spread(labs: usize, names: &[String], run: impl Fn(&[String]) -> String + Sync) -> Ended {
    let queue = Mutex::new(batches(names));
    let progress = Mutex::new(Progress::default());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    thread::scope(|scope| {
        for _ in 0..labs {
            scope.spawn(|| {
                while let Some(batch) = next() {
                    until_it_passes(&batch, &progress, &run);
                }
            });
        }
    });
    progress.into_inner().unwrap_or_else(PoisonError::into_inner).ended
}

/// Runs a batch, and what failed of it again, as long as that is worth it.
fn until_it_passes(batch: &[String], progress: &Mutex<Progress>, run: impl Fn(&[String]) -> String) {
    let mut left = batch.to_vec();
    for nth in 1..=TRIES {
        let outcomes = totals::outcomes(&run(&left));
        let mut progress = progress.lock().unwrap_or_else(PoisonError::into_inner);
        let mut lost = Vec::new();
        for name in left {
            let outcome = outcomes.get(&name).copied().unwrap_or(Outcome::Failed);
            if outcome == Outcome::Failed {
                lost.push(name.clone());
            } else if nth > 1 {
                progress.ended.again.push(name.clone());
            }
            progress.ended.outcomes.insert(name, outcome);
        }
        // What had no turn because the lab died did not fail by itself, but the lab did, once.
        let failed = outcomes.values().filter(|outcome| **outcome == Outcome::Failed).count();
        progress.failures += failed.max(usize::from(!lost.is_empty()));
        if lost.is_empty() || nth == TRIES || progress.failures > LAB_LOSES {
            return;
        }
        eprintln!("> once more, in a fresh lab: {}", lost.join(" "));
        left = lost;
    }
}

/// Runs the tests of these names in one lab, program after program; their standard output, also where the lab failed.
/// It is shown when all is over, whole only where something failed: several labs at once would mix theirs up.
fn once(
    lab: &lab::Lab,
    options: &lab::Options,
    programs: &[PathBuf],
    names: &[String],
    env: &[(OsString, OsString)],
) -> String {
    let single = names.len() == 1;
    let timeout = if single { options.timeout.min(SINGLE) } else { options.timeout };
    let options = lab::Options { timeout, ..options.clone() };
    // The arguments after the script are its positional parameters: the programs.
    let script = "status=0; for test; do \"$test\" || status=1; done; exit $status";
    let mut command: Vec<OsString> = ["sh", "-c", script, "sh"].map(OsString::from).to_vec();
    command.extend(programs.iter().map(|program| program.as_os_str().to_owned()));
    let mut env = env.to_vec();
    env.push(("REKINDLE_ONLY".into(), names.join(" ").into()));
    let (out, all) = (Heard::default(), Heard::default());
    let streams =
        lab::Streams { out: Box::new(out.tee(all.tee(io::sink()))), err: Box::new(all.tee(io::sink())) };
    let started = Instant::now();
    let ended = lab.run(&options, &lab::Job { command, env, files: Vec::new() }, streams);
    // Both streams are written to at once: a report is one piece.
    let mut report = String::new();
    if !matches!(ended, Ok(0)) {
        report.push_str(&all.text());
    }
    if let Err(why) = ended {
        // A lab that fails is a failure of its tests, and no reason to withhold what ran before.
        report.push_str(&format!("error: {why:#}\n"));
    }
    let outcomes = totals::outcomes(&out.text());
    for name in names {
        report.push_str(&format!("test {name} ... {}\n", word(outcomes.get(name).copied())));
    }
    println!("{report}    {} s in the lab", started.elapsed().as_secs());
    out.text()
}

fn word(outcome: Option<Outcome>) -> &'static str {
    match outcome {
        Some(Outcome::Passed) => "ok",
        Some(Outcome::Ignored) => "ignored",
        Some(Outcome::Failed) => "FAILED",
        None => "did not end",
    }
}
