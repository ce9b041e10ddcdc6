use kvm_bindings::KVM_CPUID_FLAG_SIGNIFCANT_INDEX;

use super::*;

const ALL: Emulated = Emulated { tsc_deadline: true, x2apic: true };

fn entry(function: u32, index: u32, [eax, ebx, ecx, edx]: Registers) -> kvm_cpuid_entry2 {
    let flags = if [4, 7, 0xB, 0xD, 0x1F, 0x8000_001D].contains(&function) {
        KVM_CPUID_FLAG_SIGNIFCANT_INDEX
    } else {
        0
    };
    kvm_cpuid_entry2 { function, index, flags, eax, ebx, ecx, edx, ..Default::default() }
}

fn vendor_leaf(highest: u32, vendor: &[u8; 12]) -> kvm_cpuid_entry2 {
    let part = |i: usize| u32::from_le_bytes(vendor[i..i + 4].try_into().unwrap());
    entry(0, 0, [highest, part(0), part(8), part(4)])
}

fn amd() -> Vec<kvm_cpuid_entry2> {
    vec![
        vendor_leaf(0x10, b"AuthenticAMD"),
        entry(1, 0, [0xA2_0F12, 0x0502_0800, 0x0120_2000, 0x078B_FBFF]),
        entry(0xB, 0, [0, 0, 0, 5]),
        entry(0x4000_0000, 0, [0x4000_0001, 0x4B4D_564B, 0x564B_4D56, 0x4D]),
        entry(0x4000_0001, 0, [0x0100_7EFB, 0, 0, 0]),
        entry(0x8000_0000, 0, [0x8000_0026, 0, 0, 0]),
        entry(0x8000_0001, 0, [0xA2_0F12, 0, 0x0040_0393, 0x23D3_FBFF]),
        entry(0x8000_0007, 0, [0, 0, 0, 0x100]),
        entry(0x8000_0008, 0, [0x3030, 0x5002_0005, 0x7001, 0]),
        entry(0x8000_001D, 0, [0x121, 0x02C0_003F, 0x3F, 0]),
        entry(0x8000_001D, 3, [0x4163, 0x03C0_003F, 0x7FFF, 1]),
        entry(0x8000_001D, 4, [0; 4]),
        entry(0x8000_001E, 0, [9, 9, 9, 9]),
        entry(0x8000_0026, 0, [1, 1, 1, 1]),
    ]
}

fn intel() -> Vec<kvm_cpuid_entry2> {
    vec![
        vendor_leaf(0x1F, b"GenuineIntel"),
        entry(1, 0, [0x606A6, 0, 0x8000_0028, 0x0000_0001]),
        entry(4, 0, [0xFC00_4121, 0x02C0_003F, 0x3F, 0]),
        entry(4, 3, [0xFC1F_C163, 0x03C0_003F, 0x7FFF, 0]),
        entry(4, 4, [0; 4]),
        entry(0xA, 0, [0x0830_0805, 0, 0, 0x603]),
        entry(0xB, 0, [1, 2, 0x100, 7]),
        entry(0x1F, 0, [1, 2, 0x100, 7]),
        entry(0x8000_0008, 0, [0x3030, 0, 0, 0]),
    ]
}

fn guest(supported: &[kvm_cpuid_entry2], vcpu: u32, cpus: u32) -> impl Fn(u32, u32) -> Registers + use<> {
    let entries = for_vcpu(supported, Topology { vcpu, cpus }, ALL);
    move |leaf, subleaf| lookup(&entries, leaf, subleaf)
}

#[test]
fn each_vcpu_has_its_apic_id_everywhere() {
    for vcpu in [0, 1, 31] {
        let of = guest(&intel(), vcpu, 32);
        assert_eq!(of(1, 0)[1] >> 24, vcpu);
        for leaf in [0xB, 0x1F] {
            for level in 0..3 {
                assert_eq!(of(leaf, level)[3], vcpu);
            }
        }
        let of = guest(&amd(), vcpu, 32);
        assert_eq!((of(1, 0)[1] >> 24, of(0x8000_001E, 0)), (vcpu, [vcpu, vcpu, 0, 0]));
    }
}

#[test]
fn all_vcpus_are_cores_of_one_package() {
    for (cpus, bits) in [(1, 0), (2, 1), (3, 2), (4, 2), (32, 5)] {
        let of = guest(&intel(), 0, cpus);
        assert_eq!(of(0xB, 0)[..3], [0, 1, 0x100]);
        assert_eq!(of(0xB, 1)[..3], [bits, cpus, 0x201]);
        assert_eq!(of(0xB, 2)[..3], [0, 0, 2]);
        assert_eq!(of(1, 0)[1] >> 16 & 0xFF, 1 << bits);
        assert_eq!(of(1, 0)[3] >> 28 & 1, u32::from(cpus > 1));
        assert_eq!(of(4, 0)[0] >> 26, (1 << bits) - 1);
        let of = guest(&amd(), 0, cpus);
        assert_eq!(of(0x8000_0008, 0)[2], bits << 12 | (cpus - 1));
        assert_eq!(of(0x8000_0001, 0)[2] >> 1 & 1, u32::from(cpus > 1));
    }
}

#[test]
fn the_last_cache_is_shared_and_the_first_is_not() {
    let sharing = |eax: u32| eax >> 14 & 0xFFF;
    let of = guest(&intel(), 0, 4);
    assert_eq!((sharing(of(4, 0)[0]), sharing(of(4, 3)[0]), of(4, 4)), (0, 3, [0; 4]));
    let of = guest(&amd(), 0, 6);
    assert_eq!((sharing(of(0x8000_001D, 0)[0]), sharing(of(0x8000_001D, 3)[0])), (0, 5));
    assert_eq!(of(0x8000_001D, 4), [0; 4]);
    assert_eq!(of(0x8000_001D, 3)[0] & 0x3FFF, 0x4163 & 0x3FFF);
}

#[test]
fn no_leaf_is_made_up_past_the_last_one() {
    let entries = for_vcpu(&amd(), Topology { vcpu: 0, cpus: 2 }, ALL);
    let count = |leaf: u32| entries.iter().filter(|entry| entry.function == leaf).count();
    assert_eq!((count(0xB), count(0x1F), count(0x8000_0026)), (3, 0, 0));
    let old = [vendor_leaf(0xA, b"GenuineIntel")];
    assert_eq!(for_vcpu(&old, Topology { vcpu: 0, cpus: 2 }, ALL).len(), 1);
}

#[test]
fn what_kvm_emulates_is_shown_as_the_caller_says() {
    let ecx = |tsc_deadline: bool, x2apic: bool| {
        let emulated = Emulated { tsc_deadline, x2apic };
        let entries = for_vcpu(&amd(), Topology { vcpu: 0, cpus: 1 }, emulated);
        lookup(&entries, 1, 0)[2]
    };
    assert_eq!(ecx(false, false) & (TSC_DEADLINE | X2APIC), 0);
    assert_eq!(ecx(true, true) & (TSC_DEADLINE | X2APIC), TSC_DEADLINE | X2APIC);
    assert_eq!(ecx(false, false) & HYPERVISOR, HYPERVISOR);
}

#[test]
fn hidden_features_do_not_come_through() {
    let of = guest(&intel(), 0, 1);
    assert_eq!(of(1, 0)[2] & (1 << 3 | 1 << 5), 0);
    assert_eq!(of(0xA, 0), [0; 4]);
    // The host's is kept: a restore sees to the frequency.
    assert_eq!(guest(&amd(), 0, 1)(0x8000_0007, 0)[3], 0x100);
    assert_eq!(guest(&amd(), 0, 1)(0x4000_0001, 0)[0], 0x0100_7EFB & !0x4410);
}

#[test]
fn the_vendor_is_read_in_its_odd_order() {
    assert_eq!(vendor(guest(&amd(), 0, 1)), "AuthenticAMD");
    assert_eq!(vendor(guest(&intel(), 0, 1)), "GenuineIntel");
}

#[test]
fn a_leaf_is_read_once_and_remembered() {
    let asked = std::cell::Cell::new(0);
    let cpuid = remembered(|leaf, subleaf| {
        asked.set(asked.get() + 1);
        [leaf, subleaf, asked.get(), 0]
    });
    assert_eq!([cpuid(7, 0), cpuid(7, 1), cpuid(7, 0)], [[7, 0, 1, 0], [7, 1, 2, 0], [7, 0, 1, 0]]);
    assert_eq!(asked.get(), 2);
}
