//! The ways in which a guest ends, and what `rekindle` says and exits with.

use rekindle_tests::verbs;

use crate::guest::Guest;
use crate::shelf::{self, CLOUD_6_1};

/// A restored guest, because there an ending has to find devices that were saved.
fn restored() -> Guest {
    Guest::restore(&shelf::counting(CLOUD_6_1, 2).image)
}

#[track_caller]
fn ends(mut guest: Guest, code: i32, says: &str) {
    guest.vm.wait_exit().fails(code, &[says]);
}

pub(crate) fn power_off() {
    let mut guest = restored();
    guest.send("poweroff");
    ends(guest, 0, "the guest has powered off");
}

pub(crate) fn reboot() {
    let mut guest = restored();
    guest.send("reboot");
    ends(guest, 0, "the guest has reset the machine");
}

/// Without the module nobody tells the panic, and the kernel does what `panic=-1` asks for.
pub(crate) fn panic_without_a_driver() {
    let mut guest = restored();
    guest.send("panic");
    ends(guest, 0, "the guest has reset the machine");
}

/// `reboot=t` makes the kernel reset by an interrupt that it cannot take.
pub(crate) fn triple_fault() {
    let mut guest = Guest::boot(CLOUD_6_1, 2, "reboot=t");
    guest.send("panic");
    ends(guest, 5, "the guest has met a triple fault");
}

/// A kernel that was told to (`kernel.ctrl-alt-del = 1`) reboots itself.
pub(crate) fn ctrl_alt_del_to_the_kernel() {
    let mut guest = restored();
    guest.ask("hard");
    verbs::ctrl_alt_del(&guest.vm);
    ends(guest, 0, "the guest has reset the machine");
}

/// Otherwise its first process gets a signal.
pub(crate) fn ctrl_alt_del_to_init() {
    let mut guest = restored();
    guest.ask("clock");
    verbs::ctrl_alt_del(&guest.vm);
    assert_eq!(guest.next("ctrl-alt-del"), "heard");
    ends(guest, 0, "the guest has reset the machine");
}
