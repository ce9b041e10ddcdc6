//! `rekindle doctor`: what this host can do, and what to change where it cannot.
//!
//! Facts are gathered first and judged afterwards, so every judgement can be tested without the host that deserves
//! it. Of the VMM library that is used which says what a VM asks for: kinds of KVM, capabilities, and the userfaultfd of
//! lazy memory. The doctor must work where the patient does not.

use anyhow::Result;

use super::args::DoctorArgs;
use super::output;

mod caps;
mod checks;
mod facts;
mod kvm;
mod render;

#[cfg(test)]
mod doctor_test;

/// The host lacks something without which no guest runs.
#[derive(Debug, thiserror::Error)]
#[error("this host cannot run a guest: {missing} is missing")]
pub(super) struct CannotRun {
    /// Names of the checks, separated by commas.
    missing: String,
}

impl CannotRun {
    #[cfg(test)]
    pub(super) fn test_value() -> Self {
        Self { missing: "kvm-device".into() }
    }
}

/// What lets this user open `/dev/kvm`, which it may not.
pub(super) fn how_to_open_kvm() -> String {
    match kvm::KvmState::denied() {
        kvm::KvmState::Denied { mode, group } => kvm::how_to_be_let_in(mode, group.as_deref()),
        _ => "`rekindle doctor` says more".to_owned(),
    }
}

/// Prints the report; fails where no guest could run.
pub(super) fn run(args: &DoctorArgs) -> Result<()> {
    let report = checks::examine(&facts::Facts::gather());
    if args.json {
        output::json(&report)?;
    } else {
        output::text(&render::human(&report))?;
    }
    match report.missing() {
        missing if missing.is_empty() => Ok(()),
        missing => Err(CannotRun { missing: missing.join(", ") }.into()),
    }
}
