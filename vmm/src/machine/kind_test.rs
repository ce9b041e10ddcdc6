use super::*;

/// CPUID of a vendor's processor, with or without its extension for virtualization, and with nonsense in the other's bit.
fn processor(vendor: &'static [u8; 12], can: bool) -> impl Fn(u32, u32) -> Registers {
    let part = |i: usize| u32::from_le_bytes(vendor[i..i + 4].try_into().unwrap());
    let (basic, extended) = if vendor == b"AuthenticAMD" { (true, can) } else { (can, true) };
    let id = [1, part(0), part(8), part(4)];
    move |leaf, _| match leaf {
        0 => id,
        1 => [0, 0, u32::from(basic) << 5, 0],
        0x8000_0001 => [0, 0, u32::from(extended) << 2, 0],
        _ => [0; 4],
    }
}

fn kind(files: &[&str], cpuid: impl Fn(u32, u32) -> Registers) -> KvmKind {
    KvmKind::provider(|path| files.iter().any(|file| path == Path::new("/sys/module").join(file)), &cpuid)
}

const AMD: &[u8; 12] = b"AuthenticAMD";
const INTEL: &[u8; 12] = b"GenuineIntel";

#[test]
fn one_module_is_the_one_whatever_the_processor_says() {
    for (module, expected) in
        [("kvm_intel", KvmKind::Vmx), ("kvm_amd", KvmKind::Svm), ("kvm_pvm", KvmKind::Pvm)]
    {
        assert_eq!(kind(&[module], processor(INTEL, false)), expected);
        assert_eq!(kind(&[module], processor(b"CyrixInstead", false)), expected);
    }
    assert_eq!(kind(&[], processor(INTEL, true)), KvmKind::Unknown);
}

#[test]
fn of_modules_that_are_built_in_the_processors_own_is_the_one() {
    let both = &["kvm_intel", "kvm_amd"];
    assert_eq!(kind(both, processor(AMD, true)), KvmKind::Svm);
    assert_eq!(kind(both, processor(b"HygonGenuine", true)), KvmKind::Svm);
    assert_eq!(kind(both, processor(INTEL, true)), KvmKind::Vmx);
    assert_eq!(kind(both, processor(b"CentaurHauls", true)), KvmKind::Vmx);
    assert_eq!(kind(both, processor(AMD, false)), KvmKind::Unknown);
    let all = &["kvm_pvm", "kvm_intel", "kvm_amd"];
    assert_eq!(kind(all, processor(AMD, true)), KvmKind::Svm);
    assert_eq!(kind(all, processor(INTEL, false)), KvmKind::Pvm);
}

#[test]
fn a_module_that_was_loaded_beats_those_that_are_built_in() {
    let files = &["kvm_pvm", "kvm_pvm/initstate", "kvm_intel", "kvm_amd"];
    assert_eq!(kind(files, processor(INTEL, true)), KvmKind::Pvm);
    let files = &["kvm_pvm", "kvm_amd", "kvm_amd/initstate"];
    assert_eq!(kind(files, processor(AMD, true)), KvmKind::Svm);
}

#[test]
fn this_host_has_a_kind_if_it_has_a_module() {
    let found = KvmKind::detect();
    assert_eq!(found.directory().is_some_and(|path| path.exists()), found != KvmKind::Unknown);
}
