//! The numbers in CPUID that a restored guest relies on, and how a host's must relate to them.
//!
//! Feature bits are in [`super::features`]: there a host must have each bit that the guest was shown. Here is what is
//! no bit. To add a rule, add a line to [`RULES`].

use super::Register::{self, Eax, Ebx};
use super::Registers;

#[cfg(test)]
#[path = "rules_test.rs"]
mod rules_test;

/// How the host's number must relate to the one that the guest was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// The host's is as large or larger.
    AtLeast,
    /// Both are the same.
    Equal,
}

/// A number in a register of CPUID. A guest that was shown 0 does not rely on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// CPUID leaf.
    pub leaf: u32,
    /// CPUID sub-leaf, 0 for a leaf without any.
    pub subleaf: u32,
    /// The register that has the number.
    pub register: Register,
    /// Its lowest bit.
    pub shift: u32,
    /// How many bits it has, at most 32.
    pub width: u32,
    /// How the host's must relate to it.
    pub relation: Relation,
    /// What it is, for people.
    pub what: &'static str,
    /// Why.
    pub because: &'static str,
}

/// The rules for whatever leaf there is, but for the layout of the XSAVE area.
pub const RULES: &[Rule] = &[
    Rule {
        leaf: 0x1,
        subleaf: 0,
        register: Ebx,
        shift: 8,
        width: 8,
        relation: Relation::Equal,
        what: "the line that CLFLUSH writes back, in units of 8 bytes",
        because: "a guest flushes a range line by line: of shorter lines it would leave out some",
    },
    Rule {
        leaf: 0x8000_0008,
        subleaf: 0,
        register: Eax,
        shift: 0,
        width: 8,
        relation: Relation::AtLeast,
        what: "the number of physical address bits",
        because: "an address bit beyond the host's is reserved in page tables, and the guest's next access faults",
    },
    Rule {
        leaf: 0x8000_0008,
        subleaf: 0,
        register: Eax,
        shift: 8,
        width: 8,
        relation: Relation::AtLeast,
        what: "the number of linear address bits",
        because: "pointers of a guest with five levels of page tables are not canonical with four",
    },
    Rule {
        leaf: 0x24,
        subleaf: 0,
        register: Ebx,
        shift: 0,
        width: 8,
        relation: Relation::AtLeast,
        what: "the version of AVX10",
        because: "each version adds instructions to the one before (Intel AVX10 specification, 1.2)",
    },
];

/// The leaf that describes the XSAVE area; its sub-leaf N is of state component N.
const XSAVE: u32 = 0xD;

/// Where the guest's XSAVE instruction puts component `n`: processors of one vendor differ in it, too.
fn component(n: u32) -> [Rule; 2] {
    let rule = |register, what| Rule {
        leaf: XSAVE,
        subleaf: n,
        register,
        shift: 0,
        width: 32,
        relation: Relation::Equal,
        what,
        because: "a guest finds registers in areas that it has saved by the offsets that it was shown",
    };
    [rule(Eax, "the size of an XSAVE component"), rule(Ebx, "the offset of an XSAVE component")]
}

/// A number of the host's that does not do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The rule that it breaks.
    pub rule: Rule,
    /// What the guest was shown.
    pub shown: u32,
    /// What this host has.
    pub found: u32,
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { rule, shown, found } = self;
        let Rule { leaf, subleaf, what, .. } = rule;
        let needed = match rule.relation {
            Relation::AtLeast => "at least ",
            Relation::Equal => "",
        };
        write!(f, "{what} (CPUID {leaf:#x}.{subleaf:#x}) is {found}, {needed}{shown} is needed")
    }
}

/// The rules that a host breaks for a guest that was shown `shown`.
pub fn broken(shown: impl Fn(u32, u32) -> Registers, host: impl Fn(u32, u32) -> Registers) -> Vec<Broken> {
    let [low, _, _, high] = shown(XSAVE, 0);
    // The first two components are the legacy area, which every processor has in the same place.
    let components = u64::from(high) << 32 | u64::from(low & !0b11);
    let layout = (0..64).filter(|n| components >> n & 1 != 0).flat_map(component);
    RULES
        .iter()
        .copied()
        .chain(layout)
        .filter_map(|rule| {
            let number = |registers: Registers| {
                let mask = u32::MAX >> (32 - rule.width);
                registers[rule.register as usize] >> rule.shift & mask
            };
            let (shown, found) =
                (number(shown(rule.leaf, rule.subleaf)), number(host(rule.leaf, rule.subleaf)));
            let met = match rule.relation {
                Relation::AtLeast => found >= shown,
                Relation::Equal => shown == 0 || found == shown,
            };
            (!met).then_some(Broken { rule, shown, found })
        })
        .collect()
}
