//! A hundred restores in one process, through the library: what it holds afterwards is what it held before.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use page_server::image::Served;
use page_server::{inline, session};
use rekindle_tests::proc::Holdings;
use rekindle_tests::{Image, Need, Scratch, Stream, cases, patience};
use vmm::config::DeviceOverrides;
use vmm::machine::{Connections, PausedVm};
use vmm::memory::lazy;
use vmm::restore::{self, Delivery, Plan, Report};

const TIMES: usize = 100;
/// What there is time for in software emulation.
const IN_THE_LAB: usize = 24;

fn main() -> ExitCode {
    let mapped = cases!("spark", &[Need::Kvm], [a_hundred_restores_in_one_process_leak_nothing]);
    let lazy = cases!(
        "pages",
        &[Need::Kvm, Need::Userfaultfd],
        [a_hundred_lazy_restores_in_one_process_leak_nothing]
    );
    rekindle_tests::main(mapped.into_iter().chain(lazy).collect(), 1)
}

/// Makes a machine of an image.
type Restore = fn(Plan, &Path, Connections) -> PausedVm;

fn mapped(plan: Plan, _: &Path, connections: Connections) -> PausedVm {
    plan.restore(connections, &mut Report::default()).expect("the host can run it")
}

/// With a thread that delivers.
fn lazily(plan: Plan, image: &Path, connections: Connections) -> PausedVm {
    let served = Served::open(image, &Default::default()).expect("the image is sound");
    let (stream, theirs) = UnixStream::pair().expect("a pair can be made");
    inline::serve(theirs, served, session::Options::default()).expect("a thread can be started");
    let server = lazy::Server { stream, path: None };
    let delivery = Delivery { server, timeout: Duration::from_secs(60) };
    plan.restore_lazily(connections, delivery, &mut Report::default()).expect("the host can run it")
}

/// Restores, lets the guest say a word, halts it and drops it; every other one is dropped running or never run.
fn round(image: &Path, number: usize, restore: Restore) {
    let (heard, console) = std::io::pipe().expect("a pipe can be made");
    let console = std::fs::File::from(std::os::fd::OwnedFd::from(console));
    let connections = Connections::new(Some(console), None, false).expect("eventfds can be made");
    let plan = restore::plan(image, &DeviceOverrides::default()).expect("the image is sound");
    let paused = restore(plan, image, connections);
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
    a_hundred_leak_nothing(mapped);
}

fn a_hundred_lazy_restores_in_one_process_leak_nothing() {
    a_hundred_leak_nothing(lazily);
}

fn a_hundred_leak_nothing(restore: Restore) {
    let here = Scratch::new();
    let image = Image::bake(here.path("image"), &["--memory", "32M"]);
    let before = image.fingerprint();
    // The first rounds leave what is kept for the next: stacks, arenas, signal handlers.
    (0..8).for_each(|number| round(image.path(), number, restore));
    let held = Holdings::here();
    let times = if patience::in_lab() { IN_THE_LAB } else { TIMES };
    (0..times).for_each(|number| round(image.path(), number, restore));
    // A thread that was joined is listed for an instant longer, and so may have been one of the last of those rounds.
    let no_more = |now: &Holdings| now.descriptors <= held.descriptors && now.threads <= held.threads;
    let settled = patience::until(patience::SOON, || Some(Holdings::here()).filter(no_more));
    let now = Holdings::here();
    assert!(settled.is_some(), "held {held:?}, holds {now:?}");
    assert!(now.mappings < held.mappings + 10, "held {held:?}, holds {now:?}");
    assert_eq!(image.fingerprint(), before);
}
