//! The transport to and from its part of a device's section.

use snapshot_format::state::{VirtioMmioState, VirtqueueState};

use super::interrupt::STATUS_BITS;
use super::registers::{Registers, status};
use super::{Error, Interrupt, Mmio, Wiring, are_acceptable};
use crate::device::virtio::queue::QueueRegisters;
use crate::device::virtio::{Slot, VirtioDevice, feature};
use crate::lifecycle::Quiesced;

impl<D: VirtioDevice> Mmio<D> {
    /// The registers, with the queues exactly as far as they were served.
    ///
    /// # Panics
    /// The machine is said to be at rest and this device was not quiesced.
    pub fn save_transport(&self, _at_rest: &Quiesced<'_>) -> VirtioMmioState {
        let Self {
            slot,
            id: _,
            label: _,
            memory: _,
            doorbells: _,
            stop: _,
            machine_runs: _,
            worker: _,
            registers,
            config,
            interrupt,
            live,
        } = self;
        let live = live.as_ref().expect("a machine at rest has quiesced its devices");
        let Registers {
            device_features,
            driver_features,
            device_features_sel,
            driver_features_sel,
            queue_sel,
            status: _,
            queues,
        } = registers;
        let indices = |number| live.queues.get(number).map(|queue| queue.indices());
        VirtioMmioState {
            slot: slot.number(),
            device_features: *device_features,
            driver_features: *driver_features,
            device_features_sel: *device_features_sel,
            driver_features_sel: *driver_features_sel,
            queue_sel: *queue_sel,
            status: self.status(),
            interrupt_status: interrupt.status(),
            config_generation: config.generation(),
            config: config.bytes(),
            queues: queues.iter().enumerate().map(|(number, queue)| queue.save(indices(number))).collect(),
        }
    }

    /// A device as it was saved, at rest. Its interrupt is quiet until [`Mmio::raise_pending`].
    ///
    /// # Errors
    /// The state is not one that such a device can have on this guest's memory.
    pub fn restore_transport(state: &VirtioMmioState, device: D, wiring: Wiring) -> Result<Self, Error> {
        let VirtioMmioState {
            slot,
            device_features,
            driver_features,
            device_features_sel,
            driver_features_sel,
            queue_sel,
            status,
            interrupt_status,
            config_generation,
            config,
            queues,
        } = state;
        let place = Slot::new(*slot).ok_or(Error::Slot { slot: *slot })?;
        let registers = Registers {
            device_features: *device_features,
            driver_features: *driver_features,
            device_features_sel: *device_features_sel,
            driver_features_sel: *driver_features_sel,
            queue_sel: *queue_sel,
            status: status & !status::NEEDS_RESET,
            queues: queues.iter().map(|queue| QueueRegisters::restore(queue).0).collect(),
        };
        check_registers(&registers, &device)?;
        if interrupt_status & !STATUS_BITS != 0 {
            return Err(Error::Register { register: "InterruptStatus", value: (*interrupt_status).into() });
        }
        let space = device.config();
        if !space.restore(config, *config_generation) {
            return Err(Error::ConfigLength { saved: config.len(), present: space.bytes().len() });
        }
        let Wiring { memory, irq } = wiring;
        let interrupt = Interrupt::new(irq, *interrupt_status, status & status::NEEDS_RESET != 0);
        let mut restored = Self::assemble(place, device, memory, registers, interrupt)?;
        restored.restore_queues(queues)?;
        Ok(restored)
    }

    fn restore_queues(&mut self, saved: &[VirtqueueState]) -> Result<(), Error> {
        let is_ready = self.driver_is_ready();
        for (number, saved) in saved.iter().enumerate().filter(|(_, saved)| saved.ready) {
            let (_, indices) = QueueRegisters::restore(saved);
            let refused = |source| Error::Queue { queue: number, source };
            let queue = self.in_use(number, indices).map_err(refused)?;
            if is_ready {
                self.rest().queues.set(number, Some(queue));
            }
        }
        if is_ready {
            let features = self.registers.driver_features;
            self.rest().device.activate(features);
        }
        Ok(())
    }
}

/// What the driver was offered is what it goes on with; this build may offer more, never less.
fn check_registers<D: VirtioDevice>(registers: &Registers, device: &D) -> Result<(), Error> {
    let Registers {
        device_features,
        driver_features,
        device_features_sel: _,
        driver_features_sel: _,
        queue_sel: _,
        status: now,
        queues,
    } = registers;
    let offered = device.features() | feature::OF_EVERY_DEVICE;
    if device_features & !offered != 0 {
        return Err(Error::Features { features: *device_features, offered });
    }
    let ladder = [status::ACKNOWLEDGE, status::DRIVER, status::FEATURES_OK, status::DRIVER_OK];
    let climbed = ladder.iter().take_while(|step| registers.has(**step)).fold(0, |all, step| all | step);
    if *now & !status::FAILED != climbed {
        return Err(Error::Register { register: "Status", value: (*now).into() });
    }
    if registers.has(status::FEATURES_OK) && !are_acceptable(*driver_features, *device_features) {
        return Err(Error::Register { register: "DriverFeatures", value: *driver_features });
    }
    let sizes = device.queue_sizes();
    if queues.len() != sizes.len() {
        return Err(Error::QueueCount { saved: queues.len(), present: sizes.len() });
    }
    for (queue, largest) in queues.iter().zip(sizes) {
        if !queue.max_size.is_power_of_two() || queue.max_size > *largest {
            return Err(Error::Register { register: "QueueNumMax", value: queue.max_size.into() });
        }
        if queue.ready && !registers.has(status::FEATURES_OK) {
            return Err(Error::Register { register: "QueueReady", value: 1 });
        }
    }
    Ok(())
}
