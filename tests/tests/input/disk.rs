//! Snapshots that have nowhere to go: the VM goes on, no half image is visible, and the message says what to do.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use rekindle_tests::{Case, Image, Launch, Need, Scratch, Vm, cases, leftover, verbs};

use crate::{KVM, args};

pub(crate) fn cases() -> Vec<Case> {
    let mut cases =
        cases!("input", KVM, [a_target_that_exists_is_left_alone, a_target_that_cannot_be_made_is_named]);
    cases.extend(cases!(
        "input",
        &[Need::Kvm, Need::Mounts],
        [
            a_full_disk_costs_no_guest_and_leaves_no_half_image,
            a_disk_that_is_full_only_once_the_guest_runs_again_costs_no_guest,
            a_disk_that_cannot_be_written_to_costs_no_guest,
        ]
    ));
    cases
}

#[track_caller]
fn is_running(vm: &mut Vm) {
    let about = verbs::describe(vm).expect("the VM serves its socket");
    assert_eq!(about["state"], "Running");
    assert_eq!(vm.ask("echo alive"), "ok alive");
}

fn a_target_that_exists_is_left_alone() {
    let here = Scratch::new();
    let mut vm = Vm::boot(["--memory", "32M"]);
    vm.expect("spark: ready\n");
    here.file("file", "precious");
    std::fs::create_dir(here.path("directory")).expect("a scratch directory can be written");
    std::os::unix::fs::symlink("nowhere", here.path("dangling")).expect("a link can be made");
    let image = verbs::snapshot_and_resume(&vm, here.path("image"));
    let (before, entries) = (image.fingerprint(), here.entries());
    for name in ["file", "directory", "dangling", "image"] {
        for more in [&[][..], &["--resume"][..]] {
            let done = verbs::snapshot_command(vm.socket(), &here.path(name)).args(more).run();
            done.fails(1, &[name, "exists already", "never overwritten", "give another --out"]);
            is_running(&mut vm);
        }
    }
    vm.stop();
    assert_eq!(here.entries(), entries);
    assert_eq!(std::fs::read(here.path("file")).expect("it is still there"), b"precious");
    assert!(leftover::entries(&here.path("directory")).is_empty());
    assert!(here.path("dangling").is_symlink());
    assert_eq!(image.fingerprint(), before);
}

fn a_target_that_cannot_be_made_is_named() {
    let here = Scratch::new();
    let mut vm = Vm::boot(["--memory", "32M"]);
    vm.expect("spark: ready\n");
    here.file("file", "");
    let rows: [(PathBuf, &[&str]); 5] = [
        (here.path("none/image"), &["none/image", "No such file or directory"]),
        (here.path("file/image"), &["file/image", "Not a directory"]),
        (here.path("x".repeat(256)), &["File name too long"]),
        (here.path("image/.."), &["cannot be the name of an image"]),
        ("/proc/image".into(), &["/proc/image", "No such file or directory"]),
    ];
    for (out, says) in rows {
        verbs::snapshot_command(vm.socket(), &out).run().fails(1, says);
        is_running(&mut vm);
    }
    vm.stop();
    assert_eq!(here.entries(), ["file"]);
}

/// A VM that sees a small file system at `place`, which nobody else sees.
fn beside_small_disk(args: Vec<OsString>, place: &Path, options: &str) -> Vm {
    let script = format!("mount -t tmpfs -o {options} none {}", place.display());
    let mut vm = Launch::new(args).mounted(&script).vm();
    vm.expect("spark: ready\n");
    vm
}

/// The small file system as its VM sees it.
fn seen_by(vm: &Vm, place: &Path) -> PathBuf {
    PathBuf::from(format!("/proc/{}/root", vm.pid()))
        .join(place.strip_prefix("/").expect("scratch paths are absolute"))
}

/// Gives the disk of the VM room.
fn enlarge(vm: &Vm, place: &Path) {
    let mut command = std::process::Command::new("nsenter");
    command.args(["--mount", "--target", &vm.pid().to_string()]);
    command.args(["mount", "-o", "remount,size=64M"]).arg(place);
    assert!(command.status().expect("there is an nsenter").success());
}

fn a_full_disk_costs_no_guest_and_leaves_no_half_image() {
    let here = Scratch::new();
    let place = here.path("disk");
    std::fs::create_dir(&place).expect("a scratch directory can be written");
    let mut vm = beside_small_disk(args!["boot", "--memory", "32M"], &place, "size=4M");
    let out = place.join("image");
    for more in [&[][..], &["--resume"][..]] {
        let done = verbs::snapshot_command(vm.socket(), &out).args(more).run();
        done.fails(1, &["disk/image", "No space left on device", "make room and try again"]);
        is_running(&mut vm);
        assert!(leftover::entries(&seen_by(&vm, &place)).is_empty());
    }
    verbs::pause(&vm).ok();
    verbs::snapshot_command(vm.socket(), &out).run().fails(1, &["No space left on device"]);
    let about = verbs::describe(&vm).expect("the VM serves its socket");
    assert_eq!(about["state"], "Paused", "a failed snapshot let a paused guest run");

    enlarge(&vm, &place);
    verbs::snapshot_command(vm.socket(), &out).args(["--resume"]).run().ok();
    is_running(&mut vm);
    assert_eq!(leftover::entries(&seen_by(&vm, &place)), ["image"]);
    let copy = Image::at(seen_by(&vm, &place).join("image")).copy_to(here.path("copy"));
    vm.stop();
    copy.verifies();
    let mut vm = Vm::restore(&copy);
    assert_eq!(vm.ask("verify"), "ok verified 8 MiB seed 1");
    vm.stop();
}

/// A restored guest shares most of its memory with its image; that part is copied when the guest may run again.
fn a_disk_that_is_full_only_once_the_guest_runs_again_costs_no_guest() {
    let here = Scratch::new();
    let place = here.path("disk");
    std::fs::create_dir(&place).expect("a scratch directory can be written");
    let image = Image::bake(here.path("image"), &["--memory", "32M"]);
    let mut vm = beside_small_disk(args!["restore", image.path()], &place, "size=4M");
    for more in [&[][..], &["--resume"][..]] {
        let done = verbs::snapshot_command(vm.socket(), &place.join("again")).args(more).run();
        done.fails(1, &["disk/again", "No space left on device", "make room and try again"]);
        is_running(&mut vm);
        assert!(leftover::entries(&seen_by(&vm, &place)).is_empty());
    }
    assert_eq!(vm.ask("verify"), "ok verified 8 MiB seed 1");
    vm.stop();
}

fn a_disk_that_cannot_be_written_to_costs_no_guest() {
    let here = Scratch::new();
    let place = here.path("disk");
    std::fs::create_dir(&place).expect("a scratch directory can be written");
    let mut vm = beside_small_disk(args!["boot", "--memory", "32M"], &place, "ro");
    let done = verbs::snapshot_command(vm.socket(), &place.join("image")).run();
    done.fails(1, &["cannot create a directory beside", "disk/image", "Read-only file system"]);
    is_running(&mut vm);
    vm.stop();
}
