//! Dispatch of port I/O and MMIO exits to devices, by address.
//!
//! One [`Bus`] for each of the two address spaces. It is filled while the machine is built and never changes after,
//! so vCPU threads share it without a lock; each device has its own.

use std::sync::{Arc, Mutex, PoisonError};

use crate::lifecycle::Effect;

#[cfg(test)]
mod bus_test;

/// A device that answers on a range of addresses.
///
/// `data` holds 1, 2, 4 or 8 bytes and `offset + data.len()` lies within the range the device was inserted with;
/// both come from the guest.
pub trait BusDevice: Send {
    /// The guest reads at `offset` from the start of the range. Bytes left alone read as ones.
    fn read(&mut self, offset: u64, data: &mut [u8]);

    /// The guest writes at `offset` from the start of the range.
    fn write(&mut self, offset: u64, data: &[u8]) -> Effect;

    /// One string instruction of the guest writes elements of `size` bytes to `offset`, one after the other: `data` holds
    /// one of them or more. The last reason to stop is given back.
    fn write_string(&mut self, offset: u64, data: &[u8], size: usize) -> Effect {
        data.chunks_exact(size).fold(Effect::Continue, |effect, element| match self.write(offset, element) {
            Effect::Continue => effect,
            stop @ Effect::Stop(_) => stop,
        })
    }
}

/// Why a device could not be put on a bus.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// The range is empty, wraps around, or shares an address with another device.
    #[error("address range {base:#x}+{len:#x} is empty, wraps, or overlaps another device")]
    Overlap {
        /// First address.
        base: u64,
        /// Length in bytes.
        len: u64,
    },
}

struct Entry {
    base: u64,
    len: u64,
    device: Arc<Mutex<dyn BusDevice>>,
}

/// One address space.
#[derive(Default)]
pub struct Bus {
    /// Sorted by base; ranges do not overlap.
    entries: Vec<Entry>,
}

impl Bus {
    /// Puts `device` on `len` addresses from `base`.
    pub fn insert(&mut self, base: u64, len: u64, device: Arc<Mutex<dyn BusDevice>>) -> Result<(), Error> {
        let refused = Error::Overlap { base, len };
        let Some(end) = base.checked_add(len).filter(|_| len > 0) else { return Err(refused) };
        let at = self.entries.partition_point(|e| e.base < base);
        let before_ends_in =
            at.checked_sub(1).is_some_and(|i| self.entries[i].base + self.entries[i].len > base);
        let next_starts_in = self.entries.get(at).is_some_and(|e| e.base < end);
        if before_ends_in || next_starts_in {
            return Err(refused);
        }
        self.entries.insert(at, Entry { base, len, device });
        Ok(())
    }

    /// A guest's read. What no device claims reads as all ones, as on a real bus.
    pub fn read(&self, addr: u64, data: &mut [u8]) {
        data.fill(0xff);
        if let Some((entry, offset)) = self.find(addr, data.len()) {
            entry.device.lock().unwrap_or_else(PoisonError::into_inner).read(offset, data);
        }
    }

    /// A guest's write. What no device claims is dropped.
    pub fn write(&self, addr: u64, data: &[u8]) -> Effect {
        match self.find(addr, data.len()) {
            Some((entry, offset)) => {
                entry.device.lock().unwrap_or_else(PoisonError::into_inner).write(offset, data)
            }
            None => Effect::Continue,
        }
    }

    /// A guest's string instruction: see [`BusDevice::write_string`].
    pub fn write_string(&self, addr: u64, data: &[u8], size: usize) -> Effect {
        match self.find(addr, size) {
            Some((entry, offset)) => {
                entry.device.lock().unwrap_or_else(PoisonError::into_inner).write_string(offset, data, size)
            }
            None => Effect::Continue,
        }
    }

    /// The device whose range holds the whole access.
    fn find(&self, addr: u64, len: usize) -> Option<(&Entry, u64)> {
        let at = self.entries.partition_point(|e| e.base <= addr).checked_sub(1)?;
        let entry = &self.entries[at];
        let offset = addr - entry.base;
        let end = offset.checked_add(len as u64)?;
        (end <= entry.len).then_some((entry, offset))
    }
}
