//! Memory at its bounds, and what an image of it costs.

use rekindle_tests::{Case, Image, Scratch, Vm, cases, note, rekindle, verbs};

use crate::KVM;

const MIB: u64 = 1 << 20;

pub(crate) fn cases() -> Vec<Case> {
    cases!(
        "spark",
        KVM,
        [
            the_least_memory_is_enough,
            memory_on_both_sides_of_the_hole_comes_back,
            a_large_guest_with_little_in_it_makes_a_small_image,
            pages_that_become_zero_become_holes,
            thirty_two_cpus_come_back,
        ]
    )
}

/// Boots with `memory`, fills, and demands that the fill is there after a restore, and after another.
fn fill_comes_back(memory: &str, fill: &str, filled: &str) {
    let here = Scratch::new();
    let mut vm = Vm::boot(["--memory", memory]);
    vm.expect("spark: ready");
    assert_eq!(vm.ask(fill), format!("ok filled {filled}"));
    let image = verbs::snapshot(&vm, here.path("image"));
    vm.kill();
    image.verifies();
    let mut vm = Vm::restore(&image);
    assert_eq!(vm.ask("verify"), format!("ok verified {filled}"));
    let again = verbs::snapshot(&vm, here.path("again"));
    vm.kill();
    let mut vm = Vm::restore(&again);
    assert_eq!(vm.ask("verify"), format!("ok verified {filled}"));
    vm.stop();
}

fn the_least_memory_is_enough() {
    fill_comes_back("16M", "fill 12M 3", "12 MiB seed 3");
}

/// 3084 MiB are 3072 below the hole and 12 above it; the fill begins 3060 MiB into what is free.
fn memory_on_both_sides_of_the_hole_comes_back() {
    fill_comes_back("3084M", "fill 20M 3 3060M", "20 MiB seed 3");
}

fn a_large_guest_with_little_in_it_makes_a_small_image() {
    let here = Scratch::new();
    let mut vm = Vm::boot(["--memory", "2G", "--cmdline", "spark.fill=64M"]);
    vm.expect("spark: ready");
    let out = here.path("image");
    let said = verbs::snapshot_command(vm.socket(), &out).args(["--resume"]).run().ok();
    vm.stop();
    let image = Image::at(&out);
    let took = image.disk_bytes();
    assert!(took <= 80 * MIB, "{took} bytes on disk");
    assert!(took >= 64 * MIB, "{took} bytes on disk cannot hold 64 MiB");
    let (_, paused) = said.split_once("guest paused ").expect("a snapshot says how long the guest stood");
    note(format!(
        "a 2 GiB spark with 64 MiB touched: {} MiB on disk, guest paused {}",
        took / MIB,
        paused.trim()
    ));
    image.verifies();
    let mut vm = Vm::restore(&image);
    assert_eq!(vm.ask("verify"), "ok verified 64 MiB seed 1");
    vm.stop();
}

/// A guest gives memory back by zeroing it; the image of the next generation must not carry the old bytes along.
fn pages_that_become_zero_become_holes() {
    let here = Scratch::new();
    let image = Image::bake(here.path("image"), &["--memory", "64M", "--cmdline", "spark.fill=32M"]);
    assert!(image.disk_bytes() >= 32 * MIB);
    let mut vm = Vm::restore(&image);
    vm.expect("spark: ready");
    assert_eq!(vm.ask("zero 32M"), "ok zeroed 32 MiB");
    let emptied = verbs::snapshot(&vm, here.path("emptied"));
    vm.kill();
    emptied.verifies();
    assert!(emptied.disk_bytes() <= 2 * MIB, "{} bytes on disk", emptied.disk_bytes());
    let about = rekindle(["inspect".as_ref(), emptied.path().as_os_str(), "--json".as_ref()]).ok();
    assert!(about.contains("\"memory_bytes\": 67108864"), "{about}");
    let mut vm = Vm::restore(&emptied);
    assert_eq!(vm.ask("echo alive"), "ok alive");
    vm.stop();
}

/// As many as there can be. spark runs on the first; the others wait for it, and do so again after a restore.
fn thirty_two_cpus_come_back() {
    let here = Scratch::new();
    let image = Image::bake(here.path("image"), &["--memory", "32M", "--cpus", "32"]);
    let mut vm = Vm::restore(&image);
    vm.expect("spark: ready");
    let again = verbs::snapshot(&vm, here.path("again"));
    vm.kill();
    let mut vm = Vm::restore(&again);
    assert_eq!(vm.ask("verify"), "ok verified 8 MiB seed 1");
    vm.stop();
}
