//! The programs do what they are meant to: without that, a fuzz target finds nothing.

use super::testing::{Far, Program, drive, step};

/// A disk request in one descriptor chain of three, then whatever is asked for.
fn request(kind: u8, then: &[u8]) -> Vec<u8> {
    let descriptor = |index: u8, address: u16, len: u16, flags: u8| {
        let [a, b] = address.to_le_bytes();
        let [c, d] = len.to_le_bytes();
        let at = 16 * index;
        [3, at, 0x10, 0, 16, a, b, 0, 0, 0, 0, 0, 0, c, d, 0, 0, flags, 0, index + 1, 0]
    };
    let header = [3, 0x00, 0x40, 0, 1, kind];
    let parts = [
        &[1, 0, 7][..],
        &descriptor(0, 0x4000, 16, 1),
        &descriptor(1, 0x5000, 512, if kind == 0 { 3 } else { 1 }),
        &descriptor(2, 0x6000, 1, 2),
        &header,
        &[4, 0],
        then,
    ];
    parts.concat()
}

#[test]
fn programs_of_every_kind_run_to_their_end() {
    drive(&[]);
    for kind in (0..5).chain([9, 16, 32]) {
        let all: Vec<u8> = [kind].into_iter().chain((0..=255).flat_map(|op| [op, 1, 0, 0, 0, 0])).collect();
        drive(&all);
        drive(&[kind, 0, 7, 6, 5, 4, 0, 5, 6, 5]);
    }
    drive(&request(0, &[5, 6, 4, 0, 5]));
    drive(&request(1, &[5, 6, 4, 0, 5]));
    // The same over a base.
    for kind in 0..2 {
        let mut over = request(kind, &[5, 6, 4, 0, 5, 6, 4, 0, 5]);
        over[0] |= 8;
        drive(&over);
    }
}

/// A packet at 0x4000, for the chain whose descriptor comes first in the rings of the queue that was set up.
fn packet(op: u8, data: &[u8]) -> Vec<u8> {
    let len = data.len() as u8;
    let header = [
        &[3, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0][..],
        &[100, 0, 0, 0, 1, 0, 0, 0, len, 0, 0, 0, 1, 0, op, 0],
        &[0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0],
        data,
    ];
    let header = header.concat();
    let descriptor = [0, 0x40, 0, 0, 0, 0, 0, 0, header.len() as u8, 0, 0, 0, 0, 0, 0, 0];
    let poke = |at: [u8; 2], bytes: &[u8]| [&[3, at[0], at[1], 0, bytes.len() as u8], bytes].concat();
    [poke([0x00, 0x40], &header), poke([0x00, 0x10], &descriptor), vec![4, 0, 5]].concat()
}

/// The driver of a socket device, all of whose queues are there: it calls the host's port 1 and says something. Its
/// buffers for packets are at 0x5000 and 0x6000, that for an event at 0x7000.
fn conversation() -> Vec<u8> {
    let buffer = |ring: u8, index: u8, place: u8| {
        [3, 16 * index, ring, 0, 16, 0, place, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 2, 0, 0, 0]
    };
    let parts = [
        &[32, 0, 7 | 1 << 3, 7, 0, 7, 2][..],
        &buffer(0x11, 0, 0x50),
        &buffer(0x11, 1, 0x60),
        &buffer(0x13, 0, 0x70),
        &[8, 2, 0, 8, 0, 0, 8, 0, 1],
        &packet(1, &[]),
        &packet(5, b"hello"),
        &[5, 5],
    ];
    parts.concat()
}

#[test]
fn a_conversation_reaches_a_program_of_the_hosts() {
    use vm_memory::{Bytes, GuestAddress};
    let memory = super::mock::ram();
    let far = Far::new();
    let irq = crate::irq::IrqLine::new().unwrap();
    let wiring = super::transport::Wiring { memory: memory.clone(), irq };
    let slot = super::Slot::new(0).unwrap();
    let mut device = super::transport::Mmio::new(slot, far.device(), wiring).unwrap();
    let bytes = conversation();
    let mut program = Program(&bytes[1..]);
    while let Some(op) = program.next_op() {
        step(&mut device, op, &mut program, &memory);
        far.turn();
    }
    let op = |at: u64| memory.read_obj::<u16>(GuestAddress(at + 30)).unwrap();
    assert_eq!((op(0x5000), op(0x6000)), (2, 5), "a response, and what was said");
    assert_eq!(memory.read_obj::<[u8; 5]>(GuestAddress(0x6000 + 44)).unwrap(), *b"hello");
    drop(device);
    drive(&[&bytes[..], &[6, 5, 6, 5]].concat());
    let seed = include_bytes!("../../../../tests/fuzz/seeds/virtio/vsock-echo");
    assert!(bytes == seed, "the seed is another program: {bytes:?}");
}

/// A buffer for each direction of a network interface: to write from 0x4000 on, and one of a control command.
#[test]
fn frames_are_received_sent_and_refused() {
    for (queue, flags) in [(0, 2), (1, 0), (2, 2)] {
        for more in [0, 0x20] {
            let set_up = [0, 7 | queue << 3 | more];
            let descriptor = [3, 0, 0x10, 0, 16, 0, 0x40, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, flags, 0, 0, 0];
            let then = [4, 0, 5, 6, 4, 0, 5, 4, 0, 5, 6, 5];
            drive(&[&[4][..], &set_up, &descriptor, &then].concat());
        }
    }
}

#[test]
fn a_whole_request_reaches_the_disk() {
    use vm_memory::{Bytes, GuestAddress};
    let memory = super::mock::ram();
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(16384).unwrap();
    let disk = super::blk::Disk::open(file.path(), false).unwrap();
    let id = super::blk::DiskId::new("fuzz").unwrap();
    let irq = crate::irq::IrqLine::new().unwrap();
    let wiring = super::transport::Wiring { memory: memory.clone(), irq };
    let blk = super::blk::Blk::new(id, disk);
    let mut device = super::transport::Mmio::new(super::Slot::new(0).unwrap(), blk, wiring).unwrap();
    let bytes = request(0, &[5]);
    let mut program = Program(&bytes[1..]);
    while let Some(op) = program.next_op() {
        step(&mut device, op, &mut program, &memory);
    }
    assert_eq!(memory.read_obj::<u16>(GuestAddress(0x3002)).unwrap(), 1, "one answer");
    assert_eq!(memory.read_obj::<u32>(GuestAddress(0x3008)).unwrap(), 513, "a sector and its status");
}

#[test]
fn a_program_takes_pages_from_memory() {
    use vm_memory::{Bytes, GuestAddress};
    let memory = super::mock::ram();
    let valve = super::balloon::Valve::new().unwrap();
    let irq = crate::irq::IrqLine::new().unwrap();
    let wiring = super::transport::Wiring { memory: memory.clone(), irq };
    let balloon = super::balloon::Balloon::new(valve);
    let mut device = super::transport::Mmio::new(super::Slot::new(0).unwrap(), balloon, wiring).unwrap();
    memory.write_obj(1_u8, GuestAddress(0x6000)).unwrap();
    let bytes = include_bytes!("../../../../tests/fuzz/seeds/virtio/balloon-inflate");
    let mut program = Program(&bytes[1..]);
    while let Some(op) = program.next_op() {
        step(&mut device, op, &mut program, &memory);
    }
    assert_eq!(memory.read_obj::<u8>(GuestAddress(0x6000)).unwrap(), 0);
}
