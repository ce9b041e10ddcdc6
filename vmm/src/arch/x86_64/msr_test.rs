use super::*;
use kvm_bindings::KVM_CPUID_FLAG_SIGNIFCANT_INDEX;

/// Leaf 0x4000_0001 with these feature bits, as KVM reports it.
fn shown(features: u32) -> Vec<kvm_cpuid_entry2> {
    vec![kvm_cpuid_entry2 { function: 0x4000_0001, eax: features, ..Default::default() }]
}

/// What Linux 6.18 lists on AMD with hardware virtualization, and a few that only Intel has.
#[rustfmt::skip]
const LISTED: &[u32] = &[
    0x174, 0x175, 0x176, 0xC000_0081, 0xC000_0083, 0xC000_0102, 0xC000_0084, 0xC000_0082, 0x10, 0x277,
    0xC001_0117, 0x1D9, 0x1DB, 0x1DE, 0x12, 0x11, 0x4B56_4D01, 0x4B56_4D00, 0x4B56_4D02, 0x4B56_4D03,
    0x4B56_4D04, 0x4B56_4D06, 0x4B56_4D07, 0x3B, 0x6E0, 0x10A, 0x345, 0x1A0, 0x17A, 0x17B,
    0x140, 0xCE, 0xC001_011F, 0x8B, 0xC001_0015, 0x4B56_4D05, 0x4B56_4DF0, 0x4B56_4DF7, 0x3A, 0x480,
    0x48F, 0xC1, 0x186, 0x309, 0x38F, 0x4000_0000, 0x4000_0105, 0xC000_0103, 0x1C4, 0xDA0,
    0xC001_0000,
];

#[test]
fn state_is_saved_and_what_is_apart_or_hidden_is_not() {
    let saved = to_save(LISTED, &everything());
    for kept in [
        0x174,
        0xC000_0082,
        0x277,
        0x3B,
        0x1A0,
        0x8B,
        0xC000_0103,
        0x4B56_4D00,
        0x4B56_4D01,
        0xDA0,
        0xC001_0000,
        0x3A,
        0x10A,
    ] {
        assert!(saved.contains(&kept), "{kept:#x}");
    }
    for left in [0x10, 0x6E0, 0x11, 0x12, 0x345, 0x4B56_4D02, 0x480, 0x186, 0x4000_0105] {
        assert!(!saved.contains(&left), "{left:#x}");
    }
}

#[test]
fn registers_of_a_paravirtual_kvm_are_state() {
    let saved = to_save(LISTED, &shown(0));
    assert!(saved.contains(&0x4B56_4DF0) && saved.contains(&0x4B56_4DF7));
}

/// CPUID in which every bit of every leaf that a gate looks at is set.
fn everything() -> Vec<kvm_cpuid_entry2> {
    let leaves = GATES.iter().flat_map(|gate| gate.any_of).map(|&(leaf, subleaf, ..)| (leaf, subleaf));
    let flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
    leaves.map(|(function, index)| entry(function, index, flags, [u32::MAX; 4])).collect()
}

fn entry(function: u32, index: u32, flags: u32, [eax, ebx, ecx, edx]: [u32; 4]) -> kvm_cpuid_entry2 {
    kvm_cpuid_entry2 { function, index, flags, eax, ebx, ecx, edx, ..Default::default() }
}

#[test]
fn an_msr_is_saved_only_where_its_feature_is_shown() {
    for gate in GATES {
        for msr in gate.first..=gate.last {
            assert!(!to_save(&[msr], &[]).contains(&msr), "{msr:#x}");
            for &(leaf, subleaf, register, bit) in gate.any_of {
                let mut registers = [0; 4];
                registers[register as usize] = 1 << bit;
                let has = entry(leaf, subleaf, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, registers);
                assert!(to_save(&[msr], &[has]).contains(&msr), "{msr:#x} by {leaf:#x}.{subleaf}");
                let has_not = registers.map(|bits| !bits);
                let has_not = entry(leaf, subleaf, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, has_not);
                let others = gate.any_of.len() > 1;
                assert!(others || !to_save(&[msr], &[has_not]).contains(&msr), "{msr:#x}");
            }
        }
    }
    // The index of an entry without sub-leaves means nothing; one with a sub-leaf is another entry.
    let mut other = shown(u32::MAX);
    (other[0].index, other[0].flags) = (1, KVM_CPUID_FLAG_SIGNIFCANT_INDEX);
    assert!(!to_save(&[0x4B56_4D03], &other).contains(&0x4B56_4D03));
}

/// What KVM of Linux 6.18 lists and lets be read and written as 0, whatever the guest is shown.
#[test]
fn what_a_newer_kernel_knows_is_not_asked_of_an_older_one() {
    let guest = cpuid::for_vcpu(
        &everything(),
        cpuid::Topology { vcpu: 0, cpus: 1 },
        cpuid::Emulated { tsc_deadline: true, x2apic: true },
    );
    let saved = to_save(&[0x6A0, 0x6A2, 0x6A4, 0x6A8, 0x1C4, 0x1C5, 0x1CC, 0x174], &guest);
    // Shadow stacks, IBT, XFD and FRED are hidden from every guest.
    assert_eq!(
        saved
            .iter()
            .filter(|msr| (0x100..0x200).contains(*msr) || (0x600..0x700).contains(*msr))
            .collect::<Vec<_>>(),
        [&0x174]
    );
}

#[test]
fn only_a_value_needs_an_msr() {
    let needed = [(0x174, 5), (0x6A0, 0), (0x6A2, 1), (0x277, 6), (0x2FF, 0xC06), (0x403, 9), (0x10A, 1)];
    let missing = not_listed(needed.into_iter(), &[0x174, 0x277]);
    assert_eq!(missing, [(0x6A2, 1)]);
}

#[test]
fn memory_types_are_saved_although_kvm_does_not_list_them() {
    let saved = to_save(&[], &[]);
    for msr in [0x200, 0x20F, 0x250, 0x258, 0x259, 0x268, 0x26F, 0x2FF, 0x400, 0x47F] {
        assert!(saved.contains(&msr), "{msr:#x}");
    }
    assert_eq!(saved.len(), 16 + 1 + 2 + 8 + 1 + 128);
}

#[test]
fn the_order_keeps_every_constraint_and_names_nothing_twice() {
    let mut listed = LISTED.to_vec();
    listed.extend([0x2FF, 0x200]);
    let saved = to_save(&listed, &everything());
    let position = |msr: u32| saved.iter().position(|&saved| saved == msr);
    for constraint in ORDER {
        let (first, later) = (position(constraint.first).unwrap(), position(constraint.later).unwrap());
        assert!(first < later, "{constraint:?}");
    }
    assert!(saved.is_sorted_by(|a, b| a < b));
}

#[test]
fn the_table_of_exclusions_is_in_order_and_argues_each() {
    assert!(EXCLUDED.iter().all(|range| range.first <= range.last && range.because.len() > 10));
    assert!(EXCLUDED.windows(2).all(|pair| pair[0].last < pair[1].first));
    // What is saved although KVM does not list it is not excluded on another line.
    let excluded = |msr: u32| EXCLUDED.iter().any(|range| (range.first..=range.last).contains(&msr));
    assert!(!UNLISTED.iter().any(|&(first, last)| (first..=last).any(excluded)));
    // Nor has what is excluded a feature for which it is saved, and no range lies in another.
    assert!(!GATES.iter().any(|gate| (gate.first..=gate.last).any(excluded)));
    assert!(GATES.windows(2).all(|pair| pair[0].last < pair[1].first));
}

#[test]
fn memory_is_write_back_at_boot() {
    let boot = at_boot();
    let value = |index: u32| boot.iter().find(|entry| entry.index == index).unwrap().data;
    assert_eq!(value(0x2FF), 0x806);
    assert_eq!(value(0x1A0), 0x1801);
}
