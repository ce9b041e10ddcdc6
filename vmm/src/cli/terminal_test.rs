//! Raw mode on a pseudo-terminal, and the way out of a guest.

use std::ops::ControlFlow;

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{InputModes, LocalModes, OptionalActions, OutputModes, tcgetattr, tcsetattr};

use super::terminal::{EscapeFilter, raw};

#[test]
fn a_raw_terminal_passes_keys_on_and_keeps_its_output_cooked() {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let terminal = rustix::fs::open(name.as_c_str(), OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();

    let before = tcgetattr(&terminal).unwrap();
    assert!(before.local_modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG));
    tcsetattr(&terminal, OptionalActions::Now, &raw(&before)).unwrap();

    rustix::io::write(&master, b"a\r\x03\x13").unwrap();
    let mut keys = [0; 16];
    let n = rustix::io::read(&terminal, &mut keys).unwrap();
    assert_eq!(
        &keys[..n],
        b"a\r\x03\x13",
        "neither line-buffered, nor a signal, nor flow control, nor a newline"
    );
    rustix::io::write(&terminal, b"x\n").unwrap();
    let n = rustix::io::read(&master, &mut keys).unwrap();
    assert_eq!(&keys[..n], b"x\r\n", "nothing was echoed, and lines begin at the left");

    let now = tcgetattr(&terminal).unwrap();
    assert!(now.output_modes.contains(OutputModes::OPOST) && !now.input_modes.contains(InputModes::ICRNL));
    tcsetattr(&terminal, OptionalActions::Now, &before).unwrap();
    let after = tcgetattr(&terminal).unwrap();
    assert_eq!((after.local_modes, after.input_modes), (before.local_modes, before.input_modes));
}

/// Feeds `typed` in pieces; gives what the guest gets and whether the VM ends.
fn feed(typed: &[&[u8]]) -> (Vec<u8>, bool) {
    let (mut filter, mut guest) = (EscapeFilter::default(), Vec::new());
    for piece in typed {
        if filter.feed(piece, &mut guest) == ControlFlow::Break(()) {
            return (guest, true);
        }
    }
    (guest, false)
}

#[test]
fn ctrl_a_x_ends_the_vm_however_it_is_cut() {
    assert_eq!(feed(&[b"ab\x01xcd"]), (b"ab".to_vec(), true));
    assert_eq!(feed(&[b"\x01", b"x"]), (vec![], true));
    assert_eq!(feed(&[b"\x01", b"", b"X"]), (vec![], true));
}

#[test]
fn everything_else_reaches_the_guest() {
    let all: Vec<u8> = (0..=255).filter(|b| *b != 1).collect();
    assert_eq!(feed(&[&all]), (all.clone(), false));
    assert_eq!(feed(&[b"x\x01\x01x"]), (b"x\x01x".to_vec(), false));
    assert_eq!(feed(&[b"\x01", b"e"]), (b"\x01e".to_vec(), false));
    assert_eq!(feed(&[b"\x01"]), (vec![], false), "held until the next key");
}
