//! `bake`: the guest says when it is ready.

use rekindle_tests::{Image, Scratch};

use crate::checks;
use crate::guest::Guest;
use crate::shelf::{CLOUD_6_1, CLOUD_6_12, GENERIC_6_1, Kernel};

/// Bakes while somebody types `commands`, and restores.
#[track_caller]
fn baked(kernel: Kernel, ready: &str, commands: &[&str]) -> Guest {
    let here = Scratch::new();
    let out = here.path("image");
    let launch = Guest::launch("bake", kernel, 2, "").args([
        "--serial",
        "stdio",
        "--ready",
        ready,
        "--timeout",
        "600s",
    ]);
    let mut baking = launch.args(["--out".as_ref(), out.as_os_str()]).vm();
    for command in commands {
        baking.expect("guest ");
        baking.send(command);
    }
    assert_eq!(baking.wait_exit().code, Some(0));
    let mut guest = Guest::restore(&Image::at(out));
    checks::timers_fire(&mut guest);
    checks::wall_clock_is_right(&mut guest);
    guest
}

/// A line that the guest prints anyway.
pub(crate) fn a_line() {
    baked(CLOUD_6_1, r"serial:^guest [0-9.-]+-cloud-amd64 cpus=2 clocksource=[a-z-]+", &[]).vm.stop();
}

/// For kernels without `/dev/port`, as the cloud ones are: `ioperm` and one instruction.
pub(crate) fn a_byte_from_a_program() {
    let mut guest = baked(CLOUD_6_12, "port", &["ready"]);
    // What the guest does next is behind the instruction that stopped it.
    assert!(guest.console().contains("ready said"));
    guest.send("poweroff");
    assert_eq!(guest.vm.wait_exit().code, Some(0));
}

/// Where there is a `/dev/port`, a shell can do it.
pub(crate) fn a_byte_from_a_shell() {
    let guest = baked(GENERIC_6_1, "port", &["port"]);
    assert!(guest.console().contains("port 0"));
    guest.vm.stop();
}
