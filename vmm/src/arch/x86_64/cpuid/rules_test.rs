use super::*;

/// CPUID with one register of one leaf set, and else nothing.
fn only(leaf: u32, subleaf: u32, register: Register, value: u32) -> impl Fn(u32, u32) -> Registers {
    move |asked, sub| {
        let mut registers = [0; 4];
        if (asked, sub) == (leaf, subleaf) {
            registers[register as usize] = value;
        }
        registers
    }
}

#[test]
fn every_rule_is_kept_by_the_same_and_broken_by_less() {
    for rule in RULES {
        assert!((1..=32).contains(&rule.width) && rule.shift + rule.width <= 32, "{rule:?}");
        assert!(rule.because.len() > 20, "{rule:?}");
        let of = |number: u32| only(rule.leaf, rule.subleaf, rule.register, number << rule.shift);
        assert_eq!(broken(of(46), of(46)), []);
        assert_eq!(broken(of(0), of(46)), [], "{rule:?}: a guest that was shown nothing needs nothing");
        let less = Broken { rule: *rule, shown: 46, found: 39 };
        assert_eq!(broken(of(46), of(39)), [less]);
        let more = broken(of(46), of(52)).len();
        assert_eq!(more, usize::from(rule.relation == Relation::Equal), "{rule:?}");
    }
}

#[test]
fn a_host_with_fewer_address_bits_is_refused_in_words() {
    let of = |bits: u32| only(0x8000_0008, 0, Eax, bits);
    let said = broken(of(0x3030), of(0x3027))[0].to_string();
    assert_eq!(
        said,
        "the number of physical address bits (CPUID 0x80000008.0x0) is 39, at least 48 is needed"
    );
    // Five levels of page tables, on a host that has four.
    let said = broken(of(0x392E), of(0x302E))[0].to_string();
    assert_eq!(said, "the number of linear address bits (CPUID 0x80000008.0x0) is 48, at least 57 is needed");
    // A neighbour of the field does not count: the width that a guest's own guests have.
    assert_eq!(broken(of(0x30_3030), of(0x00_3030)), []);
}

/// XSAVE of a processor that keeps PKRU at an offset, with AVX or without.
fn xsave(components: u32, pkru: u32) -> impl Fn(u32, u32) -> Registers {
    move |leaf, subleaf| match (leaf, subleaf) {
        (0xD, 0) => [components, 0, 0, 0],
        (0xD, 2) if components & 4 != 0 => [256, 576, 0, 0],
        (0xD, 9) if components & 1 << 9 != 0 => [8, pkru, 0, 0],
        _ => [0; 4],
    }
}

#[test]
fn components_of_the_xsave_area_lie_where_the_guest_was_told() {
    let (intel, amd) = (2688, 832);
    assert_eq!(broken(xsave(0b10_0000_0111, intel), xsave(0b10_1110_0111, intel)), []);
    let moved = broken(xsave(0b10_0000_0111, intel), xsave(0b10_0000_0111, amd));
    let expected = "the offset of an XSAVE component (CPUID 0xd.0x9) is 832, 2688 is needed";
    assert_eq!(moved.iter().map(ToString::to_string).collect::<Vec<_>>(), [expected]);
    // A component that the guest was not shown may be anywhere.
    assert_eq!(broken(xsave(0b111, 0), xsave(0b10_0000_0111, amd)), []);
}
