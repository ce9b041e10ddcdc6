//! SIGTERM and SIGKILL at any moment: an image is whole or not there, and what a killed process could not clean up the
//! next one does.

use std::path::Path;
use std::time::Duration;

use rekindle_tests::patience::{SOON, in_lab, scaled, until};
use rekindle_tests::{Case, Done, Image, Launch, Scratch, Vm, cases, leftover, verbs};
use rustix::process::Signal;

use crate::{KVM, args};

pub(crate) fn cases() -> Vec<Case> {
    cases!(
        "input",
        KVM,
        [
            sigterm_at_any_moment_of_a_boot_is_an_orderly_end,
            sigterm_at_any_moment_of_a_restore_is_an_orderly_end,
            sigterm_at_any_moment_of_a_bake_leaves_an_image_or_nothing,
            sigterm_at_any_moment_of_a_snapshot_leaves_an_image_or_nothing,
            sigkill_at_any_moment_of_a_bake_is_swept_by_the_next,
            sigkill_at_any_moment_of_a_snapshot_is_swept_by_the_next,
            an_asker_that_is_killed_costs_no_guest,
        ]
    )
}

/// Moments from the start to some time after everything has happened, irregular and always the same.
fn moments(longest: Duration) -> impl Iterator<Item = Duration> {
    let count = if in_lab() { 8_u32 } else { 20 };
    (0..count).map(move |n| scaled(longest) * n / count + Duration::from_micros(u64::from(n) * 137 % 997))
}

/// An orderly end by SIGTERM: the documented code, or death by the signal in the first instants of the process, before
/// it has begun anything.
#[track_caller]
fn is_orderly(done: &Done, documented: &[i32]) {
    match done.code {
        Some(code) => assert!(documented.contains(&code), "{done:?}"),
        None => assert!(done.stdout.is_empty() && done.stderr.is_empty(), "{done:?}"),
    }
}

fn sigterm_at_any_moment_of_a_boot_is_an_orderly_end() {
    for moment in moments(Duration::from_millis(60)) {
        let mut vm = Vm::boot(["--memory", "64M"]);
        std::thread::sleep(moment);
        vm.signal(Signal::TERM);
        is_orderly(&vm.wait_exit(), &[0]);
    }
}

fn sigterm_at_any_moment_of_a_restore_is_an_orderly_end() {
    let here = Scratch::new();
    let image = Image::bake(here.path("image"), &["--memory", "64M"]);
    let before = image.fingerprint();
    for moment in moments(Duration::from_millis(30)) {
        let mut vm = Vm::restore(&image);
        std::thread::sleep(moment);
        vm.signal(Signal::TERM);
        is_orderly(&vm.wait_exit(), &[0]);
    }
    assert_eq!(image.fingerprint(), before);
}

/// A bake of a guest with enough memory that the image takes a while.
fn bake(out: &Path) -> Launch {
    Launch::new(args![
        "bake",
        "--memory",
        "64M",
        "--cmdline",
        "spark.fill=32M",
        "--ready",
        "port",
        "--out",
        out
    ])
}

/// Either there is an image and it is whole, or there is none.
#[track_caller]
fn whole_or_nothing(here: &Scratch, name: &str) -> bool {
    match here.entries().as_slice() {
        [] => false,
        [only] if only == name => {
            Image::at(here.path(name)).verifies();
            true
        }
        others => panic!("left behind: {others:?}"),
    }
}

fn sigterm_at_any_moment_of_a_bake_leaves_an_image_or_nothing() {
    for moment in moments(Duration::from_millis(150)) {
        let here = Scratch::new();
        let mut vm = bake(&here.path("image")).vm();
        std::thread::sleep(moment);
        vm.signal(Signal::TERM);
        let done = vm.wait_exit();
        is_orderly(&done, &[0, 1]);
        assert_eq!(whole_or_nothing(&here, "image"), done.code == Some(0), "{done:?}");
        if done.code == Some(1) {
            // Before the guest was ready, or while the image was being written.
            done.fails(1, &["error: told to end"]);
        }
    }
}

fn sigterm_at_any_moment_of_a_snapshot_leaves_an_image_or_nothing() {
    for moment in moments(Duration::from_millis(80)) {
        let here = Scratch::new();
        let mut vm = Vm::boot(["--memory", "64M", "--cmdline", "spark.fill=32M"]);
        vm.expect("spark: ready\n");
        let snapshot = verbs::snapshot_command(vm.socket(), &here.path("image")).args(["--resume"]);
        let asker = std::thread::spawn(move || snapshot.run());
        std::thread::sleep(moment);
        vm.signal(Signal::TERM);
        assert_eq!(vm.wait_exit().code, Some(0));
        let done = asker.join().expect("the asker is well");
        let there = whole_or_nothing(&here, "image");
        match done.code {
            Some(0) => assert!(there, "said to be there: {done:?}"),
            // Nobody listened yet or any more, or the answer was cut off.
            _ => drop(done.fails(1, &["error: "])),
        }
    }
}

fn sigkill_at_any_moment_of_a_bake_is_swept_by_the_next() {
    let here = Scratch::new();
    let out = here.path("image");
    let mut half = 0;
    for (number, moment) in moments(Duration::from_millis(150)).enumerate() {
        // As a pipeline does, which uses a new name each time.
        let out = here.path(format!("image-{number}"));
        let vm = bake(&out).vm();
        std::thread::sleep(moment);
        vm.kill();
        half += leftover::half_images(here.root()).len();
        if out.exists() {
            Image::at(&out).verifies();
            std::fs::remove_dir_all(&out).expect("it is ours");
        }
        assert!(leftover::half_images(here.root()).len() <= 1, "they pile up: {:?}", here.entries());
    }
    bake(&out).run().ok();
    assert_eq!(here.entries(), ["image"], "after {half} half images");
    Image::at(&out).verifies();
}

fn sigkill_at_any_moment_of_a_snapshot_is_swept_by_the_next() {
    let here = Scratch::new();
    let out = here.path("image");
    for moment in moments(Duration::from_millis(80)) {
        let mut vm = Vm::boot(["--memory", "64M", "--cmdline", "spark.fill=32M"]);
        vm.expect("spark: ready\n");
        let snapshot = verbs::snapshot_command(vm.socket(), &out);
        let asker = std::thread::spawn(move || snapshot.run());
        std::thread::sleep(moment);
        vm.kill();
        let done = asker.join().expect("the asker is well");
        if out.exists() {
            Image::at(&out).verifies();
            std::fs::remove_dir_all(&out).expect("it is ours");
        } else {
            done.fails(1, &["error: "]);
        }
        assert!(leftover::half_images(here.root()).len() <= 1, "they pile up: {:?}", here.entries());
    }
    bake(&out).run().ok();
    assert_eq!(here.entries(), ["image"]);
}

/// The VM finishes what it was asked for, whether anybody waits for it or not.
fn an_asker_that_is_killed_costs_no_guest() {
    let here = Scratch::new();
    let mut vm = Vm::boot(["--memory", "64M", "--cmdline", "spark.fill=32M"]);
    vm.expect("spark: ready\n");
    for (number, moment) in moments(Duration::from_millis(40)).enumerate() {
        let name = format!("image-{number}");
        let launch = verbs::snapshot_command(vm.socket(), &here.path(&name)).args(["--resume"]);
        launch.start_and_kill(moment);
        assert_eq!(vm.ask("echo on"), "ok on");
        // Sooner or later the VM is ready for the next.
        let next = here.path(format!("next-{number}"));
        let taken = until(SOON, || {
            let done = verbs::snapshot_command(vm.socket(), &next).args(["--resume"]).run();
            match done.code {
                Some(0) => Some(()),
                _ => done.fails(1, &["already under way"]).is_empty().then_some(()),
            }
        });
        assert!(taken.is_some(), "no snapshot can be taken any more");
        if here.path(&name).exists() {
            Image::at(here.path(&name)).verifies();
            std::fs::remove_dir_all(here.path(&name)).expect("it is ours");
        }
        std::fs::remove_dir_all(&next).expect("it is ours");
        assert!(here.entries().is_empty(), "{:?}", here.entries());
    }
    vm.stop();
}
