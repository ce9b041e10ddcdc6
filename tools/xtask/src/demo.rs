//! `cargo xtask demo`: builds `rekindle` and runs its demonstration, in the lab where this host has no KVM.

use std::ffi::OsString;
use std::process::Command;

use anyhow::Result;

use crate::debian::packages;
use crate::host::Kvm;
use crate::{lab, place, process};

/// Runs the demonstration with `args`; its exit status.
pub fn run(options: &lab::Options, args: &[OsString]) -> Result<u8> {
    packages::ensure(&packages::to_build()?)?;
    process::run(Command::new("cargo").args([
        "build",
        "--release",
        "--package",
        "vmm",
        "--bin",
        "rekindle",
    ]))?;
    let program = place::release().join("rekindle");
    let kvm = Kvm::here();
    eprintln!("{kvm}");
    if kvm.is_usable() {
        let status = process::status(Command::new(program).arg("demo").args(args))?;
        return Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1));
    }
    eprintln!("so the demonstration runs in the lab, in software emulation, where times mean nothing");
    let mut command = vec![program.into_os_string(), "demo".into()];
    command.extend(args.iter().cloned());
    lab::run(options, &lab::Job::new(command), lab::Streams::default())
}
