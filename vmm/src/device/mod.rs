//! The devices that the VMM itself emulates: one directory each, and the set of them that a machine has.
//!
//! In each directory `mod.rs` is the device as the guest sees it and `saved.rs` the way to and from its section of an
//! image. A device knows its own registers and connections; it knows no machine, no snapshot and no other device.

pub mod acpi_pm;
pub mod i8042;
pub mod identity;
pub mod pvpanic;
pub mod ready_port;
pub mod rtc;
mod sections;
pub mod serial;
mod set;
pub mod virtio;

#[cfg(test)]
mod set_test;

pub use acpi_pm::AcpiPm;
pub use i8042::I8042;
pub use identity::Identity;
pub use pvpanic::Pvpanic;
pub use ready_port::ReadyPort;
pub use rtc::Rtc;
pub use serial::Serial;
pub use set::{DeviceSet, DeviceSetState, Wiring};

/// Why the devices could not be made or restored.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The UART refused its state.
    #[error("restoring device section `{}`", serial::SECTION)]
    Serial(#[source] serial::Error),
    /// The keyboard controller refused its state.
    #[error("restoring device section `{}`", i8042::SECTION)]
    I8042(#[source] i8042::Error),
    /// The clock refused its state.
    #[error("restoring device section `{}`", rtc::SECTION)]
    Rtc(#[source] rtc::Error),
    /// The power-management block refused its state.
    #[error("restoring device section `{}`", acpi_pm::SECTION)]
    AcpiPm(#[source] acpi_pm::Error),
    /// The pvpanic port refused its state.
    #[error("restoring device section `{}`", pvpanic::SECTION)]
    Pvpanic(#[source] pvpanic::Error),
    /// The machine got no identity of its own.
    #[error("setting up device section `{}`", identity::SECTION)]
    Identity(#[source] identity::Error),
}
