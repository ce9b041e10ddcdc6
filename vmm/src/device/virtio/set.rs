//! The virtio devices that a machine has, as one thing that is built, bound, plugged, started, stopped, saved and
//! restored.
//!
//! As in [`crate::device::DeviceSet`], everything is destructured in full, so a device that is added without being
//! saved does not compile.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use snapshot_format::state::{VirtioBlkState, VirtioRngState};
use snapshot_format::{StateReader, StateWriter};
use vmm_sys_util::eventfd::EventFd;

use super::blk::{self, Blk, Disk, DiskId};
use super::rng::{self, Rng};
use super::transport::{self, Mmio, Wiring};
use super::{SLOTS, Slot};
use crate::bus::{self, Bus, BusDevice};
use crate::irq::IrqLine;
use crate::lifecycle::{Persist, Quiesced};
use crate::memory::GuestRam;

/// Why the devices could not be made, restored or started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There are more than places for them.
    #[error("{count} virtio devices do not fit into {SLOTS} slots")]
    TooMany {
        /// How many.
        count: usize,
    },
    /// Two disks with one name.
    #[error("two disks are called `{}`", id.as_str())]
    Twice {
        /// The name.
        id: DiskId,
    },
    /// An eventfd or a thread could not be had.
    #[error("cannot set up a virtio device")]
    SetUp(#[source] transport::Error),
    /// A device refused its state.
    #[error("restoring device section `{section}`")]
    Restore {
        /// The section.
        section: String,
        /// Why.
        #[source]
        source: transport::Error,
    },
    /// A disk of the image cannot be used.
    #[error("cannot use disk `{id}` of the image")]
    Disk {
        /// The disk's id.
        id: String,
        /// Why.
        #[source]
        source: blk::Error,
    },
    /// Another file was given for a disk that the image does not have.
    #[error("the image has no disk `{id}`; it has {present}")]
    NoSuchDisk {
        /// The id that was given.
        id: String,
        /// Those that there are.
        present: String,
    },
    /// Two devices of the image claim one place.
    #[error("two virtio devices were saved in slot {slot}")]
    SameSlot {
        /// The place.
        slot: u8,
    },
}

/// What a machine is to have.
#[derive(Debug, Default)]
pub struct Parts {
    /// An entropy device.
    pub rng: bool,
    /// Disks, in the order in which the guest finds them.
    pub disks: Vec<(DiskId, Disk)>,
}

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

/// The state of every virtio device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VirtioSetState {
    /// Section [`rng::SECTION`], if there is one.
    pub rng: Option<VirtioRngState>,
    /// Sections `virtio-blk:ID`, by their ids.
    pub disks: BTreeMap<String, VirtioBlkState>,
}

/// The state of every virtio device, with what it needs of the host.
#[derive(Debug)]
pub struct SavedParts {
    rng: Option<VirtioRngState>,
    disks: Vec<(DiskId, VirtioBlkState, Disk)>,
}

/// The devices. Cloning shares them.
#[derive(Clone, Default)]
pub struct VirtioSet {
    rng: Option<Shared<Rng>>,
    disks: Vec<Shared<Blk>>,
}

type Shared<D> = Arc<Mutex<Mmio<D>>>;

/// What the transport does alike for every type of device.
trait Device: BusDevice {
    fn slot(&self) -> Slot;
    fn line(&self) -> &IrqLine;
    fn doorbells(&self) -> &[Arc<EventFd>];
    fn raise_pending(&self);
    fn resume(&mut self) -> Result<(), transport::Error>;
    fn ask_to_rest(&self);
    fn quiesce(&mut self);
}

impl<D: super::VirtioDevice> Device for Mmio<D> {
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

    fn ask_to_rest(&self) {
        self.ask_to_rest();
    }

    fn quiesce(&mut self) {
        self.quiesce();
    }
}

/// A panic elsewhere does not make a device's registers worse than they are.
fn lock<T: ?Sized>(device: &Mutex<T>) -> MutexGuard<'_, T> {
    device.lock().unwrap_or_else(PoisonError::into_inner)
}

fn shared<D: super::VirtioDevice>(device: Mmio<D>) -> Shared<D> {
    Arc::new(Mutex::new(device))
}

fn wiring(memory: &GuestRam) -> Result<Wiring, Error> {
    let irq = IrqLine::new().map_err(|e| Error::SetUp(transport::Error::EventFd(e)))?;
    Ok(Wiring { memory: memory.clone(), irq })
}

impl VirtioSet {
    /// The devices as they come out of reset: the disks in the first slots, in their order, then the others.
    ///
    /// # Errors
    /// There are too many, two have one name, or the process may open no more descriptors.
    pub fn build(parts: Parts, memory: &GuestRam) -> Result<Self, Error> {
        let Parts { rng, disks } = parts;
        let count = disks.len() + usize::from(rng);
        if let Some((_, (id, _))) =
            disks.iter().enumerate().find(|(at, (id, _))| disks[..*at].iter().any(|(other, _)| other == id))
        {
            return Err(Error::Twice { id: id.clone() });
        }
        let mut slots = (0..SLOTS).filter_map(Slot::new);
        let mut place = || slots.next().ok_or(Error::TooMany { count });
        let disks = disks.into_iter().map(|(id, disk)| {
            let disk = Mmio::new(place()?, Blk::new(id, disk), wiring(memory)?);
            disk.map(shared).map_err(Error::SetUp)
        });
        let disks = disks.collect::<Result<_, _>>()?;
        let rng = rng.then(|| Mmio::new(place()?, Rng::default(), wiring(memory)?).map_err(Error::SetUp));
        Ok(Self { rng: rng.transpose()?.map(shared), disks })
    }

    /// The devices as they were saved, at rest. Their interrupts are quiet until [`Self::raise_pending`].
    ///
    /// # Errors
    /// A state is not one that such a device can have, or the process may open no more descriptors.
    pub fn restore(saved: SavedParts, memory: &GuestRam) -> Result<Self, Error> {
        let SavedParts { rng, disks } = saved;
        let rng = rng.map(|state| {
            let refused = |source| Error::Restore { section: rng::SECTION.to_owned(), source };
            Mmio::restore(state, wiring(memory)?).map(shared).map_err(refused)
        });
        let rng = rng.transpose()?;
        let disks = disks.into_iter().map(|(id, state, disk)| {
            let section = blk::section(&id);
            let wiring = blk::Wiring { transport: wiring(memory)?, id, disk };
            Mmio::restore(state, wiring).map(shared).map_err(|source| Error::Restore { section, source })
        });
        let set = Self { rng, disks: disks.collect::<Result<_, _>>()? };
        let slots = set.slots();
        match slots.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(Error::SameSlot { slot: pair[0].number() }),
            None => Ok(set),
        }
    }

    /// Every device, in no order that matters.
    fn all(&self) -> Vec<Arc<Mutex<dyn Device>>> {
        let Self { rng, disks } = self;
        let mut all: Vec<Arc<Mutex<dyn Device>>> = Vec::new();
        all.extend(rng.iter().map(|rng| Arc::clone(rng) as Arc<Mutex<dyn Device>>));
        all.extend(disks.iter().map(|disk| Arc::clone(disk) as Arc<Mutex<dyn Device>>));
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
        let line = |device: &Arc<Mutex<dyn Device>>| {
            let device = lock(device);
            (device.slot().gsi(), device.line().clone())
        };
        self.all().iter().map(line).collect()
    }

    /// The doorbells. A guest whose doorbells are not bound works as well, more slowly. Call after every memory slot
    /// is set: see [`crate::irq::Chipset::create`].
    #[must_use]
    pub fn doorbells(&self) -> Vec<Doorbell> {
        let of_device = |device: &Arc<Mutex<dyn Device>>| -> Vec<Doorbell> {
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

    /// The machine runs: devices in use get their threads. Call before the first vCPU runs, or after; what the guest
    /// asks for before is served then.
    ///
    /// # Errors
    /// A thread could not be started.
    pub fn resume(&self) -> Result<(), Error> {
        self.all().iter().try_for_each(|device| lock(device).resume().map_err(Error::SetUp))
    }

    /// Brings every device to rest: what was begun is answered, the rest stays in the queues, and there is no thread.
    /// Call only after every vCPU has stopped, and before anything is saved.
    pub fn quiesce(&self) {
        let all = self.all();
        all.iter().for_each(|device| lock(device).ask_to_rest());
        all.iter().for_each(|device| lock(device).quiesce());
    }

    /// The guest-visible state of every device.
    #[must_use]
    pub fn save(&self, at_rest: &Quiesced<'_>) -> VirtioSetState {
        let Self { rng, disks } = self;
        let disk = |disk: &Shared<Blk>| {
            let disk = lock(disk);
            let id =
                disk.device().expect("a machine at rest has quiesced its devices").id().as_str().to_owned();
            (id, disk.save(at_rest))
        };
        VirtioSetState {
            rng: rng.as_ref().map(|rng| lock(rng).save(at_rest)),
            disks: disks.iter().map(disk).collect(),
        }
    }
}

impl VirtioSetState {
    /// Adds every device's section.
    ///
    /// # Errors
    /// As [`StateWriter::add`].
    pub fn write(&self, image: &mut StateWriter) -> Result<(), snapshot_format::Error> {
        let Self { rng, disks } = self;
        if let Some(rng) = rng {
            image.add(rng::SECTION, rng)?;
        }
        disks.iter().try_for_each(|(id, disk)| image.add(&format!("{}:{id}", blk::KIND), disk))
    }

    /// Takes the section of every device that there is.
    ///
    /// # Errors
    /// As [`StateReader::take`].
    pub fn read(image: &mut StateReader<'_>) -> Result<Self, snapshot_format::Error> {
        let id = |name: &str| Some(name.strip_prefix(blk::KIND)?.strip_prefix(':')?.to_owned());
        let ids: Vec<String> = image.sections().iter().filter_map(|entry| id(&entry.name)).collect();
        let rng = image.contains(rng::SECTION).then(|| image.take(rng::SECTION)).transpose()?;
        let disk = |id: String| {
            let state = image.take(&format!("{}:{id}", blk::KIND))?;
            Ok((id, state))
        };
        Ok(Self { rng, disks: ids.into_iter().map(disk).collect::<Result<_, _>>()? })
    }

    /// Opens what the devices need of the host. `instead` names other files for disks, by their ids.
    ///
    /// # Errors
    /// A disk is not there, busy or changed; or `instead` names one that the image does not have.
    pub fn open(self, mut instead: BTreeMap<String, PathBuf>) -> Result<SavedParts, Error> {
        let Self { rng, disks } = self;
        let present: Vec<String> = disks.keys().map(|id| format!("`{id}`")).collect();
        let open = |(name, state): (String, VirtioBlkState)| {
            let instead = instead.remove(&name);
            let opened =
                DiskId::new(&name).and_then(|id| Ok((id, Disk::reopen(&state, instead.as_deref())?)));
            match opened {
                Ok((id, disk)) => Ok((id, state, disk)),
                Err(source) => Err(Error::Disk { id: name, source }),
            }
        };
        let disks = disks.into_iter().map(open).collect::<Result<_, _>>()?;
        if let Some((id, _)) = instead.pop_first() {
            let present = if present.is_empty() { "none".to_owned() } else { present.join(", ") };
            return Err(Error::NoSuchDisk { id, present });
        }
        Ok(SavedParts { rng, disks })
    }
}
