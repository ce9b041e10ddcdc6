//! The interrupt controllers: the IOAPIC's pin for the UART, and the LAPIC with its timer.

use crate::memory::{read_volatile, write_volatile};
use crate::trap::{SPURIOUS_VECTOR, TIMER_VECTOR, UART_VECTOR};

/// The pin where ISA's IRQ 4 arrives, the UART's.
const UART_PIN: u32 = 4;

/// Where the controllers are after reset.
pub const IOAPIC: u64 = 0xfec0_0000;
pub const LAPIC: u64 = 0xfee0_0000;

const IOAPIC_SELECT: u64 = IOAPIC;
const IOAPIC_WINDOW: u64 = IOAPIC + 0x10;
/// The first of the two registers of pin 0; the others follow.
const IOAPIC_PIN_0: u32 = 0x10;

const ID: u64 = LAPIC + 0x20;
const SPURIOUS: u64 = LAPIC + 0xf0;
const LVT_TIMER: u64 = LAPIC + 0x320;
const TIMER_INITIAL: u64 = LAPIC + 0x380;
const TIMER_CURRENT: u64 = LAPIC + 0x390;
const TIMER_DIVIDE: u64 = LAPIC + 0x3e0;

/// In the spurious-interrupt register: the LAPIC is on.
const SOFTWARE_ENABLE: u32 = 0x100;
/// In a local vector table entry: no interrupt.
const MASKED: u32 = 0x1_0000;
/// In the divide register: count every 16th tick of the bus.
const DIVIDE_BY_16: u32 = 3;

fn write(register: u64, value: u32) {
    // SAFETY: only this module calls this, for the controllers' registers; they do not write to memory.
    unsafe { write_volatile(register, value) }
}

/// Switches the LAPIC on, and routes the UART to this processor.
pub fn set_up() {
    write(SPURIOUS, SOFTWARE_ENABLE | SPURIOUS_VECTOR as u32);
    write(TIMER_DIVIDE, DIVIDE_BY_16);
    route(UART_PIN, UART_VECTOR);
}

/// Has pin `pin` of the IOAPIC interrupt this processor: edge-triggered, active high, fixed.
pub fn route(pin: u32, vector: u8) {
    let here = read_volatile::<u32>(ID);
    let first = IOAPIC_PIN_0 + 2 * pin;
    write(IOAPIC_SELECT, first + 1);
    write(IOAPIC_WINDOW, here);
    write(IOAPIC_SELECT, first);
    write(IOAPIC_WINDOW, vector as u32);
}

/// Has the timer interrupt once, after `ticks`.
pub fn arm(ticks: u32) {
    write(LVT_TIMER, TIMER_VECTOR as u32);
    write(TIMER_INITIAL, ticks);
}

/// Starts the timer from its greatest count, without an interrupt.
pub fn start_counting() {
    write(LVT_TIMER, MASKED | TIMER_VECTOR as u32);
    write(TIMER_INITIAL, u32::MAX);
}

/// Ticks since [`start_counting`].
pub fn counted() -> u32 {
    u32::MAX - read_volatile::<u32>(TIMER_CURRENT)
}
