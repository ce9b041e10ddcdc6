//! How a guest can end, and what a script is told.

use rekindle_tests::{Case, Image, Scratch, Vm, cases};

use crate::KVM;

pub(crate) fn cases() -> Vec<Case> {
    cases!("spark", KVM, [every_ending_has_its_code_and_its_story, a_restored_guest_ends_the_same_way])
}

/// What the guest does, the exit code, and all of stderr.
const ENDINGS: [(&str, i32, &str); 4] = [
    ("off", 0, "rekindle: the guest has powered off\n"),
    ("reset", 0, "rekindle: the guest has reset the machine\n"),
    ("panic", 5, "error: the guest has panicked\n"),
    ("triple", 5, "error: the guest has met a triple fault\n"),
];

#[track_caller]
fn ends(mut vm: Vm, (command, code, story): (&str, i32, &str)) {
    vm.expect("spark: ready\n");
    vm.send(command);
    let done = vm.wait_exit();
    assert_eq!((done.code, done.stderr.as_str()), (Some(code), story), "after `{command}`");
    assert!(done.stdout.ends_with("spark: ready\n"), "the machine went on after `{command}`: {done:?}");
}

fn every_ending_has_its_code_and_its_story() {
    for ending in ENDINGS {
        ends(Vm::boot(["--memory", "32M"]), ending);
    }
}

fn a_restored_guest_ends_the_same_way() {
    let here = Scratch::new();
    let image = Image::bake(here.path("image"), &["--memory", "32M"]);
    let before = image.fingerprint();
    for ending in ENDINGS {
        ends(Vm::restore(&image), ending);
    }
    assert_eq!(image.fingerprint(), before);
}
