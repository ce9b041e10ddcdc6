use super::*;

#[test]
fn memory_ends_within_the_addresses_that_there_are() {
    let ram = |gib: u64| RamLayout::new(gib << 30).unwrap();
    // 1 GiB lies beyond the hole, which is as large.
    check_address_bits(ram(511), 39).unwrap();
    let refused = check_address_bits(ram(512), 39).unwrap_err();
    assert!(matches!(refused, Error::AddressBits { end: 0x80_4000_0000, bits: 39 }), "{refused}");
    assert!(refused.to_string().contains("0x8040000000, beyond the 39 physical address bits"), "{refused}");
    check_address_bits(ram(512), 40).unwrap();
    check_address_bits(ram(512), 64).unwrap();
}
