//! Network interfaces whose TAP is not there, or that there are none of: refused before anything runs.

use rekindle_tests::{Case, Image, Scratch, cases, rekindle};

use crate::table::{Row, check};
use crate::{KVM, args};

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = cases!("input", &[], [a_tap_that_does_not_exist_is_named_and_not_created]);
    cases.extend(cases!("input", KVM, [a_tap_is_given_only_for_an_interface_that_there_is]));
    cases
}

fn a_tap_that_does_not_exist_is_named_and_not_created() {
    let here = Scratch::new();
    let says = &[
        "cannot use network interface `eth0`",
        "there is no network interface `rekindle-none`",
        "`ip tuntap add dev rekindle-none mode tap`",
        "--net eth0=tap:NAME",
    ];
    let row = || {
        let args = args!["boot", "--net", "eth0=tap:rekindle-none"];
        Row { what: "a TAP that does not exist", args, code: 1, says }
    };
    // What the first had created, the second would find.
    check(&here, vec![row(), row()]);
}

fn a_tap_is_given_only_for_an_interface_that_there_is() {
    let here = Scratch::new();
    let image = Image::bake(here.path("bare"), &["--memory", "32M"]);
    let restore = ["restore".as_ref(), image.path().as_os_str(), "--net".as_ref(), "eth0=tap:tap0".as_ref()];
    let says = &["the image has no network interface `eth0`; it has none", "`rekindle inspect`"];
    rekindle(restore).fails(2, says);
}
