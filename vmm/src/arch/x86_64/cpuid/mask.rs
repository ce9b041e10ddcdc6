//! Features that are not shown to a guest, each with its reason: mostly that there is state behind them which
//! a snapshot could not carry, so that a restored guest would find it gone.

use kvm_bindings::kvm_cpuid_entry2;

use super::Register::{self, Eax, Ebx, Ecx, Edx};

/// Feature bits that are hidden from a guest.
#[derive(Clone, Copy, Debug)]
pub struct Mask {
    /// CPUID leaf.
    pub leaf: u32,
    /// CPUID sub-leaf, 0 for a leaf without any.
    pub subleaf: u32,
    /// The register that has the bits.
    pub register: Register,
    /// The bits.
    pub bits: u32,
    /// Why.
    pub because: &'static str,
}

/// A leaf that belongs to a hidden feature and reads as zero, all its sub-leaves included.
#[derive(Clone, Copy, Debug)]
pub struct Blank {
    /// CPUID leaf.
    pub leaf: u32,
    /// Why.
    pub because: &'static str,
}

const fn bit(n: u32) -> u32 {
    1 << n
}

const fn mask(leaf: u32, subleaf: u32, register: Register, bits: u32, because: &'static str) -> Mask {
    Mask { leaf, subleaf, register, bits, because }
}

const fn blank(leaf: u32, because: &'static str) -> Blank {
    Blank { leaf, because }
}

const COUNTERS: &str = "performance counters are not saved";
const MWAIT: &str = "the armed address range is not saved, and HLT is the cheaper wait in a guest";
const NESTED: &str = "the state of nested guests is not saved";
const TRACE: &str = "branch and processor trace buffers are not saved";
const SGX: &str = "enclave memory cannot be read, so it cannot be saved";
const AMX: &str =
    "needs a permission (ARCH_REQ_XCOMP_GUEST_PERM) that is not asked for, so XCR0 has no tiles";
const CET: &str = "the shadow stack pointer is none of the registers that are saved; IBT shares its MSRs";
const ASYNC_PF: &str = "pages reported missing would be completed for a guest that no longer exists";
const SEV: &str = "guest memory is not encrypted";

/// All hidden bits.
pub const MASKED: &[Mask] = &[
    mask(0x1, 0, Ecx, bit(2) | bit(15), COUNTERS), // DTES64, PDCM
    mask(0x1, 0, Ecx, bit(3), MWAIT),
    mask(0x1, 0, Ecx, bit(5), NESTED), // VMX
    mask(0x1, 0, Ecx, bit(6), "there is no SMX without firmware"),
    mask(0x1, 0, Ecx, bit(27), "OSXSAVE follows the guest's CR4; KVM sets it"),
    mask(0x1, 0, Edx, bit(21), COUNTERS), // DS
    mask(0x7, 0, Ebx, bit(2), SGX),
    mask(0x7, 0, Ebx, bit(25), TRACE), // PT
    mask(0x7, 0, Ecx, bit(4), "OSPKE follows the guest's CR4; KVM sets it"),
    mask(0x7, 0, Ecx, bit(7), CET), // SHSTK
    mask(0x7, 0, Ecx, bit(24), "IA32_DEBUGCTL, which arms bus-lock detection, is not saved by every kernel"),
    mask(0x7, 0, Ecx, bit(30), SGX),                     // launch control
    mask(0x7, 0, Edx, bit(19), TRACE),                   // architectural LBR
    mask(0x7, 0, Edx, bit(20), CET),                     // IBT
    mask(0x7, 0, Edx, bit(22) | bit(24) | bit(25), AMX), // BF16, TILE, INT8
    mask(0x7, 1, Eax, bit(17), "event data of FRED is not among the saved vCPU events"),
    mask(0x7, 1, Eax, bit(21), AMX),                                  // FP16
    mask(0x7, 1, Edx, bit(8), AMX),                                   // COMPLEX
    mask(0xD, 1, Eax, bit(4), AMX),                                   // XFD, which exists for the tiles
    mask(0x8000_0001, 0, Ecx, bit(2) | bit(12), NESTED),              // SVM, SKINIT
    mask(0x8000_0001, 0, Ecx, bit(10), COUNTERS),                     // IBS
    mask(0x8000_0001, 0, Ecx, bit(23) | bit(24) | bit(28), COUNTERS), // core, north bridge, last-level cache
    mask(0x8000_0001, 0, Ecx, bit(15), "the state of lightweight profiling is not saved"),
    mask(0x8000_0001, 0, Ecx, bit(29), MWAIT), // MWAITX
    mask(0x4000_0001, 0, Eax, bit(4) | bit(10) | bit(14), ASYNC_PF), // plain, as a VM exit, by interrupt
    mask(0x4000_0001, 0, Eax, bit(16) | bit(17), SEV), // page encryption status, migration control
];

/// All blank leaves.
pub const BLANK: &[Blank] = &[
    blank(0x5, MWAIT),
    blank(0xA, COUNTERS),
    blank(0x12, SGX),
    blank(0x14, TRACE),
    blank(0x1C, TRACE),
    blank(0x1D, AMX),
    blank(0x1E, AMX),
    blank(0x23, COUNTERS),
    blank(0x8000_000A, NESTED),
    blank(0x8000_001B, COUNTERS),
    blank(0x8000_001F, SEV),
    blank(0x8000_0022, COUNTERS),
];

/// Hides everything that both tables name.
pub(super) fn apply(entries: &mut [kvm_cpuid_entry2]) {
    for entry in entries {
        if BLANK.iter().any(|blank| blank.leaf == entry.function) {
            (entry.eax, entry.ebx, entry.ecx, entry.edx) = (0, 0, 0, 0);
        }
        let at = (entry.function, entry.index);
        for mask in MASKED.iter().filter(|mask| (mask.leaf, mask.subleaf) == at) {
            *register(entry, mask.register) &= !mask.bits;
        }
    }
}

fn register(entry: &mut kvm_cpuid_entry2, register: Register) -> &mut u32 {
    match register {
        Eax => &mut entry.eax,
        Ebx => &mut entry.ebx,
        Ecx => &mut entry.ecx,
        Edx => &mut entry.edx,
    }
}

#[cfg(test)]
#[path = "mask_test.rs"]
mod mask_test;
