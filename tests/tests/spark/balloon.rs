//! What is asked of a balloon that is not there, or whose guest does not know it.

use std::path::Path;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rekindle_tests::patience::{self, SOON, scaled};
use rekindle_tests::{Case, Done, Image, Scratch, Vm, cases, rekindle, verbs};
use rustix::process::Signal;

use crate::KVM;

pub(crate) fn cases() -> Vec<Case> {
    cases!(
        "spark",
        KVM,
        [
            a_balloon_that_cannot_be_had_is_refused,
            the_size_of_a_balloon_is_set_and_survives,
            a_snapshot_that_waits_for_free_memory_keeps_nobody_waiting,
            a_wait_for_free_memory_ends_with_the_vm,
        ]
    )
}

fn a_balloon_that_cannot_be_had_is_refused() {
    let here = Scratch::new();
    let mut vm = Vm::boot(["--memory", "32M"]);
    vm.expect("spark: ready");
    let reclaiming = |vm: &Vm| {
        verbs::snapshot_command(vm.socket(), &here.path("image")).args(["--resume", "--reclaim", "10s"]).run()
    };
    reclaiming(&vm).fails(1, &["the VM has no balloon", "--balloon"]);
    for (method, path, body) in [
        ("GET", "/balloon", ""),
        ("PATCH", "/balloon", r#"{"amount_mib":1}"#),
        ("GET", "/balloon/statistics", ""),
    ] {
        let (status, said) =
            verbs::request(vm.socket(), method, path, body).expect("the VM serves its socket");
        assert!(status == 400 && said.contains("the VM has no balloon"), "{said}");
    }
    vm.stop();

    let mut vm = Vm::boot(["--memory", "32M", "--balloon"]);
    vm.expect("spark: ready");
    reclaiming(&vm).fails(1, &["does not say how much of its memory is free", "virtio-balloon"]);
    verbs::pause(&vm).ok();
    reclaiming(&vm).fails(1, &["a paused guest cannot give memory back", "resume it"]);
    vm.stop();
    let out = here.path("baked");
    let out = out.to_str().expect("scratch paths are UTF-8");
    let bake = ["bake", "--ready", "port", "--memory", "32M", "--out", out, "--reclaim", "10s"];
    rekindle(bake).fails(2, &["--balloon"]);
    rekindle([&bake[..], &["--balloon"]].concat()).fails(1, &["does not say how much of its memory is free"]);
    assert!(here.entries().is_empty(), "nothing was written");
}

fn the_size_of_a_balloon_is_set_and_survives() {
    let here = Scratch::new();
    let mut vm = Vm::boot(["--memory", "32M", "--balloon"]);
    vm.expect("spark: ready");
    let ask = |vm: &Vm, method: &str, body: &str| {
        verbs::request(vm.socket(), method, "/balloon", body).expect("the VM serves its socket")
    };
    assert_eq!(ask(&vm, "GET", ""), (200, r#"{"amount_mib":0}"#.to_owned()));
    assert_eq!(ask(&vm, "PATCH", r#"{"amount_mib":7}"#).0, 204);
    let (status, said) = ask(&vm, "PATCH", r#"{"amount_mib":33}"#);
    assert!(status == 400 && said.contains("33 MiB is larger than the guest, which has 32"), "{said}");
    let image = verbs::snapshot(&vm, here.path("image"));
    vm.kill();
    let mut vm = Vm::restore(&image);
    assert_eq!(vm.ask("echo alive"), "ok alive");
    assert_eq!(ask(&vm, "GET", ""), (200, r#"{"amount_mib":7}"#.to_owned()));
    vm.stop();
}

/// A guest that says what is free and then nothing more, so that whoever wants its free memory waits for all of the time.
fn silent() -> Vm {
    let mut vm = Vm::boot(["--memory", "32M", "--balloon"]);
    vm.expect("spark: ready\n");
    assert_eq!(vm.ask("balloon 20M"), "ok told of 20 MiB");
    vm
}

/// Asks for a snapshot that waits, and comes back once it does.
fn waiting(vm: &Vm, out: &Path) -> JoinHandle<Done> {
    const UNDER_WAY: &str = "already under way";
    let (socket, out_here) = (vm.socket().to_owned(), out.to_owned());
    let asked = thread::spawn(move || {
        loop {
            let command = verbs::snapshot_command(&socket, &out_here).args(["--resume", "--reclaim", "1m"]);
            let done = command.run_within(scaled(Duration::from_secs(90)));
            // That was whoever looks whether this one is under way.
            if !done.stderr.contains(UNDER_WAY) {
                return done;
            }
        }
    });
    // Refused in any case, and for another reason while none is under way.
    let there = out.parent().expect("it lies in a directory");
    let refused = patience::until(SOON, || {
        let done = verbs::snapshot_command(vm.socket(), there).args(["--reclaim", "1ms"]).run();
        done.stderr.contains(UNDER_WAY).then_some(())
    });
    assert!(refused.is_some(), "no snapshot is under way");
    asked
}

/// Others are served while it waits; who wants the guest paused has it paused, and the snapshot is of that moment.
fn a_snapshot_that_waits_for_free_memory_keeps_nobody_waiting() {
    let here = Scratch::new();
    let mut vm = silent();
    let asked = waiting(&vm, &here.path("image"));
    let start = Instant::now();
    let state = |vm: &Vm| verbs::describe(vm).expect("the VM serves its socket")["state"].clone();
    assert_eq!(state(&vm), "Running");
    let ask = |vm: &Vm, method: &str, body: &str| {
        verbs::request(vm.socket(), method, "/balloon", body).expect("the VM serves its socket")
    };
    assert_eq!(ask(&vm, "PATCH", r#"{"amount_mib":3}"#).0, 204);
    assert_eq!(ask(&vm, "GET", ""), (200, r#"{"amount_mib":3}"#.to_owned()));
    assert_eq!(vm.ask("echo alive"), "ok alive");
    verbs::resume(&vm).ok();
    assert!(!asked.is_finished(), "it still waits");
    verbs::pause(&vm).ok();
    assert!(start.elapsed() < scaled(Duration::from_secs(20)), "somebody waited for it");
    asked.join().expect("the asker is well").ok();
    assert_eq!(state(&vm), "Paused", "whoever paused it comes last");
    verbs::resume(&vm).ok();
    assert_eq!(vm.ask("echo alive"), "ok alive");
    vm.stop();
    let image = Image::at(here.path("image"));
    image.verifies();
    let mut vm = Vm::restore(&image);
    assert_eq!(vm.ask("echo alive"), "ok alive");
    assert_eq!(ask(&vm, "GET", ""), (200, r#"{"amount_mib":3}"#.to_owned()));
    vm.stop();
}

/// Whatever ends it: whoever asked is told, and nothing is left behind.
fn a_wait_for_free_memory_ends_with_the_vm() {
    let here = Scratch::new();
    let ends: [fn(&mut Vm); 3] =
        [|vm| drop(verbs::stop(vm).ok()), |vm| vm.signal(Signal::TERM), |vm| vm.send("off")];
    let said = ["the VM ended before it answered"; 2].into_iter().chain(["the guest has stopped of itself"]);
    for (end, said) in ends.into_iter().zip(said) {
        let mut vm = silent();
        let asked = waiting(&vm, &here.path("image"));
        end(&mut vm);
        assert_eq!(vm.wait_exit().code, Some(0));
        asked.join().expect("the asker is well").fails(1, &[said]);
    }
    assert!(here.entries().is_empty(), "nothing was written");
}
