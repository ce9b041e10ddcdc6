//! The same bytes by every path.

use rekindle_tests::{Case, Image, PageServer, Scratch, Vm, cases, rekindle, verbs};

use crate::KVM;
use crate::ways::{RIGHT, bake, each_lazy_way, each_way, restore, restore_from, state_of};

pub(crate) fn cases() -> Vec<Case> {
    cases!(
        "pages",
        KVM,
        [
            memory_is_right_by_every_path,
            memory_on_both_sides_of_the_hole_is_delivered,
            a_packed_image_is_delivered,
            an_image_that_was_recorded_is_delivered,
            a_second_generation_is_delivered,
            a_snapshot_of_a_guest_that_has_touched_nothing_is_whole,
            what_a_guest_writes_before_it_reads_stays_written,
            every_fault_is_written_down,
            memory_that_was_never_written_is_not_asked_for,
        ]
    )
}

#[track_caller]
fn is_right(vm: &mut Vm) {
    vm.expect("spark: ready");
    assert_eq!(vm.ask("verify"), RIGHT);
    let answer = vm.ask("timer 5");
    assert!(answer.starts_with("ok timer fired after "), "{answer}");
}

fn memory_is_right_by_every_path() {
    let here = Scratch::new();
    let image = bake(&here);
    each_way(&here, &image, is_right);
}

/// 3084 MiB are 3072 below the hole and 12 above it; the fill begins 3060 MiB into what is free.
fn memory_on_both_sides_of_the_hole_is_delivered() {
    let here = Scratch::new();
    let mut vm = Vm::boot(["--memory", "3084M"]);
    vm.expect("spark: ready");
    assert_eq!(vm.ask("fill 20M 3 3060M"), "ok filled 20 MiB seed 3");
    let image = verbs::snapshot(&vm, here.path("image"));
    vm.kill();
    each_lazy_way(&here, &image, |vm| assert_eq!(vm.ask("verify"), "ok verified 20 MiB seed 3"));
}

#[track_caller]
fn pack(image: &Image, here: &Scratch) -> Image {
    let packed = here.path("packed");
    rekindle(["pack".as_ref(), image.path().as_os_str(), "--out".as_ref(), packed.as_os_str()]).ok();
    Image::at(packed)
}

fn a_packed_image_is_delivered() {
    let here = Scratch::new();
    let image = bake(&here);
    let packed = pack(&image, &here);
    std::fs::remove_dir_all(image.path()).expect("it is ours");
    each_lazy_way(&here, &packed, is_right);
    // And what it was packed from comes out of it again.
    let back = here.path("back");
    rekindle(["unpack".as_ref(), packed.path().as_os_str(), "--out".as_ref(), back.as_os_str()]).ok();
    let back = Image::at(back);
    back.verifies();
    let mut vm = Vm::restore(&back);
    is_right(&mut vm);
    vm.stop();
}

/// The set is delivered ahead, or not; both give the same guest. So do a pack of it, and recording it once more.
fn an_image_that_was_recorded_is_delivered() {
    let here = Scratch::new();
    let image = bake(&here);
    for mode in ["mmap", "lazy"] {
        let mut vm = restore(&image, &["--memory-mode", mode, "--record=10m"]);
        vm.expect("spark: ready");
        assert_eq!(vm.ask("verify"), RIGHT, "while it is recorded");
        vm.stop();
        assert!(image.path().join("working-set").exists(), "{mode}: nothing was recorded");
        image.verifies();
        each_way(&here, &image, is_right);
    }
    assert_eq!(here.entries(), ["image"]);
    let packed = pack(&image, &here);
    assert!(packed.path().join("working-set").exists(), "a pack leaves the working set out");
    each_lazy_way(&here, &packed, is_right);
}

/// What is inherited has been delivered for the snapshot, what is new is the guest's own.
fn a_second_generation_is_delivered() {
    let here = Scratch::new();
    let image = bake(&here);
    let server = PageServer::serve([image.path()]);
    let mut vm = restore_from(server.socket(), &state_of(&image, &here, "bare"), &[]);
    vm.expect("spark: ready");
    assert_eq!(vm.ask("fill 80M 2"), "ok filled 80 MiB seed 2");
    vm.ask("simd 5");
    let second = verbs::snapshot_and_resume(&vm, here.path("second"));
    assert_eq!(vm.ask("verify"), "ok verified 80 MiB seed 2", "after its snapshot");
    vm.stop();
    server.stop();
    second.verifies();
    each_way(&here, &second, |vm| {
        assert_eq!(vm.ask("verify"), "ok verified 80 MiB seed 2");
        let answer = vm.ask("simd check");
        assert!(answer.ends_with("seed 5"), "{answer}");
    });
}

/// Nearly all of it is missing when it is snapshotted: all of it has to come, and nothing may be taken for zeros.
fn a_snapshot_of_a_guest_that_has_touched_nothing_is_whole() {
    let here = Scratch::new();
    let image = bake(&here);
    let server = PageServer::serve([image.path()]);
    let bare = state_of(&image, &here, "bare");
    let guests = [
        ("own", restore(&image, &["--memory-mode", "lazy"])),
        ("served", restore_from(server.socket(), &bare, &[])),
    ];
    for (name, mut vm) in guests {
        vm.expect("spark: ready");
        let again = verbs::snapshot(&vm, here.path(name));
        // Nobody is needed for it any more.
        verbs::resume(&vm).ok();
        assert_eq!(vm.ask("verify"), RIGHT);
        vm.stop();
        again.verifies();
        let mut vm = Vm::restore(&again);
        assert_eq!(vm.ask("verify"), RIGHT, "{name}");
        vm.stop();
    }
    server.stop();
}

/// A page that was written to first is the guest's, and what is left of it comes from the image.
fn what_a_guest_writes_before_it_reads_stays_written() {
    let here = Scratch::new();
    let image = bake(&here);
    each_lazy_way(&here, &image, |vm| {
        vm.expect("spark: ready");
        // One word of each page, with its own value: the others have to be what they were.
        let answer = vm.ask("touch write 64M");
        assert_eq!(answer, "ok touched 16384 pages");
        assert_eq!(vm.ask("verify"), RIGHT);
        assert_eq!(vm.ask("fill 32M 9"), "ok filled 32 MiB seed 9");
        assert_eq!(vm.ask("verify"), "ok verified 32 MiB seed 9");
    });
}

fn every_fault_is_written_down() {
    let here = Scratch::new();
    let image = bake(&here);
    let own = here.path("own.csv");
    let path = own.to_str().expect("scratch paths are UTF-8");
    let mut vm = restore(&image, &["--memory-mode", "lazy", "--trace", path]);
    is_right(&mut vm);
    vm.stop();
    let served = here.path("served.csv");
    let path = served.to_str().expect("scratch paths are UTF-8");
    let server = PageServer::serve_with(&["--trace", path], [image.path()]);
    let mut vm = restore_from(server.socket(), &image, &[]);
    is_right(&mut vm);
    vm.stop();
    server.metric_comes_to("sessions", |now| now == 0);
    server.stop();
    for path in [own, served] {
        let text = std::fs::read_to_string(&path).expect("the trace is there");
        let lines: Vec<&str> = text.lines().collect();
        // 64 MiB in pieces of at most 2 MiB.
        assert!(lines.len() > 32, "{}: {} lines", path.display(), lines.len());
        let columns = lines[0].split(',').count();
        assert!(columns > 2 && lines.iter().all(|line| line.split(',').count() == columns), "{}", lines[0]);
    }
}

/// The image's memory is at the server alone, which says where it is zero: filling what was never written takes no fault.
fn memory_that_was_never_written_is_not_asked_for() {
    let here = Scratch::new();
    let image = bake(&here);
    let packed = pack(&image, &here);
    for image in [image, packed] {
        let server = PageServer::serve([image.path()]);
        let bare = state_of(&image, &here, "state-alone");
        let mut vm = restore_from(server.socket(), &bare, &[]);
        vm.expect("spark: ready");
        assert_eq!(vm.ask("verify"), RIGHT);
        let before = server.metric("faults_total");
        assert!(before > 0, "nothing was delivered");
        assert_eq!(vm.ask("fill 40M 9 70M"), "ok filled 40 MiB seed 9");
        assert_eq!(server.metric("faults_total"), before, "the server was asked for zeros");
        // They are as good as what is delivered: the next image has them.
        let second = verbs::snapshot(&vm, here.path("second"));
        second.verifies();
        vm.kill();
        let mut again = Vm::restore(&second);
        assert_eq!(again.ask("verify"), "ok verified 40 MiB seed 9");
        again.stop();
        server.stop();
        for used in [bare, second] {
            std::fs::remove_dir_all(used.path()).expect("it is ours");
        }
    }
}
