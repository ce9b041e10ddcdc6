//! Every way to end the machine. Each returns if the machine goes on all the same.

use crate::port;

/// SLP_TYP 5, which the VMM's \_S5 names, and SLP_EN (ACPI specification 4.8.3.2.1).
const SOFT_OFF: u16 = 5 << 10 | 1 << 13;

/// ACPI power-off.
pub fn off() {
    port::write16(port::PM1A_CONTROL, SOFT_OFF);
}

/// A pulse on the keyboard controller's reset line.
pub fn reset() {
    port::write8(port::I8042_COMMAND, 0xfe);
}

/// A panic, reported by pvpanic.
pub fn panic() {
    port::write8(port::PVPANIC, 1);
}
