//! Judgements of hosts that this one is not.

use super::caps;
use super::checks::{Report, State, examine};
use super::facts::{Access, CpuFlags, Facts, chosen, cpu_flags, meminfo_field, thp_allowed, version};
use super::kvm::{KvmState, Offer, group_name};
use super::render::human;
use vmm::machine::KvmKind;

/// A host on which there is nothing to change.
fn good() -> Facts {
    Facts {
        kernel: "6.12.5-amd64".into(),
        kvm: KvmState::Open(offer()),
        kind: Some(KvmKind::Vmx),
        cpu: CpuFlags { vmx: true, svm: false, hypervisor: false },
        clocksource: Some("tsc".into()),
        userfaultfd: Access::Granted,
        lazy: Ok(()),
        unprivileged_userfaultfd: false,
        thp: Some("madvise".into()),
        thp_allowed: true,
        thp_had: true,
        hugepages: 0,
        overcommit: Some("0".into()),
        swap_used_kib: 0,
        governor: Some("performance".into()),
    }
}

fn offer() -> Offer {
    Offer { api_version: 12, absent: Vec::new(), tsc_control: true, max_vcpus: 1024, vm_refused: None }
}

fn with(change: impl FnOnce(&mut Facts)) -> Report {
    let mut facts = good();
    change(&mut facts);
    examine(&facts)
}

fn with_offer(change: impl FnOnce(&mut Offer)) -> Report {
    let mut offer = offer();
    change(&mut offer);
    with(|facts| facts.kvm = KvmState::Open(offer))
}

/// Asserts that one check, and no other, is in `state`, and that what it says contains `words`.
fn only(report: &Report, name: &str, state: State, words: &[&str]) {
    for check in &report.checks {
        let expected = if check.name == name { state } else { State::Ok };
        assert_eq!(check.state, expected, "{check:?}");
    }
    let check = report.checks.iter().find(|c| c.name == name).unwrap();
    let said = format!("{} {}", check.found, check.change.as_deref().unwrap_or_default());
    for word in words {
        assert!(said.contains(word), "`{word}` is not in `{said}`");
    }
    assert_eq!(report.can_run, state != State::Missing);
}

#[test]
fn a_good_host_has_nothing_to_change() {
    let report = examine(&good());
    assert!(report.can_run && report.missing().is_empty());
    assert!(report.checks.iter().all(|c| c.state == State::Ok && c.change.is_none()), "{report:?}");
    assert!(human(&report).ends_with("guests can run on this host\n"));
}

#[test]
fn no_device() {
    let absent = |kind, cpu| {
        with(|f| {
            f.kvm = KvmState::Absent;
            f.kind = kind;
            f.cpu = cpu;
        })
    };
    let intel = CpuFlags { vmx: true, ..CpuFlags::default() };
    let amd = CpuFlags { svm: true, ..CpuFlags::default() };
    let (name, state) = ("kvm-device", State::Missing);
    only(&absent(None, intel), name, state, &["modprobe kvm_intel"]);
    only(&absent(None, amd), name, state, &["modprobe kvm_amd"]);
    only(&absent(None, CpuFlags::default()), name, state, &["firmware"]);
    only(&absent(Some(KvmKind::Svm), amd), name, state, &["--device /dev/kvm"]);
    let dead = with(|f| {
        f.kvm = KvmState::Dead("No such device".into());
        f.kind = None;
    });
    only(&dead, name, state, &["No such device", "modprobe kvm_intel"]);
    let nested = absent(None, CpuFlags { hypervisor: true, ..CpuFlags::default() });
    assert!(nested.checks[0].change.as_ref().unwrap().contains("nested virtualization"));
    assert_eq!(nested.missing(), ["kvm-device"]);
}

#[test]
fn no_permission() {
    let denied = |mode, group: Option<&str>| {
        with(|f| f.kvm = KvmState::Denied { mode, group: group.map(str::to_owned) })
    };
    let (name, state) = ("kvm-device", State::Missing);
    only(&denied(0o660, Some("kvm")), name, state, &["mode 0660", "usermod -aG kvm "]);
    only(&denied(0o660, Some("virt")), name, state, &["usermod -aG virt "]);
    only(&denied(0o600, Some("root")), name, state, &["mode 0600", "chgrp kvm", "chmod 0660"]);
    only(&denied(0o660, Some("root")), name, state, &["chgrp kvm"]);
    only(&denied(0o660, None), name, state, &["chgrp kvm"]);
}

#[test]
fn a_device_that_offers_too_little() {
    only(&with_offer(|o| o.api_version = 11), "kvm-api-version", State::Missing, &["11"]);
    let busy = with_offer(|o| o.vm_refused = Some("Device or resource busy".into()));
    only(&busy, "kvm-create-vm", State::Missing, &["busy", "VirtualBox"]);
    let absent = with_offer(|o| o.absent = vec!["KVM_CAP_XSAVE", "KVM_CAP_XSAVE2"]);
    only(&absent, "kvm-capabilities", State::Missing, &["absent: KVM_CAP_XSAVE "]);
    let absent = with_offer(|o| o.absent = vec!["KVM_CAP_XSAVE2"]);
    only(&absent, "kvm-capabilities", State::Degraded, &["KVM_CAP_XSAVE2: guests with more than 4 KiB"]);
    only(&with_offer(|o| o.tsc_control = false), "tsc-control", State::Degraded, &["TSC frequency"]);
    only(&with_offer(|o| o.max_vcpus = 8), "kvm-vcpus", State::Degraded, &["8"]);
}

#[test]
fn things_that_could_be_better() {
    let degraded = State::Degraded;
    only(&with(|f| f.kind = Some(KvmKind::Pvm)), "kvm-kind", degraded, &["pvm", "kvm_amd"]);
    only(&with(|f| f.kind = None), "kvm-kind", degraded, &["/sys"]);
    only(&with(|f| f.kernel = "6.1.0-18-amd64".into()), "pagemap-scan", degraded, &["6.7"]);
    only(&with(|f| f.clocksource = Some("hpet".into())), "clocksource", degraded, &["hpet"]);
    only(&with(|f| f.thp = Some("never".into())), "transparent-hugepages", degraded, &["never", "madvise"]);
    only(&with(|f| f.thp = None), "transparent-hugepages", degraded, &["absent"]);
    only(
        &with(|f| f.thp_allowed = false),
        "transparent-hugepages",
        degraded,
        &["madvise", "PR_SET_THP_DISABLE"],
    );
    only(&with(|f| f.thp_had = false), "transparent-hugepages", degraded, &["madvise", "compact_memory"]);
    only(&with(|f| f.overcommit = Some("2".into())), "overcommit", degraded, &["vm.overcommit_memory=0"]);
    only(&with(|f| f.swap_used_kib = 1), "swap", degraded, &["1 MiB in use"]);
    only(
        &with(|f| f.governor = Some("powersave".into())),
        "cpu-governor",
        degraded,
        &["powersave", "cpupower"],
    );
    only(&with(|f| f.cpu.hypervisor = true), "nesting", degraded, &["is a VM itself"]);
    only(&with(|f| f.kind = Some(KvmKind::Vmx)), "kvm-kind", State::Ok, &["vmx (kvm_intel)", "Bochs"]);
    only(&with(|f| f.kind = Some(KvmKind::Svm)), "kvm-kind", State::Ok, &["svm (kvm_amd)", "QEMU"]);
    let old = with(|f| f.kernel = "5.10.0".into());
    assert!(old.can_run);
    assert_eq!(old.checks.iter().filter(|c| c.state == degraded).count(), 2, "kernel and pagemap-scan");
    let older = with(|f| f.kernel = "5.4.0".into());
    assert!(older.checks.iter().any(|c| c.name == "kernel" && c.found.contains("5.10")));
}

#[test]
fn a_userfaultfd_is_had_in_several_ways() {
    let lazy = |node, works: Result<(), &str>, sysctl| {
        with(|f| {
            f.userfaultfd = node;
            f.lazy = works.map_err(str::to_owned);
            f.unprivileged_userfaultfd = sysctl;
        })
    };
    let (name, no) = ("userfaultfd", Err("not permitted"));
    only(&lazy(Access::Granted, Ok(()), false), name, State::Ok, &["/dev/userfaultfd opens"]);
    only(&lazy(Access::Absent, Ok(()), true), name, State::Ok, &["vm.unprivileged_userfaultfd is 1"]);
    // Root on a kernel before 6.1.
    only(&lazy(Access::Absent, Ok(()), false), name, State::Ok, &["CAP_SYS_PTRACE"]);
    only(&lazy(Access::Absent, no, false), name, State::Degraded, &["sysctl vm.unprivileged", "6.1"]);
    // A node that does not open is not passed over, whatever the sysctl says.
    for sysctl in [false, true] {
        let denied = lazy(Access::Denied, no, sysctl);
        only(&denied, name, State::Degraded, &["chmod 0660 /dev/userfaultfd"]);
    }
    only(&lazy(Access::Granted, no, false), name, State::Degraded, &["not permitted", "seccomp"]);
}

#[test]
fn what_every_vm_needs_is_what_is_asked_for_first() {
    let required: Vec<_> =
        caps::all().filter(|c| c.need == caps::Need::Required).map(|c| c.cap as u32).collect();
    let asked: Vec<_> = vmm::machine::NEEDED.iter().map(|(cap, _)| *cap as u32).collect();
    assert_eq!(required, asked);
}

#[test]
fn the_report_reads_the_same_for_people_and_for_scripts() {
    let report = with(|f| {
        f.kvm = KvmState::Absent;
        f.kernel = "6.12.5\u{1b}[2J".into();
    });
    let text = human(&report);
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("missing   kvm-device             there is no /dev/kvm"));
    assert!(lines.next().unwrap().trim_start().starts_with("change: "));
    assert!(text.ends_with("\nno guest can run on this host\n"));
    assert!(!text.contains('\u{1b}'));

    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["can_run"], false);
    assert_eq!(json["kvm_kind"], "vmx");
    assert_eq!(json["checks"][0]["state"], "missing");
    assert_eq!(json["checks"][1]["name"], "kernel");
    assert!(json["checks"][1].get("change").is_none());
}

#[test]
fn facts_are_read_from_what_the_kernel_prints() {
    for (release, expected) in [
        ("6.18.44-x", Some((6, 18))),
        ("5.10", Some((5, 10))),
        ("6.7-rc1", Some((6, 7))),
        ("6", None),
        ("", None),
        ("x.y", None),
        ("99999999999.1", None),
    ] {
        assert_eq!(version(release), expected, "{release}");
    }
    assert_eq!(chosen("always [madvise] never").as_deref(), Some("madvise"));
    assert_eq!(chosen("always madvise"), None);
    assert_eq!(chosen("[x"), None);
    assert!(thp_allowed("Threads:\t1\nTHP_enabled:\t1\n") && thp_allowed("Threads:\t1\n"));
    assert!(!thp_allowed("Threads:\t1\nTHP_enabled:\t0\n"));
    let meminfo = "SwapTotal:       8 kB\nHugePages_Total:   3\nBroken: x kB\n";
    assert_eq!(meminfo_field(meminfo, "SwapTotal"), Some(8));
    assert_eq!(meminfo_field(meminfo, "HugePages_Total"), Some(3));
    assert_eq!(meminfo_field(meminfo, "Swap"), None);
    assert_eq!(meminfo_field(meminfo, "Broken"), None);
    let flags = cpu_flags("processor : 0\nflags\t\t: fpu svm hypervisor\nvmx flags\t: vmx\n");
    assert_eq!(flags, CpuFlags { vmx: false, svm: true, hypervisor: true });
    assert_eq!(cpu_flags(""), CpuFlags::default());
    let groups = "root:x:0:\nkvm:x:108:a,b\nbroken\n";
    assert_eq!(group_name(groups, 108).as_deref(), Some("kvm"));
    assert_eq!(group_name(groups, 1), None);
}

#[test]
fn capabilities_have_their_kernel_names() {
    let names: Vec<_> = caps::all().map(|cap| cap.name).collect();
    assert_eq!(names[0], "KVM_CAP_IRQCHIP");
    assert!(names.contains(&"KVM_CAP_XSAVE2"));
}

#[test]
fn this_host_can_be_looked_at() {
    let report = examine(&Facts::gather());
    assert!(report.checks.iter().any(|c| c.name == "kernel" && c.state == State::Ok));
}
