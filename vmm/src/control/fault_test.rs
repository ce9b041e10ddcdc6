//! The printed chain.

use std::io;
use std::path::PathBuf;

use super::*;

#[test]
fn a_chain_is_printed_one_cause_to_a_line_and_the_hint_last() {
    let source = io::Error::other(io::Error::other("disk on fire"));
    let error = Error::Lost { path: PathBuf::from("/run/vm"), source };
    let fault = Fault::of(&error).with_hint("call somebody");
    assert_eq!(
        fault.message,
        "lost the VM on `/run/vm` before it answered\n  caused by: disk on fire\n  hint: call somebody"
    );
    assert_eq!(fault.exit_code, 1);
}

#[test]
fn every_error_of_a_terminals_user_has_a_hint() {
    let path = PathBuf::from("p");
    for error in [Error::InUse { path: path.clone() }, Error::NotASocket { path: path.clone() }] {
        assert!(error.hint().is_some(), "{error}");
    }
    assert_eq!(Error::Fault(Fault::refused("no")).hint(), None, "a fault carries its own");
}
