//! Lives that go on in another process.

use std::time::Duration;

use rekindle_tests::{Image, Launch, Scratch, verbs};

use crate::checks;
use crate::guest::Guest;
use crate::lines::per_cpu;
use crate::shelf::{self, CLOUD_6_1, GENERIC_6_1, Kernel};

/// How long the image lies at least: far longer than a clock that was not advanced could hide.
const LIES: Duration = Duration::from_secs(5);

/// Boot, count, snapshot, kill; later restore, and everything goes on. In the end the guest panics, with the driver
/// that reports it.
pub(crate) fn comes_back(kernel: Kernel, cpus: u32) {
    let left = shelf::counting(kernel, cpus);
    let before = left.image.fingerprint();
    left.image.verifies();
    std::thread::sleep(LIES.saturating_sub(left.at.elapsed().unwrap_or_default()));
    let mut guest = Guest::restore(&left.image);
    checks::is_as_it_was(&mut guest, &left);
    assert_eq!(guest.ask("module"), "done");
    guest.send("panic");
    guest.vm.wait_exit().fails(5, &["the guest has panicked"]);
    assert_eq!(left.image.fingerprint(), before);
}

/// All start from the same instant, whatever the others did.
///
/// They have one CPU each, as many as the lab in all: with more, guests are lost there now and then, and not only restored
/// ones. Of two that had just been booted with two CPUs each, one had a triple fault within two minutes.
pub(crate) fn ten_restores() {
    let left = shelf::counting(CLOUD_6_1, 1);
    let before = left.image.fingerprint();
    for _ in 0..5 {
        let mut pair = [Guest::restore(&left.image), Guest::restore(&left.image)];
        for guest in &mut pair {
            checks::timers_fire(guest);
            checks::every_cpu_runs(guest);
            checks::wall_clock_is_right(guest);
        }
        for mut guest in pair {
            checks::file_is_whole(&mut guest, &left.sum);
            checks::kernel_wants_only_cpu_time(&mut guest);
            checks::counts_on(&(left.console.clone() + &guest.console()));
            guest.vm.stop();
        }
    }
    assert_eq!(left.image.fingerprint(), before);
}

/// A restored guest is snapshotted and killed, and that image restored, and so on. The count is one count.
pub(crate) fn three_generations() {
    let here = Scratch::new();
    let first = shelf::counting(CLOUD_6_1, 2);
    let mut console = first.console.clone();
    let mut image = first.image.clone();
    for generation in 2..=4 {
        let mut guest = Guest::restore(&image);
        (0..4).for_each(|_| drop(guest.next("count")));
        checks::timers_fire(&mut guest);
        let left = guest.leave(&here.path(format!("generation-{generation}")), &first.sum);
        console.push_str(&left.console);
        left.image.verifies();
        image = left.image;
    }
    let mut last = Guest::restore(&image);
    checks::file_is_whole(&mut last, &first.sum);
    checks::timers_fire(&mut last);
    checks::every_cpu_runs(&mut last);
    checks::wall_clock_is_right(&mut last);
    checks::kernel_is_content(&mut last);
    checks::counts_on(&(console + &last.console()));
    last.vm.stop();
}

/// A restored guest is snapshotted, and both images come back with their memory delivered by the VM's own thread. The
/// smallest machine, for labs whose hardware is slow.
pub(crate) fn second_generation_and_lazy() {
    let here = Scratch::new();
    let first = shelf::counting(CLOUD_6_1, 1);
    let before = first.image.fingerprint();
    let mut guest = Guest::restore(&first.image);
    (0..2).for_each(|_| drop(guest.next("count")));
    checks::timers_fire(&mut guest);
    let second = guest.leave(&here.path("second"), &first.sum);
    second.image.verifies();
    let console = first.console.clone() + &second.console;
    for (image, before) in [(&first.image, &first.console), (&second.image, &console)] {
        let launch = Launch::new(["restore".as_ref(), image.path().as_os_str()]);
        let mut guest = Guest { vm: launch.args(["--memory-mode", "lazy"]).vm() };
        (0..2).for_each(|_| drop(guest.next("count")));
        checks::timers_fire(&mut guest);
        checks::file_is_whole(&mut guest, &first.sum);
        checks::every_cpu_runs(&mut guest);
        checks::wall_clock_is_right(&mut guest);
        checks::kernel_wants_only_cpu_time(&mut guest);
        checks::counts_on(&(before.clone() + &guest.console()));
        guest.vm.stop();
    }
    assert_eq!(first.image.fingerprint(), before);
}

/// The guest stays paused, and then goes on where it was, in this process and in another.
pub(crate) fn snapshot_while_paused() {
    let here = Scratch::new();
    let left = shelf::counting(CLOUD_6_1, 2);
    let mut guest = Guest::restore(&left.image);
    guest.next("count");
    verbs::pause(&guest.vm).ok();
    let image = verbs::snapshot(&guest.vm, here.path("paused"));
    let described = verbs::describe(&guest.vm).expect("a paused VM serves its socket");
    assert_eq!(described["state"], "Paused");
    let console = left.console.clone() + &guest.console();
    verbs::resume(&guest.vm).ok();
    both_go_on(&mut guest, &image, &left.console, &console);
}

fn both_go_on(original: &mut Guest, image: &Image, before_original: &str, before_copy: &str) {
    let mut copy = Guest::restore(image);
    for (guest, before) in [(original, before_original), (&mut copy, before_copy)] {
        (0..3).for_each(|_| drop(guest.next("count")));
        checks::timers_fire(guest);
        checks::every_cpu_runs(guest);
        // Both run at once, with two CPUs each on the lab's two.
        checks::kernel_wants_only_cpu_time(guest);
        checks::counts_on(&(before.to_owned() + &guest.console()));
    }
}

/// Many more than the lab has: all come up and take timer interrupts, and do so again after a restore. With 32, the
/// most there can be, the lab needs anything from one minute to ten.
pub(crate) fn eight_cpus() {
    let here = Scratch::new();
    let mut guest = Guest::boot(CLOUD_6_1, 8, "");
    assert_eq!(per_cpu(&guest.ask("nap 10")).len(), 8);
    guest.ask("clear");
    let left = guest.leave(&here.path("wide"), "");
    let mut guest = Guest::restore(&left.image);
    assert_eq!(per_cpu(&guest.ask("nap 10")).len(), 8);
    checks::kernel_wants_only_cpu_time(&mut guest);
    guest.send("poweroff");
    assert_eq!(guest.vm.wait_exit().code, Some(0));
}

/// A kernel that does not look at ACPI finds its CPUs, and every interrupt that a device may have, by the MP table; and
/// what its command line says of devices harms no kernel that does not know the parameter.
pub(crate) fn two_cpus_without_acpi() {
    let here = Scratch::new();
    let launch = Guest::launch("boot", GENERIC_6_1, 2, "acpi=off").args(["--rng"]);
    let mut guest = Guest { vm: launch.vm() };
    let hello = guest.next("guest");
    assert!(hello.contains("cpus=2 "), "{hello}");
    for gsi in [4, 16, 23] {
        assert_eq!(guest.ask(&format!("pin {gsi}")), "IO-APIC", "{gsi}");
    }
    assert_eq!(guest.ask("told"), "virtio_mmio.device=4K@0xc0001000:16");
    let left = guest.leave(&here.path("plain"), "");
    let mut guest = Guest::restore(&left.image);
    assert_eq!(per_cpu(&guest.ask("nap 10")).len(), 2);
    guest.vm.stop();
}
