use snapshot_format::testing::samples;

use super::*;

fn id(n: u8) -> HostId {
    HostId(vec![n; 60])
}

#[test]
fn another_host_or_another_need_is_another_digest() {
    let (needs, vcpus) = (samples::manifest().host, vec![samples::vcpu(0), samples::vcpu(1)]);
    let met = digest_of(&id(1), &needs, &vcpus);
    assert_eq!(digest_of(&id(1), &needs, &vcpus), met);
    assert_ne!(digest_of(&id(2), &needs, &vcpus), met);

    type ChangeNeeds = fn(&mut HostNeedsState);
    let changes: [ChangeNeeds; 6] = [
        |needs| needs.cpu_vendor.push('x'),
        |needs| needs.kvm_kind.push('x'),
        |needs| needs.cpuid[0].bits ^= 1,
        |needs| _ = needs.cpuid.pop(),
        |needs| needs.kvm_caps.push(7),
        |needs| needs.xsave_bytes += 64,
    ];
    for (n, change) in changes.into_iter().enumerate() {
        let mut needs = needs.clone();
        change(&mut needs);
        assert_ne!(digest_of(&id(1), &needs, &vcpus), met, "need {n}");
    }

    type ChangeVcpu = fn(&mut VcpuState);
    let changes: [ChangeVcpu; 5] = [
        |vcpu| vcpu.cpuid[0].edx ^= 1 << 31,
        |vcpu| vcpu.sregs.efer ^= 1 << 21,
        |vcpu| vcpu.xcrs[0].value ^= 1 << 9,
        |vcpu| vcpu.msrs[0].data ^= 1,
        |vcpu| vcpu.msrs[0].index ^= 1,
    ];
    for (n, change) in changes.into_iter().enumerate() {
        let mut vcpus = vcpus.clone();
        change(&mut vcpus[1]);
        assert_ne!(digest_of(&id(1), &needs, &vcpus), met, "vCPU {n}");
    }
}

#[test]
fn this_host_knows_itself_again() {
    let kind = KvmKind::detect();
    let here = || HostId::here(kind, crate::arch::x86_64::cpuid::host);
    assert_eq!(here(), here());
    if kind != KvmKind::Unknown {
        let other = HostId::here(kind, |_, _| [7; 4]);
        assert!(here().is_some() && other.is_some() && here() != other);
    }
    assert_eq!(HostId::here(KvmKind::Unknown, |_, _| [0; 4]), None);
}
