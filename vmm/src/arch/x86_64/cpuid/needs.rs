//! What an image needs of a host's processor: recorded at a snapshot, compared at a restore.

use kvm_bindings::kvm_cpuid_entry2;
use snapshot_format::state::CpuidWordState;

use super::Registers;
use super::features::{WORDS, name, native};

/// Features that an image needs and a host lacks, all of one CPUID register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The register, with the bits that are missing.
    pub word: CpuidWordState,
    /// Their names for people, as `/proc/cpuinfo` has them, or leaf, register and bit where there is no name.
    pub names: Vec<String>,
    /// Whether the processor has them, and KVM does not let a guest have them.
    pub withheld: bool,
}

/// The feature bits that a guest with these CPUID entries was shown and that the processor itself provides.
///
/// What KVM emulates is not among them: another host's KVM does that as well.
#[must_use]
pub fn required_words(
    guest: &[kvm_cpuid_entry2],
    host: impl Fn(u32, u32) -> Registers,
) -> Vec<CpuidWordState> {
    WORDS
        .iter()
        .map(|word| {
            let of = |registers: Registers| registers[word.register as usize];
            let shown = of(super::lookup(guest, word.leaf, word.subleaf));
            let found = of(present(&host, word.leaf, word.subleaf));
            let bits = shown & found & !word.emulated;
            CpuidWordState { function: word.leaf, index: word.subleaf, register: word.register as u8, bits }
        })
        .filter(|word| word.bits != 0)
        .collect()
}

/// The feature bits that a guest with these CPUID entries was shown, but for those that every KVM provides.
#[must_use]
pub fn shown_words(shown: impl Fn(u32, u32) -> Registers) -> Vec<CpuidWordState> {
    WORDS
        .iter()
        .map(|word| {
            let bits = shown(word.leaf, word.subleaf)[word.register as usize] & !word.emulated;
            CpuidWordState { function: word.leaf, index: word.subleaf, register: word.register as u8, bits }
        })
        .filter(|word| word.bits != 0)
        .collect()
}

/// What of `needed` this host lacks; empty if it has everything. `needed` comes from an image that may be
/// hostile.
///
/// `offered` is what this host's KVM says that it can show a guest (`KVM_GET_SUPPORTED_CPUID`), `processor` the
/// processor's own CPUID. That is asked only for what KVM does not offer, and counts only for what the processor does
/// without KVM: all of it with `unhidden`, where KVM runs a guest on the processor as it is.
#[must_use]
pub fn missing(
    needed: &[CpuidWordState],
    offered: impl Fn(u32, u32) -> Registers,
    processor: impl Fn(u32, u32) -> Registers,
    unhidden: bool,
) -> Vec<Missing> {
    needed
        .iter()
        .flat_map(|word| {
            // A register that does not exist has no bits.
            let of = |registers: Registers| registers.get(usize::from(word.register)).copied().unwrap_or(0);
            let not_offered = word.bits & !of(offered(word.function, word.index));
            let there = if not_offered == 0 { 0 } else { of(present(&processor, word.function, word.index)) };
            let withheld = if unhidden { 0 } else { not_offered & there & !native(word) };
            [(not_offered & !there, false), (withheld, true)].map(|(bits, withheld)| {
                let names = (0..32).filter(|bit| bits >> bit & 1 != 0).map(|bit| name(word, bit)).collect();
                Missing { word: CpuidWordState { bits, ..*word }, names, withheld }
            })
        })
        .filter(|missing| missing.word.bits != 0)
        .collect()
}

/// The host's registers for a leaf, zero for a leaf past the last one: there a processor may return any other
/// leaf (Intel SDM vol. 2A, CPUID).
fn present(host: &impl Fn(u32, u32) -> Registers, leaf: u32, subleaf: u32) -> Registers {
    let [last, ..] = host(leaf & 0x8000_0000, 0);
    if leaf > last { [0; 4] } else { host(leaf, subleaf) }
}
