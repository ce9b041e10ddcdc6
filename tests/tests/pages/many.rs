//! Many guests of one server.

use rekindle_tests::patience::{SOON, until};
use rekindle_tests::{Case, Image, PageServer, Scratch, Vm, cases, verbs};

use crate::KVM;
use crate::ways::{restore_from, state_of};

pub(crate) fn cases() -> Vec<Case> {
    cases!(
        "pages",
        KVM,
        [
            sixteen_guests_live_from_one_server,
            a_server_has_several_images,
            a_guest_beyond_the_most_waits_for_its_turn,
            a_guest_that_is_killed_leaves_nothing_in_the_server,
        ]
    )
}

fn sixteen_guests_live_from_one_server() {
    let here = Scratch::new();
    let image = Image::bake(here.path("image"), &["--memory", "32M"]);
    let before = image.fingerprint();
    let bare = state_of(&image, &here, "bare");
    let server = PageServer::serve([image.path()]);
    let held = server.holdings();
    let mut guests: Vec<Vm> = (0..16).map(|_| restore_from(server.socket(), &bare, &[])).collect();
    for vm in &mut guests {
        vm.send("verify");
    }
    for (seed, vm) in (10..).zip(&mut guests) {
        vm.expect("ok verified 8 MiB seed 1");
        vm.send(&format!("fill 8M {seed}"));
    }
    for (seed, vm) in (10..).zip(&mut guests) {
        vm.expect(&format!("ok filled 8 MiB seed {seed}"));
        vm.send("verify");
    }
    for (seed, vm) in (10..).zip(&mut guests) {
        vm.expect(&format!("ok verified 8 MiB seed {seed}"));
    }
    assert_eq!(server.metric("sessions_total"), 16);
    guests.into_iter().for_each(Vm::stop);
    server.metric_comes_to("sessions", |now| now == 0);
    assert_eq!((server.metric("refused_total"), server.metric("lost_total")), (0, 0));
    server.holds_no_more_than(held);
    server.stop();
    assert_eq!(image.fingerprint(), before);
}

/// Each guest gets its own, by its name, though both are of one length.
fn a_server_has_several_images() {
    let here = Scratch::new();
    let bake = |name: &str, seed: &str| {
        let cmdline = format!("spark.fill=8M spark.seed={seed}");
        Image::bake(here.path(name), &["--memory", "32M", "--cmdline", &cmdline])
    };
    let images = [("one", "3"), ("two", "4")].map(|(name, seed)| (bake(name, seed), seed));
    let server = PageServer::serve(images.iter().map(|(image, _)| image.path()));
    let other = Image::bake(here.path("other"), &["--memory", "32M"]);
    for (image, seed) in &images {
        let mut vm = restore_from(server.socket(), image, &[]);
        assert_eq!(vm.ask("verify"), format!("ok verified 8 MiB seed {seed}"));
        vm.stop();
    }
    let mut vm = restore_from(server.socket(), &other, &[]);
    let said = vm.wait_exit().fails(5, &["refuses to serve this VM", "no image `", "is served here"]);
    assert!(said.contains("the page at 0x"), "{said}");
    assert_eq!(server.metric("refused_total"), 1);
    server.stop();
}

/// It is not taken until one of the others ends. If none does, it is lost, and they are not.
fn a_guest_beyond_the_most_waits_for_its_turn() {
    let here = Scratch::new();
    let image = Image::bake(here.path("image"), &["--memory", "32M"]);
    let server = PageServer::serve_with(&["--max-sessions", "2"], [image.path()]);
    let mut guests: Vec<Vm> = (0..2).map(|_| restore_from(server.socket(), &image, &[])).collect();
    guests.iter_mut().for_each(|vm| drop(vm.expect("spark: ready")));
    let mut unlucky = restore_from(server.socket(), &image, &["--pages-timeout", "300ms"]);
    unlucky.wait_exit().fails(5, &["the page at 0x", "page server"]);
    let mut patient = restore_from(server.socket(), &image, &[]);
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!((server.metric("sessions"), server.metric("refused_total")), (2, 0));
    let ending = guests.pop().expect("there are two");
    ending.stop();
    assert_eq!(patient.ask("verify"), "ok verified 8 MiB seed 1");
    assert_eq!(guests[0].ask("verify"), "ok verified 8 MiB seed 1");
    patient.stop();
    guests.into_iter().for_each(Vm::stop);
    server.stop();
}

fn a_guest_that_is_killed_leaves_nothing_in_the_server() {
    let here = Scratch::new();
    let image = crate::ways::bake(&here);
    let server = PageServer::serve([image.path()]);
    let held = server.holdings();
    for round in 0..8 {
        let mut vm = restore_from(server.socket(), &image, &[]);
        vm.expect("spark: ready");
        let before = server.metric("faults_total");
        vm.send("verify");
        if round % 2 == 0 {
            // In the middle of its faults.
            let faulted = until(SOON, || (server.metric("faults_total") > before).then_some(()));
            assert!(faulted.is_some(), "{}", server.story());
        }
        vm.kill();
        server.metric_comes_to("sessions", |now| now == 0);
    }
    server.holds_no_more_than(held);
    let mut vm = restore_from(server.socket(), &image, &[]);
    assert_eq!(vm.ask("verify"), crate::ways::RIGHT);
    verbs::stop(&vm).ok();
    assert_eq!(vm.wait_exit().code, Some(0));
    server.stop();
}
