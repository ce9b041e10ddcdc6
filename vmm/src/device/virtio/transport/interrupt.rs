//! How the device tells the driver something: the interrupt status, the line, and the wish to be reset.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use crate::irq::IrqLine;

/// `InterruptStatus`: a buffer was used.
const USED: u32 = 1 << 0;
/// `InterruptStatus`: the configuration, or the device's status, has changed.
const CONFIG: u32 = 1 << 1;
/// All of it.
pub(super) const STATUS_BITS: u32 = USED | CONFIG;

/// The interrupt of one device: its status bits, which the driver acknowledges, and its line.
///
/// In the standard the line is a level that stays up while a status bit is set (4.2.3.3). Ours is an edge-triggered
/// irqfd, described so in ACPI, and every event makes an edge, whether its bit was set before or not. That is as good:
///
/// - The bit is set before the edge, and the used ring is written before the bit. So a handler that runs because of
///   the edge sees both.
/// - A driver acknowledges the bits that it has read, and looks into the rings after that (Linux: `vm_interrupt`). An
///   event between its read and its acknowledgement loses its bit but not its effect: the ring is looked into later.
///   Its edge runs the handler once more, which finds nothing.
/// - What has not been acknowledged is in the bits, so whatever state the chipset was saved in, one more edge after a
///   restore makes up for an edge that was lost: [`super::Mmio::raise_pending`].
///
/// A level would need a second eventfd (`KVM_IRQFD_FLAG_RESAMPLE`) and a wake-up for each end of interrupt, and the
/// line itself would be state.
#[derive(Debug)]
pub struct Interrupt {
    // Connections.
    line: IrqLine,
    // Guest-visible state.
    status: AtomicU32,
    needs_reset: AtomicBool,
    // Transient.
    /// How often the device was given up.
    given_up: AtomicU64,
}

impl Interrupt {
    pub(crate) fn new(line: IrqLine, status: u32, needs_reset: bool) -> Self {
        Self {
            line,
            status: AtomicU32::new(status),
            needs_reset: AtomicBool::new(needs_reset),
            given_up: AtomicU64::new(0),
        }
    }

    /// The driver has something to find in a used ring.
    pub fn used(&self) {
        self.raise(USED);
    }

    /// The configuration space has changed. Not before the driver is ready (virtio 1.2, 4.2.2).
    pub fn config_changed(&self) {
        self.raise(CONFIG);
    }

    fn raise(&self, bit: u32) {
        self.status.fetch_or(bit, Ordering::SeqCst);
        self.pulse();
    }

    fn pulse(&self) {
        // Fails only when 2^64 - 2 edges wait in the eventfd already: then the guest has its interrupt.
        let _ = self.line.pulse();
    }

    /// Raises again what the driver has not acknowledged.
    pub(super) fn raise_pending(&self) {
        if self.status() != 0 {
            self.pulse();
        }
    }

    pub(super) fn line(&self) -> &IrqLine {
        &self.line
    }

    pub(super) fn status(&self) -> u32 {
        self.status.load(Ordering::SeqCst)
    }

    pub(super) fn acknowledge(&self, bits: u32) {
        self.status.fetch_and(!bits, Ordering::SeqCst);
    }

    pub(super) fn needs_reset(&self) -> bool {
        self.needs_reset.load(Ordering::SeqCst)
    }

    /// Device `id` cannot go on. `driver_is_ready` says whether the driver may be told by an interrupt.
    pub(super) fn give_up(&self, id: u32, why: &(dyn std::error::Error + 'static), driver_is_ready: bool) {
        // A driver may reset and break its device as often as it likes, so the log hears of each power of two.
        let times = self.given_up.fetch_add(1, Ordering::Relaxed) + 1;
        if times.is_power_of_two() {
            tracing::warn!(
                device = id,
                error = why,
                times,
                "a virtio device cannot go on; it waits for a reset"
            );
        }
        self.needs_reset.store(true, Ordering::SeqCst);
        if driver_is_ready {
            self.config_changed();
        }
    }

    pub(super) fn reset(&self) {
        self.needs_reset.store(false, Ordering::SeqCst);
        self.status.store(0, Ordering::SeqCst);
    }
}
