//! `rekindle demo`: the built-in guest is booted, written to an image and brought back, by this program itself as a
//! user runs it, and the times are shown.
//!
//! Every time has the same boundary: from `exec` of `rekindle` to a byte that the guest writes to its console.

mod measure;
mod render;
mod run;

#[cfg(test)]
mod render_test;

use std::path::Path;

use anyhow::{Context, Result, bail};
use vmm::machine::Host;
use vmm::memory::lazy;
use vmm::supervisor::Signals;

use super::args::DemoArgs;
use super::output;
use measure::Measurements;

/// Guest memory, and how much of it the guest has filled when it is snapshotted.
const MEMORY: &str = "256M";
const FILL: &str = "64M";

/// The two ways to have memory back, as `--memory-mode` has them.
const MMAP: &str = "mmap";
const LAZY: &str = "lazy";

/// Boots, snapshots and restores the built-in guest and shows the times.
pub(super) fn run(args: &DemoArgs) -> Result<()> {
    // Fails with the remedy where there is no KVM, before all the children fail with it.
    drop(Host::open()?);
    let signals = Signals::watch()?;
    let scratch = tempfile::Builder::new().prefix("rekindle-demo-").tempdir();
    let scratch = scratch.context("cannot make a directory for the image")?;
    let image = scratch.path().join("spark");
    let command = run::Rekindle::this_program()?;

    let mut measured = Measurements::default();
    for _ in 0..args.runs {
        measured.boots.push(command.boot(MEMORY, FILL)?);
        stop_if_asked(&signals)?;
    }
    measured.snapshot = Some(command.snapshot(MEMORY, FILL, &image)?);
    for _ in 0..args.runs {
        measured.restores.push(command.restore(&image, MMAP)?);
        stop_if_asked(&signals)?;
    }
    measured.verified = verified(&command, &image, MMAP)?;
    match lazy::check() {
        Ok(()) => {
            for _ in 0..args.runs {
                measured.lazy_restores.push(command.restore(&image, LAZY)?);
                stop_if_asked(&signals)?;
            }
            verified(&command, &image, LAZY)?;
        }
        Err(why) => measured.why_not_lazy = Some(why.to_string()),
    }
    let summary = measured.summary(MEMORY, FILL);
    if args.json { output::json(&summary) } else { output::text(&render::table(&summary)) }
}

/// What the guest says of its memory, which it must find as it was.
fn verified(command: &run::Rekindle, image: &Path, mode: &str) -> Result<String> {
    let said = command.verify_in_guest(image, mode)?;
    if !said.starts_with("ok verified") {
        bail!("the restored guest does not find its memory as it was: {said}");
    }
    Ok(said)
}

fn stop_if_asked(signals: &Signals) -> Result<()> {
    if signals.is_pending() { bail!("interrupted") } else { Ok(()) }
}
