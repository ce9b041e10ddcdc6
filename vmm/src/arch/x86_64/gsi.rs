//! Global system interrupts: which device pulls which.
//!
//! Routing is KVM's default, which `KVM_CREATE_IRQCHIP` sets up: GSI n is pin n of the IOAPIC and, below 16, input n of
//! the 8259s, the timer included. So nothing has to be routed when a guest is restored, and the MADT has no override
//! for the timer, which a PC has on pin 2.

/// The keyboard.
pub const KEYBOARD: u32 = 1;
/// The first serial port.
pub const SERIAL: u32 = 4;
/// A new identity (`device::identity`). A PC's second printer port, which no guest of ours has.
pub const IDENTITY: u32 = 5;
/// The real-time clock.
pub const RTC: u32 = 8;
/// ACPI's system control interrupt.
pub const SCI: u32 = 9;
/// The first one that is free for virtio-mmio devices: they use IOAPIC pins that no ISA device has.
pub const FIRST_FREE: u32 = 16;
/// How many there are: the pins of KVM's IOAPIC (`KVM_IOAPIC_NUM_PINS`).
pub const COUNT: u32 = 24;
