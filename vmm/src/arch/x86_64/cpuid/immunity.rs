//! `IA32_ARCH_CAPABILITIES`: which flaws a processor does not have, and which it has.
//!
//! A kernel reads the MSR once, as it boots, and leaves out what it need not defend itself against: page-table isolation
//! for one. A guest that did so must not wake where it would have been needed.

use super::Registers;

#[cfg(test)]
#[path = "immunity_test.rs"]
mod immunity_test;

/// `IA32_ARCH_CAPABILITIES`.
pub const ARCH_CAPABILITIES: u32 = 0x10A;

/// Leaf 7, EDX: the MSR is there.
const SHOWN: u32 = 1 << 29;

/// Bits by which a processor owns up to a flaw: the guest must have been told of each that the host has.
const FLAWS: &[(u32, &str)] = &[
    (2, "rsba"), // The return predictor falls back to the branch predictor: retpolines are not enough.
    (19, "rrsba"), // So it does in restricted modes.
];

/// Bits that only a hypervisor looks at, and VMX is hidden from the guest: no flush of the L1 cache needed before an
/// entry, and no machine check by a change of page size. The first follows the host's own settings.
const FOR_HYPERVISORS: u64 = 1 << 3 | 1 << 6;

/// The names of all other bits that have one; the host must have each that the guest was told of.
const IMMUNITIES: &[(u32, &str)] = &[
    (0, "rdcl_no"), // Without it a kernel isolates its page tables.
    (1, "ibrs_all"),
    (4, "ssb_no"),
    (5, "mds_no"),
    (7, "tsx_ctrl"),
    (8, "taa_no"),
    (9, "mcu_control"),
    (10, "misc_package_ctls"),
    (11, "energy_filtering"),
    (12, "doitm"),
    (13, "sbdr_ssdp_no"),
    (14, "fbsdp_no"),
    (15, "psdp_no"),
    (17, "fb_clear"), // VERW clears the fill buffers.
    (18, "fb_clear_ctrl"),
    (20, "bhi_no"),
    (21, "xapic_disable"),
    (23, "overclocking"),
    (24, "pbrsb_no"),
    (25, "gds_ctrl"),
    (26, "gds_no"),
    (27, "rfds_no"),
    (28, "rfds_clear"),
    (29, "ign_umonitor"),
    (30, "mon_umon_mitg"),
    (62, "its_no"),
];

/// Vendors whose processors do not have the MSR. KVM made it up for their guests for some years; kernels tell their flaws
/// by the vendor, before they read it (`cpu_vuln_whitelist` in arch/x86/kernel/cpu/common.c).
const WITHOUT: [&str; 2] = ["AuthenticAMD", "HygonGenuine"];

/// What this host differs in, so that a guest is not safe on it; empty if it is.
///
/// `shown` is the guest's CPUID, `told` what it found in the MSR, `host` what KVM gives a guest here by itself: `None`
/// where it does not say.
pub fn differences(
    shown: impl Fn(u32, u32) -> Registers,
    vendor: &str,
    told: u64,
    host: Option<u64>,
) -> Vec<String> {
    let [.., features] = shown(7, 0);
    if features & SHOWN == 0 || WITHOUT.contains(&vendor) {
        return Vec::new();
    }
    let host = host.unwrap_or(0);
    let flaws = FLAWS.iter().fold(0, |mask, (bit, _)| mask | 1 << bit);
    let (missing, added) = (told & !host & !flaws & !FOR_HYPERVISORS, host & !told & flaws);
    let of = |bits: u64| (0..64).filter(move |bit| bits >> bit & 1 != 0);
    let lacks = of(missing).map(|bit| format!("lacks {}, which the guest was told of", name(bit)));
    let has = of(added).map(|bit| format!("has {}, which the guest was not told of", name(bit)));
    lacks.chain(has).collect()
}

fn name(bit: u32) -> String {
    let named = FLAWS.iter().chain(IMMUNITIES).find(|(number, _)| *number == bit);
    named.map_or_else(|| format!("bit {bit} of ARCH_CAPABILITIES"), |(_, name)| (*name).to_owned())
}
