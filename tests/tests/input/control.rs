//! The control socket: taken, dead, impossible; and two who want the same thing at once.

use std::os::unix::net::UnixListener;

use rekindle_tests::patience::{SOON, until};
use rekindle_tests::{Case, Image, Launch, Scratch, Vm, cases, rekindle, verbs};

use crate::{KVM, args};

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = cases!(
        "input",
        KVM,
        [
            a_socket_that_is_in_use_is_left_to_its_owner,
            a_socket_that_a_dead_vm_left_is_taken_over,
            two_snapshots_at_once_are_one_or_both_in_turn,
            a_vm_that_has_gone_cannot_be_asked,
            nonsense_on_the_socket_is_answered_and_costs_no_guest,
            a_socket_that_cannot_be_made_is_named,
        ]
    );
    cases.extend(cases!("input", &[], [a_verb_without_a_vm_says_so]));
    cases
}

fn a_socket_that_cannot_be_made_is_named() {
    let here = Scratch::new();
    here.file("file", "precious");
    std::fs::create_dir(here.path("directory")).expect("a scratch directory can be written");
    let long = here.path("x".repeat(120));
    let boot = |socket: &std::path::Path| rekindle(args!["boot", "--api-socket", socket]);
    boot(&here.path("file")).fails(1, &["file", "is not a socket", "give another --api-socket"]);
    boot(&here.path("directory")).fails(1, &["directory", "is not a socket"]);
    boot(&long).fails(1, &["longer than the 107 bytes", "use a shorter path"]);
    boot(&here.path("none/socket")).fails(1, &["none/socket", "the directory must exist"]);
    assert_eq!(here.entries(), ["directory", "file"]);
    assert_eq!(std::fs::read(here.path("file")).expect("it is still there"), b"precious");
}

fn a_verb_without_a_vm_says_so() {
    let here = Scratch::new();
    here.file("file", "");
    drop(UnixListener::bind(here.path("dead")).expect("a socket can be made"));
    for verb in ["pause", "resume", "stop", "snapshot"] {
        let ask = |socket: &str| {
            let launch = Launch::new(args![verb, "--api-socket", here.path(socket)]);
            let launch =
                if verb == "snapshot" { launch.args(args!["--out", here.path("image")]) } else { launch };
            launch.run()
        };
        ask("missing")
            .fails(1, &["no VM listens on", "missing", "give the --api-socket that the VM was started with"]);
        ask("dead").fails(1, &["no VM listens on", "dead", "Connection refused"]);
        ask("file").fails(1, &["file"]);
        ask(&"x".repeat(120)).fails(1, &["longer than the 107 bytes"]);
    }
    assert_eq!(here.entries(), ["dead", "file"]);
}

fn a_socket_that_is_in_use_is_left_to_its_owner() {
    let mut vm = Vm::boot(["--memory", "32M"]);
    vm.expect("spark: ready\n");
    let done = rekindle(args!["boot", "--memory", "32M", "--api-socket", vm.socket()]);
    done.fails(1, &["a VM listens on", "already", "give each VM its own --api-socket"]);
    let here = Scratch::new();
    let log = here.file("log", "precious");
    let console = format!("file:{}", log.display());
    rekindle(args!["boot", "--serial", console, "--api-socket", vm.socket()]).fails(1, &["a VM listens on"]);
    assert_eq!(std::fs::read_to_string(&log).expect("it is there"), "precious");
    verbs::pause(&vm).ok();
    verbs::resume(&vm).ok();
    vm.stop();
}

fn a_socket_that_a_dead_vm_left_is_taken_over() {
    let here = Scratch::new();
    let socket = here.path("socket");
    drop(UnixListener::bind(&socket).expect("a socket can be made"));
    let vm = Launch::new(args!["boot", "--memory", "32M", "--serial", "null", "--api-socket", &socket]);
    let running = std::thread::spawn(move || vm.run());
    let stopped = until(SOON, || {
        let done = rekindle(args!["stop", "--api-socket", &socket]);
        (done.code == Some(0)).then_some(())
    });
    assert!(stopped.is_some(), "the VM never listened");
    running.join().expect("the VM is well").ok();
    assert!(here.entries().is_empty());
}

fn two_snapshots_at_once_are_one_or_both_in_turn() {
    let here = Scratch::new();
    let mut vm = Vm::boot(["--memory", "128M", "--cmdline", "spark.fill=64M"]);
    vm.expect("spark: ready\n");
    let mut images = 0;
    for round in 0..8 {
        let ask = |number: usize| {
            let out = here.path(format!("image-{round}-{number}"));
            let launch = verbs::snapshot_command(vm.socket(), &out).args(["--resume"]);
            std::thread::spawn(move || (launch.run(), out))
        };
        // To names of their own, and both to the same one.
        let second = round % 2;
        let asked = [ask(0), ask(second)];
        let mut here_now = 0;
        for thread in asked {
            let (done, out) = thread.join().expect("the asker is well");
            if done.code == Some(0) {
                Image::at(out).verifies();
                here_now += 1;
            } else if done.stderr.contains("exists already") {
                assert_eq!(second, 0, "{done:?}");
                done.fails(1, &["give another --out"]);
            } else {
                done.fails(
                    1,
                    &["a snapshot of this VM is already under way", "wait for it to end, then ask again"],
                );
            }
        }
        assert!(here_now >= 1, "neither of two was taken in round {round}");
        images += here_now;
        assert_eq!(vm.ask("echo on"), "ok on");
    }
    assert_eq!(here.entries().len(), images);
    vm.stop();
}

/// The socket stays where it is when a VM is killed; whoever asks then is told, and nothing is written.
fn a_vm_that_has_gone_cannot_be_asked() {
    let here = Scratch::new();
    let mut vm = Vm::boot(["--memory", "32M"]);
    vm.expect("spark: ready\n");
    vm.signal(rustix::process::Signal::KILL);
    assert_eq!(vm.wait_exit().code, None);
    let done = verbs::snapshot_command(vm.socket(), &here.path("image")).run();
    done.fails(1, &["no VM listens on", "give the --api-socket"]);

    let mut vm = Vm::boot(["--memory", "32M"]);
    vm.expect("spark: ready\n");
    vm.send("off");
    assert_eq!(vm.wait_exit().code, Some(0));
    let done = verbs::snapshot_command(vm.socket(), &here.path("image")).run();
    done.fails(1, &["no VM listens on", "it is removed when the VM ends"]);
    assert!(here.entries().is_empty());
}

fn nonsense_on_the_socket_is_answered_and_costs_no_guest() {
    let here = Scratch::new();
    let mut vm = Vm::boot(["--memory", "32M"]);
    vm.expect("spark: ready\n");
    let out = here.path("image");
    let rows = [
        ("GET", "/nowhere", String::new()),
        ("PUT", "/snapshot", "not json".into()),
        ("PUT", "/snapshot", "{}".into()),
        ("PUT", "/snapshot", r#"{"out": ""}"#.into()),
        ("PUT", "/snapshot", r#"{"out": "/a\u0000b"}"#.into()),
        ("PUT", "/snapshot", format!(r#"{{"out": "{}", "resume": 7}}"#, out.display())),
        ("PUT", "/snapshot", format!("[{}", "[".repeat(10_000))),
        ("PATCH", "/vm", r#"{"state": "Exploded"}"#.into()),
        ("PUT", "/actions", r#"{"action_type": "SelfDestruct"}"#.into()),
        ("DELETE", "/", String::new()),
    ];
    for (method, path, body) in rows {
        let (status, answer) = verbs::request(vm.socket(), method, path, &body).expect("an answer");
        assert_eq!(status, 400, "{method} {path} {body}: {answer}");
        assert!(answer.contains("fault_message"), "{answer}");
    }
    assert_eq!(vm.ask("echo unmoved"), "ok unmoved");
    vm.stop();
    assert!(here.entries().is_empty());
}
