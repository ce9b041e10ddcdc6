//! Which model-specific registers make up a vCPU's state, and the few that a booted vCPU starts with.
//!
//! Starts from what KVM says it saves (`KVM_GET_MSR_INDEX_LIST`). Refuses to know how they are read and
//! written.

use std::collections::BTreeSet;

use kvm_bindings::{kvm_cpuid_entry2, kvm_msr_entry};

use super::cpuid::Register::{self, Eax, Ebx, Ecx, Edx};
use super::cpuid::{self, immunity};

#[cfg(test)]
#[path = "msr_test.rs"]
mod msr_test;

/// The most that one `KVM_GET_MSRS` or `KVM_SET_MSRS` takes (`MAX_IO_MSRS` of arch/x86/kvm/x86.c): a longer
/// list goes in several calls, in order.
pub const MAX_PER_CALL: usize = 256;

/// `IA32_TSC`. Not in the list that [`to_save`] returns: the TSC has a capture of its own.
pub const TSC: u32 = 0x10;
/// `IA32_TSC_DEADLINE`. Not in the list either: it is written after the LAPIC and the TSC, because KVM arms a
/// timer with what both say at that moment (`kvm_set_lapic_tscdeadline_msr`).
pub const TSC_DEADLINE: u32 = 0x6E0;

/// MSRs that are not saved although KVM lists them.
#[derive(Clone, Copy, Debug)]
pub struct Excluded {
    /// The first of the range.
    pub first: u32,
    /// The last of the range.
    pub last: u32,
    /// Why.
    pub because: &'static str,
}

const fn excluded(first: u32, last: u32, because: &'static str) -> Excluded {
    Excluded { first, last, because }
}

const APART: &str = "set apart from the others, with the clock";
const COUNTERS: &str = "performance counters are hidden from the guest";
const NESTED: &str = "nested virtualization is hidden from the guest";
const TRACE: &str = "trace buffers and branch records are hidden from the guest";
const ALIAS: &str =
    "another name of a clock register that is saved; writing both would update the guest's page twice";
const ASYNC_PF: &str = "asynchronous page faults are hidden from the guest";
const HYPERV: &str = "Hyper-V's interface is not offered to the guest";

/// All that is not saved.
///
/// AMD's four oldest counters, 0xC001_0000 to 0xC001_0007, are not here: no CPUID bit hides them, so that a
/// guest may use them unless the VM has `KVM_PMU_CAP_DISABLE`.
pub const EXCLUDED: &[Excluded] = &[
    excluded(TSC, TSC, APART),
    excluded(0x11, 0x12, ALIAS),
    excluded(0xC1, 0xC8, COUNTERS),
    excluded(0x186, 0x18D, COUNTERS),
    excluded(0x1C8, 0x1C9, TRACE), // LBR_SELECT, LASTBRANCH_TOS
    excluded(0x1DB, 0x1DE, TRACE), // LASTBRANCHFROMIP to LASTINTTOIP
    excluded(0x309, 0x30B, COUNTERS),
    excluded(0x329, 0x329, COUNTERS), // PERF_METRICS
    excluded(0x345, 0x345, COUNTERS), // PERF_CAPABILITIES
    excluded(0x38D, 0x390, COUNTERS),
    excluded(0x3F1, 0x3F2, COUNTERS), // PEBS_ENABLE, PEBS_DATA_CFG
    excluded(0x480, 0x493, NESTED),   // VMX capabilities
    excluded(0x4C1, 0x4C8, COUNTERS),
    excluded(0x560, 0x587, TRACE),    // RTIT
    excluded(0x600, 0x600, COUNTERS), // DS_AREA
    excluded(TSC_DEADLINE, TSC_DEADLINE, APART),
    excluded(0x14CE, 0x14CF, TRACE), // architectural LBR
    excluded(0x4000_0000, 0x4000_FFFF, HYPERV),
    excluded(0x4B56_4D02, 0x4B56_4D02, ASYNC_PF),
    excluded(0x4B56_4D06, 0x4B56_4D07, ASYNC_PF),
    excluded(0xC000_0104, 0xC000_0104, NESTED),   // TSC_RATIO
    excluded(0xC000_0300, 0xC000_0303, COUNTERS), // PERF_CNTR_GLOBAL
    excluded(0xC001_0117, 0xC001_0117, NESTED),   // VM_HSAVE_PA
    excluded(0xC001_0200, 0xC001_020B, COUNTERS),
];

/// A bit of CPUID: leaf, sub-leaf, register, bit.
type Feature = (u32, u32, Register, u32);

/// MSRs that exist for a guest only if it is shown one of the features.
///
/// KVM lists what it knows, lets user space read it as 0 and write 0 to it, whatever the guest is shown
/// (`kvm_do_msr_access`). An older KVM, which does not know it, refuses it.
#[derive(Clone, Copy, Debug)]
pub struct Gate {
    /// The first of the range.
    pub first: u32,
    /// The last of the range.
    pub last: u32,
    /// Any of these will do.
    pub any_of: &'static [Feature],
}

const fn gate(first: u32, last: u32, any_of: &'static [Feature]) -> Gate {
    Gate { first, last, any_of }
}

/// KVM's own features.
const PARAVIRTUAL: u32 = 0x4000_0001;
const SHSTK: Feature = (7, 0, Ecx, 7);
const IBT: Feature = (7, 0, Edx, 20);
const ARCH_CAPABILITIES: Feature = (7, 0, Edx, 29);

/// All MSRs that follow a feature. What has no line here is saved whatever the guest is shown.
pub const GATES: &[Gate] = &[
    gate(0x33, 0x33, &[(7, 0, Edx, 30)]), // TEST_CTRL: CORE_CAPABILITIES says what it has
    // SPEC_CTRL: IBRS, STIBP and SSBD, by Intel's bits and by AMD's (`guest_has_spec_ctrl_msr`)
    gate(
        0x48,
        0x48,
        &[
            (7, 0, Edx, 26),
            (7, 0, Edx, 27),
            (7, 0, Edx, 31),
            (0x8000_0008, 0, Ebx, 14),
            (0x8000_0008, 0, Ebx, 15),
            (0x8000_0008, 0, Ebx, 24),
        ],
    ),
    gate(0xCF, 0xCF, &[(7, 0, Edx, 30)]), // CORE_CAPABILITIES
    gate(0xE1, 0xE1, &[(7, 0, Ecx, 5)]),  // UMWAIT_CONTROL: WAITPKG
    gate(0x10A, 0x10A, &[ARCH_CAPABILITIES]),
    gate(0x122, 0x122, &[ARCH_CAPABILITIES]), // TSX_CTRL: a bit of ARCH_CAPABILITIES says whether
    gate(0x1C4, 0x1C5, &[(0xD, 1, Eax, 4)]),  // XFD, XFD_ERR
    gate(0x1CC, 0x1D4, &[(7, 1, Eax, 17)]),   // FRED
    gate(0x6A0, 0x6A2, &[SHSTK, IBT]),        // U_CET, S_CET
    gate(0x6A4, 0x6A8, &[SHSTK]),             // PL0_SSP to PL3_SSP, INT_SSP_TAB
    gate(0x6E1, 0x6E1, &[(7, 0, Ecx, 31)]),   // PKRS
    gate(0xD90, 0xD90, &[(7, 0, Ebx, 14)]),   // BNDCFGS: MPX
    gate(0xDA0, 0xDA0, &[(0xD, 1, Eax, 3)]),  // XSS: XSAVES
    gate(0x4B56_4D03, 0x4B56_4D03, &[(PARAVIRTUAL, 0, Eax, 5)]), // STEAL_TIME
    gate(0x4B56_4D04, 0x4B56_4D04, &[(PARAVIRTUAL, 0, Eax, 6)]), // PV_EOI_EN
    gate(0x4B56_4D05, 0x4B56_4D05, &[(PARAVIRTUAL, 0, Eax, 12)]), // POLL_CONTROL
    gate(0x4B56_4D08, 0x4B56_4D08, &[(PARAVIRTUAL, 0, Eax, 17)]), // MIGRATION_CONTROL
    gate(0xC000_0103, 0xC000_0103, &[(0x8000_0001, 0, Edx, 27), (7, 0, Ecx, 22)]), // TSC_AUX: RDTSCP, RDPID
    gate(0xC001_011F, 0xC001_011F, &[(0x8000_0008, 0, Ebx, 25)]), // VIRT_SPEC_CTRL
    gate(0xC001_0140, 0xC001_0141, &[(0x8000_0001, 0, Ecx, 9)]), // OSVW
];

/// MSRs that are 0 in every vCPU that was just created, and that an image holds only if they are not.
///
/// KVM notes each write to `IA32_DEBUGCTL` in the host's log where the processor has no LBR virtualization, even that of
/// a 0 (`svm_set_msr` before Linux 6.3).
const ZERO_AT_RESET: &[u32] = &[0x1D9];

/// Whether an MSR that has this value need not be saved, nor written to a vCPU that was just created.
#[must_use]
pub fn is_as_reset(index: u32, data: u64) -> bool {
    data == 0 && ZERO_AT_RESET.contains(&index)
}

/// The MSRs to save of a vCPU whose image had `saved`: those, and what an image leaves out. Rising, none twice.
#[must_use]
pub fn to_save_again(saved: impl Iterator<Item = u32>) -> Vec<u32> {
    let mut msrs: Vec<_> = saved.chain(ZERO_AT_RESET.iter().copied()).collect();
    msrs.sort_unstable();
    msrs.dedup();
    msrs
}

/// Whether the vCPU may turn out not to have it.
#[must_use]
pub fn is_optional(index: u32) -> bool {
    ZERO_AT_RESET.contains(&index)
}

/// Of `needed`, what a host does not have whose KVM lists `listed` (`KVM_GET_MSR_INDEX_LIST`).
///
/// A value of 0 needs nothing: see `Blank::restore`. Whether KVM takes a value turns out only when it is written; and it takes
/// `IA32_ARCH_CAPABILITIES` for each guest that is shown it, also where it does not list it.
#[must_use]
pub fn not_listed(needed: impl Iterator<Item = (u32, u64)>, listed: &[u32]) -> Vec<(u32, u64)> {
    let listed: BTreeSet<u32> = listed.iter().copied().collect();
    let unlisted = |msr: u32| UNLISTED.iter().any(|&(first, last)| (first..=last).contains(&msr));
    let there = |msr: u32| listed.contains(&msr) || unlisted(msr) || msr == immunity::ARCH_CAPABILITIES;
    needed.filter(|&(msr, data)| data != 0 && !there(msr)).collect()
}

/// State that KVM does not list: memory types (the MTRRs), and what the guest wrote to the machine-check
/// banks of which every vCPU has 32 (`KVM_MAX_MCE_BANKS`).
const UNLISTED: &[(u32, u32)] = &[
    (0x200, 0x20F), // variable-range MTRRs, eight pairs (`KVM_NR_VAR_MTRR`)
    (0x250, 0x250), // fixed-range MTRRs: 64 KiB,
    (0x258, 0x259), // 16 KiB,
    (0x268, 0x26F), // and 4 KiB
    (0x2FF, 0x2FF), // default type
    (0x400, 0x47F), // MCi_CTL, MCi_STATUS, MCi_ADDR, MCi_MISC
];

/// One MSR has to be written before another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Before {
    /// The one that is written first.
    pub first: u32,
    /// The one that is written later.
    pub later: u32,
    /// The kernel's behaviour that makes it so.
    pub because: &'static str,
}

/// What [`to_save`]'s order keeps. Rising numbers do.
pub const ORDER: &[Before] = &[Before {
    first: 0xCE,
    later: 0x140,
    because: "MISC_FEATURES_ENABLES takes CPUID faulting only if PLATFORM_INFO offers it (kvm_set_msr_common)",
}];

/// The MSRs to save, in the order in which they are to be written: rising, none twice. See [`ORDER`].
///
/// `listed` is `KVM_GET_MSR_INDEX_LIST`, `cpuid` what the guest was shown. Reading stops at the first MSR
/// that the kernel does not have; none of these is refused by the kernels since 5.10, so a shorter answer is
/// an error.
#[must_use]
pub fn to_save(listed: &[u32], cpuid: &[kvm_cpuid_entry2]) -> Vec<u32> {
    let has = |&(leaf, subleaf, register, bit): &Feature| {
        cpuid::lookup(cpuid, leaf, subleaf)[register as usize] >> bit & 1 != 0
    };
    let shown = |msr: u32| {
        let mut gates = GATES.iter().filter(|gate| (gate.first..=gate.last).contains(&msr));
        gates.all(|gate| gate.any_of.iter().any(has))
    };
    let kept =
        |msr: u32| !EXCLUDED.iter().any(|range| (range.first..=range.last).contains(&msr)) && shown(msr);
    let unlisted = UNLISTED.iter().flat_map(|&(first, last)| first..=last);
    let mut msrs: Vec<_> = listed.iter().copied().filter(|&msr| kept(msr)).chain(unlisted).collect();
    msrs.sort_unstable();
    msrs.dedup();
    msrs
}

/// `IA32_MISC_ENABLE`: fast strings; and neither branch records nor event sampling, as there are no counters.
const MISC_ENABLE: u32 = 0x1A0;
const FAST_STRINGS: u64 = 1 << 0;
const NO_BRANCH_TRACE: u64 = 1 << 11;
const NO_EVENT_SAMPLING: u64 = 1 << 12;
/// `IA32_MTRR_DEF_TYPE`: MTRRs are on and all memory is write-back, as firmware leaves it. Left at 0, Linux
/// takes the machine's memory for uncached and complains.
const MTRR_DEF_TYPE: u32 = 0x2FF;
const MTRR_ENABLED: u64 = 1 << 11;
const WRITE_BACK: u64 = 6;

/// What firmware would have set on every vCPU before a kernel starts.
#[must_use]
pub fn at_boot() -> [kvm_msr_entry; 2] {
    let entry = |index: u32, data: u64| kvm_msr_entry { index, data, ..Default::default() };
    [
        entry(MISC_ENABLE, FAST_STRINGS | NO_BRANCH_TRACE | NO_EVENT_SAMPLING),
        entry(MTRR_DEF_TYPE, MTRR_ENABLED | WRITE_BACK),
    ]
}
