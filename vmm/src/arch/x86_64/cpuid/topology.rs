//! A vCPU's place in the machine: one package, one thread per core, APIC ids counting from 0.
//!
//! KVM reports the host's own topology or none; the leaves are made anew, for each vendor as its processors
//! have them (Intel SDM vol. 3A, 9.9; AMD APM vol. 3, appendix E).

use kvm_bindings::{KVM_CPUID_FLAG_SIGNIFCANT_INDEX, kvm_cpuid_entry2};

/// Which of how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Topology {
    /// The vCPU, which is also its APIC id: less than `cpus`.
    pub vcpu: u32,
    /// How many vCPUs there are: 1 to 32.
    pub cpus: u32,
}

impl Topology {
    /// Bits of an APIC id that tell the cores of the package apart.
    const fn core_bits(self) -> u32 {
        self.cpus.next_power_of_two().trailing_zeros()
    }
}

/// Leaf 1, EDX: there is more than one logical processor in the package, so that EBX has their number.
const HTT: u32 = 1 << 28;
/// Leaf 0x8000_0001, ECX, AMD: these are cores, not threads.
const CMP_LEGACY: u32 = 1 << 1;
/// Levels of the extended topology leaves, in ECX bits 8 to 15.
const LEVEL_THREAD: u32 = 1 << 8;
const LEVEL_CORE: u32 = 2 << 8;

pub(super) fn apply(entries: &mut Vec<kvm_cpuid_entry2>, topology: Topology) {
    let highest =
        |base: u32| entries.iter().find(|entry| entry.function == base).map_or(0, |entry| entry.eax);
    let (basic, amd) = (highest(0), is_amd(entries));
    // Both are made anew below. The third says the same for AMD; without it kernels read leaf 0xB.
    entries.retain(|entry| ![0xB, 0x1F, 0x8000_0026].contains(&entry.function));
    for entry in entries.iter_mut() {
        place(entry, topology, amd);
    }
    for leaf in [0xB, 0x1F].into_iter().filter(|&leaf| leaf <= basic) {
        entries.extend(extended_topology(leaf, topology));
    }
}

fn is_amd(entries: &[kvm_cpuid_entry2]) -> bool {
    let vendor = super::vendor(|leaf, subleaf| super::lookup(entries, leaf, subleaf));
    ["AuthenticAMD", "HygonGenuine"].contains(&vendor.as_str())
}

/// Changes the fields that depend on the vCPU or on the number of vCPUs, in one entry.
fn place(entry: &mut kvm_cpuid_entry2, topology: Topology, amd: bool) {
    let Topology { vcpu, cpus } = topology;
    let set = |register: &mut u32, shift: u32, width: u32, value: u32| {
        let field = ((1 << width) - 1) << shift;
        *register = *register & !field | value << shift & field;
    };
    let flag = |register: &mut u32, bit: u32, on: bool| {
        *register = if on { *register | bit } else { *register & !bit };
    };
    let shared_by_all = entry.eax >> 5 & 7 >= 3;
    match entry.function {
        0x1 => {
            set(&mut entry.ebx, 16, 8, if amd { cpus } else { 1 << topology.core_bits() });
            set(&mut entry.ebx, 24, 8, vcpu);
            flag(&mut entry.edx, HTT, cpus > 1);
        }
        // Caches, one sub-leaf each: type 0 ends the list; levels 1 and 2 belong to a core, the next one to
        // all.
        0x4 if entry.eax & 0x1F != 0 => {
            let all = (1 << topology.core_bits()) - 1;
            set(&mut entry.eax, 14, 12, if shared_by_all { all } else { 0 });
            set(&mut entry.eax, 26, 6, all);
        }
        0x8000_001D if entry.eax & 0x1F != 0 => {
            set(&mut entry.eax, 14, 12, if shared_by_all { cpus - 1 } else { 0 });
        }
        0x8000_0001 if amd => flag(&mut entry.ecx, CMP_LEGACY, cpus > 1),
        0x8000_0008 if amd => {
            set(&mut entry.ecx, 0, 8, cpus - 1);
            set(&mut entry.ecx, 12, 4, topology.core_bits());
        }
        // Extended APIC id; core id, one thread per core; node 0, one node.
        0x8000_001E if amd => (entry.eax, entry.ebx, entry.ecx, entry.edx) = (vcpu, vcpu, 0, 0),
        _ => {}
    }
}

/// Leaf 0xB or 0x1F: a level of one thread, a level of all cores, and the end of the list.
fn extended_topology(function: u32, topology: Topology) -> [kvm_cpuid_entry2; 3] {
    let Topology { vcpu, cpus } = topology;
    let level = |index: u32, kind: u32, shift: u32, count: u32| kvm_cpuid_entry2 {
        function,
        index,
        flags: KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
        eax: shift,
        ebx: count,
        ecx: kind | index,
        edx: vcpu,
        ..Default::default()
    };
    [level(0, LEVEL_THREAD, 0, 1), level(1, LEVEL_CORE, topology.core_bits(), cpus), level(2, 0, 0, 0)]
}
