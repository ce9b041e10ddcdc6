//! `struct vmclock_abi` of `linux/vmclock-abi.h`, as bytes.

use crate::memory::layout;

/// "VCLK".
const MAGIC: u32 = 0x4b4c_4356;
const VERSION: u16 = 1;
/// `VMCLOCK_COUNTER_INVALID`: the page relates no counter to the time of day. It would have to be kept up to date while the
/// guest runs; a guest of ours has the right time from kvmclock and the real-time clock.
const COUNTER_INVALID: u8 = 0xff;
/// `VMCLOCK_FLAG_VM_GEN_COUNTER_PRESENT`.
const HAS_GENERATION: u64 = 1 << 8;
/// `VMCLOCK_FLAG_NOTIFICATION_PRESENT`: there is an ACPI notification for every change.
const NOTIFIES: u64 = 1 << 9;

/// Length of the structure.
const BYTES: usize = 112;
/// Where the sequence counter lies.
pub(super) const SEQ_COUNT: u64 = 12;

/// The sequence counter after `before`: even, which says that nobody is writing, and another one, so that whoever was
/// reading when the guest was stopped reads again.
pub(super) fn next(before: u32) -> u32 {
    (before & !1).wrapping_add(2)
}

/// The structure. Every field that is not named here is 0: the clock's status is unknown, and so is what it would say.
pub(super) fn page(seq_count: u32, disruption: u64, generation: u64) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
    put(0, &MAGIC.to_le_bytes());
    put(4, &(layout::PAGE_SIZE as u32).to_le_bytes());
    put(8, &VERSION.to_le_bytes());
    put(10, &[COUNTER_INVALID]);
    put(SEQ_COUNT as usize, &seq_count.to_le_bytes());
    put(16, &disruption.to_le_bytes());
    put(24, &(HAS_GENERATION | NOTIFIES).to_le_bytes());
    put(104, &generation.to_le_bytes());
    bytes
}
