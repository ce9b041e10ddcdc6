//! The feature words of CPUID and the names of their bits, as Linux's `/proc/cpuinfo` has them.

use snapshot_format::state::CpuidWordState;

use super::Register::{self, Eax, Ebx, Ecx, Edx};

/// A register of CPUID in which each bit is a feature.
pub(super) struct Word {
    pub(super) leaf: u32,
    pub(super) subleaf: u32,
    pub(super) register: Register,
    /// Bits that KVM provides whether the processor has them or not, or that follow the guest's control
    /// registers.
    pub(super) emulated: u32,
    /// Bits that say what the processor does by itself: instructions without state or control of their own, and
    /// flaws that it does not have. For these the processor's own CPUID is as good as KVM's word, which older kernels
    /// lack: they report only the bits that they have heard of.
    pub(super) native: u32,
    /// Names by bit, bit 0 first; separated by blanks, `-` for a bit without a name.
    names: &'static str,
}

const fn word(leaf: u32, subleaf: u32, register: Register, emulated: u32, names: &'static str) -> Word {
    Word { leaf, subleaf, register, emulated, native: 0, names }
}

const fn with_native(native: u32, word: Word) -> Word {
    Word { native, ..word }
}

/// A mask of bits.
const fn bits<const N: usize>(numbers: [u32; N]) -> u32 {
    let (mut mask, mut at) = (0, 0);
    while at < N {
        mask |= 1 << numbers[at];
        at += 1;
    }
    mask
}

/// OSXSAVE, x2APIC, TSC deadline, hypervisor.
const BASIC_EMULATED: u32 = 1 << 27 | 1 << 21 | 1 << 24 | 1 << 31;
/// TSC_ADJUST.
const SEVEN_EBX_EMULATED: u32 = 1 << 1;
/// FDP_EXCPTN_ONLY, ZERO_FCS_FDS.
const SEVEN_EBX_NATIVE: u32 = bits([6, 13]);
/// UMIP, OSPKE.
const SEVEN_ECX_EMULATED: u32 = 1 << 2 | 1 << 4;
/// CMP_LEGACY, which is topology.
const EXTENDED_EMULATED: u32 = 1 << 1;
/// ARCH_CAPABILITIES: KVM answers for the MSR wherever a guest is shown the bit, on AMD too, and kernels differ in
/// whether they report it there. What the MSR says is compared by [`super::immunity`].
const SEVEN_EDX_EMULATED: u32 = 1 << 29;
/// FSRM, VP2INTERSECT, SERIALIZE, TSXLDTRK, AVX512_FP16.
const SEVEN_EDX_NATIVE: u32 = bits([4, 8, 14, 16, 23]);
/// CLDEMOTE, MOVDIRI, MOVDIR64B.
const SEVEN_ECX_NATIVE: u32 = bits([25, 27, 28]);
/// SHA512, SM3, SM4, AVX_VNNI, AVX512_BF16, CMPCCXADD, FZRM, FSRS, FSRC, AVX_IFMA.
const SEVEN_ONE_EAX_NATIVE: u32 = bits([0, 1, 2, 4, 5, 7, 10, 11, 12, 23]);
/// AVX_VNNI_INT8, AVX_NE_CONVERT, AVX_VNNI_INT16, PREFETCHITI.
const SEVEN_ONE_EDX_NATIVE: u32 = bits([4, 5, 10, 14]);
/// MCDT_NO.
const SEVEN_TWO_EDX_NATIVE: u32 = bits([5]);
/// CLZERO, XSAVEERPTR, SSB_NO, BTC_NO.
const ADDRESS_EBX_NATIVE: u32 = bits([0, 2, 26, 29]);
/// What a processor does or does not do with segments, LFENCE and string instructions; SRSO_NO.
const EXTENDED_21_EAX_NATIVE: u32 = bits([0, 1, 2, 6, 10, 11, 29]);
/// TSA_SQ_NO, TSA_L1_NO.
const EXTENDED_21_ECX_NATIVE: u32 = bits([1, 2]);
/// The version of AVX10, which is a number.
const AVX10_VERSION: u32 = 0xFF;
/// HTT and APIC, which are topology and KVM's.
const BASIC_EDX_EMULATED: u32 = 1 << 28 | 1 << 9;

pub(super) const WORDS: &[Word] = &[
    word(
        0x1,
        0,
        Ecx,
        BASIC_EMULATED,
        "sse3 pclmulqdq dtes64 monitor ds_cpl vmx smx est tm2 ssse3 cid sdbg fma cx16 xtpr pdcm \
         - pcid dca sse4_1 sse4_2 x2apic movbe popcnt tsc_deadline_timer aes xsave osxsave avx f16c rdrand \
         hypervisor",
    ),
    word(
        0x1,
        0,
        Edx,
        BASIC_EDX_EMULATED,
        "fpu vme de pse tsc msr pae mce cx8 apic - sep mtrr pge mca cmov pat pse36 pn clflush - dts acpi mmx \
         fxsr sse sse2 ss ht tm ia64 pbe",
    ),
    with_native(
        SEVEN_EBX_NATIVE,
        word(
            0x7,
            0,
            Ebx,
            SEVEN_EBX_EMULATED,
            "fsgsbase tsc_adjust sgx bmi1 hle avx2 fdp_excptn_only smep bmi2 erms invpcid rtm cqm zero_fcs_fds mpx \
         rdt_a avx512f avx512dq rdseed adx smap avx512ifma - clflushopt clwb intel_pt avx512pf avx512er avx512cd \
         sha_ni avx512bw avx512vl",
        ),
    ),
    with_native(
        SEVEN_ECX_NATIVE,
        word(
            0x7,
            0,
            Ecx,
            SEVEN_ECX_EMULATED,
            "- avx512vbmi umip pku ospke waitpkg avx512_vbmi2 shstk gfni vaes vpclmulqdq avx512_vnni avx512_bitalg \
         tme avx512_vpopcntdq - la57 - - - - - rdpid - bus_lock_detect cldemote - movdiri movdir64b enqcmd \
         sgx_lc pks",
        ),
    ),
    with_native(
        SEVEN_EDX_NATIVE,
        word(
            0x7,
            0,
            Edx,
            SEVEN_EDX_EMULATED,
            "- - avx512_4vnniw avx512_4fmaps fsrm uintr - - avx512_vp2intersect srbds_ctrl md_clear \
         rtm_always_abort - tsx_force_abort serialize hybrid_cpu tsxldtrk - pconfig arch_lbr ibt - amx_bf16 \
         avx512_fp16 amx_tile amx_int8 spec_ctrl intel_stibp flush_l1d arch_capabilities core_capabilities \
         spec_ctrl_ssbd",
        ),
    ),
    with_native(
        SEVEN_ONE_EAX_NATIVE,
        word(
            0x7,
            1,
            Eax,
            0,
            "sha512 sm3 sm4 - avx_vnni avx512_bf16 - cmpccxadd - - fzrm fsrs fsrc - - - - fred lkgs wrmsrns nmi_src \
         amx_fp16 hreset avx_ifma - - lam - - - - -",
        ),
    ),
    with_native(
        SEVEN_ONE_EDX_NATIVE,
        word(
            0x7,
            1,
            Edx,
            0,
            "- - - - avx_vnni_int8 avx_ne_convert - - amx_complex - avx_vnni_int16 - - - prefetchiti - - - - avx10 \
         - - - - - - - - - - - -",
        ),
    ),
    with_native(
        SEVEN_TWO_EDX_NATIVE,
        word(
            0x7,
            2,
            Edx,
            0,
            "intel_psfd ipred_ctrl rrsba_ctrl ddpd_u bhi_ctrl mcdt_no - - - - - - - - - - - - - - - - - - - - - - - \
         - - -",
        ),
    ),
    word(0x7, 1, Ecx, 0, "- - - - - msr_imm - - - - - - - - - - - - - - - - - - - - - - - - - -"),
    // The state components that XSAVE knows, named for what they hold.
    word(
        0xD,
        0,
        Eax,
        0,
        "xstate_x87 xstate_sse xstate_avx xstate_bndregs xstate_bndcsr xstate_opmask xstate_zmm_hi256 \
         xstate_hi16_zmm - xstate_pkru - - - - - - - xstate_tilecfg xstate_tiledata - - - - - - - - - - - - -",
    ),
    word(
        0xD,
        1,
        Eax,
        0,
        "xsaveopt xsavec xgetbv1 xsaves xfd - - - - - - - - - - - - - - - - - - - - - - - - - - -",
    ),
    // The vector lengths of AVX10.
    word(
        0x24,
        0,
        Ebx,
        AVX10_VERSION,
        "- - - - - - - - - - - - - - - - avx10_128 avx10_256 avx10_512 - - - - - - - - - - - - -",
    ),
    // What KVM itself offers a guest: hypercalls and shared pages.
    word(
        0x4000_0001,
        0,
        Eax,
        0,
        "kvmclock kvm_nop_io_delay kvm_mmu_op kvmclock2 kvm_async_pf kvm_steal_time kvm_pv_eoi kvm_pv_unhalt - \
         kvm_pv_tlb_flush kvm_async_pf_vmexit kvm_pv_send_ipi kvm_poll_control kvm_pv_sched_yield \
         kvm_async_pf_int kvm_msi_ext_dest_id kvm_hc_map_gpa_range kvm_migration_control - - - - - - \
         kvmclock_stable - - - - - - -",
    ),
    word(
        0x8000_0001,
        0,
        Ecx,
        EXTENDED_EMULATED,
        "lahf_lm cmp_legacy svm extapic cr8_legacy abm sse4a misalignsse 3dnowprefetch osvw ibs xop skinit wdt - \
         lwp fma4 tce - nodeid_msr - tbm topoext perfctr_core perfctr_nb - bpext ptsc perfctr_llc mwaitx - -",
    ),
    word(
        0x8000_0001,
        0,
        Edx,
        1 << 9,
        "fpu vme de pse tsc msr pae mce cx8 apic - syscall mtrr pge mca cmov pat pse36 - mp nx - mmxext mmx fxsr \
         fxsr_opt pdpe1gb rdtscp - lm 3dnowext 3dnow",
    ),
    word(
        0x8000_0007,
        0,
        Edx,
        0,
        "- - - - - - - - constant_tsc - - - - - - - - - - - - - - - - - - - - - - -",
    ),
    with_native(
        ADDRESS_EBX_NATIVE,
        word(
            0x8000_0008,
            0,
            Ebx,
            0,
            "clzero irperf xsaveerptr - rdpru - - - - wbnoinvd - - amd_ibpb - amd_ibrs amd_stibp - \
         amd_stibp_always_on - - - - - amd_ppin amd_ssbd virt_ssbd amd_ssb_no cppc amd_psfd btc_no ibpb_ret -",
        ),
    ),
    with_native(
        EXTENDED_21_EAX_NATIVE,
        word(
            0x8000_0021,
            0,
            Eax,
            0,
            "no_nested_data_bp fsgsbase_nonserializing lfence_rdtsc smm_page_cfg_lock - - null_sel_clr_base - \
         auto_ibrs no_smm_ctl_msr fsrs fsrc - prefetchctl_msr - - - - - - - - - - - - - sbpb ibpb_brtype srso_no \
         srso_user_kernel_no -",
        ),
    ),
    with_native(
        EXTENDED_21_ECX_NATIVE,
        word(
            0x8000_0021,
            0,
            Ecx,
            0,
            "- tsa_sq_no tsa_l1_no - - - - - - - - - - - - - - - - - - - - - - - - - - - - -",
        ),
    ),
];

/// The bits of a register for which the processor's own word is as good as KVM's.
pub(super) fn native(word: &CpuidWordState) -> u32 {
    known(word).map_or(0, |known| known.native)
}

fn known(word: &CpuidWordState) -> Option<&'static Word> {
    let CpuidWordState { function, index, register, .. } = *word;
    WORDS
        .iter()
        .find(|known| (known.leaf, known.subleaf, known.register as u8) == (function, index, register))
}

/// A bit's name, or where it is for want of one.
pub(super) fn name(word: &CpuidWordState, bit: u32) -> String {
    let CpuidWordState { function, index, register, .. } = *word;
    let named = known(word).and_then(|known| known.names.split_whitespace().nth(bit as usize));
    match named {
        Some(name) if name != "-" => name.to_owned(),
        _ => {
            let register = ["EAX", "EBX", "ECX", "EDX"].get(usize::from(register)).unwrap_or(&"no register");
            format!("CPUID {function:#x}.{index:#x} {register} bit {bit}")
        }
    }
}

#[cfg(test)]
#[path = "features_test.rs"]
mod features_test;
