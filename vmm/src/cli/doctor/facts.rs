//! What can be seen of the host: files below /proc and /sys, two device nodes. Judges nothing.

use std::fs::{self, File};
use std::io;

use vmm::machine::KvmKind;
use vmm::memory;
use vmm::memory::lazy;

use super::kvm::KvmState;

/// What was seen. `None` means that the kernel does not say.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// `uname -r`.
    pub(super) kernel: String,
    /// What `/dev/kvm` is.
    pub(super) kvm: KvmState,
    /// Which module drives it.
    pub(super) kind: Option<KvmKind>,
    /// Flags of the first CPU in `/proc/cpuinfo`.
    pub(super) cpu: CpuFlags,
    /// The clocksource that the host uses.
    pub(super) clocksource: Option<String>,
    /// What opening `/dev/userfaultfd` gives.
    pub(super) userfaultfd: Access,
    /// Whether a lazy restore gets its userfaultfd, else why not.
    pub(super) lazy: Result<(), String>,
    /// `vm.unprivileged_userfaultfd`.
    pub(super) unprivileged_userfaultfd: bool,
    /// The chosen word of `transparent_hugepage/enabled`, or of the setting for pages of 2 MiB where that says otherwise.
    pub(super) thp: Option<String>,
    /// Whether this process may have huge pages: whoever has started it can take that away (`PR_SET_THP_DISABLE`).
    pub(super) thp_allowed: bool,
    /// Whether one was to be had.
    pub(super) thp_had: bool,
    /// Huge pages that are set aside, of the default size.
    pub(super) hugepages: u64,
    /// `vm.overcommit_memory`.
    pub(super) overcommit: Option<String>,
    /// Swap that is in use, in KiB.
    pub(super) swap_used_kib: u64,
    /// Frequency governor of the first CPU.
    pub(super) governor: Option<String>,
}

/// CPU flags that say where we are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct CpuFlags {
    pub(super) vmx: bool,
    pub(super) svm: bool,
    /// The host is a VM itself.
    pub(super) hypervisor: bool,
}

/// What opening a device gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Granted,
    Denied,
    Absent,
}

impl Facts {
    /// Looks at this host. Takes about a millisecond, most of it to create a VM and close it.
    pub(super) fn gather() -> Self {
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let swap = |field| meminfo_field(&meminfo, field).unwrap_or(0);
        Self {
            kernel: line("/proc/sys/kernel/osrelease").unwrap_or_default(),
            kvm: KvmState::look(),
            kind: kind(),
            cpu: cpu_flags(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default()),
            clocksource: line("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
            userfaultfd: access("/dev/userfaultfd"),
            lazy: lazy::check().map_err(|why| chain(&why)),
            unprivileged_userfaultfd: line("/proc/sys/vm/unprivileged_userfaultfd").as_deref() == Some("1"),
            thp: thp(),
            thp_allowed: thp_allowed(&fs::read_to_string("/proc/self/status").unwrap_or_default()),
            thp_had: memory::can_have_huge_page().unwrap_or(false),
            hugepages: meminfo_field(&meminfo, "HugePages_Total").unwrap_or(0),
            overcommit: line("/proc/sys/vm/overcommit_memory"),
            swap_used_kib: swap("SwapTotal").saturating_sub(swap("SwapFree")),
            governor: line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        }
    }
}

/// Linux 6.8 has a setting for each size, which may leave it to the one for all.
fn thp() -> Option<String> {
    let word =
        |path: &str| line(&format!("/sys/kernel/mm/transparent_hugepage/{path}")).as_deref().and_then(chosen);
    let own = word("hugepages-2048kB/enabled").filter(|word| word != "inherit");
    own.or_else(|| word("enabled"))
}

/// By `/proc/self/status`, which says it since Linux 5.0.
pub(super) fn thp_allowed(status: &str) -> bool {
    status.lines().find_map(|l| l.strip_prefix("THP_enabled:")).is_none_or(|value| value.trim() != "0")
}

fn line(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// An error and what it comes from.
fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}

fn kind() -> Option<KvmKind> {
    Some(KvmKind::detect()).filter(|kind| *kind != KvmKind::Unknown)
}

fn access(path: &str) -> Access {
    match File::options().read(true).write(true).open(path) {
        Ok(_) => Access::Granted,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Access::Absent,
        Err(_) => Access::Denied,
    }
}

/// The flags of the first CPU of `/proc/cpuinfo`.
pub(super) fn cpu_flags(cpuinfo: &str) -> CpuFlags {
    let flags = cpuinfo.lines().find_map(|l| l.strip_prefix("flags")).unwrap_or_default();
    let has = |flag| flags.split_ascii_whitespace().any(|f| f == flag);
    CpuFlags { vmx: has("vmx"), svm: has("svm"), hypervisor: has("hypervisor") }
}

/// A number of `/proc/meminfo`.
pub(super) fn meminfo_field(meminfo: &str, field: &str) -> Option<u64> {
    let value = meminfo.lines().find_map(|l| l.strip_prefix(field)?.strip_prefix(':'))?;
    value.split_ascii_whitespace().next()?.parse().ok()
}

/// The word in brackets, as in `always [madvise] never`.
pub(super) fn chosen(choices: &str) -> Option<String> {
    let (_, rest) = choices.split_once('[')?;
    rest.split_once(']').map(|(word, _)| word.to_owned())
}

/// Major and minor number of `uname -r`.
pub(super) fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}
