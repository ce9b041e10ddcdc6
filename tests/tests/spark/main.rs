//! The built-in guest on this host's KVM: that a snapshot is a moment of its life, and a restore the moment after.

use std::process::ExitCode;

use rekindle_tests::Need;

mod bake;
mod balloon;
mod clock;
mod console;
mod control;
mod demo;
mod documents;
mod endings;
mod host_pages;
mod identity;
mod lifecycle;
mod memory;
mod virtio;

/// What all of these need.
const KVM: &[Need] = &[Need::Kvm];

fn main() -> ExitCode {
    let cases = [
        lifecycle::cases(),
        memory::cases(),
        clock::cases(),
        console::cases(),
        control::cases(),
        documents::cases(),
        demo::cases(),
        endings::cases(),
        host_pages::cases(),
        identity::cases(),
        bake::cases(),
        balloon::cases(),
        virtio::cases(),
    ];
    rekindle_tests::main(cases.into_iter().flatten().collect(), 2)
}
