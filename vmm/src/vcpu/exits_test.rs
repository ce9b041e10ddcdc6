use super::*;

fn error(suberror: u32, count: u32, first: &[u64]) -> InternalError {
    let mut data = [0x7777; 16];
    data[..first.len()].copy_from_slice(first);
    InternalError { suberror, count, data }
}

/// The number of bytes, and the bytes: UD2 and what comes after it.
const INSTRUCTION: [u64; 2] = [u64::from_le_bytes([2, 0x0F, 0x0B, 0xF4, 0, 0, 0, 0]), 0];

#[test]
fn an_instruction_that_cannot_be_emulated_is_shown() {
    let with = describe(&error(EMULATION, 4, &[1, INSTRUCTION[0], INSTRUCTION[1]]));
    assert_eq!(with, "KVM cannot emulate the instruction that begins with 0f 0b");
    // More bytes than there can be.
    let many = describe(&error(EMULATION, 3, &[1, u64::MAX, u64::MAX]));
    assert!(many.ends_with(&["ff"; 15].join(" ")), "{many}");
    // Without the flag, and from a kernel that gives nothing.
    for count in [4, 1, 0] {
        let flags = if count == 4 { 2 } else { 1 };
        assert_eq!(describe(&error(EMULATION, count, &[flags])), "KVM cannot emulate an instruction");
    }
}

#[test]
fn other_errors_come_with_their_data() {
    assert_eq!(
        describe(&error(DELIVERY, 2, &[0x8000_0B0E, 0x30])),
        "KVM internal error, suberror 3 (an exit while an event was delivered, data 0x80000b0e 0x30)"
    );
    assert_eq!(
        describe(&error(UNEXPECTED_EXIT, 1, &[0x42])),
        "KVM internal error, suberror 4 (an exit of the hardware that it does not know, data 0x42)"
    );
    assert_eq!(
        describe(&error(SIMULTANEOUS_EXCEPTIONS, 0, &[])),
        "KVM internal error, suberror 2 (exceptions at the same time)"
    );
    assert_eq!(describe(&error(9, 0, &[])), "KVM internal error, suberror 9 (unknown)");
    assert!(describe(&error(9, u32::MAX, &[])).matches("0x7777").count() == 16);
}
