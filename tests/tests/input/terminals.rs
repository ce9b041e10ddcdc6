//! The terminal of whoever runs a guest by hand, and consoles that are files: what a signal, and a guest that says too
//! much, leave behind.

use std::fs::File;
use std::os::fd::OwnedFd;

use rekindle_tests::patience::{SOON, until};
use rekindle_tests::{Case, Launch, Scratch, Vm, cases};
use rustix::fs::{Mode, OFlags};
use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use crate::{KVM, args};

pub(crate) fn cases() -> Vec<Case> {
    cases!(
        "input",
        KVM,
        [
            a_signal_that_ends_a_vm_gives_the_terminal_back_and_leaves_no_socket,
            a_vm_that_was_stopped_goes_on_with_its_terminal_raw,
            a_console_file_grows_no_larger_than_it_may,
        ]
    )
}

struct Terminal {
    _master: OwnedFd,
    end: OwnedFd,
}

impl Terminal {
    fn new() -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("there are terminals");
        grantpt(&master).expect("it is ours");
        unlockpt(&master).expect("it is ours");
        let name = ptsname(&master, Vec::new()).expect("it has a name");
        let flags = OFlags::RDWR | OFlags::NOCTTY;
        let end = rustix::fs::open(name.as_c_str(), flags, Mode::empty()).expect("it can be opened");
        Self { _master: master, end }
    }

    fn is_raw(&self) -> bool {
        !tcgetattr(&self.end).expect("it is a terminal").local_modes.contains(LocalModes::ICANON)
    }

    /// A guest that has it, in the foreground of a session of its own.
    fn boot(&self) -> Vm {
        let stdin: File = self.end.try_clone().expect("there are descriptors").into();
        // Whoever runs the tests may ignore some signals, and what is ignored stays so.
        let own_session = ["prlimit", "--core=0", "env", "--default-signal", "setsid", "--ctty"];
        let mut vm = Launch::new(["boot", "--memory", "32M"]).under(own_session).stdin(stdin).vm();
        vm.expect("spark: ready\n");
        vm.serves();
        assert!(self.is_raw(), "{}", vm.story());
        vm
    }
}

fn a_signal_that_ends_a_vm_gives_the_terminal_back_and_leaves_no_socket() {
    let signals = [Signal::QUIT, Signal::USR1, Signal::ALARM, Signal::XCPU, Signal::ABORT, Signal::SYS];
    for signal in signals {
        let terminal = Terminal::new();
        let mut vm = terminal.boot();
        let socket = vm.socket().to_owned();
        vm.signal(signal);
        let done = vm.wait_exit();
        assert_eq!(done.code, None, "{signal:?} has its usual effect: {done:?}");
        assert!(!terminal.is_raw(), "{signal:?} leaves the terminal raw");
        assert!(!socket.exists(), "{signal:?} leaves the socket");
    }
}

/// A shell sets the terminal up for itself while a job is stopped.
fn a_vm_that_was_stopped_goes_on_with_its_terminal_raw() {
    let terminal = Terminal::new();
    let cooked = tcgetattr(&terminal.end).expect("it is a terminal");
    let vm = terminal.boot();
    for _ in 0..3 {
        vm.signal(Signal::STOP);
        tcsetattr(&terminal.end, OptionalActions::Now, &cooked).expect("it is a terminal");
        assert!(!terminal.is_raw());
        vm.signal(Signal::CONT);
        let raw = until(SOON, || terminal.is_raw().then_some(()));
        assert!(raw.is_some(), "{}", vm.story());
    }
    vm.stop();
    assert!(!terminal.is_raw());
}

fn a_console_file_grows_no_larger_than_it_may() {
    let here = Scratch::new();
    let console = here.path("console");
    let to = format!("file:{},size=100", console.display());
    let mut vm = Launch::new(args!["boot", "--memory", "32M", "--serial", to]).vm();
    vm.serves();
    let full = until(SOON, || {
        std::fs::read_to_string(&console).ok().filter(|text| text.contains("the console file is full"))
    });
    let full = full.unwrap_or_else(|| panic!("{}", vm.story()));
    assert_eq!(full.len(), 100, "{full}");
    assert!(full.starts_with("spark: up, 32 MiB\n"), "{full}");
    let warned = vm.stderr.wait_for("the console's file is full", SOON);
    assert!(warned.is_some() && vm.is_alive(), "{}", vm.story());
    vm.stop();
    assert_eq!(std::fs::metadata(&console).expect("it is there").len(), 100);
}
