//! `cargo xtask check`: everything that must hold of the tree beside its tests. Runs all of it, reports all
//! of it.

use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;

use crate::debian::packages;

pub mod edges;
pub mod lints;
pub mod source;
pub mod steps;
pub mod text;

/// Which checks to run.
#[derive(Args, Clone, Debug, Default)]
#[group(id = "check")]
pub struct Options {
    /// Runs only these; all by default.
    #[arg(value_name = "CHECK")]
    pub only: Vec<String>,
}

/// How a check ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing is wrong.
    Passed,
    /// Something is; it has been printed.
    Failed,
    /// It could not be told here, for this reason.
    Skipped(String),
}

impl Verdict {
    /// The verdict of a check that either holds or does not.
    pub fn of(holds: bool) -> Self {
        if holds { Self::Passed } else { Self::Failed }
    }
}

/// A check and its name on the command line.
type Check = (&'static str, fn() -> Result<Verdict>);

/// Quick ones first, so that a slip shows early.
const CHECKS: [Check; 11] = [
    ("fmt", steps::fmt),
    ("lints", steps::lints),
    ("text", steps::text),
    ("edges", steps::edges),
    ("clippy", steps::clippy),
    ("library", steps::library),
    ("doc", steps::doc),
    ("unit", steps::unit),
    ("fuzz", steps::fuzz),
    ("deny", steps::deny),
    ("advisories", steps::advisories),
];

/// Runs the checks; whether none failed.
pub fn run(options: &Options) -> Result<bool> {
    let known = |name: &str| CHECKS.iter().any(|(check, _)| *check == name);
    if let Some(name) = options.only.iter().find(|name| !known(name)) {
        let names: Vec<&str> = CHECKS.iter().map(|(name, _)| *name).collect();
        anyhow::bail!("there is no check `{name}`; there are: {}", names.join(", "));
    }
    packages::ensure(&packages::to_build()?)?;
    let mut rows = Vec::new();
    for (name, check) in CHECKS {
        if !options.only.is_empty() && !options.only.iter().any(|only| only == name) {
            continue;
        }
        eprintln!("\n== {name}");
        let started = Instant::now();
        // A check that cannot run is a failure of its own, and no reason to withhold the others.
        let verdict = check().unwrap_or_else(|why| {
            eprintln!("error: {why:#}");
            Verdict::Failed
        });
        rows.push((name, verdict, started.elapsed()));
    }
    println!("\n{}", table(&rows));
    Ok(rows.iter().all(|(_, verdict, _)| *verdict != Verdict::Failed))
}

fn table(rows: &[(&str, Verdict, Duration)]) -> String {
    let row = |(name, verdict, took): &(&str, Verdict, Duration)| {
        let verdict = match verdict {
            Verdict::Passed => "ok".to_owned(),
            Verdict::Failed => "FAILED".to_owned(),
            Verdict::Skipped(why) => format!("skipped: {why}"),
        };
        format!("{name:<12} {:>6.1} s  {verdict}\n", took.as_secs_f64())
    };
    rows.iter().map(row).collect()
}

#[cfg(test)]
mod check_test;
