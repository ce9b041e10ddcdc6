//! What all members of the set have in common, whatever their types.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vmm_sys_util::eventfd::EventFd;

use super::super::transport::{self, Mmio, Rested};
use super::super::{Slot, VirtioDevice};
use crate::bus::BusDevice;
use crate::irq::IrqLine;

/// What the transport does alike for every type of device.
pub(super) trait Member: BusDevice {
    fn slot(&self) -> Slot;
    fn line(&self) -> &IrqLine;
    fn doorbells(&self) -> &[Arc<EventFd>];
    fn raise_pending(&self);
    fn resume(&mut self) -> Result<(), transport::Error>;
    fn label(&self) -> String;
    fn ask_to_rest(&self) -> Option<Arc<Rested>>;
    fn quiesce(&mut self);
}

impl<D: VirtioDevice> Member for Mmio<D> {
    fn slot(&self) -> Slot {
        self.slot()
    }

    fn line(&self) -> &IrqLine {
        self.line()
    }

    fn doorbells(&self) -> &[Arc<EventFd>] {
        self.doorbells()
    }

    fn raise_pending(&self) {
        self.raise_pending();
    }

    fn resume(&mut self) -> Result<(), transport::Error> {
        self.resume()
    }

    fn label(&self) -> String {
        self.label().to_owned()
    }

    fn ask_to_rest(&self) -> Option<Arc<Rested>> {
        self.ask_to_rest()
    }

    fn quiesce(&mut self) {
        self.quiesce();
    }
}

/// A device in the hands of the set and of the bus.
pub(super) type Shared<D> = Arc<Mutex<Mmio<D>>>;

/// A panic elsewhere does not make a device's registers worse than they are.
pub(super) fn lock<T: ?Sized>(device: &Mutex<T>) -> MutexGuard<'_, T> {
    device.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn shared<D: VirtioDevice>(device: Mmio<D>) -> Shared<D> {
    Arc::new(Mutex::new(device))
}
