//! Time that passes while nobody is there to see it.

use std::fs;
use std::time::Duration;

use rekindle_tests::{Image, Scratch, verbs};
use snapshot_format::StateReader;
use snapshot_format::state::{ClockState, VcpuState};
use snapshot_format::testing::reseal;

use crate::checks;
use crate::guest::Guest;
use crate::shelf::{CLOUD_6_1, Kernel};

const HALF_AN_HOUR: Duration = Duration::from_secs(1800);
/// What a guest at work is advanced by at most.
const HOUR: Duration = Duration::from_secs(3600);
const MONTH: Duration = Duration::from_secs(30 * 24 * 3600);

/// An image of an idle guest that has lain for half an hour, and one that has lain for a month: timers fire, the kernel
/// finds nothing to complain of, and the clocks are right at once. Half an hour is more than the 18 minutes that a kernel
/// before 6.10 can turn into nanoseconds in one step, and a month is more than a scheduler survives that takes it for a
/// task's turn.
///
/// The images are young ones that say that they are old. So their guests' wall clocks, which were right when the
/// snapshot was really taken, are ahead by as much as they claim.
pub(crate) fn wakes_after_a_month(kernel: Kernel) {
    let here = Scratch::new();
    let mut guest = Guest::boot(kernel, 2, "");
    guest.ask("clear");
    let idle = idle_image(&guest, &here);
    guest.vm.stop();
    for (name, age) in [("half-an-hour", HALF_AN_HOUR), ("month", MONTH)] {
        let aged = aged(&idle, &here, name, age);
        let mut guest = Guest::restore(&aged);
        guest.send("watch");
        let clocks = checks::wall_clock_is_ahead(&mut guest, age);
        assert!(clocks.mono > age && clocks.boot > age, "{clocks:?}");
        checks::timers_fire(&mut guest);
        checks::every_cpu_runs(&mut guest);
        checks::wall_clock_is_ahead(&mut guest, age);
        checks::kernel_is_content(&mut guest);
        guest.vm.stop();
    }
}

/// A guest that keeps time by the TSC itself: whatever CPU reads it, it never goes back.
pub(crate) fn tscs_stay_in_step() {
    let here = Scratch::new();
    let mut guest = Guest::boot(CLOUD_6_1, 2, "clocksource=tsc tsc=reliable");
    assert_eq!(guest.ask("source"), "tsc");
    guest.ask("clear");
    guest.send("watch");
    checks::every_cpu_runs(&mut guest);
    let left = guest.leave(&here.path("image"), "");
    let aged = aged(&left.image, &here, "aged", HALF_AN_HOUR);
    for (image, ahead) in [(&left.image, Duration::ZERO), (&aged, HALF_AN_HOUR)] {
        let mut guest = Guest::restore(image);
        checks::timers_fire(&mut guest);
        checks::every_cpu_runs(&mut guest);
        checks::wall_clock_is_ahead(&mut guest, ahead);
        checks::kernel_is_content(&mut guest);
        assert_eq!(guest.ask("source"), "tsc");
        guest.vm.stop();
    }
}

/// A guest that was at work a month ago: tasks were on its CPUs, and its scheduler charges them with the time away, so
/// that is an hour and no more. The guest lives, its kernel finds nothing to complain of, and `restore` says the rest.
pub(crate) fn a_guest_at_work_is_spared_a_month(kernel: Kernel) {
    let here = Scratch::new();
    let mut guest = Guest::boot(kernel, 2, "");
    guest.ask("hogs 2");
    guest.ask("clear");
    guest.ask("nap 300");
    let left = guest.leave(&here.path("image"), "");
    assert!(!is_idle(&left.image), "two tasks that never sleep leave no CPU idle");
    let mut guest = Guest::restore(&aged(&left.image, &here, "aged", MONTH));
    checks::wall_clock_is_ahead(&mut guest, HOUR);
    checks::timers_fire(&mut guest);
    checks::kernel_is_content(&mut guest);
    guest.vm.stop();
}

/// An image of a guest that has nothing to do, as soon as a snapshot finds none of its CPUs at work.
fn idle_image(guest: &Guest, here: &Scratch) -> Image {
    (0..20)
        .map(|n| verbs::snapshot(&guest.vm, here.path(format!("idle-{n}"))))
        .find(is_idle)
        .expect("a guest with nothing to do is idle most of the time")
}

/// Whether every vCPU waited for an interrupt.
fn is_idle(image: &Image) -> bool {
    /// `KVM_MP_STATE_HALTED`.
    const HALTED: u32 = 3;
    let state = fs::read(image.state()).expect("an image has a state");
    let mut state = StateReader::parse(&state).expect("the image is one that this build wrote");
    ["vcpu:0", "vcpu:1"].into_iter().all(|name| {
        let vcpu: VcpuState = state.take(name).expect("the guest has two vCPUs");
        vcpu.mp_state == HALTED
    })
}

/// The same image, taken so much earlier. It shares the memory file.
fn aged(image: &Image, here: &Scratch, name: &str, age: Duration) -> Image {
    let mut state = fs::read(image.state()).expect("an image has a state");
    let clock: ClockState = StateReader::parse(&state)
        .and_then(|mut state| state.take("clock"))
        .expect("the image is one that this build wrote");
    let age = u64::try_from(age.as_nanos()).expect("a month is short");
    for instant in [clock.realtime_ns, clock.vmm_realtime_ns].into_iter().filter(|&instant| instant != 0) {
        let places = state.windows(8).filter(|bytes| *bytes == instant.to_le_bytes()).count();
        assert_eq!(places, 1, "an instant in ns is as good as unique");
        let at = state.windows(8).position(|bytes| bytes == instant.to_le_bytes()).expect("just counted");
        state[at..at + 8].copy_from_slice(&(instant - age).to_le_bytes());
    }
    reseal::checksum_of(&mut state);
    let aged = Image::at(here.path(name));
    fs::create_dir(aged.path()).expect("a scratch directory can be made");
    fs::hard_link(image.memory(), aged.memory()).expect("both lie in the same temporary file system");
    fs::write(aged.state(), state).expect("a scratch file can be written");
    aged
}
