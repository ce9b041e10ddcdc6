//! The virtio devices that a machine has, as one thing that is built, bound, plugged, started, stopped, saved and
//! restored.
//!
//! As in [`crate::device::DeviceSet`], everything is destructured in full, so a device that is added without being
//! saved does not compile. A new type of device has a field in each of these:
//!
//! | type | what it is of the device |
//! |---|---|
//! | [`crate::config::DevicesConfig`], [`crate::config::DeviceOverrides`] | what a person types, at boot and at a restore |
//! | [`Parts`] in `parts` | what it needs of the host, opened; and how it is built of that |
//! | [`VirtioSet`] here | the device, shared |
//! | [`VirtioSetState`] in `sections` | its saved state, and the name of its section |
//! | [`SavedParts`] in `restore` | its saved state with what it needs of the host, opened again |

mod error;
mod member;
mod outside;
mod parts;
mod restore;
mod sections;

#[cfg(test)]
mod outside_test;
#[cfg(test)]
mod set_test;

use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use vmm_sys_util::eventfd::EventFd;

use super::Slot;
use super::balloon::{Balloon, Valve};
use super::blk::{self, Blk};
use super::net::Net;
use super::rng::Rng;
use super::transport::{self, Busy, Patience, Wiring};
use super::vsock::Vsock;
use crate::bus::{self, Bus};
use crate::irq::IrqLine;
use crate::lifecycle::Quiesced;
use crate::memory::GuestRam;
use member::{Member, Shared, lock};

pub use error::Error;
pub use outside::Outside;
pub use parts::Parts;
pub use restore::SavedParts;
pub use sections::VirtioSetState;

/// How often it is tried to get at a device that a vCPU holds.
const LOOK_AGAIN: Duration = Duration::from_micros(100);

/// An eventfd to be bound to a place in the guest's memory with `KVM_IOEVENTFD`.
#[derive(Clone, Debug)]
pub struct Doorbell {
    /// Guest-physical address, of 32 bits.
    pub address: u64,
    /// The value whose write rings it.
    pub value: u32,
    /// What is written then.
    pub eventfd: Arc<EventFd>,
}

/// What of a machine's disks has to be brought to the host's disk for an image.
#[derive(Debug)]
pub struct DiskLeftover {
    /// The disk's name.
    pub id: String,
    /// What there is to do.
    pub what: blk::Leftover,
}

/// The devices. Cloning shares them.
#[derive(Clone, Default)]
pub struct VirtioSet {
    rng: Option<Shared<Rng>>,
    balloon: Option<(Shared<Balloon>, Arc<Valve>)>,
    disks: Vec<Shared<Blk>>,
    nets: Vec<Shared<Net>>,
    vsock: Option<Shared<Vsock>>,
}

fn wiring(memory: &GuestRam) -> Result<Wiring, Error> {
    let irq = IrqLine::new().map_err(|e| Error::SetUp(transport::Error::EventFd(e)))?;
    Ok(Wiring { memory: memory.clone(), irq })
}

impl VirtioSet {
    /// What is left to be done for an image of this instant, while the guest may run: the disks.
    ///
    /// # Errors
    /// An overlay has no room for what the guest will write from here on.
    pub fn freeze(&self, _at_rest: &Quiesced<'_>) -> Result<Vec<DiskLeftover>, Error> {
        let Self { rng: _, balloon: _, disks, nets: _, vsock: _ } = self;
        let mut leftovers = Vec::new();
        for disk in disks {
            let mut disk = lock(disk);
            let blk = disk.device_mut().expect("a machine at rest has quiesced its devices");
            let id = blk.id().as_str().to_owned();
            match blk.freeze() {
                Ok(what) => leftovers.extend(what.map(|what| DiskLeftover { id, what })),
                Err(source) => return Err(Error::Disk { id, source }),
            }
        }
        Ok(leftovers)
    }

    /// Every device, in no order that matters.
    fn all(&self) -> Vec<Arc<Mutex<dyn Member>>> {
        let Self { rng, balloon, disks, nets, vsock } = self;
        let mut all: Vec<Arc<Mutex<dyn Member>>> = Vec::new();
        all.extend(rng.iter().map(|rng| Arc::clone(rng) as Arc<Mutex<dyn Member>>));
        all.extend(balloon.iter().map(|(balloon, _)| Arc::clone(balloon) as Arc<Mutex<dyn Member>>));
        all.extend(disks.iter().map(|disk| Arc::clone(disk) as Arc<Mutex<dyn Member>>));
        all.extend(nets.iter().map(|net| Arc::clone(net) as Arc<Mutex<dyn Member>>));
        all.extend(vsock.iter().map(|vsock| Arc::clone(vsock) as Arc<Mutex<dyn Member>>));
        all
    }

    /// The places in use, in their order: what ACPI describes.
    #[must_use]
    pub fn slots(&self) -> Vec<Slot> {
        let mut slots: Vec<Slot> = self.all().iter().map(|device| lock(device).slot()).collect();
        slots.sort_unstable();
        slots
    }

    /// The interrupt lines, each with the GSI that it is to be bound to. Call before the chipset is given its state.
    #[must_use]
    pub fn lines(&self) -> Vec<(u32, IrqLine)> {
        let line = |device: &Arc<Mutex<dyn Member>>| {
            let device = lock(device);
            (device.slot().gsi(), device.line().clone())
        };
        self.all().iter().map(line).collect()
    }

    /// The doorbells. A guest whose doorbells are not bound works as well, more slowly. Call after every memory slot
    /// is set: see [`crate::irq::Chipset::create`].
    #[must_use]
    pub fn doorbells(&self) -> Vec<Doorbell> {
        let of_device = |device: &Arc<Mutex<dyn Member>>| -> Vec<Doorbell> {
            let device = lock(device);
            let address = device.slot().base() + transport::DOORBELL;
            let doorbell = |(value, eventfd): (u32, &Arc<EventFd>)| Doorbell {
                address,
                value,
                eventfd: eventfd.clone(),
            };
            (0..).zip(device.doorbells()).map(doorbell).collect()
        };
        self.all().iter().flat_map(of_device).collect()
    }

    /// Puts every device at its place.
    ///
    /// # Errors
    /// Another device is there.
    pub fn plug(&self, mmio: &mut Bus) -> Result<(), bus::Error> {
        for device in self.all() {
            let slot = lock(&device).slot();
            mmio.insert(slot.base(), Slot::BYTES, device)?;
        }
        Ok(())
    }

    /// Raises again what the guest has not acknowledged. See [`crate::device::DeviceSet::raise_pending`].
    pub fn raise_pending(&self) {
        self.all().iter().for_each(|device| lock(device).raise_pending());
    }

    /// Written when the guest says by a socket that it is ready, if that is waited for. Call while the devices are at
    /// rest.
    #[must_use]
    pub fn said_ready(&self) -> Option<Arc<EventFd>> {
        lock(self.vsock.as_ref()?).device()?.said_ready()
    }

    /// The machine runs: devices in use get their threads. Call before the first vCPU runs, or after; what the guest
    /// asks for before is served then.
    ///
    /// # Errors
    /// A thread could not be started.
    pub fn resume(&self) -> Result<(), Error> {
        self.all().iter().try_for_each(|device| lock(device).resume().map_err(Error::SetUp))
    }

    /// The hand on the balloon, if there is one.
    #[must_use]
    pub fn valve(&self) -> Option<&Arc<Valve>> {
        self.balloon.as_ref().map(|(_, valve)| valve)
    }

    /// Asks every device to rest, and waits until what was begun is complete. Whoever quiesces them then does not wait
    /// for the host. While vCPUs run, a device whose driver sets it up anew has a thread again.
    ///
    /// # Errors
    /// A device is not through in time. All have been asked, and rest as soon as they can: see [`Self::resume`].
    pub fn rest(&self, patience: &Patience<'_>) -> Result<(), Busy> {
        let start = Instant::now();
        let mut asked = Vec::new();
        for device in self.all() {
            let Some(device) = lock_within(&device, patience) else {
                return Err(Busy { device: "a virtio device".to_owned(), waited: start.elapsed() });
            };
            asked.extend(device.ask_to_rest().map(|rested| (rested, device.label())));
        }
        let busy = asked.into_iter().find(|(rested, _)| !rested.wait(patience));
        busy.map_or(Ok(()), |(_, device)| Err(Busy { device, waited: start.elapsed() }))
    }

    /// Brings every device to rest: what was begun is answered, the rest stays in the queues, and there is no thread.
    /// Call only after every vCPU has stopped, and before anything is saved.
    pub fn quiesce(&self) {
        let all = self.all();
        all.iter().for_each(|device| drop(lock(device).ask_to_rest()));
        all.iter().for_each(|device| lock(device).quiesce());
    }
}

/// The device, unless a vCPU holds it for longer: one whose driver resets it waits for what was begun.
fn lock_within<'a, T: ?Sized>(device: &'a Mutex<T>, patience: &Patience<'_>) -> Option<MutexGuard<'a, T>> {
    loop {
        match device.try_lock() {
            Ok(device) => return Some(device),
            Err(TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => {}
        }
        patience.slice()?;
        thread::sleep(LOOK_AGAIN);
    }
}
