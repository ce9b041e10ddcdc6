//! Hosts that cannot run anything, and the places that a program cannot write to.

use rekindle_tests::{Case, Image, Launch, Need, Scratch, cases};

use crate::args;

/// Runs a program as somebody whom root's permissions are no help to.
pub(crate) const OTHER_USER: [&str; 4] = ["setpriv", "--reuid", "65534", "--clear-groups"];

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = cases!(
        "input",
        &[Need::Mounts],
        [a_host_without_kvm_is_told_how_to_get_it, a_device_that_is_not_kvm_is_refused]
    );
    cases.extend(cases!(
        "input",
        &[Need::Mounts, Need::OtherUser],
        [a_user_without_permission_is_told_how_to_get_it]
    ));
    cases.extend(cases!("input", &[Need::Mounts, Need::Kvm], [an_image_can_be_examined_without_kvm]));
    cases.extend(cases!(
        "input",
        crate::KVM,
        [
            a_report_or_a_console_that_cannot_be_written_is_said_before_a_guest_runs,
            what_a_run_writes_is_never_part_of_its_image,
        ]
    ));
    cases
}

const NO_DEVICES: &str = "mount -t tmpfs none /dev";

fn a_host_without_kvm_is_told_how_to_get_it() {
    let here = Scratch::new();
    let remedy = ["this host has no /dev/kvm", "modprobe kvm_intel", "rekindle doctor"];
    Launch::new(args!["boot"]).mounted(NO_DEVICES).run().fails(4, &remedy);
    let bake = args!["bake", "--ready", "port", "--out", here.path("image")];
    Launch::new(bake).mounted(NO_DEVICES).run().fails(4, &remedy);
    assert!(here.entries().is_empty());
    let doctor = Launch::new(args!["doctor"]).mounted(NO_DEVICES).run();
    assert!(
        doctor.stdout.contains("there is no /dev/kvm") && doctor.stdout.contains("change:"),
        "{doctor:?}"
    );
    doctor.fails(4, &["this host cannot run a guest"]);
}

fn a_device_that_is_not_kvm_is_refused() {
    let script = "test -e /dev/kvm || { mount -t tmpfs none /dev; : >/dev/kvm; mknod /dev/null c 1 3; }; \
        mount --bind /dev/null /dev/kvm";
    Launch::new(args!["boot"]).mounted(script).run().fails(4, &["12 is needed", "rekindle doctor"]);
}

fn a_user_without_permission_is_told_how_to_get_it() {
    let script =
        format!("{NO_DEVICES}; mknod -m 600 /dev/kvm c 10 232; set -- {} \"$@\"", OTHER_USER.join(" "));
    let says = ["no permission to open /dev/kvm", "Permission denied", "usermod -aG kvm"];
    Launch::new(args!["boot"]).mounted(&script).run().fails(4, &says);
}

fn an_image_can_be_examined_without_kvm() {
    let here = Scratch::new();
    let image = Image::bake(here.path("image"), &["--memory", "32M"]);
    for verb in ["inspect", "verify"] {
        Launch::new(args![verb, image.path()]).mounted(NO_DEVICES).run().ok();
    }
    Launch::new(args!["restore", image.path()])
        .mounted(NO_DEVICES)
        .run()
        .fails(4, &["this host has no /dev/kvm"]);
}

fn a_report_or_a_console_that_cannot_be_written_is_said_before_a_guest_runs() {
    let here = Scratch::new();
    let image = Image::bake(here.path("image"), &["--memory", "32M"]);
    let report = here.path("none/report");
    let done = Launch::new(args!["restore", image.path(), "--report", report]).run();
    done.fails(1, &["cannot write the report to", "none/report", "No such file or directory"]);
    let console = format!("file:{}", here.path("none/console").display());
    let done = Launch::new(args!["restore", image.path(), "--serial", console]).run();
    done.fails(1, &["cannot write the console to", "none/console", "No such file or directory"]);
    assert_eq!(here.entries(), ["image"]);
}

fn what_a_run_writes_is_never_part_of_its_image() {
    let here = Scratch::new();
    let image = Image::bake(here.path("image"), &["--memory", "32M"]);
    let before = image.fingerprint();
    for part in ["state", "memory"] {
        let part = image.path().join(part);
        let console = format!("file:{}", part.display());
        let trace = args!["--memory-mode", "lazy", "--trace", part.clone()];
        for args in [args!["--report", part], args!["--serial", console], trace] {
            let done = Launch::new(args!["restore", image.path()]).args(args).run();
            done.fails(2, &["is part of the image, which is never written", "give another path"]);
        }
    }
    assert_eq!(image.fingerprint(), before);
}
