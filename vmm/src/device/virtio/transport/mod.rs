//! The virtio-mmio transport, version 2 (virtio 1.2, 4.2.2): registers, negotiation, and a device's coming to life and
//! to rest. It knows what every device has, and nothing of what one does.

mod interrupt;
mod registers;
mod rest;
mod saved;
mod worker;

#[cfg(test)]
mod transport_test;

use std::io;
use std::sync::Arc;

use vmm_sys_util::eventfd::EventFd;

pub use interrupt::Interrupt;
pub use rest::{Busy, Patience, Rested};

use super::queue::{Queues, SetupError, Virtqueue};
use super::{ConfigSpace, Slot, VirtioDevice, feature, rate};
use crate::bus::BusDevice;
use crate::irq::IrqLine;
use crate::lifecycle::Effect;
use crate::memory::GuestRam;
use registers::{Registers, place, set_high, set_low, status};
use rest::Stop;
use worker::{Live, Worker};

/// `MagicValue`: "virt".
const MAGIC: u32 = 0x7472_6976;
/// `Version`: not the legacy interface.
const VERSION: u32 = 2;
/// `VendorID`: "RKDL".
const VENDOR: u32 = 0x4c44_4b52;

/// Where the doorbell lies, from the device's base: a driver writes the queue's number there, 32 bits wide.
pub const DOORBELL: u64 = place::QUEUE_NOTIFY;

/// Why a device could not be made, restored, or set to work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No eventfd to be had.
    #[error("cannot create an eventfd")]
    EventFd(#[source] io::Error),
    /// No thread, or no epoll, to be had.
    #[error("cannot start the thread of the virtio device in slot {slot}")]
    Start {
        /// The device's place.
        slot: u8,
        /// What the system answered.
        #[source]
        source: io::Error,
    },
    /// The place does not exist.
    #[error("there is no slot {slot} for virtio devices")]
    Slot {
        /// The saved place.
        slot: u8,
    },
    /// The driver was offered what this device does not have.
    #[error("features {features:#x} are not among the device's {offered:#x}")]
    Features {
        /// The saved features.
        features: u64,
        /// What this build offers.
        offered: u64,
    },
    /// A register holds what it never holds, or contradicts another.
    #[error("register {register} cannot hold {value:#x}")]
    Register {
        /// The register's name.
        register: &'static str,
        /// Its saved value.
        value: u64,
    },
    /// The configuration space has another length.
    #[error("{saved} bytes of configuration were saved, the device has {present}")]
    ConfigLength {
        /// Bytes in the image.
        saved: usize,
        /// Bytes of this device.
        present: usize,
    },
    /// Another number of queues.
    #[error("{saved} queues were saved, the device has {present}")]
    QueueCount {
        /// In the image.
        saved: usize,
        /// Of this device.
        present: usize,
    },
    /// A rate limit cannot be as it was saved.
    #[error("a rate limit cannot be used")]
    Rate(#[from] rate::Refused),
    /// A queue cannot be as it was saved.
    #[error("queue {queue} cannot be used")]
    Queue {
        /// Its number.
        queue: usize,
        /// Why.
        #[source]
        source: SetupError,
    },
}

/// A device's connections.
#[derive(Clone, Debug)]
pub struct Wiring {
    /// Guest memory.
    pub memory: GuestRam,
    /// The line, to be bound to [`Slot::gsi`].
    pub irq: IrqLine,
}

/// A device of type `D` on the bus.
#[derive(Debug)]
pub struct Mmio<D: VirtioDevice> {
    // Configuration.
    slot: Slot,
    id: u32,
    label: String,
    // Connections.
    memory: GuestRam,
    doorbells: Vec<Arc<EventFd>>,
    stop: Stop,
    /// Whether the machine runs, so that a device that comes to life gets a thread.
    machine_runs: bool,
    /// The thread that has the device and its queues, while the driver is ready and the machine runs.
    worker: Option<Worker<D>>,
    // Guest-visible state.
    registers: Registers,
    config: Arc<ConfigSpace>,
    interrupt: Arc<Interrupt>,
    /// The device and its queues; `None` exactly while `worker` has them.
    live: Option<Live<D>>,
}

impl<D: VirtioDevice> Mmio<D> {
    /// A device as it comes out of reset.
    ///
    /// # Errors
    /// There are no more eventfds to be had.
    pub fn new(slot: Slot, device: D, wiring: Wiring) -> Result<Self, Error> {
        let features = device.features() | feature::OF_EVERY_DEVICE;
        let registers = Registers::new(features, device.queue_sizes().iter().copied());
        let Wiring { memory, irq } = wiring;
        Self::assemble(slot, device, memory, registers, Interrupt::new(irq, 0, false))
    }

    /// No queue is in use yet.
    fn assemble(
        slot: Slot,
        device: D,
        memory: GuestRam,
        registers: Registers,
        interrupt: Interrupt,
    ) -> Result<Self, Error> {
        let doorbell = || EventFd::new(libc::EFD_NONBLOCK | libc::EFD_CLOEXEC).map(Arc::new);
        let doorbells = registers.queues.iter().map(|_| doorbell().map_err(Error::EventFd));
        let interrupt = Arc::new(interrupt);
        Ok(Self {
            slot,
            id: device.id(),
            label: device.label(),
            memory,
            doorbells: doorbells.collect::<Result<_, _>>()?,
            stop: Stop::new().map_err(Error::EventFd)?,
            machine_runs: false,
            worker: None,
            config: device.config(),
            live: Some(Live {
                device,
                queues: Queues::unused(registers.queues.len(), Arc::clone(&interrupt)),
            }),
            interrupt,
            registers,
        })
    }

    /// Its place.
    pub fn slot(&self) -> Slot {
        self.slot
    }

    /// The line, to be bound to [`Slot::gsi`].
    pub fn line(&self) -> &IrqLine {
        self.interrupt.line()
    }

    /// One for each queue, to be written when the guest writes the queue's number to [`DOORBELL`].
    pub fn doorbells(&self) -> &[Arc<EventFd>] {
        &self.doorbells
    }

    /// What it is called in messages.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The device itself, if it is at rest.
    pub fn device(&self) -> Option<&D> {
        self.live.as_ref().map(|live| &live.device)
    }

    /// The device itself, if it is at rest.
    pub fn device_mut(&mut self) -> Option<&mut D> {
        self.live.as_mut().map(|live| &mut live.device)
    }

    /// The machine runs: a device whose driver is ready gets its thread.
    ///
    /// # Errors
    /// The thread cannot be started. The device stays at rest.
    pub fn resume(&mut self) -> Result<(), Error> {
        self.machine_runs = true;
        // One that was asked to rest and has not, or only by now.
        if self.worker.as_ref().is_some_and(|worker| !worker.go_on()) {
            self.rest();
        }
        self.start()
    }

    /// Asks the thread, if there is one, to come to rest, without waiting for it: so that several do so at a time, and
    /// so that nobody who waits for it holds the device. [`Self::resume`] takes the wish back.
    pub fn ask_to_rest(&self) -> Option<Arc<Rested>> {
        let worker = self.worker.as_ref()?;
        worker.ask();
        Some(self.stop.rested())
    }

    /// The machine stands still: every request that was begun is answered when this returns, none is begun after it,
    /// and the device has no thread. Call only after the vCPUs have stopped.
    pub fn quiesce(&mut self) {
        self.machine_runs = false;
        self.rest();
    }

    /// Raises the interrupt again, if the driver has not acknowledged it. See
    /// [`crate::device::DeviceSet::raise_pending`].
    pub fn raise_pending(&self) {
        self.interrupt.raise_pending();
    }

    /// Serves what is in the queues on the calling thread, if the device is at rest and its driver is ready: for tests
    /// and fuzz targets, which have no machine that runs.
    pub fn serve_here(&mut self) {
        if let Some(live) = &mut self.live {
            live.serve_all();
            live.drain();
        }
    }

    fn start(&mut self) -> Result<(), Error> {
        let is_wanted = self.machine_runs && self.driver_is_ready() && !self.interrupt.needs_reset();
        let Some(live) = self.live.take_if(|_| is_wanted) else { return Ok(()) };
        let name = format!("virtio{}", self.slot.number());
        match Worker::start(live, &name, &self.stop, &self.doorbells) {
            Ok(worker) => {
                self.worker = Some(worker);
                Ok(())
            }
            Err((live, source)) => {
                self.live = Some(live);
                Err(Error::Start { slot: self.slot.number(), source })
            }
        }
    }

    /// The device and its queues, at rest.
    fn rest(&mut self) -> &mut Live<D> {
        if let Some(worker) = self.worker.take() {
            self.live = Some(worker.finish());
        }
        self.live.as_mut().expect("what has no worker is here")
    }

    fn driver_is_ready(&self) -> bool {
        self.registers.has(status::DRIVER_OK)
    }

    fn give_up(&self, error: &(dyn std::error::Error + 'static)) {
        self.interrupt.give_up(self.id, error, self.driver_is_ready());
    }

    fn read_register(&self, at: u64) -> u32 {
        let registers = &self.registers;
        match at {
            place::MAGIC => MAGIC,
            place::VERSION => VERSION,
            place::DEVICE_ID => self.id,
            place::VENDOR_ID => VENDOR,
            place::DEVICE_FEATURES => registers.offered(),
            place::QUEUE_NUM_MAX => registers.selected().map_or(0, |(_, queue)| queue.max_size.into()),
            place::QUEUE_READY => registers.selected().map_or(0, |(_, queue)| queue.ready.into()),
            place::INTERRUPT_STATUS => self.interrupt.status(),
            place::STATUS => self.status(),
            // No shared memory: all ones say so.
            place::SHM_LEN_LOW..=place::SHM_BASE_HIGH => u32::MAX,
            place::CONFIG_GENERATION => self.config.generation(),
            _ => 0,
        }
    }

    fn write_register(&mut self, at: u64, value: u32) {
        match at {
            place::DEVICE_FEATURES_SEL => self.registers.device_features_sel = value,
            place::DRIVER_FEATURES => self.registers.accept(value),
            place::DRIVER_FEATURES_SEL => self.registers.driver_features_sel = value,
            place::QUEUE_SEL => self.registers.queue_sel = value,
            place::QUEUE_READY => self.set_queue_ready(value & 1 != 0),
            place::QUEUE_NOTIFY => self.ring(value),
            place::INTERRUPT_ACK => self.interrupt.acknowledge(value),
            place::STATUS => self.set_status(value),
            _ => self.set_up_queue(at, value),
        }
    }

    fn set_up_queue(&mut self, at: u64, value: u32) {
        let Some(queue) = self.registers.in_setup() else { return };
        match at {
            place::QUEUE_NUM => queue.size = u16::try_from(value).unwrap_or(0),
            place::QUEUE_DESC_LOW => set_low(&mut queue.desc_table, value),
            place::QUEUE_DESC_HIGH => set_high(&mut queue.desc_table, value),
            place::QUEUE_DRIVER_LOW => set_low(&mut queue.avail_ring, value),
            place::QUEUE_DRIVER_HIGH => set_high(&mut queue.avail_ring, value),
            place::QUEUE_DEVICE_LOW => set_low(&mut queue.used_ring, value),
            place::QUEUE_DEVICE_HIGH => set_high(&mut queue.used_ring, value),
            _ => {}
        }
    }

    /// The doorbell, where KVM does not ring it itself.
    fn ring(&self, queue: u32) {
        let doorbell = usize::try_from(queue).ok().and_then(|queue| self.doorbells.get(queue));
        if let Some(doorbell) = doorbell {
            // Fails only when it has been rung 2^64 - 2 times already.
            let _ = doorbell.write(1);
        }
    }

    fn status(&self) -> u32 {
        let needs_reset = if self.interrupt.needs_reset() { status::NEEDS_RESET } else { 0 };
        self.registers.status | needs_reset
    }

    /// The driver writes the bits that it had read and one more. What comes out of order, or is taken away, stays as
    /// it is; that the driver can read.
    fn set_status(&mut self, value: u32) {
        if value == 0 {
            return self.reset();
        }
        let steps =
            [status::ACKNOWLEDGE, status::DRIVER, status::FEATURES_OK, status::DRIVER_OK, status::FAILED];
        for step in steps.into_iter().filter(|step| value & step != 0) {
            if !self.registers.has(step) && self.may(step) {
                self.registers.status |= step;
                if step == status::DRIVER_OK {
                    self.activate();
                }
            }
        }
    }

    fn may(&self, step: u32) -> bool {
        let Registers { device_features, driver_features, .. } = self.registers;
        match step {
            status::DRIVER => self.registers.has(status::ACKNOWLEDGE),
            status::FEATURES_OK => {
                self.registers.has(status::DRIVER)
                    && !self.registers.has(status::FAILED)
                    && are_acceptable(driver_features, device_features)
            }
            status::DRIVER_OK => {
                self.registers.has(status::FEATURES_OK)
                    && !self.registers.has(status::FAILED)
                    && !self.interrupt.needs_reset()
            }
            _ => true,
        }
    }

    /// The driver is ready: the queues that it has set up are in use from here on.
    fn activate(&mut self) {
        let features = self.registers.driver_features;
        self.rest().device.activate(features);
        let ready = (0..self.registers.queues.len()).filter(|queue| self.registers.queues[*queue].ready);
        for queue in ready.collect::<Vec<_>>() {
            match self.in_use(queue, (0, 0)) {
                Ok(in_use) => self.rest().queues.set(queue, Some(in_use)),
                Err(e) => return self.give_up(&e),
            }
        }
        self.start_or_give_up();
    }

    fn start_or_give_up(&mut self) {
        if let Err(e) = self.start() {
            self.give_up(&e);
        }
    }

    /// Queue number `queue` as its registers describe it.
    fn in_use(&self, queue: usize, indices: (u16, u16)) -> Result<Virtqueue, SetupError> {
        let event_idx = self.registers.driver_features & feature::EVENT_IDX != 0;
        let ring = self.registers.queues[queue].queue(&self.memory, event_idx, indices)?;
        let (interrupt, stop) = (Arc::clone(&self.interrupt), Arc::clone(&self.stop.flag));
        Ok(Virtqueue::new(ring, self.memory.clone(), interrupt, stop))
    }

    /// The driver has set the selected queue up, or gives it up. Either is checked here and now: a driver reads back
    /// whether it is ready.
    fn set_queue_ready(&mut self, is_ready: bool) {
        let Some((number, queue)) = self.registers.selected() else { return };
        if queue.ready == is_ready || is_ready && self.registers.in_setup().is_none() {
            return;
        }
        let in_use = match is_ready.then(|| self.in_use(number, (0, 0))).transpose() {
            Ok(in_use) => in_use,
            Err(e) => return self.give_up(&e),
        };
        self.registers.queues[number].ready = is_ready;
        if self.driver_is_ready() {
            self.rest().queues.set(number, in_use);
            self.start_or_give_up();
        }
    }

    /// Every request that was begun is answered before the driver reads a status of 0.
    fn reset(&mut self) {
        let live = self.rest();
        live.queues.clear();
        live.device.reset();
        self.registers.reset();
        self.interrupt.reset();
    }
}

/// Nothing that was not offered, and no driver of the drafts before 1.0.
fn are_acceptable(driver_features: u64, device_features: u64) -> bool {
    driver_features & !device_features == 0 && driver_features & feature::VERSION_1 != 0
}

impl<D: VirtioDevice> BusDevice for Mmio<D> {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        if let Some(offset) = offset.checked_sub(place::CONFIG) {
            return self.config.read(offset, data);
        }
        // Other widths are a driver's mistake (4.2.2.2), and read as ones.
        if let Ok(word) = <&mut [u8; 4]>::try_from(data) {
            *word = self.read_register(offset).to_le_bytes();
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Effect {
        if let Some(offset) = offset.checked_sub(place::CONFIG) {
            self.config.write(offset, data);
        } else if let Ok(word) = <[u8; 4]>::try_from(data) {
            self.write_register(offset, u32::from_le_bytes(word));
        }
        Effect::Continue
    }
}

impl<D: VirtioDevice> Drop for Mmio<D> {
    fn drop(&mut self) {
        self.quiesce();
    }
}
