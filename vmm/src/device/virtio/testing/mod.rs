//! A driver without manners, as a program in bytes, for the fuzz target: what it says to a device, and what must hold
//! of the device whatever it says. Behind the feature `testing`; no program uses it.

mod far;

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, send, socketpair};
use vm_memory::{Bytes, GuestAddress};

use super::balloon::{self, Balloon, Valve};
use super::blk::{self, Blk, Disk, DiskId, ImageLayer, Leftover, Overlay, Storage};
use super::net::{self, Net, Tap};
use super::rng::Rng;
use super::transport::{Mmio, Wiring};
use super::vsock::{self, Vsock};
use super::{Slot, VirtioDevice};
use crate::bus::BusDevice;
use crate::config::{BucketConfig, RateLimitConfig};
use crate::irq::IrqLine;
use crate::lifecycle::{Effect, Persist, Quiesced};
use crate::memory::{GuestRam, RamRegion};
pub(super) use far::Far;

/// Guest memory of the programs: two regions, so that there is a border and a hole.
const REGIONS: [(u64, usize); 2] = [(0, 0x1_0000), (0x1_8000, 0x8000)];
/// Sectors of the disk.
const SECTORS: u64 = 32;
/// The size of the queue that [`Op::SetUp`] makes, and its rings.
const SIZE: u32 = 8;
const RINGS: [(u64, u32); 3] = [(0x80, 0x1000), (0x90, 0x2000), (0xa0, 0x3000)];
/// The rings of queue n that [`Op::AddQueue`] makes lie n + 1 times as far behind those, in bytes.
const RING_STEP: u32 = 0x100;
/// Frames on the cable, in bytes with their headers: none that are none, the usual ones, the longest.
const FRAMES: [usize; 6] = [11, 12, 72, 1526, 9000, 65_562];
/// What follows the number of an operation: at most so many bytes.
const MOST_BYTES: usize = 255;

/// What a driver can do. Each is a byte, and its operands follow.
#[derive(Clone, Copy, Debug)]
pub(super) enum Op {
    /// Follow the rules up to a ready driver with a ready queue; one operand says which features are taken, and which
    /// queue.
    SetUp,
    /// Write a register or the configuration: place (2 bytes), value (4 bytes).
    Write,
    /// Access with any width: place (2 bytes), width, bytes.
    Access,
    /// Write memory: address (3 bytes), length (1 byte), bytes.
    Poke,
    /// Make one more chain available: its head.
    Offer,
    /// The device's turn.
    Serve,
    /// The machine is saved and restored.
    Restore,
    /// One more queue becomes ready, with rings of its own: its number.
    AddQueue,
    /// Make a chain available in a queue that was added: its number, and the chain's head.
    OfferIn,
}

impl Op {
    const ALL: [Self; 9] = [
        Self::SetUp,
        Self::Write,
        Self::Access,
        Self::Poke,
        Self::Offer,
        Self::Serve,
        Self::Restore,
        Self::AddQueue,
        Self::OfferIn,
    ];
}

/// The rest of a program. Beyond its end there are zeros.
pub(super) struct Program<'a>(pub(super) &'a [u8]);

impl Program<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut taken = [0; N];
        let len = N.min(self.0.len());
        taken[..len].copy_from_slice(&self.0[..len]);
        self.0 = &self.0[len..];
        taken
    }

    fn byte(&mut self) -> u8 {
        let [byte] = self.take();
        byte
    }

    fn word(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len.min(MOST_BYTES)).map(|_| self.byte()).collect()
    }

    pub(super) fn next_op(&mut self) -> Option<Op> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(Op::ALL[usize::from(first) % Op::ALL.len()])
    }
}

/// Runs a program against a device; its first byte says which.
///
/// # Panics
/// Something does not hold that must.
pub fn drive(program: &[u8]) {
    let Some((&kind, program)) = program.split_first() else { return };
    let regions = REGIONS.map(|(base, len)| RamRegion::anonymous(GuestAddress(base), len).expect("memory"));
    let memory = GuestRam::from_regions(regions.into()).expect("they do not overlap");
    let slot = Slot::new(0).expect("there is a first");
    let program = Program(program);
    if kind & 32 != 0 {
        drive_vsock(program, slot, &memory);
    } else if kind & 16 != 0 {
        let valve = || Valve::new().expect("an eventfd");
        let balloon = Mmio::new(slot, Balloon::new(valve()), wiring(&memory)).expect("eventfds");
        run(balloon, program, &memory, &mut || (), |state, _| {
            let wiring = balloon::Wiring { transport: wiring(&memory), valve: valve() };
            Mmio::<Balloon>::restore(state, wiring).expect("what was saved can be restored")
        });
    } else if kind & 4 != 0 {
        drive_net(program, slot, &memory);
    } else if kind & 1 == 0 {
        let rng = Mmio::new(slot, Rng::default(), wiring(&memory)).expect("eventfds");
        run(rng, program, &memory, &mut || (), |state, _| {
            Mmio::<Rng>::restore(state, wiring(&memory)).expect("what was saved can be restored")
        });
    } else if kind & 8 != 0 {
        drive_overlay(program, slot, &memory);
    } else {
        drive_disk(program, slot, &memory, kind & 2 != 0);
    }
}

fn drive_disk(program: Program<'_>, slot: Slot, memory: &GuestRam, read_only: bool) {
    let (file, path) = disk_file();
    let open = || Disk::open(&path, read_only).expect("it is a file of sectors");
    let blk = Mmio::new(slot, Blk::new(disk_id(), open()), wiring(memory)).expect("eventfds");
    run(blk, program, memory, &mut || (), |state, old| {
        // A disk is one VM's.
        drop(old);
        restore_disk(state, memory, open().into())
    });
    assert_eq!(file.metadata().expect("it is open").len(), SECTORS * blk::SECTOR, "disks keep their length");
    if read_only {
        let bytes = fs::read(&path).expect("it is open");
        assert!(bytes.iter().all(|byte| *byte == 0), "nobody writes to a read-only disk");
    }
}

/// A disk over a base. What was written over it goes through an image at every restore.
fn drive_overlay(program: Program<'_>, slot: Slot, memory: &GuestRam) {
    let (_base, path) = disk_file();
    let open = || Disk::open(&path, true).expect("it is a file of sectors");
    let over = |image| {
        Storage::Overlay(Overlay::new(open(), image, &std::env::temp_dir()).expect("a file without a name"))
    };
    let blk = Mmio::new(slot, Blk::new(disk_id(), over(None)), wiring(memory)).expect("eventfds");
    run(blk, program, memory, &mut || (), |state, mut old| {
        let blk = old.device_mut().expect("it is at rest");
        let Some(Leftover::Overlay(frozen)) = blk.freeze().expect("a file without a name") else {
            panic!("an overlay leaves its layers");
        };
        let (file, _) = disk_file();
        let index = frozen.copy(&file, &|| true).expect("files in memory can be read and written");
        index.verify(&file).expect("it is what was written");
        restore_disk(state, memory, over(Some(ImageLayer { file, index })))
    });
    let bytes = fs::read(&path).expect("it is open");
    assert!(bytes.iter().all(|byte| *byte == 0), "nobody writes to a base");
}

fn disk_id() -> DiskId {
    DiskId::new("fuzz").expect("it is plain")
}

fn restore_disk(state: <Mmio<Blk> as Persist>::State, memory: &GuestRam, storage: Storage) -> Mmio<Blk> {
    let wiring = blk::Wiring { transport: wiring(memory), id: disk_id(), storage };
    Mmio::<Blk>::restore(state, wiring).expect("what was saved can be restored")
}

/// A socket device, with host programs that call the guest and one that serves a port of the host's.
fn drive_vsock(program: Program<'_>, slot: Slot, memory: &GuestRam) {
    let far = Far::new();
    let device = Mmio::new(slot, far.device(), wiring(memory)).expect("eventfds");
    far.call();
    run(device, program, memory, &mut || far.turn(), |state, old| {
        // Its socket is where the next one's will be.
        drop(old);
        let device = Vsock::reopen(&state, None).expect("what was saved can be opened");
        far.call();
        let wiring = vsock::Wiring { transport: wiring(memory), device };
        Mmio::<Vsock>::restore(state, wiring).expect("what was saved can be restored")
    });
}

/// A network interface whose TAP is one end of a cable. Frames of all lengths wait on the other.
fn drive_net(program: Program<'_>, slot: Slot, memory: &GuestRam) {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let cable = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None);
    let (near, far) = cable.expect("two sockets");
    let id = || "fuzz".parse().expect("it is plain");
    let tap = || {
        for len in FRAMES {
            // As many as there is room for.
            let _ = send(&far, &vec![0xaa; len], SendFlags::empty());
        }
        let near = near.try_clone().expect("a descriptor");
        Tap::of_socket(&"tap0".parse().expect("it is plain"), near)
    };
    let mac = "02:00:00:00:00:01".parse().ok();
    // One limit that is never reached, so that its buckets are saved, and one that is reached at once.
    let limit = |size| RateLimitConfig {
        bandwidth: BucketConfig::new(size, BucketConfig::MAX_REFILL_MS, 0),
        operations: None,
    };
    let parts = net::Parts { id: id(), tap: tap(), mac, rx_limit: limit(1 << 40), tx_limit: limit(1 << 16) };
    let net = Net::new(parts).expect("descriptors");
    let device = Mmio::new(slot, net, wiring(memory)).expect("eventfds");
    run(device, program, memory, &mut || (), |state, _| {
        let wiring = net::Wiring { transport: wiring(memory), id: id(), tap: tap() };
        Mmio::<Net>::restore(state, wiring).expect("what was saved can be restored")
    });
}

fn wiring(memory: &GuestRam) -> Wiring {
    Wiring { memory: memory.clone(), irq: IrqLine::new().expect("an eventfd") }
}

/// A file in memory, and a path that leads to it.
fn disk_file() -> (File, PathBuf) {
    let file = File::from(memfd_create("disk", MemfdFlags::CLOEXEC).expect("a file in memory"));
    file.set_len(SECTORS * blk::SECTOR).expect("it takes any length");
    let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    (file, path)
}

/// `far` is the turn of whoever is at the device's other end. `restore` gets what was saved, and the device that it was
/// saved of.
fn run<D>(
    mut device: Mmio<D>,
    mut program: Program<'_>,
    memory: &GuestRam,
    far: &mut dyn FnMut(),
    restore: impl Fn(<Mmio<D> as Persist>::State, Mmio<D>) -> Mmio<D>,
) where
    D: VirtioDevice,
    Mmio<D>: Persist,
    <Mmio<D> as Persist>::State: Clone + PartialEq + std::fmt::Debug,
{
    while let Some(op) = program.next_op() {
        if let Op::Restore = op {
            let saved = device.save(&Quiesced::in_test());
            device = restore(saved.clone(), device);
            assert_eq!(device.save(&Quiesced::in_test()), saved, "a restored device is the saved one");
        } else {
            step(&mut device, op, &mut program, memory);
        }
        far();
        check(&mut device);
    }
}

/// Everything but [`Op::Restore`], which makes another device.
pub(super) fn step<D: VirtioDevice>(
    device: &mut Mmio<D>,
    op: Op,
    program: &mut Program<'_>,
    memory: &GuestRam,
) {
    match op {
        Op::SetUp => set_up(device, program.byte()),
        Op::Write => {
            let at = u64::from(u16::from_le_bytes(program.take()) & 0x1ff);
            device.write(at, &program.word().to_le_bytes());
        }
        Op::Access => {
            let at = u64::from(u16::from_le_bytes(program.take()));
            let mut bytes = program.bytes(1 << (at % 4));
            device.write(at, &bytes);
            device.read(at, &mut bytes);
        }
        Op::Poke => {
            let [a, b, c, len] = program.take();
            let bytes = program.bytes(len.into());
            // Where there is no memory there is nothing to write.
            let _ = memory.write_slice(&bytes, GuestAddress(u32::from_le_bytes([a, b, c, 0]).into()));
        }
        Op::Offer => offer(memory, 0, program.byte()),
        Op::AddQueue => {
            let queue = program.byte();
            let mut write = |at: u64, value: u32| device.write(at, &value.to_le_bytes());
            write(0x30, queue.into());
            set_up_queue(&mut write, ring_offset(queue));
        }
        Op::OfferIn => {
            let queue = program.byte();
            offer(memory, ring_offset(queue), program.byte());
        }
        Op::Serve => device.serve_here(),
        Op::Restore => {}
    }
}

/// What holds of a device at any time.
fn check(device: &mut impl BusDevice) {
    let mut status = [0; 4];
    device.read(0x70, &mut status);
    let [status, rest @ ..] = status;
    assert_eq!(rest, [0; 3]);
    let steps = [1, 2, 8, 4];
    let climbed = steps.iter().take_while(|step| status & **step != 0).sum::<u8>();
    assert_eq!(status & 0b1111, climbed, "status {status:#x}");
    let mut interrupt = [0xff; 4];
    device.read(0x60, &mut interrupt);
    assert!(u32::from_le_bytes(interrupt) < 4);
}

fn set_up(device: &mut impl BusDevice, operand: u8) {
    let mut word = [0; 4];
    device.write(0x14, &[0; 4]);
    device.read(0x10, &mut word);
    let offered = u32::from_le_bytes(word);
    let mut write = |at: u64, value: u32| device.write(at, &value.to_le_bytes());
    for status in [0, 1, 3] {
        write(0x70, status);
    }
    // From the operand: indirect descriptors and event indices, a write cache, whatever else is offered; and the
    // standard.
    let (rings, cache) = (u32::from(operand & 3) << 28, u32::from(operand >> 2 & 1) << 9);
    let rest = if operand & 0x20 != 0 { offered & !(3 << 28 | 1 << 9) } else { 0 };
    write(0x24, 0);
    write(0x20, offered & (rings | cache | rest));
    write(0x24, 1);
    write(0x20, 1);
    write(0x70, 11);
    write(0x30, u32::from(operand >> 3 & 3));
    set_up_queue(&mut write, 0);
    write(0x70, 15);
}

/// Makes the selected queue ready.
fn set_up_queue(write: &mut dyn FnMut(u64, u32) -> Effect, offset: u32) {
    write(0x38, SIZE);
    for (place, ring) in RINGS {
        write(place, ring + offset);
        write(place + 4, 0);
    }
    write(0x44, 1);
}

/// Where the rings of an added queue are.
fn ring_offset(queue: u8) -> u32 {
    (u32::from(queue % 8) + 1) * RING_STEP
}

/// Puts `head` into the next place of the available ring at `offset`, wherever the driver's index is.
fn offer(memory: &GuestRam, offset: u32, head: u8) {
    let ring = u64::from(RINGS[1].1 + offset);
    let index = GuestAddress(ring + 2);
    let now: u16 = memory.read_obj(index).unwrap_or(0);
    let place = GuestAddress(ring + 4 + 2 * u64::from(now) % (2 * u64::from(SIZE)));
    let offered = memory.write_obj(u16::from(head), place);
    offered.and_then(|()| memory.write_obj(now.wrapping_add(1), index)).expect("the rings lie in memory");
}
