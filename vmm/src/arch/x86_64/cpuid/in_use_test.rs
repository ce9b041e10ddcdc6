use super::*;

/// SYSCALL, NX and long mode; XSAVE with x87, SSE, AVX and PKRU, and one component for kernels.
fn offered(leaf: u32, subleaf: u32) -> Registers {
    match (leaf, subleaf) {
        (0x8000_0001, _) => [0, 0, 0, 1 << 11 | 1 << 20 | 1 << 29],
        (0xD, 0) => [0b10_0000_0111, 0, 0, 0],
        (0xD, 1) => [0, 0, 1 << 11, 0],
        _ => [0; 4],
    }
}

#[test]
fn what_the_host_knows_may_be_in_use() {
    let used = InUse { efer: 0xD01, xcr0: 0b10_0000_0111, xss: 1 << 11 };
    assert_eq!(not_offered(used, offered), [""; 0]);
    assert_eq!(not_offered(InUse::default(), |_, _| [0; 4]), [""; 0]);
}

#[test]
fn what_it_does_not_know_is_named() {
    for bit in EFER.iter().filter(|bit| bit.feature.is_some()) {
        let used = InUse { efer: 1 << bit.bit, ..InUse::default() };
        assert_eq!(not_offered(used, |_, _| [0; 4]), [format!("EFER.{}", bit.name)]);
        assert_eq!(not_offered(used, |_, _| [u32::MAX; 4]), [""; 0]);
    }
    let used = InUse { efer: 1 << 21 | 1 << 63 | 0xD01, xcr0: 1 << 5 | 0b111, xss: 1 << 8 | 1 << 40 };
    let expected = ["EFER.AIBRSE", "EFER bit 63", "XCR0 bit 5", "XSS bit 8", "XSS bit 40"];
    assert_eq!(not_offered(used, offered), expected);
}
