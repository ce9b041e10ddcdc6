//! Port I/O, and the numbers of the ports that spark knows.
//!
//! The functions are safe: no device behind a port that spark can reach (the TSS permits 0 to 0xfff) writes to memory.

use core::arch::asm;

/// The first 16550's registers, eight ports.
pub const COM1: u16 = 0x3f8;
/// The keyboard controller's command port; 0xfe pulses the reset line.
pub const I8042_COMMAND: u16 = 0x64;
/// pvpanic; bit 0 reports a panic.
pub const PVPANIC: u16 = 0x505;
/// The readiness port: writing 1 says that the guest is ready.
pub const READY: u16 = 0x5e0;
/// ACPI's PM1a control register, 16 bits.
pub const PM1A_CONTROL: u16 = 0x604;

/// Writes a byte.
pub fn write8(port: u16, value: u8) {
    // SAFETY: no device reachable by a port writes to memory, and OUT changes nothing else.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack, preserves_flags)) }
}

/// Writes 16 bits.
pub fn write16(port: u16, value: u16) {
    // SAFETY: as in `write8`.
    unsafe { asm!("out dx, ax", in("dx") port, in("ax") value, options(nomem, nostack, preserves_flags)) }
}

/// Reads a byte.
pub fn read8(port: u16) -> u8 {
    let value: u8;
    // SAFETY: as in `write8`.
    unsafe { asm!("in al, dx", in("dx") port, out("al") value, options(nomem, nostack, preserves_flags)) }
    value
}
