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

/// A lab, and what runs in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// What reports put before the names of its tests; empty for the usual lab, which stands in for this host.
    pub label: &'static str,
    /// Whose virtualization it has.
    pub cpu: lab::Cpu,
    /// Its Linux.
    pub host_kernel: lab::HostKernel,
    /// Names of tests, by what runs in one lab.
    pub batches: Vec<Vec<String>>,
}

impl Place {
    /// What a test's outcome counts as: one that did not end has failed. In a lab of its own kind, so has one that
    /// found itself unable to run: the lab is there for it.
    fn verdict(&self, outcome: Option<Outcome>) -> Outcome {
        match outcome {
            None => Outcome::Failed,
            Some(Outcome::Ignored) if !self.label.is_empty() => Outcome::Failed,
            Some(outcome) => outcome,
        }
    }

    /// The lab that `options` ask for.
    pub fn asked_for(options: &lab::Options, names: &[String]) -> Self {
        let lab::Options { cpu, host_kernel, .. } = *options;
        let label = match (cpu, host_kernel) {
            (lab::Cpu::Amd, lab::HostKernel::Usual) => "",
            (lab::Cpu::Amd, lab::HostKernel::Oldest) => "oldest kernel",
            (lab::Cpu::Amd, lab::HostKernel::Newest) => "newest kernel",
            (lab::Cpu::Intel, _) => "intel",
        };
        Self { label, cpu, host_kernel, batches: batches(names) }
    }

    /// The name of a test that runs here, as reports have it.
    fn titled(&self, name: &str) -> String {
        if self.label.is_empty() { name.to_owned() } else { format!("{}: {name}", self.label) }
    }

    fn count(&self) -> usize {
        self.batches.iter().map(Vec::len).sum()
    }
}

/// What a lab is given to run tests.
#[derive(Clone, Debug)]
pub struct Programs {
    /// The test programs.
    pub tests: Vec<PathBuf>,
    /// Variables for them.
    pub env: Vec<(OsString, OsString)>,
    /// Other files that they need.
    pub files: Vec<PathBuf>,
}

/// What became of each test, by the name that its place gives it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// In the try that counts.
    pub outcomes: BTreeMap<String, Outcome>,
    /// Those that passed, but not at once, in the order in which they did.
    pub again: Vec<String>,
    /// What each lab was.
    pub labs: Vec<String>,
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
pub fn run(options: &lab::Options, programs: &Programs, places: &[Place]) -> Ended {
    let at_once = thread::available_parallelism().map_or(1, usize::from);
    let mut failed = Ended::default();
    let mut ready = Vec::new();
    for place in places {
        match lab::Lab::ensure(place.cpu, place.host_kernel) {
            Ok(lab) => ready.push((place.clone(), lab)),
            Err(why) => {
                println!("error: there is no lab for {} tests: {why:#}", place.count());
                let names = place.batches.iter().flatten();
                failed.outcomes.extend(names.map(|name| (place.titled(name), Outcome::Failed)));
            }
        }
    }
    let labs = ready.iter().map(|(place, lab)| format!("{}: {} tests", lab.describe(), place.count()));
    failed.labs.extend(labs);
    let count: usize = ready.iter().map(|(place, _)| place.count()).sum();
    eprintln!("\n> in the lab, {at_once} at a time: {count} tests of {PACKAGE}");
    let places: Vec<Place> = ready.iter().map(|(place, _)| place.clone()).collect();
    let mut ended = spread(at_once, &places, |place, names| {
        let (_, lab) = ready.iter().find(|(ready, _)| ready == place).expect("it is one of those");
        once(lab, &options_for(place, options, at_once), programs, place, names)
    });
    ended.outcomes.extend(failed.outcomes);
    ended.labs = failed.labs;
    ended
}

/// Memory for as many labs at a time; the Intel lab knows how much it needs.
fn options_for(place: &Place, options: &lab::Options, at_once: usize) -> lab::Options {
    let memory = match place.cpu {
        lab::Cpu::Amd => options.memory.or_else(|| Some(lab::default_memory(at_once as u64))),
        lab::Cpu::Intel => None,
    };
    let share = options.share.clone().filter(|_| place.cpu == lab::Cpu::Amd);
    lab::Options { cpu: place.cpu, host_kernel: place.host_kernel, memory, share, ..options.clone() }
}

/// What is run in one lab: each test that boots a stock Linux for itself, so that a lab that dies takes no other with
/// it; the others, which are many and short, together.
fn batches(names: &[String]) -> Vec<Vec<String>> {
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
fn spread(labs: usize, places: &[Place], run: impl Fn(&Place, &[String]) -> String + Sync) -> Ended {
    let batches = places.iter().flat_map(|place| place.batches.iter().map(move |batch| (place, batch)));
    let queue = Mutex::new(batches.collect::<VecDeque<_>>());
    let progress = Mutex::new(Progress::default());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    thread::scope(|scope| {
        for _ in 0..labs {
            scope.spawn(|| {
                while let Some((place, batch)) = next() {
                    until_it_passes(place, batch, &progress, |names| run(place, names));
                }
            });
        }
    });
    progress.into_inner().unwrap_or_else(PoisonError::into_inner).ended
}

/// Runs a batch, and what failed of it again, as long as that is worth it.
fn until_it_passes(
    place: &Place,
    batch: &[String],
    progress: &Mutex<Progress>,
    run: impl Fn(&[String]) -> String,
) {
    let mut left = batch.to_vec();
    for nth in 1..=TRIES {
        let outcomes = totals::outcomes(&run(&left));
        let mut progress = progress.lock().unwrap_or_else(PoisonError::into_inner);
        let mut lost = Vec::new();
        for name in left {
            let outcome = place.verdict(outcomes.get(&name).copied());
            let titled = place.titled(&name);
            if outcome == Outcome::Failed {
                lost.push(name);
            } else if nth > 1 {
                progress.ended.again.push(titled.clone());
            }
            progress.ended.outcomes.insert(titled, outcome);
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
    programs: &Programs,
    place: &Place,
    names: &[String],
) -> String {
    let single = names.len() == 1;
    let timeout = if single { options.timeout.min(SINGLE) } else { options.timeout };
    let options = lab::Options { timeout, ..options.clone() };
    // The arguments after the script are its positional parameters: the programs.
    let script = "status=0; for test; do \"$test\" || status=1; done; exit $status";
    let mut command: Vec<OsString> = ["sh", "-c", script, "sh"].map(OsString::from).to_vec();
    command.extend(programs.tests.iter().map(|program| program.as_os_str().to_owned()));
    let mut env = programs.env.clone();
    env.push(("REKINDLE_ONLY".into(), names.join(" ").into()));
    let (out, all) = (Heard::default(), Heard::default());
    let streams =
        lab::Streams { out: Box::new(out.tee(all.tee(io::sink()))), err: Box::new(all.tee(io::sink())) };
    let started = Instant::now();
    let ended = lab.run(&options, &lab::Job { command, env, files: programs.files.clone() }, streams);
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
        report.push_str(&format!("test {} ... {}\n", place.titled(name), word(outcomes.get(name).copied())));
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
