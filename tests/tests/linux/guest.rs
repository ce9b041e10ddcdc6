//! A stock guest with its console in hand.

use std::path::Path;
use std::time::SystemTime;

use rekindle_tests::{Image, Launch, Vm, patience::SOON, verbs};
use rustix::process::Signal;

use crate::shelf::{Kernel, Left};

/// Console on the serial port, errors only; a reset by the keyboard controller, at once after a panic.
const CMDLINE: &str = "console=ttyS0 quiet pci=off panic=-1";

/// A VM whose guest runs a script of `tests/guests`, `stock.sh` if nothing else is said.
pub(crate) struct Guest {
    pub(crate) vm: Vm,
}

impl Guest {
    /// Boots until the script runs. `more` is put on the kernel's command line.
    #[track_caller]
    pub(crate) fn boot(kernel: Kernel, cpus: u32, more: &str) -> Self {
        let mut guest = Self { vm: Self::launch("boot", kernel, cpus, more).vm() };
        let hello = guest.next("guest");
        assert!(hello.contains(&format!("cpus={cpus} ")), "{hello}");
        guest
    }

    /// The command that boots or bakes, without what comes last.
    pub(crate) fn launch(verb: &str, kernel: Kernel, cpus: u32, more: &str) -> Launch {
        Self::launch_with(verb, kernel, "stock", cpus, more)
    }

    /// The same with another script of `tests/guests`.
    pub(crate) fn launch_with(verb: &str, kernel: Kernel, script: &str, cpus: u32, more: &str) -> Launch {
        let (image, initrd) = (kernel.image(), kernel.initrd(script));
        let reboot = if more.contains("reboot=") { "" } else { " reboot=k" };
        Launch::new([verb.as_ref(), "--kernel".as_ref(), image.as_os_str()])
            .args(["--initrd".as_ref(), initrd.as_os_str()])
            .args(["--cmdline", &format!("{CMDLINE}{reboot} {more}"), "--cpus", &cpus.to_string()])
            .args(["--memory", "256M"])
    }

    #[track_caller]
    pub(crate) fn restore(image: &Image) -> Self {
        Self { vm: Vm::restore(image) }
    }

    /// Types a command that gives no answer of its own.
    #[track_caller]
    pub(crate) fn send(&mut self, command: &str) {
        self.vm.send(command);
    }

    /// Types a command; its answer without the command's name.
    #[track_caller]
    pub(crate) fn ask(&mut self, command: &str) -> String {
        self.send(command);
        self.next(command.split(' ').next().expect("a text has a first part"))
    }

    /// The rest of the next whole line that begins with `name`.
    #[track_caller]
    pub(crate) fn next(&mut self, name: &str) -> String {
        loop {
            let line = self.vm.line();
            if let Some(rest) = line.strip_prefix(name).and_then(|rest| rest.strip_prefix(' ')) {
                return rest.to_owned();
            }
        }
    }

    /// All that was on the console.
    pub(crate) fn console(&self) -> String {
        self.vm.stdout.text()
    }

    /// Snapshots and kills it.
    #[track_caller]
    pub(crate) fn leave(mut self, out: &Path, sum: &str) -> Left {
        let at = SystemTime::now();
        let image = verbs::snapshot(&self.vm, out);
        self.vm.signal(Signal::KILL);
        assert!(self.vm.stdout.wait_end(SOON), "the console of a killed VM stays open");
        let console = self.console();
        self.vm.kill();
        Left { image, console, sum: sum.to_owned(), at }
    }
}
