//! `cargo xtask test`: every test there is, each where it can run.
//!
//! Unit and documentation tests run here. The tests of `rekindle-tests` drive the real program on KVM: they
//! run here as far as this host's `/dev/kvm` goes, and what it cannot do runs in the lab. The core of them runs on every
//! kind of CPU and of kernel that there is a lab for, beside that.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde::Deserialize;

use crate::debian::packages;
use crate::host::Kvm;
use crate::{guests, lab, place, process};

pub mod core;
pub mod in_lab;
pub mod run;
pub mod summary;
pub mod totals;

use in_lab::{Ended, Place, Programs};
use run::{Ran, heard};
use summary::Summary;
use totals::Outcome;

/// The package whose tests need KVM.
const PACKAGE: &str = "rekindle-tests";
/// What the names of tests begin with that boot a stock Linux.
const STOCK: &str = "linux::";
/// The programs that the tests drive: package, name, and the variable that tells the tests where it is.
const PROGRAMS: [(&str, &str, &str); 2] =
    [("vmm", "rekindle", "REKINDLE_BIN"), ("page-server", "rekindle-pages", "REKINDLE_PAGES_BIN")];

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
    /// Runs the core only, in each lab that there is for it, or in the one that is asked for.
    #[arg(long, conflicts_with_all = ["no_lab", "only_lab", "filter"])]
    pub core: bool,
    /// Of the tests that need KVM, runs only those whose name contains this.
    #[arg(value_name = "FILTER")]
    pub filter: Option<String>,
    /// How the lab is made.
    #[command(flatten)]
    pub lab: lab::Options,
}

/// Runs the tests; whether none failed.
pub fn run(options: &Options) -> Result<bool> {
    let kvm = Kvm::here();
    println!("{kvm}");
    Summary::forget()?;
    packages::ensure(&packages::to_build()?)?;
    guests::prepare()?;
    let built = build()?;
    let mut env: Vec<(OsString, OsString)> = vec![(guests::VARIABLE.into(), place::guests().into())];
    env.extend(built.programs.iter().map(|(variable, path)| ((*variable).into(), path.into())));

    let mut summary = Summary::default();
    let mut here = String::new();
    if !options.only_lab && !options.core {
        if options.filter.is_none() {
            summary.add("the unit tests", &unit_tests()?);
            let mut documentation = Command::new("cargo");
            summary.add(
                "the documentation's tests",
                &heard(documentation.args(["test", "--workspace", "--doc"]))?,
            );
        }
        for test in &built.tests {
            let mut command = Command::new(test);
            command.args(&options.filter).envs(env.clone()).current_dir(place::workspace().join("tests"));
            let ran = heard(&mut command)?;
            summary.add(&test.display().to_string(), &ran);
            here.push_str(&ran.out);
        }
    }

    let places = places(options, &kvm, &built)?;
    let moved = if places.is_empty() {
        None
    } else {
        let programs = Programs { files: carried(&built), tests: built.tests, env };
        Some(in_lab::run(&options.lab, &programs, &places))
    };
    if !options.only_lab && !options.core && kvm.is_usable() {
        summary.ran_on(kvm.to_string());
    }
    if let Some(ended) = &moved {
        summary.add_lab(&here, ended);
    }
    report(&kvm, moved.as_ref());
    print!("{summary}");
    summary.keep()?;
    Ok(summary.is_good())
}

/// The labs that are needed, and what runs in each. Who asks for certain tests or for a certain lab gets no other.
fn places(options: &Options, kvm: &Kvm, built: &Built) -> Result<Vec<Place>> {
    let all = in_lab::listed(&built.tests, "")?;
    let is_usual = Place::asked_for(&options.lab, &[]).label.is_empty();
    if options.core && !is_usual {
        let mut place = Place::asked_for(&options.lab, &[]);
        place.batches.push(core::names());
        return Ok(vec![place]);
    }
    let usual = match lab_filter(options, kvm) {
        Some(filter) if !options.core => all.iter().filter(|name| name.contains(&filter)).cloned().collect(),
        _ => Vec::new(),
    };
    let mut places = Vec::new();
    if options.filter.is_none() && !options.no_lab && is_usual {
        places.extend(core::places(&all, &usual)?);
    }
    if !usual.is_empty() {
        places.push(Place::asked_for(&options.lab, &usual));
    }
    Ok(places)
}

/// What a lab needs that sees no file of ours: the programs, and the kernel that the core boots.
fn carried(built: &Built) -> Vec<PathBuf> {
    let programs = built.programs.iter().map(|(_, path)| path.clone());
    let guest = place::guests().join(guests::CLOUD_6_1.name);
    let guest = ["vmlinuz", "config", "initramfs"].map(|name| guest.join(name));
    // The real `env` can set signals, which busybox's cannot.
    let others = process::find("env").into_iter();
    programs
        .chain(built.tests.iter().cloned())
        .chain(built.helpers.iter().cloned())
        .chain(guest)
        .chain(others)
        .collect()
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

fn report(kvm: &Kvm, lab: Option<&Ended>) {
    println!("\n{kvm}");
    let Some(Ended { outcomes, again: _, labs: _ }) = lab else {
        println!("nothing ran in the lab");
        return;
    };
    let ran: Vec<_> = outcomes.iter().filter(|(_, outcome)| **outcome != Outcome::Ignored).collect();
    println!("ran in the lab: {} tests", ran.len());
    for (name, outcome) in ran {
        println!("    {name}: {}", if *outcome == Outcome::Passed { "ok" } else { "FAILED" });
    }
}

/// Every test that needs no KVM, several at once where nextest is installed.
pub fn unit_tests() -> Result<Ran> {
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
    /// With the variables that name them.
    programs: Vec<(&'static str, PathBuf)>,
    tests: Vec<PathBuf>,
    /// Programs that the tests use by the path that cargo gave them.
    helpers: Vec<PathBuf>,
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

/// Builds the programs and their tests as users get them: unoptimised code is no use in software emulation. Each program by
/// itself, because cargo gives packages that are built together each other's features.
fn build() -> Result<Built> {
    let mut programs = Vec::new();
    for (package, name, variable) in PROGRAMS {
        let made = cargo_build(&["build", "--release", "--package", package, "--bin", name], false)?;
        let made = made.into_iter().find(|(made, _)| made == name);
        let (_, path) = made.with_context(|| format!("cargo built no `{name}`"))?;
        programs.push((variable, path));
    }
    let messages = cargo(&["test", "--release", "--package", PACKAGE, "--no-run"])?;
    let paths = |tests| executables(&messages, tests).into_iter().map(|(_, path)| path).collect();
    Ok(Built { programs, tests: paths(true), helpers: paths(false) })
}

/// Runs one cargo build; the names and paths of the programs it made: either the tests, or the others.
pub(crate) fn cargo_build(args: &[&str], tests: bool) -> Result<Vec<(String, PathBuf)>> {
    Ok(executables(&cargo(args)?, tests))
}

/// Runs one cargo build; its messages.
fn cargo(args: &[&str]) -> Result<String> {
    let mut command = Command::new("cargo");
    command.args(args).args(["--message-format", "json-render-diagnostics"]);
    let shown = process::shown(&command);
    eprintln!("\n> {shown}");
    let out = command.stderr(Stdio::inherit()).output().with_context(|| format!("cannot run `{shown}`"))?;
    if !out.status.success() {
        bail!("`{shown}` failed: {}", out.status);
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

fn executables(messages: &str, tests: bool) -> Vec<(String, PathBuf)> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Message>(line).ok());
    // A package with tests may have programs that they use, which are built along.
    let wanted = messages.filter(|message| message.profile.as_ref().is_some_and(|made| made.test == tests));
    wanted.filter_map(|message| Some((message.target?.name, message.executable?))).collect()
}

#[cfg(test)]
mod test_test;
