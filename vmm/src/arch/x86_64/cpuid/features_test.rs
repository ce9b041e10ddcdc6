use super::*;

fn at(function: u32, index: u32, register: Register) -> CpuidWordState {
    CpuidWordState { function, index, register: register as u8, bits: 0 }
}

#[test]
fn every_word_names_32_bits() {
    for word in WORDS {
        assert_eq!(word.names.split_whitespace().count(), 32, "{:#x}.{}", word.leaf, word.subleaf);
    }
}

#[test]
fn well_known_bits_have_their_names() {
    for (function, index, register, bit, expected) in [
        (1, 0, Ecx, 0, "sse3"),
        (1, 0, Ecx, 20, "sse4_2"),
        (1, 0, Ecx, 28, "avx"),
        (1, 0, Ecx, 30, "rdrand"),
        (1, 0, Edx, 26, "sse2"),
        (7, 0, Ebx, 5, "avx2"),
        (7, 0, Ebx, 16, "avx512f"),
        (7, 0, Ebx, 29, "sha_ni"),
        (7, 0, Ecx, 16, "la57"),
        (7, 0, Ecx, 22, "rdpid"),
        (7, 0, Edx, 29, "arch_capabilities"),
        (7, 1, Eax, 4, "avx_vnni"),
        (0xD, 0, Eax, 9, "xstate_pkru"),
        (0x8000_0001, 0, Ecx, 22, "topoext"),
        (0x8000_0001, 0, Edx, 20, "nx"),
        (0x8000_0001, 0, Edx, 26, "pdpe1gb"),
        (0x8000_0007, 0, Edx, 8, "constant_tsc"),
        (0x8000_0008, 0, Ebx, 12, "amd_ibpb"),
        (0x8000_0008, 0, Ebx, 24, "amd_ssbd"),
        (0x8000_0021, 0, Eax, 8, "auto_ibrs"),
    ] {
        assert_eq!(name(&at(function, index, register), bit), expected);
    }
}

#[test]
fn a_bit_without_a_name_says_where_it_is() {
    assert_eq!(name(&at(1, 0, Ecx), 16), "CPUID 0x1.0x0 ECX bit 16");
    assert_eq!(name(&at(0x99, 3, Eax), 31), "CPUID 0x99.0x3 EAX bit 31");
    let nowhere = CpuidWordState { function: 1, index: 0, register: 9, bits: 0 };
    assert_eq!(name(&nowhere, 0), "CPUID 0x1.0x0 no register bit 0");
}
