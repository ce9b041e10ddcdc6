//! virtio-mmio registers, version 2 (virtio 1.2, 4.2.2): finding a device, agreeing on features, setting queues up.

use super::queue::{self, Queue};
use crate::apic;
use crate::memory::{read_volatile, write_volatile};
use crate::trap::{VIRTIO_EVENTS, VIRTIO_VECTOR};

/// Where the registers of the first slot are; each slot has a page.
pub const REGISTERS: u64 = 0xc000_1000;
const SLOT_BYTES: u64 = 0x1000;
/// The IOAPIC's pin of the first slot; each slot has one.
const FIRST_PIN: u32 = 16;

/// `MagicValue`: "virt".
const MAGIC: u32 = 0x7472_6976;
const VERSION: u32 = 2;

/// Features of every device.
pub const INDIRECT_DESC: u64 = 1 << 28;
pub const EVENT_IDX: u64 = 1 << 29;
const VERSION_1: u64 = 1 << 32;

/// Where registers are in their page.
mod place {
    pub const MAGIC: u64 = 0x00;
    pub const VERSION: u64 = 0x04;
    pub const DEVICE_ID: u64 = 0x08;
    pub const DEVICE_FEATURES: u64 = 0x10;
    pub const DEVICE_FEATURES_SEL: u64 = 0x14;
    pub const DRIVER_FEATURES: u64 = 0x20;
    pub const DRIVER_FEATURES_SEL: u64 = 0x24;
    pub const QUEUE_SEL: u64 = 0x30;
    pub const QUEUE_NUM_MAX: u64 = 0x34;
    pub const QUEUE_NUM: u64 = 0x38;
    pub const QUEUE_READY: u64 = 0x44;
    pub const QUEUE_NOTIFY: u64 = 0x50;
    pub const INTERRUPT_STATUS: u64 = 0x60;
    pub const INTERRUPT_ACK: u64 = 0x64;
    pub const STATUS: u64 = 0x70;
    pub const QUEUE_DESC: u64 = 0x80;
    pub const QUEUE_DRIVER: u64 = 0x90;
    pub const QUEUE_DEVICE: u64 = 0xa0;
    pub const CONFIG: u64 = 0x100;
}

/// `Status`.
const ACKNOWLEDGE: u32 = 1;
const DRIVER: u32 = 2;
const DRIVER_OK: u32 = 4;
const FEATURES_OK: u32 = 8;

/// A device.
#[derive(Clone, Copy)]
pub struct Transport {
    slot: u8,
}

impl Transport {
    /// The first device with this device ID.
    pub fn find(id: u32) -> Option<Self> {
        (0..VIRTIO_EVENTS.len() as u8).map(|slot| Self { slot }).find(|device| {
            device.read(place::MAGIC) == MAGIC
                && device.read(place::VERSION) == VERSION
                && device.read(place::DEVICE_ID) == id
        })
    }

    /// Its place.
    pub fn slot(self) -> u64 {
        self.slot as u64
    }

    /// Resets it, and takes those of the features `wanted` that it offers; gives them back.
    pub fn negotiate(self, wanted: u64) -> Result<u64, &'static str> {
        apic::route(FIRST_PIN + self.slot as u32, VIRTIO_VECTOR + self.slot);
        self.write(place::STATUS, 0);
        if self.read(place::STATUS) != 0 {
            return Err("the device does not come out of reset");
        }
        self.write(place::STATUS, ACKNOWLEDGE);
        self.write(place::STATUS, ACKNOWLEDGE | DRIVER);
        let mut offered = 0;
        for half in 0..2 {
            self.write(place::DEVICE_FEATURES_SEL, half);
            offered |= (self.read(place::DEVICE_FEATURES) as u64) << (32 * half);
        }
        let taken = offered & (wanted | VERSION_1);
        for half in 0..2 {
            self.write(place::DRIVER_FEATURES_SEL, half);
            self.write(place::DRIVER_FEATURES, (taken >> (32 * half)) as u32);
        }
        self.write(place::STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK);
        if self.read(place::STATUS) != ACKNOWLEDGE | DRIVER | FEATURES_OK {
            return Err("the device refuses what it offered");
        }
        Ok(taken)
    }

    /// Sets up queue number `number` with its rings at `rings`; between [`Self::negotiate`] and [`Self::go`].
    pub fn queue(self, number: u32, rings: u64, features: u64) -> Result<Queue, &'static str> {
        self.write(place::QUEUE_SEL, number);
        if self.read(place::QUEUE_NUM_MAX) < queue::SIZE as u32 {
            return Err("the device's queues are too short");
        }
        let queue = Queue::new(self, number, rings, features & EVENT_IDX != 0);
        self.write(place::QUEUE_NUM, queue::SIZE as u32);
        let [table, driver, device] = queue::rings_of(rings);
        for (register, address) in
            [(place::QUEUE_DESC, table), (place::QUEUE_DRIVER, driver), (place::QUEUE_DEVICE, device)]
        {
            self.write(register, address as u32);
            self.write(register + 4, (address >> 32) as u32);
        }
        self.write(place::QUEUE_READY, 1);
        if self.read(place::QUEUE_READY) != 1 {
            return Err("the device refuses a queue");
        }
        Ok(queue)
    }

    /// The driver is ready.
    pub fn go(self) -> Result<(), &'static str> {
        let all = ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK;
        self.write(place::STATUS, all);
        if self.read(place::STATUS) == all { Ok(()) } else { Err("the device does not start") }
    }

    /// There is something in queue number `number`.
    pub fn notify(self, number: u32) {
        self.write(place::QUEUE_NOTIFY, number);
    }

    /// A word of the configuration space.
    pub fn config(self, offset: u64) -> u32 {
        self.read(place::CONFIG + offset)
    }

    fn read(self, at: u64) -> u32 {
        read_volatile(REGISTERS + self.slot as u64 * SLOT_BYTES + at)
    }

    fn write(self, at: u64, value: u32) {
        // SAFETY: a device's registers; what it writes to memory by itself goes to areas that it was given.
        unsafe { write_volatile(REGISTERS + self.slot as u64 * SLOT_BYTES + at, value) }
    }
}

/// Acknowledges the interrupts that have come, before anybody looks into the rings; says whether there were any.
pub fn acknowledge() -> bool {
    let mut some = false;
    for (event, slot) in VIRTIO_EVENTS.iter().zip(0..) {
        if event.is_set() {
            event.clear();
            let device = Transport { slot };
            let status = device.read(place::INTERRUPT_STATUS);
            device.write(place::INTERRUPT_ACK, status);
            some = true;
        }
    }
    some
}
