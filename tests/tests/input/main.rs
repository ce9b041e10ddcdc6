//! Bad input: each line says what went wrong, why, and what to do; ends with the documented code; and loses nothing.

use std::process::ExitCode;

use rekindle_tests::Need;

mod control;
mod damaged;
mod disk;
mod disks;
mod foreign;
mod host;
mod hostile;
mod kernels;
mod limits;
mod nets;
mod packed;
mod signals;
mod table;
mod terminals;
mod trust;
mod usage;
mod vsock;

/// What everything needs that starts a guest or makes an image.
const KVM: &[Need] = &[Need::Kvm];

fn main() -> ExitCode {
    let cases = [
        usage::cases(),
        kernels::cases(),
        host::cases(),
        disk::cases(),
        disks::cases(),
        nets::cases(),
        damaged::cases(),
        packed::cases(),
        foreign::cases(),
        hostile::cases(),
        control::cases(),
        signals::cases(),
        limits::cases(),
        terminals::cases(),
        vsock::cases(),
        trust::cases(),
    ];
    rekindle_tests::main(cases.into_iter().flatten().collect(), 2)
}
