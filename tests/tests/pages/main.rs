//! Guests whose memory is delivered as they touch it: that every way of delivering gives the same bytes, and that whoever
//! dies, hangs or lies takes down no more than what nobody can help.

use std::process::ExitCode;

use rekindle_tests::Need;

mod callers;
mod dying;
mod foreign;
mod lying;
mod many;
mod paths;
mod production;
mod sources;
mod standin;
mod turns;
mod usage;
mod ways;

/// What a guest needs that is restored lazily.
const KVM: &[Need] = &[Need::Kvm, Need::Userfaultfd];
/// What a stand-in for a guest needs.
const UFFD: &[Need] = &[Need::Userfaultfd];
/// The same with pages of 2 MiB.
const HUGE: &[Need] = &[Need::Userfaultfd, Need::HugePages];

fn main() -> ExitCode {
    let cases = [
        paths::cases(),
        many::cases(),
        standin::cases(),
        foreign::cases(),
        dying::cases(),
        lying::cases(),
        callers::cases(),
        sources::cases(),
        turns::cases(),
        usage::cases(),
        production::cases(),
    ];
    rekindle_tests::main(cases.into_iter().flatten().collect(), 2)
}
