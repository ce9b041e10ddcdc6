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
    /// Names by bit, bit 0 first; separated by blanks, `-` for a bit without a name.
    names: &'static str,
}

const fn word(leaf: u32, subleaf: u32, register: Register, emulated: u32, names: &'static str) -> Word {
    Word { leaf, subleaf, register, emulated, names }
}

/// OSXSAVE, x2APIC, TSC deadline, hypervisor.
const BASIC_EMULATED: u32 = 1 << 27 | 1 << 21 | 1 << 24 | 1 << 31;
/// TSC_ADJUST.
const SEVEN_EBX_EMULATED: u32 = 1 << 1;
/// UMIP, OSPKE.
const SEVEN_ECX_EMULATED: u32 = 1 << 2 | 1 << 4;
/// CMP_LEGACY, which is topology.
const EXTENDED_EMULATED: u32 = 1 << 1;
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
    word(
        0x7,
        0,
        Ebx,
        SEVEN_EBX_EMULATED,
        "fsgsbase tsc_adjust sgx bmi1 hle avx2 fdp_excptn_only smep bmi2 erms invpcid rtm cqm zero_fcs_fds mpx \
         rdt_a avx512f avx512dq rdseed adx smap avx512ifma - clflushopt clwb intel_pt avx512pf avx512er avx512cd \
         sha_ni avx512bw avx512vl",
    ),
    word(
        0x7,
        0,
        Ecx,
        SEVEN_ECX_EMULATED,
        "- avx512vbmi umip pku ospke waitpkg avx512_vbmi2 shstk gfni vaes vpclmulqdq avx512_vnni avx512_bitalg \
         tme avx512_vpopcntdq - la57 - - - - - rdpid - bus_lock_detect cldemote - movdiri movdir64b enqcmd \
         sgx_lc pks",
    ),
    word(
        0x7,
        0,
        Edx,
        0,
        "- - avx512_4vnniw avx512_4fmaps fsrm uintr - - avx512_vp2intersect srbds_ctrl md_clear \
         rtm_always_abort - tsx_force_abort serialize hybrid_cpu tsxldtrk - pconfig arch_lbr ibt - amx_bf16 \
         avx512_fp16 amx_tile amx_int8 spec_ctrl intel_stibp flush_l1d arch_capabilities core_capabilities \
         spec_ctrl_ssbd",
    ),
    word(
        0x7,
        1,
        Eax,
        0,
        "sha512 sm3 sm4 - avx_vnni avx512_bf16 - cmpccxadd - - fzrm fsrs fsrc - - - - fred lkgs wrmsrns nmi_src \
         amx_fp16 hreset avx_ifma - - lam - - - - -",
    ),
    word(
        0x7,
        1,
        Edx,
        0,
        "- - - - avx_vnni_int8 avx_ne_convert - - amx_complex - avx_vnni_int16 - - - prefetchiti - - - - avx10 \
         - - - - - - - - - - - -",
    ),
    word(
        0x7,
        2,
        Edx,
        0,
        "intel_psfd ipred_ctrl rrsba_ctrl ddpd_u bhi_ctrl mcdt_no - - - - - - - - - - - - - - - - - - - - - - - \
         - - -",
    ),
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
    word(
        0x8000_0008,
        0,
        Ebx,
        0,
        "clzero irperf xsaveerptr - rdpru - - - - wbnoinvd - - amd_ibpb - amd_ibrs amd_stibp - \
         amd_stibp_always_on - - - - - amd_ppin amd_ssbd virt_ssbd amd_ssb_no cppc amd_psfd btc_no ibpb_ret -",
    ),
    word(
        0x8000_0021,
        0,
        Eax,
        0,
        "no_nested_data_bp fsgsbase_nonserializing lfence_rdtsc smm_page_cfg_lock - - null_sel_clr_base - \
         auto_ibrs no_smm_ctl_msr fsrs fsrc - prefetchctl_msr - - - - - - - - - - - - - sbpb ibpb_brtype srso_no \
         srso_user_kernel_no -",
    ),
];

/// A bit's name, or where it is for want of one.
pub(super) fn name(word: &CpuidWordState, bit: u32) -> String {
    let CpuidWordState { function, index, register, .. } = *word;
    let known = WORDS
        .iter()
        .find(|known| (known.leaf, known.subleaf, known.register as u8) == (function, index, register));
    let named = known.and_then(|known| known.names.split_whitespace().nth(bit as usize));
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
