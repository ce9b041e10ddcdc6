//! What an image needs of a host's processor: recorded at a snapshot, compared at a restore.

use kvm_bindings::kvm_cpuid_entry2;
use snapshot_format::state::CpuidWordState;

use super::Registers;
use super::features::{WORDS, name};

/// Features that an image needs and a host lacks, all of one CPUID register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The register, with the bits that are missing.
    pub word: CpuidWordState,
    /// Their names for people, as `/proc/cpuinfo` has them, or leaf, register and bit where there is no name.
    pub names: Vec<String>,
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

/// What of `needed` this host lacks; empty if it has everything. `needed` comes from an image that may be
/// hostile.
#[must_use]
pub fn missing(needed: &[CpuidWordState], host: impl Fn(u32, u32) -> Registers) -> Vec<Missing> {
    needed
        .iter()
        .filter_map(|word| {
            // A register that does not exist has no bits.
            let found = present(&host, word.function, word.index);
            let found = found.get(usize::from(word.register)).copied().unwrap_or(0);
            let bits = word.bits & !found;
            let lacking = (0..32).filter(|bit| bits >> bit & 1 != 0);
            let names: Vec<_> = lacking.map(|bit| name(word, bit)).collect();
            (bits != 0).then_some(Missing { word: CpuidWordState { bits, ..*word }, names })
        })
        .collect()
}

/// The host's registers for a leaf, zero for a leaf past the last one: there a processor may return any other
/// leaf (Intel SDM vol. 2A, CPUID).
fn present(host: &impl Fn(u32, u32) -> Registers, leaf: u32, subleaf: u32) -> Registers {
    let [last, ..] = host(leaf & 0x8000_0000, 0);
    if leaf > last { [0; 4] } else { host(leaf, subleaf) }
}
