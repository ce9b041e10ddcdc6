//! The driver's side of the registers and rings, for tests: it follows the rules, and breaks one when it is told to.

use vm_memory::{Bytes, GuestAddress};

use super::feature::{EVENT_IDX, INDIRECT_DESC, VERSION_1};
use crate::bus::BusDevice;
use crate::memory::{GuestRam, ram_at};

pub(super) const NEXT: u16 = 1;
pub(super) const WRITE: u16 = 2;
pub(super) const INDIRECT: u16 = 4;

/// What `Status` holds when a driver is ready.
pub(super) const READY: u32 = 1 | 2 | 4 | 8;
pub(super) const NEEDS_RESET: u32 = 64;

/// The size of queues unless said otherwise.
pub(super) const SIZE: u16 = 16;
/// Where each queue's rings begin.
const RINGS: u64 = 0x1_0000;
const AVAIL: u64 = 0x4000;
const USED: u64 = 0x6000;
/// Free for buffers.
pub(super) const BUFFERS: u64 = 0x8_0000;

/// Two regions of RAM with a hole between them.
pub(super) const RAM: [(u64, usize); 2] = [(0, 0x10_0000), (0x20_0000, 0x10_0000)];

pub(super) fn ram() -> GuestRam {
    ram_at(&RAM.map(|(base, len)| (GuestAddress(base), len)))
}

/// A descriptor.
#[derive(Clone, Copy, Debug)]
pub(super) struct Desc {
    pub addr: u64,
    pub len: u32,
    pub flags: u16,
    pub next: u16,
}

pub(super) fn read_register(device: &mut dyn BusDevice, at: u64) -> u32 {
    let mut word = [0xff; 4];
    device.read(at, &mut word);
    u32::from_le_bytes(word)
}

pub(super) fn write_register(device: &mut dyn BusDevice, at: u64, value: u32) {
    device.write(at, &value.to_le_bytes());
}

pub(super) fn status(device: &mut dyn BusDevice) -> u32 {
    read_register(device, 0x70)
}

/// A driver of one queue of a device.
#[derive(Clone)]
pub(super) struct Driver {
    pub memory: GuestRam,
    queue: u32,
    /// Descriptors `next_desc..` are free.
    next_desc: u16,
    next_avail: u16,
    next_used: u16,
}

impl Driver {
    /// Sets the device up with the features of every device, and queue 0.
    pub(super) fn start(device: &mut dyn BusDevice, memory: &GuestRam) -> Self {
        Self::start_with(device, memory, VERSION_1 | INDIRECT_DESC | EVENT_IDX)
    }

    pub(super) fn start_with(device: &mut dyn BusDevice, memory: &GuestRam, features: u64) -> Self {
        negotiate(device, features);
        assert_eq!(status(device), 1 | 2 | 8, "the features are acceptable");
        let driver = Self::set_up(device, memory, 0);
        write_register(device, 0x70, READY);
        assert_eq!(status(device), READY);
        driver
    }

    /// Sets one queue up, its rings zero.
    pub(super) fn set_up(device: &mut dyn BusDevice, memory: &GuestRam, queue: u32) -> Self {
        let driver = Self { memory: memory.clone(), queue, next_desc: 0, next_avail: 0, next_used: 0 };
        memory.write_slice(&[0; RINGS as usize / 2], GuestAddress(driver.rings())).unwrap();
        write_register(device, 0x30, queue);
        write_register(device, 0x38, SIZE.into());
        for (place, offset) in [(0x80, 0), (0x90, AVAIL), (0xa0, USED)] {
            write_register(device, place, (driver.rings() + offset) as u32);
            write_register(device, place + 4, 0);
        }
        write_register(device, 0x44, 1);
        assert_eq!(read_register(device, 0x44), 1, "the queue is ready");
        driver
    }

    fn rings(&self) -> u64 {
        RINGS * (1 + u64::from(self.queue))
    }

    /// Writes descriptor `index` of a table.
    pub(super) fn describe(&self, table: u64, index: u16, desc: Desc) {
        let at = table + 16 * u64::from(index);
        let Desc { addr, len, flags, next } = desc;
        self.memory.write_obj(addr, GuestAddress(at)).unwrap();
        self.memory.write_obj(len, GuestAddress(at + 8)).unwrap();
        self.memory.write_obj(flags, GuestAddress(at + 12)).unwrap();
        self.memory.write_obj(next, GuestAddress(at + 14)).unwrap();
    }

    /// A descriptor of the queue's own table.
    pub(super) fn describe_own(&self, index: u16, desc: Desc) {
        self.describe(self.rings(), index, desc);
    }

    /// Makes the chain at `head` available. Does not ring.
    pub(super) fn offer(&mut self, head: u16) {
        let ring = self.rings() + AVAIL;
        let slot = u64::from(self.next_avail % SIZE);
        self.memory.write_obj(head, GuestAddress(ring + 4 + 2 * slot)).unwrap();
        self.next_avail = self.next_avail.wrapping_add(1);
        self.set_avail(self.next_avail);
    }

    /// Writes the available ring's index.
    pub(super) fn set_avail(&self, index: u16) {
        self.memory.write_obj(index, GuestAddress(self.rings() + AVAIL + 2)).unwrap();
    }

    /// Makes a request of these buffers (address, length, flags) available, and gives back its head.
    pub(super) fn request(&mut self, buffers: &[(u64, u32, u16)]) -> u16 {
        let count = buffers.len() as u16;
        if self.next_desc + count > SIZE {
            self.next_desc = 0;
        }
        let head = self.next_desc;
        self.next_desc += count;
        for (n, &(addr, len, flags)) in (0..).zip(buffers) {
            let more = if n + 1 < count { NEXT } else { 0 };
            self.describe_own(head + n, Desc { addr, len, flags: flags | more, next: head + n + 1 });
        }
        self.offer(head);
        head
    }

    /// The same through a table at `table`.
    pub(super) fn indirect(&mut self, table: u64, buffers: &[(u64, u32, u16)]) -> u16 {
        let count = buffers.len() as u16;
        for (n, &(addr, len, flags)) in (0..).zip(buffers) {
            let more = if n + 1 < count { NEXT } else { 0 };
            self.describe(table, n, Desc { addr, len, flags: flags | more, next: n + 1 });
        }
        self.request(&[(table, 16 * u32::from(count), INDIRECT)])
    }

    /// The next answer: head and length.
    pub(super) fn answer(&mut self) -> Option<(u32, u32)> {
        let ring = self.rings() + USED;
        let index: u16 = self.memory.read_obj(GuestAddress(ring + 2)).unwrap();
        if index == self.next_used {
            return None;
        }
        let slot = ring + 4 + 8 * u64::from(self.next_used % SIZE);
        self.next_used = self.next_used.wrapping_add(1);
        let head = self.memory.read_obj(GuestAddress(slot)).unwrap();
        Some((head, self.memory.read_obj(GuestAddress(slot + 4)).unwrap()))
    }

    /// Says after which answer the driver wants an interrupt (EVENT_IDX).
    pub(super) fn want_interrupt_after(&self, index: u16) {
        let at = self.rings() + AVAIL + 4 + 2 * u64::from(SIZE);
        self.memory.write_obj(index, GuestAddress(at)).unwrap();
    }

    pub(super) fn bytes(&self, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.memory.read_slice(&mut bytes, GuestAddress(at)).unwrap();
        bytes
    }

    pub(super) fn put(&self, at: u64, bytes: &[u8]) {
        self.memory.write_slice(bytes, GuestAddress(at)).unwrap();
    }
}

/// Up to FEATURES_OK, whether the device takes them or not.
pub(super) fn negotiate(device: &mut dyn BusDevice, features: u64) {
    write_register(device, 0x70, 1);
    write_register(device, 0x70, 1 | 2);
    for half in 0..2 {
        write_register(device, 0x24, half);
        write_register(device, 0x20, (features >> (32 * half)) as u32);
    }
    write_register(device, 0x70, 1 | 2 | 8);
}
