//! What the host's kernel does with guest memory by itself: it merges pages of zeros, makes huge pages, and splits them. None
//! of it changes a byte.

use rekindle_tests::host_pages::{Merging, huge_pages, split_huge_pages};
use rekindle_tests::{Case, Image, Launch, Need, Scratch, Vm, cases, note, verbs};

const MIB: u64 = 1 << 20;
const MERGED: &[Need] = &[Need::Kvm, Need::Ksm];
const SPLIT: &[Need] = &[Need::Kvm, Need::Userfaultfd, Need::TransparentHugePages];
const HUGE: &[Need] = &[Need::Kvm, Need::TransparentHugePages];

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = cases!("spark", MERGED, [zeros_that_ksm_has_merged_are_saved_as_zeros]);
    cases.extend(cases!("spark", SPLIT, [zeros_of_a_huge_page_that_was_split_are_saved_as_zeros]));
    cases.extend(cases!("spark", HUGE, [a_booted_guest_has_huge_pages]));
    cases
}

/// Takes an image of a guest that has zeroed all that the one below was filled with, and demands that nothing of that is
/// there.
fn saves_zeros(vm: &Vm, here: &Scratch) {
    let emptied = verbs::snapshot(vm, here.path("emptied"));
    emptied.verifies();
    assert!(emptied.disk_bytes() <= 2 * MIB, "{} bytes on disk", emptied.disk_bytes());
    let mut vm = Vm::restore(&emptied);
    assert_eq!(vm.ask("echo alive"), "ok alive");
    vm.stop();
}

fn zeros_that_ksm_has_merged_are_saved_as_zeros() {
    let here = Scratch::new();
    let image = Image::bake(here.path("image"), &["--memory", "32M", "--cmdline", "spark.fill=8M"]);
    let mut vm = Launch::new(["restore".as_ref(), image.path().as_os_str()]).merged().vm();
    vm.expect("spark: ready");
    assert_eq!(vm.ask("zero 8M"), "ok zeroed 8 MiB");
    let merging = Merging::start().expect("it could be changed a moment ago");
    merging.wait_for_zero_pages(vm.pid(), 8 * MIB / 4096);
    saves_zeros(&vm, &here);
    vm.kill();
}

/// Since Linux 6.12 the pages of zeros of a huge page that is split become the kernel's zero page.
fn zeros_of_a_huge_page_that_was_split_are_saved_as_zeros() {
    let here = Scratch::new();
    let image = Image::bake(here.path("image"), &["--memory", "64M", "--cmdline", "spark.fill=32M"]);
    let lazy = ["restore".as_ref(), image.path().as_os_str(), "--memory-mode".as_ref(), "lazy".as_ref()];
    let mut vm = Launch::new(lazy).vm();
    vm.expect("spark: ready");
    assert_eq!(vm.ask("fill 32M 7"), "ok filled 32 MiB seed 7");
    assert_eq!(vm.ask("zero 32M"), "ok zeroed 32 MiB");
    let (before, _) = huge_pages(vm.pid());
    split_huge_pages(vm.pid());
    let (after, _) = huge_pages(vm.pid());
    note(format!("a lazily restored spark that went over 32 MiB had {} MiB in huge pages", before / MIB));
    assert_eq!(after, 0, "huge pages are left");
    saves_zeros(&vm, &here);
    vm.kill();
}

/// Under `madvise`, which most systems have, nobody gets any who does not ask. The amount is no multiple of 2 MiB.
fn a_booted_guest_has_huge_pages() {
    let mut vm = Vm::boot(["--memory", "131076K", "--cmdline", "spark.fill=64M"]);
    vm.expect("spark: ready");
    let (bytes, _) = huge_pages(vm.pid());
    // A host may have none left in one piece.
    assert!(bytes >= 32 * MIB, "{} MiB of 64 MiB are in huge pages", bytes / MIB);
    vm.stop();
}
