//! The readiness port, 0x5e0: one byte written by the guest says "I am ready to be snapshotted".
//!
//! Any user program with access to I/O ports can write it, with no driver: `ioperm` and one `out`, or
//! `/dev/port`. The byte's value is the guest's business and is read back from the same port.

mod saved;

#[cfg(test)]
mod ready_port_test;

pub use saved::SECTION;

use crate::bus::BusDevice;
use crate::lifecycle::{Effect, StopReason};

/// The I/O port.
pub const BASE: u64 = 0x5e0;
/// Number of ports.
pub const LEN: u64 = 1;

/// The readiness port.
#[derive(Debug)]
pub struct ReadyPort {
    // Configuration.
    /// Whether the next write stops the guest: true in a machine that is baked, until it has fired once.
    armed: bool,
    // Guest-visible state.
    last: u8,
}

impl ReadyPort {
    /// A port nobody has written yet. `armed`: the first write stops the guest with [`StopReason::Ready`].
    pub fn new(armed: bool) -> Self {
        Self { armed, last: 0 }
    }
}

impl BusDevice for ReadyPort {
    fn read(&mut self, _offset: u64, data: &mut [u8]) {
        if let [byte, ..] = data {
            *byte = self.last;
        }
    }

    fn write(&mut self, _offset: u64, data: &[u8]) -> Effect {
        let [byte, ..] = data else { return Effect::Continue };
        self.last = *byte;
        if std::mem::take(&mut self.armed) { Effect::Stop(StopReason::Ready) } else { Effect::Continue }
    }
}
