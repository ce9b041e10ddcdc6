use super::*;

fn entry(function: u32, index: u32) -> kvm_cpuid_entry2 {
    let all = u32::MAX;
    kvm_cpuid_entry2 { function, index, eax: all, ebx: all, ecx: all, edx: all, ..Default::default() }
}

#[test]
fn every_line_has_its_reason() {
    assert!(MASKED.iter().all(|mask| mask.because.len() > 10 && mask.bits != 0));
    assert!(BLANK.iter().all(|blank| blank.because.len() > 10));
}

#[test]
fn no_line_repeats_another() {
    for (i, a) in MASKED.iter().enumerate() {
        for b in &MASKED[i + 1..] {
            let same = (a.leaf, a.subleaf, a.register) == (b.leaf, b.subleaf, b.register);
            assert!(!same || a.bits & b.bits == 0, "{:#x}.{}", a.leaf, a.subleaf);
        }
    }
}

#[test]
fn what_cannot_be_carried_is_hidden_and_the_rest_stays() {
    let mut entries = [entry(1, 0), entry(0x4000_0001, 0), entry(0x8000_0001, 0), entry(0xA, 0), entry(7, 1)];
    apply(&mut entries);
    let [basic, kvm, extended, counters, seven] = entries;
    assert_eq!(basic.ecx, !(1 << 2 | 1 << 3 | 1 << 5 | 1 << 6 | 1 << 15 | 1 << 27));
    assert_eq!(kvm.eax, !(1 << 4 | 1 << 10 | 1 << 14 | 1 << 16 | 1 << 17));
    assert_eq!(extended.ecx & (1 << 2 | 1 << 23 | 1 << 29), 0);
    assert_eq!((counters.eax, counters.ebx, counters.ecx, counters.edx), (0, 0, 0, 0));
    assert_eq!((seven.ebx, seven.eax), (u32::MAX, !(1 << 17 | 1 << 21)));
}

#[test]
fn a_sub_leaf_is_not_taken_for_another() {
    let mut entries = [entry(7, 0), entry(7, 1), entry(7, 2)];
    apply(&mut entries);
    assert_eq!(entries[0].eax, u32::MAX);
    assert_eq!(entries[1].ecx, u32::MAX);
    assert_eq!(entries[2], entry(7, 2));
}
