//! `cargo xtask bench`: builds `rekindle` and `rekindle-pages` and measures it, in the lab where this host has no KVM.

use std::ffi::OsString;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::debian::packages;
use crate::host::Kvm;
use crate::{lab, place, process, test};

/// Runs the end-to-end benchmark with `args`; its exit status.
pub fn run(options: &lab::Options, args: &[OsString]) -> Result<u8> {
    packages::ensure(&packages::to_build()?)?;
    let mut program = Command::new("cargo");
    let programs =
        ["--package", "vmm", "--bin", "rekindle", "--package", "page-server", "--bin", "rekindle-pages"];
    process::run(program.args(["build", "--release"]).args(programs))?;
    let benchmark = ["bench", "--no-run", "--package", "rekindle-benches", "--bench", "restore"];
    let built = test::cargo_build(&benchmark, true)?;
    let (_, benchmark) =
        built.into_iter().find(|(name, _)| name == "restore").context("cargo has built no benchmark")?;
    let mut command: Vec<OsString> =
        vec![benchmark.into(), "--program".into(), place::release().join("rekindle").into()];
    command.extend(["--pages".into(), place::release().join("rekindle-pages").into()]);
    command.extend(args.iter().cloned());

    let kvm = Kvm::here();
    eprintln!("{kvm}");
    if kvm.is_usable() {
        let status = process::status(Command::new(&command[0]).args(&command[1..]))?;
        return Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1));
    }
    eprintln!("so it runs in the lab, in software emulation: its times mean nothing, its ratios little");
    lab::run(options, &lab::Job::new(command), lab::Streams::default())
}
