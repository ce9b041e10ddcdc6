//! A hundred restores in one process, through the library: what it holds afterwards is what it held before.

use std::path::Path;
use std::process::ExitCode;

use rekindle_tests::proc::Holdings;
use rekindle_tests::{Image, Need, Scratch, Stream, cases, patience};
use vmm::config::DeviceOverrides;
use vmm::machine::Connections;
use vmm::restore::{self, Report};

const TIMES: usize = 100;
/// What there is time for in software emulation.
const IN_THE_LAB: usize = 24;

fn main() -> ExitCode {
    rekindle_tests::main(cases!("spark", &[Need::Kvm], [a_hundred_restores_in_one_process_leak_nothing]), 1)
}

/// Restores, lets the guest say a word, halts it and drops it; every other one is dropped running or never run.
fn round(image: &Path, number: usize) {
    let (heard, console) = std::io::pipe().expect("a pipe can be made");
    let console = std::fs::File::from(std::os::fd::OwnedFd::from(console));
    let connections = Connections::new(Some(console), None, false).expect("eventfds can be made");
    let plan = restore::plan(image, &DeviceOverrides::default()).expect("the image is sound");
    let paused = plan.restore(connections, &mut Report::default()).expect("the host can run it");
    if number % 4 == 3 {
        return drop(paused);
    }
    let running = paused.resume().expect("threads can be started");
    let said = Stream::read(heard).wait_for("spark: ready\n", patience::SOON);
    assert_eq!(said.as_deref(), Some("spark: ready\n"), "in round {number}");
    if number.is_multiple_of(2) {
        let halted = running.halt().expect("the guest can be halted");
        assert!(halted.reason.is_none(), "the guest stopped of itself: {:?}", halted.reason);
    }
}

fn a_hundred_restores_in_one_process_leak_nothing() {
    let here = Scratch::new();
    let image = Image::bake(here.path("image"), &["--memory", "32M"]);
    let before = image.fingerprint();
    // The first rounds leave what is kept for the next: stacks, arenas, signal handlers.
    (0..8).for_each(|number| round(image.path(), number));
    let held = Holdings::here();
    let times = if patience::in_lab() { IN_THE_LAB } else { TIMES };
    (0..times).for_each(|number| round(image.path(), number));
    // A thread that was joined is listed for an instant longer.
    let same = |now: Holdings| (now.descriptors, now.threads) == (held.descriptors, held.threads);
    let settled = patience::until(patience::SOON, || Some(Holdings::here()).filter(|now| same(*now)));
    let now = Holdings::here();
    assert!(settled.is_some(), "held {held:?}, holds {now:?}");
    assert!(now.mappings < held.mappings + 10, "held {held:?}, holds {now:?}");
    assert_eq!(image.fingerprint(), before);
}
