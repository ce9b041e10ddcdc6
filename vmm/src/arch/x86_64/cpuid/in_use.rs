//! Control bits that a guest has set, and that a host must know: `EFER`, `XCR0` and `IA32_XSS`.
//!
//! `KVM_SET_SREGS` takes whatever is in EFER, and what the processor does not have fails as the guest is entered.

use super::Registers;

#[cfg(test)]
#[path = "in_use_test.rs"]
mod in_use_test;

/// What a guest had in its control registers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InUse {
    /// `IA32_EFER`.
    pub efer: u64,
    /// `XCR0`: the state components of user mode.
    pub xcr0: u64,
    /// `IA32_XSS`: the state components of kernel mode.
    pub xss: u64,
}

/// A bit of EFER, and the bit of CPUID that says whether it can be set: leaf, register's index, bit.
struct EferBit {
    bit: u32,
    name: &'static str,
    feature: Option<(u32, usize, u32)>,
}

const fn efer(bit: u32, name: &'static str, leaf: u32, register: usize, feature: u32) -> EferBit {
    EferBit { bit, name, feature: Some((leaf, register, feature)) }
}

/// AMD APM vol. 2, 3.1.7.
const EFER: &[EferBit] = &[
    efer(0, "SCE", 0x8000_0001, 3, 11),
    efer(8, "LME", 0x8000_0001, 3, 29),
    efer(10, "LMA", 0x8000_0001, 3, 29),
    efer(11, "NXE", 0x8000_0001, 3, 20),
    efer(12, "SVME", 0x8000_0001, 2, 2),
    // Processors that do not have it say so; KVM refuses it there (`EFER_LMSLE_MBZ`).
    EferBit { bit: 13, name: "LMSLE", feature: None },
    efer(14, "FFXSR", 0x8000_0001, 3, 25),
    efer(15, "TCE", 0x8000_0001, 2, 17),
    efer(17, "MCOMMIT", 0x8000_0008, 1, 8),
    efer(18, "INTWB", 0x8000_0008, 1, 13),
    efer(20, "UAIE", 0x8000_0021, 0, 7),
    efer(21, "AIBRSE", 0x8000_0021, 0, 8),
];

/// The bits of `used` that a host cannot set which offers `offered`, for people.
pub fn not_offered(used: InUse, offered: impl Fn(u32, u32) -> Registers) -> Vec<String> {
    let InUse { efer, xcr0, xss } = used;
    let set = |value: u64| (0..64).filter(move |bit| value >> bit & 1 != 0);
    let efer = set(efer).filter_map(|bit| {
        let Some(known) = EFER.iter().find(|known| known.bit == bit) else {
            return Some(format!("EFER bit {bit}"));
        };
        let there = known
            .feature
            .is_none_or(|(leaf, register, feature)| offered(leaf, 0)[register] >> feature & 1 != 0);
        (!there).then(|| format!("EFER.{}", known.name))
    });
    let [low, _, _, high] = offered(0xD, 0);
    let xcr0 = set(xcr0 & !(u64::from(high) << 32 | u64::from(low)));
    let [_, _, low, high] = offered(0xD, 1);
    let xss = set(xss & !(u64::from(high) << 32 | u64::from(low)));
    efer.chain(xcr0.map(|bit| format!("XCR0 bit {bit}")))
        .chain(xss.map(|bit| format!("XSS bit {bit}")))
        .collect()
}
