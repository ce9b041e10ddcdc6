//! `cargo xtask test`: every test there is, each where it can run.
//!
//! Unit and documentation tests run here. The tests of `rekindle-tests` drive the real program on KVM: they
//! run here as far as this host's `/dev/kvm` goes, and what it cannot do runs in the lab.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde::Deserialize;

use crate::debian::packages;
use crate::host::Kvm;
use crate::{guests, lab, place, process};

pub mod run;
pub mod totals;

use run::{Heard, heard};
use totals::{Outcome, Totals};

/// The package whose tests need KVM.
const PACKAGE: &str = "rekindle-tests";
/// What the names of tests begin with that boot a stock Linux.
const STOCK: &str = "linux::";
/// Tells the tests which `rekindle` to drive.
const PROGRAM: &str = "REKINDLE_BIN";

/// What to leave out.
#[derive(Args, Clone, Debug, Default)]
#[group(id = "test")]
pub struct Options {
    /// Leaves out what would run in the lab.
    #[arg(long)]
    pub no_lab: bool,
    /// Runs the lab's part only.
    #[arg(long, conflicts_with = "no_lab")]
    pub only_lab: bool,
    /// Of the tests that need KVM, runs only those whose name contains this.
    #[arg(value_name = "FILTER")]
    pub filter: Option<String>,
    /// How the lab is made.
    #[command(flatten)]
    pub lab: lab::Options,
}

/// Everything that has run so far.
#[derive(Default)]
struct Tally {
    totals: Totals,
    ok: bool,
}

impl Tally {
    fn add(&mut self, (ok, output): &(bool, String)) {
        self.ok &= ok;
        self.totals += totals::totals(output);
    }
}

/// Runs the tests; whether none failed.
pub fn run(options: &Options) -> Result<bool> {
    let kvm = Kvm::here();
    println!("{kvm}");
    packages::ensure(&packages::to_build()?)?;
    guests::prepare()?;
    let built = build()?;
    let env: Vec<(OsString, OsString)> =
        vec![(guests::VARIABLE.into(), place::guests().into()), (PROGRAM.into(), built.program.into())];

    let mut tally = Tally { ok: true, ..Tally::default() };
    let mut here = (true, String::new());
    if !options.only_lab {
        if options.filter.is_none() {
            tally.add(&unit_tests()?);
            tally.add(&heard(Command::new("cargo").args(["test", "--workspace", "--doc"]))?);
        }
        for test in &built.tests {
            let mut command = Command::new(test);
            command.args(&options.filter).envs(env.clone()).current_dir(place::workspace().join("tests"));
            let (ok, output) = heard(&mut command)?;
            here.0 &= ok;
            here.1.push_str(&output);
        }
        tally.add(&here);
    }

    let wanted = lab_filter(options, &kvm);
    let (mut moved, mut again) = (Vec::new(), Vec::new());
    if let Some(filter) = &wanted
        && !built.tests.is_empty()
    {
        // A lab that fails is a failure, and no reason to withhold what ran here.
        let in_lab = |names: &[String]| {
            in_lab(&options.lab, &built.tests, filter, names, &env).unwrap_or_else(|why| {
                eprintln!("error: {why:#}");
                (false, String::new())
            })
        };
        let mut there = in_lab(&[]);
        if there.1.is_empty() {
            eprintln!("\n> the lab itself has died: once more, in a fresh one");
            there = in_lab(&[]);
        }
        again = second_try(&there, in_lab);
        moved = add_lab(&mut tally, &here.1, &there, &again);
    }
    report(&kvm, wanted.is_some(), &moved, &again, &tally.totals);
    Ok(tally.ok && tally.totals.failed == 0)
}

/// Which tests go to the lab on such a host: none, or those whose names contain the text returned.
fn lab_filter(options: &Options, kvm: &Kvm) -> Option<String> {
    if options.no_lab {
        return None;
    }
    let of_host = match kvm {
        kvm if kvm.runs_stock_guests() && !options.only_lab => return None,
        kvm if kvm.is_usable() => STOCK,
        _ => "",
    };
    Some(options.filter.clone().unwrap_or_else(|| of_host.to_owned()))
}

/// The most failures that can be the lab's own. What is broken fails more often, and every time.
const LAB_LOSES: usize = 3;

/// The lab's emulation of SVM (QEMU 7.2) now and then loses a guest that has several CPUs, restored or just booted: it
/// hangs, or meets a triple fault. So the few tests that fail there get a second try in a fresh lab, which is reported;
/// the names of those that passed in it.
fn second_try(first: &(bool, String), in_lab: impl Fn(&[String]) -> (bool, String)) -> Vec<String> {
    let failed = totals::failures(&first.1);
    if failed.is_empty() || failed.len() > LAB_LOSES {
        return Vec::new();
    }
    eprintln!("\n> once more, in a fresh lab: {}", failed.join(" "));
    let outcomes = totals::outcomes(&in_lab(&failed).1);
    failed.into_iter().filter(|name| outcomes.get(name) == Some(&Outcome::Passed)).collect()
}

/// Adds what ran in the lab, and takes what was skipped here for that reason off again; the tests that ran
/// there.
fn add_lab(
    tally: &mut Tally,
    here: &str,
    there: &(bool, String),
    again: &[String],
) -> Vec<(String, Outcome)> {
    let skipped_here = totals::outcomes(here);
    let ran: Vec<(String, Outcome)> =
        totals::outcomes(&there.1).into_iter().filter(|(_, outcome)| *outcome != Outcome::Ignored).collect();
    let twice = ran.iter().filter(|(name, _)| skipped_here.get(name) == Some(&Outcome::Ignored)).count();
    let Totals { passed, failed, .. } = totals::totals(&there.1);
    let saved = again.len() as u64;
    tally.ok &= there.0 || (failed > 0 && failed == saved);
    tally.totals += Totals { passed: passed + saved, failed: failed.saturating_sub(saved), skipped: 0 };
    tally.totals.skipped = tally.totals.skipped.saturating_sub(twice as u64);
    ran
}

fn report(kvm: &Kvm, lab: bool, moved: &[(String, Outcome)], again: &[String], totals: &Totals) {
    println!("\n{kvm}");
    if lab {
        println!("ran in the lab instead: {} tests", moved.len());
        for (name, outcome) in moved {
            println!("    {name}: {}", if *outcome == Outcome::Passed { "ok" } else { "FAILED" });
        }
        for name in again {
            println!("    {name}: ok in its second try");
        }
    } else {
        println!("nothing ran in the lab");
    }
    println!("{totals}");
}

/// Every test that needs no KVM, several at once where nextest is installed.
pub fn unit_tests() -> Result<(bool, String)> {
    let mut command = Command::new("cargo");
    if process::find("cargo-nextest").is_some() {
        command.args(["nextest", "run", "--no-fail-fast", "--no-tests", "pass"]);
    } else {
        command.args(["test", "--no-fail-fast", "--lib", "--bins", "--tests"]);
    }
    command.args(["--workspace", "--exclude", PACKAGE]);
    heard(&mut command)
}

/// What the tests on KVM are made of.
struct Built {
    program: PathBuf,
    tests: Vec<PathBuf>,
}

/// The part of cargo's messages that tells where it put things.
#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    executable: Option<PathBuf>,
    target: Option<Target>,
    profile: Option<Profile>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

/// Builds `rekindle` and the test programs as users get them: unoptimised code is no use in software
/// emulation.
fn build() -> Result<Built> {
    let program = cargo_build(&["build", "--release", "--package", "vmm", "--bin", "rekindle"], false)?;
    let program = program.into_iter().find(|(name, _)| name == "rekindle");
    let (_, program) = program.context("cargo built no `rekindle`")?;
    let tests = cargo_build(&["test", "--release", "--package", PACKAGE, "--no-run"], true)?;
    Ok(Built { program, tests: tests.into_iter().map(|(_, path)| path).collect() })
}

/// Runs one cargo build; the names and paths of the programs it made: either the tests, or the others.
pub(crate) fn cargo_build(args: &[&str], tests: bool) -> Result<Vec<(String, PathBuf)>> {
    let mut command = Command::new("cargo");
    command.args(args).args(["--message-format", "json-render-diagnostics"]);
    let shown = process::shown(&command);
    eprintln!("\n> {shown}");
    let out = command.stderr(Stdio::inherit()).output().with_context(|| format!("cannot run `{shown}`"))?;
    if !out.status.success() {
        bail!("`{shown}` failed: {}", out.status);
    }
    Ok(executables(&String::from_utf8_lossy(&out.stdout), tests))
}

fn executables(messages: &str, tests: bool) -> Vec<(String, PathBuf)> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Message>(line).ok());
    // A package with tests may have programs that they use, which are built along.
    let wanted = messages.filter(|message| message.profile.as_ref().is_some_and(|made| made.test == tests));
    wanted.filter_map(|message| Some((message.target?.name, message.executable?))).collect()
}

/// Runs the test programs in one lab, one after another: the tests of those names, or if there are none, all that
/// `filter` lets through.
fn in_lab(
    options: &lab::Options,
    tests: &[PathBuf],
    filter: &str,
    names: &[String],
    env: &[(OsString, OsString)],
) -> Result<(bool, String)> {
    eprintln!("\n> in the lab: {} of {PACKAGE}", if filter.is_empty() { "everything" } else { filter });
    // The arguments after the script are its positional parameters: first what to run, then the programs.
    let all = "filter=$1; shift; status=0; for test; do \"$test\" $filter || status=1; done; exit $status";
    let some = "names=$1; shift; status=0; for test; do for name in $names; do \
                \"$test\" --exact \"$name\" || status=1; done; done; exit $status";
    let (script, what) = if names.is_empty() { (all, filter.to_owned()) } else { (some, names.join(" ")) };
    let mut command: Vec<OsString> = ["sh", "-c", script, "sh"].map(OsString::from).to_vec();
    command.push(what.into());
    command.extend(tests.iter().map(|test| test.as_os_str().to_owned()));
    let job = lab::Job { command, env: env.to_vec() };
    let heard = Heard::default();
    let streams = lab::Streams {
        out: Box::new(heard.tee(std::io::stdout())),
        err: Box::new(heard.tee(std::io::stderr())),
    };
    let status = lab::run(options, &job, streams)?;
    Ok((status == 0, heard.text()))
}

#[cfg(test)]
mod test_test;
