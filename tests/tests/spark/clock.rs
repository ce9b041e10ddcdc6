//! Time in the guest: never backwards, right after a restore, and timers that go on.

use std::time::{Duration, SystemTime};

use rekindle_tests::patience::scaled;
use rekindle_tests::{Case, Image, Scratch, Vm, cases, verbs};

use crate::KVM;

pub(crate) fn cases() -> Vec<Case> {
    cases!(
        "spark",
        KVM,
        [
            time_never_goes_back_and_is_right_after_a_restore,
            time_goes_on_while_the_guest_is_paused,
            ticks_go_on_across_a_pause,
            ticks_go_on_across_a_snapshot_without_gap_or_repeat,
            a_timer_that_ran_out_while_the_image_lay_fires_at_once,
        ]
    )
}

/// What spark's `clock` says.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
struct Reading {
    tsc: u64,
    /// Both `None` on a host without kvmclock.
    kvmclock_ns: Option<u64>,
    wall: Option<f64>,
}

#[track_caller]
fn read(vm: &mut Vm) -> Reading {
    let answer = vm.ask("clock");
    let field = |name: &str| {
        let found = answer.split(' ').find_map(|part| part.strip_prefix(name));
        found.unwrap_or_else(|| panic!("no {name} in {answer}")).to_owned()
    };
    Reading {
        tsc: field("tsc=").parse().expect("a number"),
        kvmclock_ns: field("kvmclock=").parse().ok(),
        wall: field("wall=").parse().ok(),
    }
}

/// By how much the guest's wall time is off the host's, at most.
#[track_caller]
fn wall_is_right(vm: &mut Vm) {
    let host = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs_f64();
    let before = host();
    let Some(wall) = read(vm).wall else { return };
    let allowed = scaled(Duration::from_secs(1)).as_secs_f64();
    assert!((before - allowed..host() + allowed).contains(&wall), "{wall} in the guest, {before} outside");
}

#[track_caller]
fn is_later(after: Reading, before: Reading) {
    assert!(after.tsc > before.tsc, "{before:?} then {after:?}");
    assert!(after.kvmclock_ns >= before.kvmclock_ns, "{before:?} then {after:?}");
    assert!(after.wall >= before.wall, "{before:?} then {after:?}");
}

fn time_never_goes_back_and_is_right_after_a_restore() {
    let here = Scratch::new();
    let mut vm = Vm::boot(["--memory", "32M"]);
    vm.expect("spark: ready");
    wall_is_right(&mut vm);
    let mut before = read(&mut vm);
    let mut image = verbs::snapshot(&vm, here.path("image-0"));
    vm.kill();
    std::thread::sleep(Duration::from_secs(3));
    for generation in 1..=3 {
        let mut vm = Vm::restore(&image);
        let after = read(&mut vm);
        is_later(after, before);
        wall_is_right(&mut vm);
        before = read(&mut vm);
        image = verbs::snapshot(&vm, here.path(format!("image-{generation}")));
        vm.kill();
    }
}

fn time_goes_on_while_the_guest_is_paused() {
    let mut vm = Vm::boot(["--memory", "32M"]);
    vm.expect("spark: ready");
    let before = read(&mut vm);
    verbs::pause(&vm).ok();
    std::thread::sleep(Duration::from_millis(1500));
    verbs::resume(&vm).ok();
    is_later(read(&mut vm), before);
    wall_is_right(&mut vm);
    vm.stop();
}

/// What `tick` prints, from the first to the answer.
fn ticks(count: u64) -> String {
    let lines: String = (1..=count).map(|i| format!("tick {i}\n")).collect();
    format!("{lines}ok ticked {count}\n")
}

fn ticks_go_on_across_a_pause() {
    let mut vm = Vm::boot(["--memory", "32M"]);
    vm.expect("spark: ready\n");
    vm.send("tick 60 5");
    let mut said = vm.expect("tick 10\n");
    for _ in 0..10 {
        verbs::pause(&vm).ok();
        // What it said before may still be on its way to us.
        std::thread::sleep(Duration::from_millis(20));
        let stands_at = vm.stdout.bytes().len();
        std::thread::sleep(Duration::from_millis(30));
        assert_eq!(vm.stdout.bytes().len(), stands_at, "a paused guest printed");
        verbs::resume(&vm).ok();
    }
    said.push_str(&vm.expect("ok ticked 60\n"));
    assert_eq!(said, ticks(60));
    vm.stop();
}

/// The original's console up to the snapshot and the restored guest's from there on are one text, to the byte.
fn ticks_go_on_across_a_snapshot_without_gap_or_repeat() {
    let here = Scratch::new();
    let mut vm = Vm::boot(["--memory", "32M"]);
    vm.expect("spark: ready\n");
    let start = vm.stdout.bytes().len();
    vm.send("tick 60 20");
    vm.expect("tick 5\n");
    let mut image = verbs::snapshot(&vm, here.path("image-0"));
    let mut said = String::from_utf8_lossy(&drained(vm)[start..]).into_owned();
    for generation in 1..=2 {
        let mut vm = Vm::restore(&image);
        vm.expect(&format!("tick {}\n", 5 + 20 * generation));
        image = verbs::snapshot(&vm, here.path(format!("image-{generation}")));
        said.push_str(&String::from_utf8_lossy(&drained(vm)));
    }
    let mut vm = Vm::restore(&image);
    said.push_str(&vm.expect("ok ticked 60\n"));
    assert_eq!(said, ticks(60));
    vm.stop();
}

/// Everything that a paused VM has written, once it has ended: what is still in the pipe counts.
fn drained(mut vm: Vm) -> Vec<u8> {
    verbs::stop(&vm).ok();
    vm.wait_exit();
    vm.stdout.bytes()
}

fn a_timer_that_ran_out_while_the_image_lay_fires_at_once() {
    let here = Scratch::new();
    let image = Image::at(here.path("image"));
    let mut vm = Vm::boot(["--memory", "32M"]);
    vm.expect("spark: ready\n");
    vm.send("timer 1500");
    std::thread::sleep(Duration::from_millis(200));
    verbs::snapshot(&vm, &image);
    assert_eq!(
        vm.stdout.wait_line(Duration::from_millis(1)),
        None,
        "the timer was not to fire before the snapshot"
    );
    vm.kill();
    std::thread::sleep(Duration::from_secs(2));
    let mut vm = Vm::restore(&image);
    let answer = vm.expect("\n");
    assert!(answer.starts_with("ok timer fired after "), "{answer}");
    assert_eq!(vm.ask("echo and on"), "ok and on");
    vm.stop();
}
