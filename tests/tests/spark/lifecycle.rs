//! One body of assertions, applied after every step of a life.

use rekindle_tests::{Case, Image, Scratch, Vm, cases, verbs};

use crate::KVM;

/// Restores of one image.
const TIMES: usize = 100;
/// Restored guests that are alive at the same time.
const AT_ONCE: u64 = 8;

pub(crate) fn cases() -> Vec<Case> {
    cases!(
        "spark",
        KVM,
        [
            a_guest_is_whole_after_every_step_of_three_generations,
            a_hundred_restores_leave_the_image_alone,
            eight_guests_live_from_one_image,
            a_guest_that_was_not_resumed_can_be_snapshotted_twice,
        ]
    )
}

/// The body: memory, vector registers, timer and console of a guest that was given both seeds.
#[track_caller]
pub(crate) fn is_whole(vm: &mut Vm, filled: &str, simd_seed: u64) {
    assert_eq!(vm.ask("verify"), format!("ok verified {filled}"));
    let answer = vm.ask("simd check");
    assert!(answer.starts_with("ok ") && answer.ends_with(&format!("seed {simd_seed}")), "{answer}");
    let answer = vm.ask("timer 5");
    assert!(answer.starts_with("ok timer fired after "), "{answer}");
    assert_eq!(vm.ask("echo still here"), "ok still here");
}

fn a_guest_is_whole_after_every_step_of_three_generations() {
    let here = Scratch::new();
    let mut vm = Vm::boot(["--memory", "64M"]);
    vm.expect("spark: ready");
    assert_eq!(vm.ask("fill 8M 7"), "ok filled 8 MiB seed 7");
    vm.ask("simd 9");
    is_whole(&mut vm, "8 MiB seed 7", 9);

    verbs::pause(&vm).ok();
    verbs::resume(&vm).ok();
    is_whole(&mut vm, "8 MiB seed 7", 9);

    let mut image = verbs::snapshot(&vm, here.path("generation-0"));
    verbs::resume(&vm).ok();
    is_whole(&mut vm, "8 MiB seed 7", 9);
    vm.kill();

    let mut filled = "8 MiB seed 7".to_owned();
    let mut seed = 9;
    for generation in 1..=3 {
        image.verifies();
        let before = image.fingerprint();
        let mut vm = Vm::restore(&image);
        is_whole(&mut vm, &filled, seed);
        // What is saved next is partly this generation's own, partly inherited.
        filled = format!("{} MiB seed {generation}", 8 + generation);
        assert_eq!(vm.ask(&format!("fill {}M {generation}", 8 + generation)), format!("ok filled {filled}"));
        seed = 100 + generation;
        vm.ask(&format!("simd {seed}"));
        let next = verbs::snapshot_and_resume(&vm, here.path(format!("generation-{generation}")));
        is_whole(&mut vm, &filled, seed);
        vm.kill();
        assert_eq!(image.fingerprint(), before, "generation {generation} has changed its parent");
        image = next;
    }
    image.verifies();
    let mut vm = Vm::restore(&image);
    is_whole(&mut vm, &filled, seed);
    vm.stop();
}

fn a_hundred_restores_leave_the_image_alone() {
    let here = Scratch::new();
    let image = Image::bake(here.path("image"), &["--memory", "32M"]);
    let before = image.fingerprint();
    for round in 0..TIMES {
        let mut vm = Vm::restore(&image);
        vm.expect("spark: ready");
        // Each run changes what it got, so that a write that reached the image would be seen by the next.
        assert_eq!(vm.ask("verify"), "ok verified 8 MiB seed 1", "in round {round}");
        vm.ask(&format!("fill 1M {round}"));
        if round % 2 == 0 { vm.stop() } else { vm.kill() }
    }
    assert_eq!(image.fingerprint(), before);
    assert_eq!(here.entries(), ["image"]);
}

fn eight_guests_live_from_one_image() {
    let here = Scratch::new();
    let image = Image::bake(here.path("image"), &["--memory", "64M"]);
    let before = image.fingerprint();
    let mut clones: Vec<Vm> = (0..AT_ONCE).map(|_| Vm::restore(&image)).collect();
    for (seed, vm) in (10..).zip(&mut clones) {
        vm.expect("spark: ready");
        assert_eq!(vm.ask("verify"), "ok verified 8 MiB seed 1");
        vm.ask(&format!("fill 8M {seed}"));
        vm.ask(&format!("simd {seed}"));
    }
    for (seed, vm) in (10..).zip(&mut clones) {
        is_whole(vm, &format!("8 MiB seed {seed}"), seed);
    }
    clones.into_iter().for_each(Vm::stop);
    assert_eq!(image.fingerprint(), before);
}

fn a_guest_that_was_not_resumed_can_be_snapshotted_twice() {
    let here = Scratch::new();
    let mut vm = Vm::boot(["--memory", "32M"]);
    vm.expect("spark: ready");
    vm.ask("simd 4");
    let first = verbs::snapshot(&vm, here.path("first"));
    let second = verbs::snapshot(&vm, here.path("second"));
    vm.kill();
    for image in [first, second] {
        image.verifies();
        let mut vm = Vm::restore(&image);
        is_whole(&mut vm, "8 MiB seed 1", 4);
        vm.stop();
    }
}
