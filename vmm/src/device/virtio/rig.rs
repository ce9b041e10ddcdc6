//! A device with a driver that follows the rules and lives in the same thread, for benchmarks: what a request costs
//! on this side of an exit, without a guest. Behind the feature `testing`; no program uses it.

use std::path::Path;

use vm_memory::{Bytes, GuestAddress};

use super::blk::{self, Blk, Disk, DiskId};
use super::rng::Rng;
use super::transport::{Mmio, Wiring};
use super::{Slot, VirtioDevice, feature};
use crate::bus::BusDevice;
use crate::irq::IrqLine;
use crate::memory::{GuestRam, RamRegion};

/// Descriptors of the queue.
const SIZE: u16 = 64;
/// Where things are in the rig's memory: rings, the fixed parts of requests, then data.
const DESC: u64 = 0x1000;
const AVAIL: u64 = 0x2000;
const USED: u64 = 0x3000;
const FRAMES: u64 = 0x4000;
const DATA: u64 = 0x10_0000;
/// Bytes of memory.
const MEMORY: usize = 64 << 20;
/// Bytes that a request's data may have.
const MOST: u32 = 1 << 20;

/// Descriptor flags.
const NEXT: u16 = 1;
const WRITE: u16 = 2;

/// A device, with requests at hand that can be made again and again.
#[derive(Debug)]
pub struct Rig<D: VirtioDevice> {
    device: Mmio<D>,
    memory: GuestRam,
    /// The heads of the requests.
    heads: Vec<u16>,
    /// How many were made, and answered, modulo 2^16.
    made: u16,
}

impl Rig<Rng> {
    /// The entropy device, and 16 requests of `bytes` bytes each, at most 1 MiB.
    ///
    /// # Panics
    /// The host gives no memory or descriptors.
    #[must_use]
    pub fn rng(bytes: u32) -> Self {
        Self::new(Rng::default(), 0, |_, data| vec![(data, bytes.min(MOST), WRITE)])
    }
}

impl Rig<Blk> {
    /// A disk over the file at `path`, and 16 requests that read, or else write, `bytes` bytes each, at most 1 MiB, one
    /// behind the other from its start. The file must be 16 times as long.
    ///
    /// # Panics
    /// The host gives no memory or descriptors, or the file is no disk.
    #[must_use]
    pub fn disk(path: &Path, reads: bool, bytes: u32) -> Self {
        /// VIRTIO_BLK_F_FLUSH: writes need not be on the disk when they are answered.
        const FLUSH: u64 = 1 << 9;
        let disk = Disk::open(path, false).expect("it is a file of sectors");
        let blk = Blk::new(DiskId::new("rig").expect("it is plain"), disk);
        let mut headers = Vec::new();
        let rig = Self::new(blk, FLUSH, |request, data| {
            let header = FRAMES + 64 * u64::from(request);
            let sector = u64::from(request) * u64::from(bytes) / blk::SECTOR;
            headers.push((header, u32::from(!reads), sector));
            let flags = if reads { WRITE } else { 0 };
            vec![(header, 16, 0), (data, bytes.min(MOST), flags), (header + 32, 1, WRITE)]
        });
        for (header, kind, sector) in headers {
            rig.put(header, kind);
            rig.put(header + 8, sector);
        }
        rig
    }
}

impl<D: VirtioDevice> Rig<D> {
    /// How many requests there are.
    pub const REQUESTS: u16 = 16;

    /// `buffers` says of what a request is made, given its number and a place for data: addresses, lengths, flags.
    fn new(device: D, features: u64, mut buffers: impl FnMut(u16, u64) -> Vec<(u64, u32, u16)>) -> Self {
        let region = RamRegion::anonymous(GuestAddress(0), MEMORY).expect("there is memory");
        let memory = GuestRam::from_regions(vec![region]).expect("one region overlaps with none");
        let wiring = Wiring { memory: memory.clone(), irq: IrqLine::new().expect("an eventfd") };
        let slot = Slot::new(0).expect("there is a first");
        let device = Mmio::new(slot, device, wiring).expect("eventfds");
        let mut rig = Self { device, memory, heads: Vec::new(), made: 0 };
        let mut next = 0;
        for request in 0..Self::REQUESTS {
            rig.heads.push(next);
            let parts = buffers(request, DATA + u64::from(request) * u64::from(MOST));
            for (n, &(address, len, flags)) in parts.iter().enumerate() {
                let at = DESC + 16 * u64::from(next);
                next += 1;
                rig.put(at, address);
                rig.put(at + 8, len);
                rig.put(at + 12, flags | if n + 1 < parts.len() { NEXT } else { 0 });
                rig.put(at + 14, next);
            }
        }
        rig.set_up(features | feature::VERSION_1 | feature::EVENT_IDX);
        rig
    }

    fn set_up(&mut self, features: u64) {
        let mut write = |at: u64, value: u32| self.device.write(at, &value.to_le_bytes());
        for status in [0, 1, 3] {
            write(0x70, status);
        }
        for half in 0..2 {
            write(0x24, half);
            write(0x20, (features >> (32 * half)) as u32);
        }
        write(0x70, 11);
        write(0x38, SIZE.into());
        for (place, ring) in [(0x80, DESC), (0x90, AVAIL), (0xa0, USED)] {
            write(place, ring as u32);
        }
        write(0x44, 1);
        write(0x70, 15);
    }

    fn put<T: vm_memory::ByteValued>(&self, at: u64, value: T) {
        self.memory.write_obj(value, GuestAddress(at)).expect("it lies in memory");
    }

    /// Makes the first `count` of the requests available, has the device serve them, and sees that it has. The device
    /// interrupts once, as for a driver that takes all answers there are.
    ///
    /// # Panics
    /// A request is not answered, or there are not as many.
    pub fn round(&mut self, count: u16) {
        for head in &self.heads[..usize::from(count)] {
            self.put(AVAIL + 4 + 2 * u64::from(self.made % SIZE), *head);
            self.made = self.made.wrapping_add(1);
        }
        // After which answer to interrupt: the first.
        self.put(AVAIL + 4 + 2 * u64::from(SIZE), self.made.wrapping_sub(count));
        self.put(AVAIL + 2, self.made);
        self.device.serve_here();
        let answered: u16 = self.memory.read_obj(GuestAddress(USED + 2)).expect("it lies in memory");
        assert_eq!(answered, self.made, "a device at rest has answered all requests");
    }
}
