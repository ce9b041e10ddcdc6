use kvm_bindings::KVM_CPUID_FLAG_SIGNIFCANT_INDEX;

use super::*;
use snapshot_format::state::CpuidWordState;

/// A host whose leaves all have the same registers.
fn host_with(ecx1: u32, ebx7: u32) -> impl Fn(u32, u32) -> Registers {
    move |leaf, subleaf| match (leaf, subleaf) {
        (0, _) => [0xD, 0, 0, 0],
        (0x8000_0000, _) => [0x8000_0008, 0, 0, 0],
        (1, _) => [0, 0, ecx1, 0],
        (7, 0) => [0, ebx7, 0, 0],
        // What a real processor may return past its last leaf.
        (0x8000_0009.., _) => [u32::MAX; 4],
        _ => [0; 4],
    }
}

fn guest(ecx1: u32, ebx7: u32) -> Vec<kvm_cpuid_entry2> {
    let flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
    vec![
        kvm_cpuid_entry2 { function: 1, ecx: ecx1, ..Default::default() },
        kvm_cpuid_entry2 { function: 7, index: 0, flags, ebx: ebx7, ..Default::default() },
        kvm_cpuid_entry2 { function: 0x8000_0021, eax: u32::MAX, ..Default::default() },
    ]
}

const AVX: u32 = 1 << 28;
const AES: u32 = 1 << 25;
const X2APIC: u32 = 1 << 21;
const AVX2: u32 = 1 << 5;

fn word(function: u32, register: u8, bits: u32) -> CpuidWordState {
    CpuidWordState { function, index: 0, register, bits }
}

/// What is missing where KVM offers nothing but what the processor has.
fn both(needed: &[CpuidWordState], host: impl Fn(u32, u32) -> Registers) -> Vec<Missing> {
    missing(
        needed,
        |leaf, subleaf| if leaf == 0x8000_0021 { [0; 4] } else { host(leaf, subleaf) },
        &host,
        false,
    )
}

#[test]
fn needed_is_what_the_guest_saw_and_the_hardware_has() {
    let needed = required_words(&guest(AVX | AES | X2APIC, AVX2), host_with(AVX | X2APIC, AVX2 | 1));
    assert_eq!(needed, [word(1, 2, AVX), word(7, 1, AVX2)]);
}

#[test]
fn a_host_with_more_will_do() {
    let needed = required_words(&guest(AVX, AVX2), host_with(AVX, AVX2));
    assert_eq!(both(&needed, host_with(AVX | AES, AVX2 | 1)), []);
}

#[test]
fn what_is_missing_is_named() {
    let needed = [word(1, 2, AVX | AES), word(7, 1, AVX2)];
    let found = both(&needed, host_with(AES, 0));
    assert_eq!(found.len(), 2);
    assert_eq!((found[0].word, found[0].names.as_slice()), (word(1, 2, AVX), ["avx".to_owned()].as_slice()));
    assert_eq!(found[1].names, ["avx2"]);
}

#[test]
fn a_hostile_image_cannot_ask_for_what_does_not_exist() {
    let needed = [word(1, 4, 1), word(0x8000_0021, 0, 1), word(u32::MAX, 255, u32::MAX)];
    let found = both(&needed, host_with(u32::MAX, u32::MAX));
    assert_eq!(found.iter().map(|m| m.names.len()).collect::<Vec<_>>(), [1, 1, 32]);
}

#[test]
fn this_host_has_what_it_has() {
    let all: Vec<_> = [1, 7, 0xD, 0x8000_0001]
        .map(|function| {
            let [eax, ebx, ecx, edx] = host(function, 0);
            kvm_cpuid_entry2 { function, eax, ebx, ecx, edx, ..Default::default() }
        })
        .into();
    let needed = required_words(&all, host);
    assert!(needed.iter().any(|word| (word.function, word.register) == (1, 3)), "{needed:?}");
    assert_eq!(missing(&needed, host, |_, _| unreachable!("KVM offers all"), false), []);
    assert_eq!(vendor(host).len(), 12);
}

#[test]
fn what_kvm_does_not_offer_is_missing_although_the_processor_has_it() {
    // AVX2 is there, and KVM was told to hide it; RTM was switched off for all.
    let needed = [word(1, 2, AVX), word(7, 1, AVX2 | 1 << 11)];
    let found = missing(&needed, host_with(AVX, 0), host_with(AVX, AVX2), false);
    // PVM cannot hide anything of the processor.
    let found_unhidden = missing(&needed, host_with(AVX, 0), host_with(AVX, AVX2), true);
    assert_eq!(found_unhidden.iter().flat_map(|m| &m.names).collect::<Vec<_>>(), ["rtm"]);
    let said: Vec<_> = found.iter().map(|m| (m.withheld, m.names.join(" "))).collect();
    assert_eq!(said, [(false, "rtm".to_owned()), (true, "avx2".to_owned())]);
}

#[test]
fn what_a_processor_does_by_itself_an_older_kvm_need_not_know() {
    // Fast short REP MOVSB came into KVM's list later than into processors.
    let fsrm = [word(7, 3, 1 << 4)];
    let processor = |leaf, _| match leaf {
        0 => [7, 0, 0, 0],
        7 => [0, 0, 0, 1 << 4 | 1 << 24],
        _ => [0; 4],
    };
    assert_eq!(missing(&fsrm, |_, _| [0; 4], processor, false), []);
    // Tiles have state, which KVM must save.
    assert!(missing(&[word(7, 3, 1 << 24)], |_, _| [0; 4], processor, false)[0].withheld);
    assert!(!missing(&fsrm, |_, _| [0; 4], |_, _| [0; 4], false)[0].withheld);
}

#[test]
fn all_that_a_guest_was_shown_counts_but_for_what_every_kvm_has() {
    let shown = |leaf, subleaf| match (leaf, subleaf) {
        (1, _) => [0, 0, AVX | X2APIC | 1 << 31, 0],
        (7, 0) => [0, 0, 0, 1 << 29 | 1 << 26],
        (0x4000_0001, _) => [1 << 5, 0, 0, 0],
        (0x24, _) => [0, 0x0002_0001, 0, 0],
        _ => [0; 4],
    };
    let words = shown_words(shown);
    assert_eq!(
        words,
        [word(1, 2, AVX), word(7, 3, 1 << 26), word(0x24, 1, 1 << 17), word(0x4000_0001, 0, 1 << 5)]
    );
    let names: Vec<_> =
        missing(&words, |_, _| [0; 4], |_, _| [0; 4], false).into_iter().flat_map(|m| m.names).collect();
    assert_eq!(names, ["avx", "spec_ctrl", "avx10_256", "kvm_steal_time"]);
}
