//! Test programs without libtest: each case finds out at run time whether this host can run it.

use std::fs::OpenOptions;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Mutex, PoisonError};

use libtest_mimic::{Arguments, Completion, Trial};

use crate::huge::HugePages;
use crate::stall::Stall;
use crate::{host_pages, patience};

/// What a case needs of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// A `/dev/kvm` that can be opened.
    Kvm,
    /// A `/dev/kvm` on which a stock kernel boots in reasonable time, and the kernels themselves.
    StockGuests,
    /// Root, and permission to make mount namespaces.
    Mounts,
    /// Root, permission to make TAPs, and busybox to make them with.
    Taps,
    /// A name without a meaning to root's permissions: not being root, or being able to become somebody else.
    OtherUser,
    /// Root, and FUSE.
    Fuse,
    /// A userfaultfd that tells of the kernel's own faults.
    Userfaultfd,
    /// Root, and room for huge pages of 2 MiB.
    HugePages,
    /// Huge pages for who asks.
    TransparentHugePages,
    /// Root, and KSM for whole programs.
    Ksm,
}

/// Where the stock kernels are, if anybody fetched them.
const GUESTS: &str = "REKINDLE_GUESTS";

impl Need {
    /// Why this host cannot run the case.
    fn missing(self) -> Option<String> {
        match self {
            Self::Kvm => no_kvm(),
            Self::StockGuests => no_kvm().or_else(no_stock_guests),
            Self::Mounts => {
                let works = succeeds(&["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"]);
                (!works).then(|| "needs root, to mount a file system".to_owned())
            }
            Self::Taps => {
                let works = succeeds(&["unshare", "--net", "busybox", "tunctl", "-t", "rekindle-t"]);
                (!works).then(|| "needs root, /dev/net/tun and busybox, to make TAPs".to_owned())
            }
            Self::Fuse => Stall::new(4096).err().map(|e| format!("cannot mount a FUSE file system: {e}")),
            Self::Userfaultfd => no_userfaultfd(),
            Self::HugePages => HugePages::reserve(1).is_none().then(|| {
                "no huge pages of 2 MiB can be reserved: needs root, and memory in one piece".to_owned()
            }),
            Self::TransparentHugePages => host_pages::no_huge_pages(),
            Self::Ksm => host_pages::Merging::missing(),
            Self::OtherUser => {
                let works = succeeds(&["setpriv", "--reuid", "65534", "--clear-groups", "true"]);
                (!works).then(|| "needs root, to become somebody else".to_owned())
            }
        }
    }
}

fn no_kvm() -> Option<String> {
    let opened = OpenOptions::new().read(true).write(true).open("/dev/kvm");
    opened.err().map(|e| format!("cannot open /dev/kvm: {e}"))
}

/// `/dev/userfaultfd` says who may have one by its permissions; older kernels ask for a capability, or allow it to all.
fn no_userfaultfd() -> Option<String> {
    let device = OpenOptions::new().read(true).write(true).open("/dev/userfaultfd").is_ok();
    let to_all = std::fs::read_to_string("/proc/sys/vm/unprivileged_userfaultfd");
    let to_all = to_all.is_ok_and(|text| text.trim() == "1");
    let allowed = device || to_all || rustix::process::geteuid().is_root();
    (!allowed)
        .then(|| "may not have a userfaultfd: open /dev/userfaultfd to this user, or be root".to_owned())
}

fn no_stock_guests() -> Option<String> {
    if Path::new("/sys/module/kvm_pvm").exists() {
        return Some("this KVM emulates guest kernel mode: runs in the lab, `cargo xtask test`".to_owned());
    }
    let none = std::env::var_os(GUESTS).is_none();
    none.then(|| format!("{GUESTS} names no guest kernels: `cargo xtask test` fetches them"))
}

fn succeeds(command: &[&str]) -> bool {
    let mut command_line = Command::new(command[0]);
    command_line.args(&command[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command_line.status().is_ok_and(|status| status.success())
}

/// A test.
pub struct Case {
    name: String,
    needs: &'static [Need],
    run: Box<dyn FnOnce() + Send>,
}

impl Case {
    /// Named `area::what_it_shows`.
    pub fn new(name: impl Into<String>, needs: &'static [Need], run: impl FnOnce() + Send + 'static) -> Self {
        Self { name: name.into(), needs, run: Box::new(run) }
    }

    fn into_trial(self) -> Trial {
        let Self { name, needs, run } = self;
        Trial::ignorable_test(name, move || {
            if let Some(reason) = needs.iter().find_map(|need| need.missing()) {
                return Ok(Completion::ignored_with(reason));
            }
            run();
            Ok(Completion::Completed)
        })
    }
}

/// Lists the functions of a module as cases, by their own names.
#[macro_export]
macro_rules! cases {
    ($area:literal, $needs:expr, [$($case:ident),* $(,)?]) => {
        vec![$($crate::Case::new(concat!($area, "::", stringify!($case)), $needs, $case)),*]
    };
}

static NOTES: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Keeps something worth knowing, for the end of the run: what is printed in between confuses whoever reads the
/// outcomes.
pub fn note(text: String) {
    NOTES.lock().unwrap_or_else(PoisonError::into_inner).push(text);
}

/// Names cases, with spaces between: then a program runs no others.
const ONLY: &str = "REKINDLE_ONLY";

/// The `main` of a test program. `at_once` bounds how many cases run at the same time; the lab has time for one.
pub fn main(mut cases: Vec<Case>, at_once: usize) -> ExitCode {
    let mut arguments = Arguments::from_args();
    let at_once = if patience::in_lab() { 1 } else { at_once };
    arguments.test_threads.get_or_insert(at_once);
    if let Ok(only) = std::env::var(ONLY) {
        cases.retain(|case| only.split(' ').any(|name| name == case.name));
    }
    let trials = cases.into_iter().map(Case::into_trial).collect();
    let code = libtest_mimic::run(&arguments, trials).exit_code();
    for text in NOTES.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
        println!("note: {text}");
    }
    code
}
