//! CPUID: what each vCPU is shown, and what an image therefore needs of the host that restores it.
//!
//! Starts from what KVM says it can do on this host (`KVM_GET_SUPPORTED_CPUID`); takes away what a snapshot
//! could not carry ([`MASKED`]), and gives each vCPU its place in the machine ([`Topology`]).
//!
//! The invariant-TSC bit stays as the host has it. With it Linux prefers the TSC to kvmclock as its
//! clocksource and drops the watchdog that compares both; either way the guest's wall clock is right after a
//! restore without an agent, because both counters are set forward by the real time that passed. What the bit
//! promises, one frequency for ever, is kept by recording the TSC's frequency in the image and refusing a
//! host that cannot provide it. Without the bit Linux would still use the TSC at times but watch it against
//! kvmclock, and a restore that sets the one a few microseconds off the other would make it distrust a TSC
//! that is right.

use std::cell::RefCell;
use std::collections::BTreeMap;

use kvm_bindings::{KVM_CPUID_FLAG_SIGNIFCANT_INDEX, kvm_cpuid_entry2};
use snapshot_format::state::CpuidEntryState;

mod features;
pub mod immunity;
mod in_use;
mod mask;
mod needs;
mod rules;
mod topology;

#[cfg(test)]
mod cpuid_test;
#[cfg(test)]
mod needs_test;

pub use in_use::{InUse, not_offered};
pub use mask::{BLANK, Blank, MASKED, Mask};
pub use needs::{Missing, missing, required_words, shown_words};
pub use rules::{Broken, RULES, Relation, Rule, broken};
pub use topology::Topology;

/// The four registers that CPUID returns: EAX, EBX, ECX, EDX.
pub type Registers = [u32; 4];

/// One of [`Registers`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[expect(missing_docs, reason = "the architecture's own register names")]
pub enum Register {
    Eax = 0,
    Ebx = 1,
    Ecx = 2,
    Edx = 3,
}

/// Features that KVM provides itself and reports by a capability, because they depend on how the VM is set
/// up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Emulated {
    /// `KVM_CAP_TSC_DEADLINE_TIMER`, with the LAPIC in the kernel.
    pub tsc_deadline: bool,
    /// The LAPIC in the kernel, which has an x2APIC mode.
    pub x2apic: bool,
}

/// What a vCPU is shown, for `KVM_SET_CPUID2`.
///
/// `supported` is what `KVM_GET_SUPPORTED_CPUID` says on this host.
#[must_use]
pub fn for_vcpu(
    supported: &[kvm_cpuid_entry2],
    topology: Topology,
    emulated: Emulated,
) -> Vec<kvm_cpuid_entry2> {
    let mut entries = supported.to_vec();
    mask::apply(&mut entries);
    show_emulated(&mut entries, emulated);
    topology::apply(&mut entries, topology);
    entries
}

/// Leaf 1, ECX.
const X2APIC: u32 = 1 << 21;
const TSC_DEADLINE: u32 = 1 << 24;
const HYPERVISOR: u32 = 1 << 31;

fn show_emulated(entries: &mut [kvm_cpuid_entry2], emulated: Emulated) {
    for entry in entries.iter_mut().filter(|entry| entry.function == 1) {
        let set = |register: u32, bit: u32, on: bool| if on { register | bit } else { register & !bit };
        entry.ecx = set(entry.ecx, X2APIC, emulated.x2apic);
        entry.ecx = set(entry.ecx, TSC_DEADLINE, emulated.tsc_deadline);
        // Linux looks for KVM's own leaves only if it is told that there is a hypervisor.
        entry.ecx |= HYPERVISOR;
    }
}

/// CPUID of the processor that this runs on.
#[must_use]
pub fn host(leaf: u32, subleaf: u32) -> Registers {
    let found = std::arch::x86_64::__cpuid_count(leaf, subleaf);
    [found.eax, found.ebx, found.ecx, found.edx]
}

/// The same answers as `cpuid`, which is asked once for each leaf: a host that is a virtual machine itself traps
/// every CPUID, and has it answered in microseconds.
pub fn remembered(cpuid: impl Fn(u32, u32) -> Registers) -> impl Fn(u32, u32) -> Registers {
    let known = RefCell::new(BTreeMap::new());
    move |leaf, subleaf| *known.borrow_mut().entry((leaf, subleaf)).or_insert_with(|| cpuid(leaf, subleaf))
}

/// The vendor string, for example `AuthenticAMD`, from CPUID as `cpuid` returns it.
#[must_use]
pub fn vendor(cpuid: impl Fn(u32, u32) -> Registers) -> String {
    let [_, ebx, ecx, edx] = cpuid(0, 0);
    let bytes = [ebx, edx, ecx].map(u32::to_le_bytes).concat();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// How many bits a guest's physical addresses may have on a host whose KVM offers `supported`. Where leaf 0x8000_0008
/// is missing it is 36 (Intel SDM vol. 3A, 4.1.4).
#[must_use]
pub fn physical_bits(supported: &[kvm_cpuid_entry2]) -> u32 {
    match lookup(supported, 0x8000_0008, 0)[0] & 0xFF {
        0 => 36,
        bits => bits,
    }
}

/// CPUID as a vCPU with these entries would return it, near enough: an entry that does not exist reads as
/// zero.
#[must_use]
pub fn lookup(entries: &[kvm_cpuid_entry2], leaf: u32, subleaf: u32) -> Registers {
    find(entries.iter().map(|e| (e.function, e.index, e.flags, [e.eax, e.ebx, e.ecx, e.edx])), leaf, subleaf)
}

/// The same of a saved vCPU.
#[must_use]
pub fn lookup_saved(entries: &[CpuidEntryState], leaf: u32, subleaf: u32) -> Registers {
    find(entries.iter().map(|e| (e.function, e.index, e.flags, [e.eax, e.ebx, e.ecx, e.edx])), leaf, subleaf)
}

fn find(mut entries: impl Iterator<Item = (u32, u32, u32, Registers)>, leaf: u32, subleaf: u32) -> Registers {
    let indexed = |flags: u32| flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX != 0;
    entries
        .find(|&(function, index, flags, _)| function == leaf && (!indexed(flags) || index == subleaf))
        .map_or([0; 4], |(.., registers)| registers)
}
