//! A stock guest with a device of every kind.

use rekindle_tests::Scratch;

use crate::disks::{formatted, hello, restore};
use crate::guest::Guest;
use crate::nets::{TAPS, Taps};
use crate::shelf::CLOUD_6_1;

/// The kernel's own drivers find all of them, and have them still after a restore.
pub(crate) fn all_are_found() {
    let here = Scratch::new();
    let _taps = Taps::make();
    let [root, data] = ["root", "data"].map(|name| formatted(here.path(name)));
    let args = [
        "--rng".to_owned(),
        "--balloon".to_owned(),
        format!("--disk=root={}", root.display()),
        format!("--disk=data={},overlay", data.display()),
        format!("--overlay-dir={}", here.root().display()),
        format!("--net=eth0=tap:{}", TAPS[0]),
        format!("--vsock=cid=3,uds={}", here.path("vsock").display()),
    ];
    let launch = Guest::launch_with("boot", CLOUD_6_1, "disk", 1, "").args(args);
    let mut guest = hello(launch, "root=mounted,rw disks=2");
    let found = "virtio_balloon=1 virtio_blk=2 virtio_net=1 virtio_rng=1 vmw_vsock_virtio_transport=1";
    assert_eq!(guest.ask("drivers"), found);
    assert_eq!(guest.ask("write before"), "done");
    let left = guest.leave(&here.path("image"), "");
    left.image.verifies();

    let mut guest = Guest { vm: restore(&left.image, here.root()).vm() };
    assert_eq!(guest.ask("drivers"), found);
    assert_eq!(guest.ask("read"), "before");
    assert_eq!(guest.ask("errors"), "0");
    guest.vm.stop();
}
