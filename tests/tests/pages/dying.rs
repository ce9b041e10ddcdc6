//! Servers that die, stop, or are told to end, while guests live from them.

use std::os::unix::net::UnixStream;
use std::time::Duration;

use rekindle_tests::patience::{SOON, in_lab, until};
use rekindle_tests::{Case, PageServer, Scratch, Vm, cases};
use rustix::process::Signal;

use crate::KVM;
use crate::ways::{RIGHT, bake, restore_from, state_of};

pub(crate) fn cases() -> Vec<Case> {
    cases!(
        "pages",
        KVM,
        [
            a_server_that_is_killed_at_any_moment_loses_the_guest_loudly,
            a_server_that_stops_loses_the_guest_loudly,
            the_next_server_takes_running_guests_over,
            a_server_that_is_told_to_end_hands_every_page_over,
            a_server_that_is_told_twice_ends_at_once,
        ]
    )
}

/// Waits until the guest has asked for more pages than it had.
#[track_caller]
fn faults_on(server: &PageServer, before: u64) {
    server.metric_comes_to("faults_total", |now| now > before);
}

fn a_server_that_is_killed_at_any_moment_loses_the_guest_loudly() {
    let here = Scratch::new();
    let image = bake(&here);
    let bare = state_of(&image, &here, "bare");
    let rounds = if in_lab() { 4_u32 } else { 14 };
    for round in 0..rounds {
        let server = PageServer::serve([image.path()]);
        let mut vm = restore_from(server.socket(), &bare, &["--pages-timeout", "200ms"]);
        vm.try_send("verify");
        // Before the handshake, in it, before the guest's first word, and in the middle of its work.
        std::thread::sleep(Duration::from_micros(u64::from(round * round) * 547));
        server.kill();
        let done = vm.wait_exit();
        assert!(!done.stdout.contains("bad "), "round {round}: {done:?}");
        match done.code {
            // Nobody was there to connect to, or not for long enough.
            Some(1) => drop(done.fails(1, &["error: ", "the page server"])),
            _ => drop(done.fails(5, &["the page at 0x", "page server has gone", "200ms"])),
        }
    }
    assert_eq!(here.entries(), ["bare", "image"]);
}

fn a_server_that_stops_loses_the_guest_loudly() {
    let here = Scratch::new();
    let image = bake(&here);
    let server = PageServer::serve([image.path()]);
    let held = server.holdings();
    for round in 0..4 {
        let mut vm = restore_from(server.socket(), &image, &["--pages-timeout", "400ms"]);
        let before = server.metric("faults_total");
        if round > 0 {
            vm.send("verify");
            faults_on(&server, before);
        }
        server.signal(Signal::STOP);
        if round == 0 {
            // A guest that wants nothing does not notice.
            vm.send("verify");
        }
        let done = vm.wait_exit();
        assert!(!done.stdout.contains("bad "), "round {round}: {done:?}");
        done.fails(5, &["the page at 0x", "has not delivered it within 400ms"]);
        // It comes to itself, and finds that nobody is there any more.
        server.signal(Signal::CONT);
        server.metric_comes_to("sessions", |now| now == 0);
    }
    server.holds_no_more_than(held);
    let mut vm = restore_from(server.socket(), &image, &[]);
    assert_eq!(vm.ask("verify"), RIGHT);
    vm.stop();
    server.stop();
}

/// Guests in the middle of their faults do not notice that one server died and another came.
fn the_next_server_takes_running_guests_over() {
    let here = Scratch::new();
    let image = bake(&here);
    let socket = here.path("pages");
    let bare = state_of(&image, &here, "bare");
    let mut server = PageServer::serve_at(&socket, [image.path()]);
    let mut guests: Vec<Vm> = (0..2).map(|_| restore_from(&socket, &bare, &[])).collect();
    for vm in &mut guests {
        vm.expect("spark: ready");
        vm.send("verify");
    }
    for _ in 0..3 {
        server.signal(Signal::KILL);
        server.wait_exit();
        // Both are waiting for something by now, or soon will be.
        server = PageServer::serve_at(&socket, [image.path()]);
        server.metric_comes_to("sessions_total", |now| now == 2);
    }
    for vm in &mut guests {
        vm.expect(RIGHT);
        assert_eq!(vm.ask("fill 72M 4"), "ok filled 72 MiB seed 4");
        assert_eq!(vm.ask("verify"), "ok verified 72 MiB seed 4");
    }
    assert!(server.metric("sessions_total") == 2 && server.metric("lost_total") == 0);
    guests.into_iter().for_each(Vm::stop);
    server.stop();
    assert_eq!(here.entries(), ["bare", "image"]);
}

fn a_server_that_is_told_to_end_hands_every_page_over() {
    let here = Scratch::new();
    let image = bake(&here);
    for busy in [false, true] {
        let mut server = PageServer::serve([image.path()]);
        let mut guests: Vec<Vm> =
            (0..2).map(|_| restore_from(server.socket(), &image, &["--pages-timeout", "300ms"])).collect();
        for vm in &mut guests {
            vm.expect("spark: ready");
            if busy {
                vm.send("verify");
            }
        }
        server.signal(Signal::TERM);
        let done = server.wait_exit();
        assert_eq!(done.code, Some(0), "{done:?}");
        // Long after nobody is there any more, nothing is missing.
        std::thread::sleep(Duration::from_millis(700));
        for vm in &mut guests {
            if busy {
                vm.expect(RIGHT);
            }
            assert_eq!(vm.ask("verify"), RIGHT);
        }
        guests.into_iter().for_each(Vm::stop);
    }
}

/// The first time it waits for somebody who has not said yet what he wants.
fn a_server_that_is_told_twice_ends_at_once() {
    let here = Scratch::new();
    let image = bake(&here);
    let mut server = PageServer::serve([image.path()]);
    let threads = server.holdings().threads;
    let silent = UnixStream::connect(server.socket()).expect("the server listens");
    let taken = until(SOON, || (server.holdings().threads > threads).then_some(()));
    assert!(taken.is_some(), "nobody listens to who says nothing");
    server.signal(Signal::TERM);
    let heard = until(SOON, || (!server.socket().exists()).then_some(()));
    assert!(heard.is_some(), "a signal is not heard: {}", server.story());
    server.signal(Signal::INT);
    server.wait_exit().fails(1, &["1 VMs had not been given all their pages", "hint: "]);
    drop(silent);
}
