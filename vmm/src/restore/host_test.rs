use kvm_bindings::{KVM_CPUID_FLAG_SIGNIFCANT_INDEX, kvm_cpuid_entry2};
use snapshot_format::state::{CpuidEntryState, CpuidWordState, MsrState, XcrState};

use super::*;

const INDEXED: u32 = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;

/// What two hosts may differ in.
#[derive(Clone, Copy)]
struct Cpu {
    avx512: bool,
    physical_bits: u32,
    arch_capabilities: u64,
}

/// An Intel server that needs no page-table isolation, and a client of another generation, which does.
const SERVER: Cpu = Cpu { avx512: true, physical_bits: 46, arch_capabilities: 0b100_0011 };
const CLIENT: Cpu = Cpu { avx512: false, physical_bits: 39, arch_capabilities: 0b100_0000 };

const AVX512F: u32 = 1 << 16;
const KVM_STEAL_TIME: u32 = 1 << 5;

/// Leaf, sub-leaf, flags.
type Leaf = (u32, u32, u32, Registers);

/// `KVM_GET_SUPPORTED_CPUID` there.
fn leaves(cpu: Cpu) -> Vec<Leaf> {
    let components = if cpu.avx512 { 0b1110_0111 } else { 0b111 };
    vec![
        (0, 0, 0, [0x1F, 0, 0, 0]),
        (1, 0, 0, [0x606A6, 0x0800, 1 << 28, 0x078B_FBFF]),
        (7, 0, INDEXED, [0, if cpu.avx512 { AVX512F } else { 0 }, 0, 1 << 29]),
        (0xD, 0, INDEXED, [components, 0, 0, 0]),
        (0xD, 2, INDEXED, [256, 576, 0, 0]),
        (0x4000_0001, 0, 0, [KVM_STEAL_TIME, 0, 0, 0]),
        (0x8000_0000, 0, 0, [0x8000_0008, 0, 0, 0]),
        (0x8000_0001, 0, 0, [0, 0, 0, 1 << 11 | 1 << 20 | 1 << 29]),
        (0x8000_0008, 0, 0, [0x3000 | cpu.physical_bits, 0, 0, 0]),
    ]
}

fn offer(cpu: Cpu) -> Offer {
    let entry = |(function, index, flags, [eax, ebx, ecx, edx]): Leaf| kvm_cpuid_entry2 {
        function,
        index,
        flags,
        eax,
        ebx,
        ecx,
        edx,
        ..Default::default()
    };
    Offer {
        cpuid: leaves(cpu).into_iter().map(entry).collect(),
        msrs: vec![0x174, 0x277],
        arch_capabilities: Some(cpu.arch_capabilities),
        unhidden: false,
    }
}

fn processor(cpu: Cpu) -> impl Fn(u32, u32) -> Registers {
    move |leaf, subleaf| cpuid::lookup(&offer(cpu).cpuid, leaf, subleaf)
}

/// A vCPU of a guest that booted there.
fn vcpu(cpu: Cpu) -> VcpuState {
    let entry = |(function, index, flags, [eax, ebx, ecx, edx]): Leaf| CpuidEntryState {
        function,
        index,
        flags,
        eax,
        ebx,
        ecx,
        edx,
    };
    let msr = |index, data| MsrState { index, data };
    let mut vcpu = VcpuState {
        cpuid: leaves(cpu).into_iter().map(entry).collect(),
        xcrs: vec![XcrState { xcr: 0, value: 0b111 }],
        msrs: vec![msr(0x10A, cpu.arch_capabilities), msr(0x174, 16), msr(0x6A0, 0), msr(0x2FF, 0x806)],
        ..VcpuState::default()
    };
    vcpu.sregs.efer = 0xD01;
    vcpu
}

fn needs() -> HostNeedsState {
    HostNeedsState { cpu_vendor: "GenuineIntel".into(), ..HostNeedsState::default() }
}

fn said(vcpus: &[VcpuState], cpu: Cpu) -> Vec<String> {
    lacking(&needs(), vcpus, &offer(cpu), processor(cpu))
}

#[test]
fn a_guest_runs_where_it_was_booted_and_where_there_is_more() {
    assert_eq!(said(&[vcpu(SERVER), vcpu(SERVER)], SERVER), [""; 0]);
    assert_eq!(said(&[vcpu(CLIENT)], SERVER), [""; 0]);
}

#[test]
fn a_host_with_less_is_told_all_that_it_lacks_once() {
    let expected = [
        "its CPU lacks avx512f, xstate_opmask, xstate_zmm_hi256, xstate_hi16_zmm",
        "the number of physical address bits (CPUID 0x80000008.0x0) is 39, at least 46 is needed",
        "its CPU lacks rdcl_no, which the guest was told of",
        "its CPU lacks ibrs_all, which the guest was told of",
    ];
    assert_eq!(said(&[vcpu(SERVER), vcpu(SERVER)], CLIENT), expected);
}

#[test]
fn what_kvm_hides_of_the_processor_is_not_there() {
    let hidden = Cpu { avx512: false, ..SERVER };
    let lacks = lacking(&needs(), &[vcpu(SERVER)], &offer(hidden), processor(SERVER));
    assert_eq!(lacks, ["its KVM does not offer avx512f, xstate_opmask, xstate_zmm_hi256, xstate_hi16_zmm"]);
}

#[test]
fn where_kvm_hides_nothing_the_processor_decides() {
    let hidden = Offer { unhidden: true, ..offer(Cpu { avx512: false, ..SERVER }) };
    let lacks = |processor: Cpu| lacking(&needs(), &[vcpu(SERVER)], &hidden, self::processor(processor));
    assert_eq!(lacks(SERVER), [""; 0]);
    assert_eq!(lacks(Cpu { avx512: false, ..SERVER }).len(), 1);
}

#[test]
fn what_only_the_manifest_lists_counts_as_well() {
    let xop = CpuidWordState { function: 0x8000_0001, index: 0, register: 2, bits: 1 << 11 };
    let needs = HostNeedsState { cpuid: vec![xop], ..needs() };
    let lacks = lacking(&needs, &[vcpu(SERVER)], &offer(SERVER), processor(SERVER));
    assert_eq!(lacks, ["its CPU lacks xop"]);
}

#[test]
fn what_a_guest_uses_counts() {
    type Change = fn(&mut VcpuState);
    let rows: [(Change, &[&str]); 7] = [
        (|vcpu| vcpu.sregs.efer |= 1 << 21, &["it does not have EFER.AIBRSE"]),
        (|vcpu| vcpu.xcrs[0].value |= 1 << 9, &["it does not have XCR0 bit 9"]),
        (
            |vcpu| vcpu.msrs.push(MsrState { index: 0xDA0, data: 1 << 11 }),
            &["it does not have XSS bit 11", "its KVM does not have MSR 0xda0, which holds 0x800"],
        ),
        (|vcpu| vcpu.msrs[2].data = 3, &["its KVM does not have MSR 0x6a0, which holds 0x3"]),
        // Of another processor: KVM's own features, and the line of a cache.
        (|vcpu| vcpu.cpuid[5].eax |= 1 << 12, &["its CPU lacks kvm_poll_control"]),
        (
            |vcpu| vcpu.cpuid[1].ebx = 0x1000,
            &["the line that CLFLUSH writes back, in units of 8 bytes (CPUID 0x1.0x0) is 8, 16 is needed"],
        ),
        // A build that did not save the MSR does not say what the guest was told.
        (|vcpu| vcpu.msrs[0].index = 0x175, &["its KVM does not have MSR 0x175, which holds 0x43"]),
    ];
    for (change, expected) in rows {
        let mut vcpu = vcpu(SERVER);
        change(&mut vcpu);
        assert_eq!(said(&[vcpu], SERVER), expected);
    }
}
