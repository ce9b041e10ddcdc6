//! The judgements: facts in, one verdict per question out, each with what to change.

use serde::Serialize;
use vmm::machine::KvmKind;

use super::caps::{self, Need};
use super::facts::{Access, Facts, version};
use super::kvm::{KvmState, Offer};

/// How it stands with one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    /// As it should be.
    Ok,
    /// Guests run; something is slower or cannot be done.
    Degraded,
    /// No guest runs.
    Missing,
}

/// One question and its answer.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Check {
    /// A stable name.
    pub(super) name: &'static str,
    pub(super) state: State,
    /// What was found, and what it means where it is not as it should be.
    pub(super) found: String,
    /// What to change; nothing where all is well or nothing can be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) change: Option<String>,
}

/// The one document that `--json` prints.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    /// Version of the program.
    pub(super) version: &'static str,
    /// Whether a guest can run here.
    pub(super) can_run: bool,
    /// `vmx`, `svm` or `pvm`.
    pub(super) kvm_kind: Option<&'static str>,
    pub(super) checks: Vec<Check>,
}

impl Report {
    /// Names of what is missing.
    pub(super) fn missing(&self) -> Vec<&'static str> {
        self.checks.iter().filter(|c| c.state == State::Missing).map(|c| c.name).collect()
    }
}

/// All checks, what matters most first.
pub(super) fn examine(facts: &Facts) -> Report {
    let mut checks = vec![kvm_device(facts)];
    if let KvmState::Open(offer) = &facts.kvm {
        checks.extend([
            api_version(offer),
            create_vm(offer),
            capabilities(offer),
            vcpus(offer),
            kvm_kind(facts.kind),
            tsc_control(offer),
        ]);
    }
    checks.extend([
        kernel(facts),
        clocksource(facts),
        pagemap_scan(facts),
        userfaultfd(facts),
        transparent_hugepages(facts),
        hugepages(facts),
        overcommit(facts),
        swap(facts),
        governor(facts),
        nesting(facts),
    ]);
    Report {
        version: env!("CARGO_PKG_VERSION"),
        can_run: checks.iter().all(|c| c.state != State::Missing),
        kvm_kind: facts.kind.map(KvmKind::name),
        checks,
    }
}

fn ok(name: &'static str, found: impl Into<String>) -> Check {
    Check { name, state: State::Ok, found: found.into(), change: None }
}

fn degraded(name: &'static str, found: impl Into<String>, change: impl Into<String>) -> Check {
    Check { name, state: State::Degraded, found: found.into(), change: Some(change.into()) }
}

fn missing(name: &'static str, found: impl Into<String>, change: impl Into<String>) -> Check {
    Check { name, state: State::Missing, found: found.into(), change: Some(change.into()) }
}

fn kvm_device(facts: &Facts) -> Check {
    const NAME: &str = "kvm-device";
    match &facts.kvm {
        KvmState::Open(_) => ok(NAME, "/dev/kvm opens"),
        KvmState::Absent => missing(NAME, "there is no /dev/kvm", how_to_get_kvm(facts)),
        KvmState::Dead(error) => {
            missing(NAME, format!("/dev/kvm does not open: {error}"), how_to_get_kvm(facts))
        }
        KvmState::Denied { mode, group } => {
            let found = format!("/dev/kvm may not be opened by this user (mode {mode:04o})");
            let change = match group {
                Some(group) if mode & 0o060 == 0o060 && group != "root" => {
                    format!("join its group: `sudo usermod -aG {group} $USER`, then log in again")
                }
                _ => "give it to the group kvm: `sudo chgrp kvm /dev/kvm && sudo chmod 0660 /dev/kvm`, then join \
                      that group: `sudo usermod -aG kvm $USER`, then log in again"
                    .to_owned(),
            };
            missing(NAME, found, change)
        }
    }
}

fn how_to_get_kvm(facts: &Facts) -> String {
    let cpu = facts.cpu;
    if let Some(kind) = facts.kind {
        return format!(
            "module {} is loaded: in a container, pass the device in (`--device /dev/kvm`)",
            kind.module().unwrap_or("kvm")
        );
    }
    match (cpu.vmx, cpu.svm, cpu.hypervisor) {
        (true, ..) => "load the module: `sudo modprobe kvm_intel`".into(),
        (_, true, _) => "load the module: `sudo modprobe kvm_amd`".into(),
        (_, _, true) => {
            "this host is a VM without virtualization of its own: enable nested virtualization for it, \
                         or use a host that is not a VM"
                .into()
        }
        _ => "the CPU shows neither VMX nor SVM: enable virtualization in the firmware setup".into(),
    }
}

fn api_version(offer: &Offer) -> Check {
    const NAME: &str = "kvm-api-version";
    match offer.api_version {
        12 => ok(NAME, "12"),
        other => missing(
            NAME,
            format!("{other}, not 12"),
            "use a kernel of this millennium's second decade or later",
        ),
    }
}

fn create_vm(offer: &Offer) -> Check {
    const NAME: &str = "kvm-create-vm";
    match &offer.vm_refused {
        None => ok(NAME, "a VM can be created"),
        Some(error) => missing(
            NAME,
            format!("no VM can be created: {error}"),
            "end other hypervisors that hold the CPU's virtualization (VirtualBox, VMware), and see dmesg",
        ),
    }
}

fn capabilities(offer: &Offer) -> Check {
    const NAME: &str = "kvm-capabilities";
    let absent = || caps::all().filter(|c| offer.absent.contains(&c.name));
    let required: Vec<_> = absent().filter(|c| c.need == Need::Required).map(|c| c.name).collect();
    if !required.is_empty() {
        return missing(
            NAME,
            format!("absent: {}", required.join(", ")),
            "use a newer kernel: all came with Linux 4.12 at the latest",
        );
    }
    let losses: Vec<_> = absent()
        .filter_map(|c| match c.need {
            Need::Useful(loss) => Some(format!("{}: {loss}", c.name)),
            Need::Required => None,
        })
        .collect();
    if losses.is_empty() {
        return ok(NAME, format!("all {} present", caps::all().count()));
    }
    degraded(NAME, format!("absent: {}", losses.join("; ")), "use a newer kernel (5.17 has them all)")
}

fn vcpus(offer: &Offer) -> Check {
    const NAME: &str = "kvm-vcpus";
    match offer.max_vcpus {
        32.. => ok(NAME, format!("up to {} per VM", offer.max_vcpus)),
        few => degraded(NAME, format!("up to {few} per VM, rekindle offers 32"), "use a kernel with more"),
    }
}

fn kvm_kind(kind: Option<KvmKind>) -> Check {
    const NAME: &str = "kvm-kind";
    match kind {
        Some(KvmKind::Pvm) => degraded(
            NAME,
            "pvm: without hardware virtualization, a stock kernel's own code runs by emulation and boots too slowly; \
             the built-in guest runs well",
            "for stock kernels use a host with kvm_intel or kvm_amd",
        ),
        Some(kind) => {
            let emulator = if kind == KvmKind::Vmx { "Bochs" } else { "QEMU" };
            let module = kind.module().unwrap_or("kvm");
            ok(
                NAME,
                format!("{kind} ({module}); rekindle is tested on it by emulated hardware, {emulator}'s"),
            )
        }
        None => degraded(
            NAME,
            "none of kvm_intel, kvm_amd and kvm_pvm is in /sys/module: images cannot be marked with their kind",
            "mount /sys",
        ),
    }
}

fn tsc_control(offer: &Offer) -> Check {
    const NAME: &str = "tsc-control";
    if offer.tsc_control {
        ok(NAME, "the TSC frequency of a guest can be set")
    } else {
        degraded(
            NAME,
            "absent: an image from a host with another TSC frequency cannot be restored here",
            "restore on hosts with the same TSC frequency, or on a CPU with TSC scaling",
        )
    }
}

fn kernel(facts: &Facts) -> Check {
    const NAME: &str = "kernel";
    let release = &facts.kernel;
    match version(release) {
        Some((5, 16..) | (6.., _)) => ok(NAME, release.clone()),
        Some((5, 10..)) => degraded(
            NAME,
            format!("{release}: a guest's clock is captured less exactly before 5.16"),
            "use Linux 5.16 or later",
        ),
        _ => degraded(
            NAME,
            format!("{release}: older than 5.10, the oldest that rekindle is tested on"),
            "use Linux 5.10 or later",
        ),
    }
}

fn clocksource(facts: &Facts) -> Check {
    const NAME: &str = "clocksource";
    match facts.clocksource.as_deref() {
        Some("tsc") => ok(NAME, "tsc"),
        other => degraded(
            NAME,
            format!("{}: kvmclock is slower and less exact", other.unwrap_or("unknown")),
            "`echo tsc | sudo tee /sys/devices/system/clocksource/clocksource0/current_clocksource`, if the kernel \
             offers it",
        ),
    }
}

fn pagemap_scan(facts: &Facts) -> Check {
    const NAME: &str = "pagemap-scan";
    match version(&facts.kernel) {
        Some((6, 7..) | (7.., _)) => ok(NAME, "the kernel finds a guest's changed pages"),
        _ => degraded(
            NAME,
            "absent before Linux 6.7: snapshots of large guests are slower, and `restore --memory-mode lazy --record` takes \
             every page for one that is only read",
            "use Linux 6.7 or later",
        ),
    }
}

fn userfaultfd(facts: &Facts) -> Check {
    const NAME: &str = "userfaultfd";
    const LOSS: &str = "`restore --memory-mode lazy` will not work";
    match (&facts.lazy, facts.userfaultfd) {
        (Ok(()), Access::Granted) => ok(NAME, "/dev/userfaultfd opens"),
        (Ok(()), _) if facts.unprivileged_userfaultfd => ok(NAME, "vm.unprivileged_userfaultfd is 1"),
        (Ok(()), _) => ok(NAME, "allowed to this user by CAP_SYS_PTRACE"),
        (Err(_), Access::Denied) => degraded(
            NAME,
            format!("/dev/userfaultfd may not be opened by this user: {LOSS}"),
            "`sudo chgrp kvm /dev/userfaultfd && sudo chmod 0660 /dev/userfaultfd`",
        ),
        (Err(_), Access::Absent) => degraded(
            NAME,
            format!(
                "no /dev/userfaultfd (it came with Linux 6.1), no CAP_SYS_PTRACE, and vm.unprivileged_userfaultfd is \
                 not 1: {LOSS}"
            ),
            "be root, have CAP_SYS_PTRACE, `sudo sysctl vm.unprivileged_userfaultfd=1`, or use Linux 6.1 or later",
        ),
        (Err(why), Access::Granted) => degraded(
            NAME,
            format!("/dev/userfaultfd opens, but gives none ({why}): {LOSS}"),
            "see whether a container's seccomp profile forbids it",
        ),
    }
}

fn transparent_hugepages(facts: &Facts) -> Check {
    const NAME: &str = "transparent-hugepages";
    match facts.thp.as_deref() {
        Some(word @ ("always" | "madvise")) => ok(NAME, word),
        other => degraded(
            NAME,
            format!(
                "{}: a booted guest's memory comes in 4 KiB pages, so it runs slower",
                other.unwrap_or("absent")
            ),
            "`echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled`",
        ),
    }
}

fn hugepages(facts: &Facts) -> Check {
    ok("hugepages", format!("{} set aside; rekindle uses none", facts.hugepages))
}

fn overcommit(facts: &Facts) -> Check {
    const NAME: &str = "overcommit";
    match facts.overcommit.as_deref() {
        Some("2") => degraded(
            NAME,
            "vm.overcommit_memory is 2: every clone is charged with its whole memory, so few run at once",
            "`sudo sysctl vm.overcommit_memory=0`",
        ),
        other => ok(NAME, format!("vm.overcommit_memory is {}", other.unwrap_or("unknown"))),
    }
}

fn swap(facts: &Facts) -> Check {
    const NAME: &str = "swap";
    match facts.swap_used_kib {
        0 => ok(NAME, "not in use"),
        used => degraded(
            NAME,
            format!(
                "{} MiB in use: guests may wait for their own pages, and times vary",
                used.div_ceil(1024)
            ),
            "free memory, or `sudo swapoff -a` while you measure",
        ),
    }
}

fn governor(facts: &Facts) -> Check {
    const NAME: &str = "cpu-governor";
    match facts.governor.as_deref() {
        Some("performance") => ok(NAME, "performance"),
        None => ok(NAME, "this host does not set its frequency itself"),
        Some(other) => degraded(
            NAME,
            format!("{other}: times vary with the CPU's frequency"),
            "`sudo cpupower frequency-set -g performance` while you measure",
        ),
    }
}

fn nesting(facts: &Facts) -> Check {
    const NAME: &str = "nesting";
    if facts.cpu.hypervisor {
        degraded(
            NAME,
            "this host is a VM itself: exits cost more, and times say little about real hardware",
            "measure on a host that is not a VM",
        )
    } else {
        ok(NAME, "this host is not a VM")
    }
}
