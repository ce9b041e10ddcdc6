//! The verbs on a running VM.

use std::ffi::OsString;
use std::fs::File;
use std::time::Duration;

use rekindle_tests::proc::Holdings;
use rekindle_tests::{Case, Image, Launch, Scratch, Vm, cases, verbs};
use rustix::process::Signal;

use crate::KVM;

pub(crate) fn cases() -> Vec<Case> {
    cases!(
        "spark",
        KVM,
        [
            pause_and_resume_can_be_said_twice,
            a_snapshot_leaves_the_guest_as_it_was_asked_to,
            stop_ends_a_vm_running_or_paused,
            a_restored_guest_waits_to_be_resumed_if_asked_to,
            signals_end_a_vm_with_code_0,
            ctrl_alt_del_is_pressed,
            twenty_snapshots_leak_nothing,
            twenty_snapshots_over_a_base_leak_nothing,
        ]
    )
}

#[track_caller]
fn state(vm: &Vm) -> String {
    let about = verbs::describe(vm).expect("the VM serves its socket");
    assert_eq!(about["app_name"], "Rekindle");
    assert_eq!(about["id"], format!("rekindle-{}", vm.pid()));
    about["state"].as_str().expect("a state is text").to_owned()
}

fn ready() -> Vm {
    let mut vm = Vm::boot(["--memory", "32M"]);
    vm.expect("spark: ready\n");
    vm
}

fn pause_and_resume_can_be_said_twice() {
    let mut vm = ready();
    assert_eq!(state(&vm), "Running");
    for _ in 0..2 {
        verbs::pause(&vm).ok();
        assert_eq!(state(&vm), "Paused");
    }
    // Typed to a paused guest, read by one that runs again.
    vm.send("echo patience");
    for _ in 0..2 {
        verbs::resume(&vm).ok();
        assert_eq!(state(&vm), "Running");
    }
    vm.expect("ok patience\n");
    vm.stop();
}

fn a_snapshot_leaves_the_guest_as_it_was_asked_to() {
    let here = Scratch::new();
    let mut vm = ready();
    verbs::snapshot_and_resume(&vm, here.path("first"));
    assert_eq!(state(&vm), "Running");
    assert_eq!(vm.ask("echo on"), "ok on");
    verbs::snapshot(&vm, here.path("second"));
    assert_eq!(state(&vm), "Paused");
    verbs::snapshot_and_resume(&vm, here.path("third"));
    assert_eq!(state(&vm), "Running");
    assert_eq!(vm.ask("echo and on"), "ok and on");
    vm.stop();
    assert_eq!(here.entries(), ["first", "second", "third"]);
}

fn stop_ends_a_vm_running_or_paused() {
    for pause_first in [false, true] {
        let mut vm = ready();
        if pause_first {
            verbs::pause(&vm).ok();
        }
        verbs::stop(&vm).ok();
        let done = vm.wait_exit();
        assert_eq!(done.code, Some(0));
        assert_eq!(done.stderr, "rekindle: the VM was ended by request\n");
    }
}

fn a_restored_guest_waits_to_be_resumed_if_asked_to() {
    let here = Scratch::new();
    let image = Image::bake(here.path("image"), &["--memory", "32M"]);
    for mode in ["mmap", "lazy"] {
        let restore = || {
            let args = ["--paused", "--memory-mode", mode].map(OsString::from);
            Launch::new([OsString::from("restore"), image.path().into()]).args(args)
        };
        let mut vm = restore().vm();
        vm.serves();
        assert_eq!(state(&vm), "Paused");
        // What is paused can be saved, and what was saved is the same guest.
        let again = verbs::snapshot(&vm, here.path(format!("again-{mode}")));
        assert_eq!(state(&vm), "Paused");
        vm.send("echo patience");
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(vm.stdout.text(), "", "{mode}: it runs");
        verbs::resume(&vm).ok();
        vm.expect("ok patience\n");
        assert_eq!(vm.ask("verify"), "ok verified 8 MiB seed 1");
        vm.stop();
        let mut vm = Vm::restore(&again);
        assert_eq!(vm.ask("verify"), "ok verified 8 MiB seed 1");
        vm.stop();
        let mut vm = restore().vm();
        vm.serves();
        verbs::stop(&vm).ok();
        assert_eq!(vm.wait_exit().code, Some(0));
    }
}

fn signals_end_a_vm_with_code_0() {
    for (signal, number) in [(Signal::TERM, 15), (Signal::INT, 2)] {
        for pause_first in [false, true] {
            // Whoever started the tests may ignore signals, and that is inherited.
            let launch = Launch::new(["boot", "--memory", "32M"]).under(["env", "--default-signal=TERM,INT"]);
            let mut vm = launch.vm();
            vm.expect("spark: ready\n");
            if pause_first {
                verbs::pause(&vm).ok();
            }
            vm.signal(signal);
            let done = vm.wait_exit();
            assert_eq!(done.code, Some(0), "{done:?}");
            assert_eq!(done.stderr, format!("rekindle: the VM was ended by signal {number}\n"));
        }
    }
}

/// Spark has no keyboard driver: what is shown is that the keys are taken, and that spark lives on.
fn ctrl_alt_del_is_pressed() {
    let mut vm = ready();
    verbs::ctrl_alt_del(&vm);
    assert_eq!(vm.ask("echo not impressed"), "ok not impressed");
    vm.stop();
}

fn twenty_snapshots_leak_nothing() {
    leak_nothing(ready(), "echo on", 0);
}

fn twenty_snapshots_over_a_base_leak_nothing() {
    /// An overlay has a layer for every snapshot, until there are so many that they are merged.
    const LAYERS: usize = 8;
    let here = Scratch::new();
    let base = here.path("base");
    File::create(&base).and_then(|file| file.set_len(8 << 20)).expect("a scratch directory can be written");
    let (disk, overlays) = (format!("data={},overlay", base.display()), here.root().display().to_string());
    let mut vm = Vm::boot(["--memory", "32M", "--disk", &disk, "--overlay-dir", &overlays]);
    vm.expect("spark: ready\n");
    leak_nothing(vm, "disk fill 1", LAYERS);
}

/// Snapshots a guest that does something in between, and compares what the process holds, up to some descriptors that it
/// may have by turns.
#[track_caller]
fn leak_nothing(mut vm: Vm, something: &str, by_turns: usize) {
    let here = Scratch::new();
    let round = |vm: &mut Vm, number: usize| {
        let answer = vm.ask(something);
        assert!(answer.starts_with("ok "), "{answer}");
        let image = verbs::snapshot_and_resume(vm, here.path(format!("image-{number}")));
        verbs::pause(vm).ok();
        verbs::resume(vm).ok();
        std::fs::remove_dir_all(image.path()).expect("the image is ours");
    };
    // The first rounds leave what is kept for the next: stacks, arenas.
    (0..3).for_each(|number| round(&mut vm, number));
    let before = Holdings::of(vm.pid());
    (3..23).for_each(|number| round(&mut vm, number));
    let after = Holdings::of(vm.pid());
    assert!(after.descriptors <= before.descriptors + by_turns, "{before:?} then {after:?}");
    assert_eq!(after.threads, before.threads);
    assert!(after.mappings < before.mappings + 10, "{before:?} then {after:?}");
    vm.stop();
}
