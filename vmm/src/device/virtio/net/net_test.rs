use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::sockopt::set_socket_send_buffer_size;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair};

use super::super::mock::*;
use super::super::transport::{self, Mmio};
use super::super::{Slot, feature as common};
use super::*;
use crate::config::BucketConfig;
use crate::irq::IrqLine;
use crate::lifecycle::{Persist, Quiesced};
use crate::memory::GuestRam;

pub(super) const PLAIN: u64 = common::VERSION_1 | feature::STATUS | feature::CTRL_VQ;
pub(super) const MERGEABLE: u64 = PLAIN | feature::MRG_RXBUF;
const TSO: u64 = MERGEABLE | feature::GUEST_CSUM | feature::GUEST_TSO4;

/// An interface with the far end of its cable, and a driver of all its queues.
pub(super) struct Rig {
    pub device: Mmio<Net>,
    pub rx: Driver,
    pub tx: Driver,
    pub control: Driver,
    pub peer: OwnedFd,
}

pub(super) fn wiring(memory: &GuestRam) -> transport::Wiring {
    transport::Wiring { memory: memory.clone(), irq: IrqLine::new().unwrap() }
}

/// A cable: frames with their headers, each in one piece, go from one end to the other.
pub(super) fn cable() -> (Tap, OwnedFd) {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (near, far) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
    (Tap::of_socket(&"tap0".parse().unwrap(), near), far)
}

pub(super) fn parts(tap: Tap) -> Parts {
    let mac = Some("02:00:00:00:00:07".parse().unwrap());
    let (rx_limit, tx_limit) = Default::default();
    Parts { id: "eth0".parse().unwrap(), tap, mac, rx_limit, tx_limit }
}

pub(super) fn rig_of(parts: Parts, peer: OwnedFd, features: u64) -> Rig {
    let memory = ram();
    let mut device = Mmio::new(Slot::new(0).unwrap(), Net::new(parts).unwrap(), wiring(&memory)).unwrap();
    negotiate(&mut device, features);
    assert_eq!(status(&mut device), 1 | 2 | 8, "the features are acceptable");
    let [rx, tx, control] = [0, 1, 2].map(|queue| Driver::set_up(&mut device, &memory, queue));
    write_register(&mut device, 0x70, READY);
    Rig { device, rx, tx, control, peer }
}

pub(super) fn rig(features: u64) -> Rig {
    let (tap, peer) = cable();
    rig_of(parts(tap), peer, features)
}

/// A header of zeros but for the place of `num_buffers`, which the host leaves as it is, and a frame of so many bytes.
fn frame(len: usize) -> Vec<u8> {
    let header = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xee, 0xee];
    header.into_iter().chain((0..len).map(|n| n as u8)).collect()
}

pub(super) fn wait_for(mut what: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !what() {
        assert!(Instant::now() < deadline, "it never happened");
        std::thread::yield_now();
    }
}

impl Rig {
    pub(super) fn ring(&mut self, queue: u32) {
        write_register(&mut self.device, 0x50, queue);
    }

    pub(super) fn link(&mut self) -> u32 {
        let mut status = [0; 2];
        crate::bus::BusDevice::read(&mut self.device, 0x106, &mut status);
        u16::from_le_bytes(status).into()
    }

    /// A frame arrives.
    fn arrives(&self, frame: &[u8]) {
        assert_eq!(send(&self.peer, frame, SendFlags::empty()).unwrap(), frame.len());
    }

    /// What has come out, without waiting.
    fn came_out(&self) -> Option<Vec<u8>> {
        let mut bytes = vec![0; 1 << 17];
        match recv(&self.peer, &mut bytes, RecvFlags::empty()) {
            Ok((len, _)) => Some(bytes[..len].to_vec()),
            Err(Errno::AGAIN) => None,
            Err(e) => panic!("{e}"),
        }
    }

    /// What comes out, however long it takes.
    fn comes_out(&self) -> Vec<u8> {
        let patience = Timespec { tv_sec: 10, tv_nsec: 0 };
        assert_eq!(
            poll(&mut [PollFd::new(&self.peer, PollFlags::IN)], Some(&patience)),
            Ok(1),
            "nothing came"
        );
        self.came_out().unwrap()
    }

    fn sends(&mut self, at: u64, frame: &[u8]) {
        self.tx.put(at, frame);
        self.tx.request(&[(at, frame.len() as u32, 0)]);
    }
}

#[test]
fn the_guest_sees_its_address_its_link_and_its_mtu() {
    let mut rig = rig(PLAIN);
    let mut bytes = [0; 12];
    crate::bus::BusDevice::read(&mut rig.device, 0x100, &mut bytes);
    assert_eq!(bytes, [2, 0, 0, 0, 0, 7, 1, 0, 0, 0, 0xdc, 0x05]);
    let net = rig.device.device().unwrap();
    assert_ne!(net.features() & feature::MAC, 0);
    let (tap, _peer) = cable();
    let without = Net::new(Parts { mac: None, ..parts(tap) }).unwrap();
    assert_eq!(without.features() & feature::MAC, 0, "the guest makes one up");
}

#[test]
fn frames_leave_as_they_are() {
    let mut rig = rig(PLAIN);
    let bytes = frame(1000);
    rig.tx.put(BUFFERS, &bytes);
    let head = rig.tx.request(&[
        (BUFFERS, 5, 0),
        (BUFFERS + 5, 0, 0),
        (BUFFERS + 5, 900, 0),
        (BUFFERS + 905, 107, 0),
    ]);
    rig.device.serve_here();
    assert_eq!(rig.came_out().as_ref(), Some(&bytes));
    assert_eq!(rig.tx.answer(), Some((head.into(), 0)));
    // Twice as many as are sent in one go, of all sizes.
    let mut heads = Vec::new();
    for n in 0..8 {
        rig.tx.put(BUFFERS + n * 0x1000, &frame(n as usize * 100));
        heads.push(rig.tx.request(&[(BUFFERS + n * 0x1000, 12 + n as u32 * 100, 0)]));
    }
    rig.device.serve_here();
    for n in 0..8 {
        assert_eq!(rig.came_out(), Some(frame(n * 100)));
    }
    assert_eq!(std::iter::from_fn(|| rig.tx.answer()).count(), 8);
}

#[test]
fn what_is_no_frame_is_lost_and_harms_nobody() {
    let mut rig = rig(PLAIN);
    for buffers in
        [&[(BUFFERS, 11, 0)][..], &[(BUFFERS, 0, 0)], &[(BUFFERS, 100, WRITE)], &[(0, 0x10_0000, 0)]]
    {
        rig.tx.request(buffers);
    }
    rig.sends(BUFFERS, &frame(60));
    rig.device.serve_here();
    assert_eq!(std::iter::from_fn(|| rig.tx.answer()).count(), 5);
    assert_eq!((rig.came_out(), rig.came_out()), (Some(frame(60)), None));
    assert_eq!(status(&mut rig.device), READY);
}

#[test]
fn a_frame_arrives_in_one_buffer() {
    let mut rig = rig(PLAIN);
    let head = rig.rx.request(&[(BUFFERS, 12, WRITE), (BUFFERS + 0x1000, 1518, WRITE)]);
    let spare = rig.rx.request(&[(BUFFERS + 0x2000, 1530, WRITE)]);
    rig.arrives(&frame(700));
    rig.device.serve_here();
    assert_eq!(rig.rx.answer(), Some((head.into(), 712)));
    assert_eq!(rig.rx.answer(), None);
    assert_eq!(rig.rx.bytes(BUFFERS, 12), [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0], "one buffer, in the end");
    assert_eq!(rig.rx.bytes(BUFFERS + 0x1000, 701), [&frame(700)[12..], &[0]].concat());
    let saved = rig.device.save(&Quiesced::in_test()).transport.queues[0];
    assert_eq!((saved.next_avail, saved.next_used), (1, 1), "what was not used was not taken");
    rig.arrives(&frame(1518));
    rig.device.serve_here();
    assert_eq!(rig.rx.answer(), Some((spare.into(), 1530)), "exactly full");
}

#[test]
fn a_frame_may_go_over_several_buffers() {
    let mut rig = rig(MERGEABLE);
    let heads: Vec<u32> =
        (0..4).map(|n| rig.rx.request(&[(BUFFERS + n * 0x1000, 600, WRITE)]).into()).collect();
    rig.arrives(&frame(1500));
    rig.device.serve_here();
    let answers: Vec<_> = std::iter::from_fn(|| rig.rx.answer()).collect();
    assert_eq!(answers, [(heads[0], 600), (heads[1], 600), (heads[2], 312)]);
    assert_eq!(rig.rx.bytes(BUFFERS + 10, 2), [3, 0]);
    let whole = [BUFFERS, BUFFERS + 0x1000, BUFFERS + 0x2000].map(|at| rig.rx.bytes(at, 600)).concat();
    assert_eq!(whole[12..1512], frame(1500)[12..]);
    rig.arrives(&frame(588));
    rig.device.serve_here();
    assert_eq!(rig.rx.answer(), None, "the next may be a long one, and this driver will have room for it");
    for n in 0..2 {
        rig.rx.request(&[(BUFFERS + n * 0x1000, 600, WRITE)]);
    }
    rig.device.serve_here();
    assert_eq!((rig.rx.answer(), rig.rx.answer()), (Some((heads[3], 600)), None));
    assert_eq!(rig.rx.bytes(BUFFERS + 0x3000 + 10, 2), [1, 0]);
}

/// The driver wants to hear of one answer, and that is neither the first nor the last of a frame.
#[test]
fn an_answer_among_several_is_told_of() {
    let mut rig = rig(MERGEABLE | common::EVENT_IDX);
    for (awaited, told) in [(1, true), (0xfff0, false), (7, true), (13, false)] {
        write_register(&mut rig.device, 0x64, 3);
        rig.rx.want_interrupt_after(awaited);
        for n in 0..3 {
            rig.rx.request(&[(BUFFERS + n * 0x1000, 600, WRITE)]);
        }
        rig.arrives(&frame(1500));
        rig.device.serve_here();
        assert_eq!(std::iter::from_fn(|| rig.rx.answer()).count(), 3);
        assert_eq!(read_register(&mut rig.device, 0x60) & 1 != 0, told, "{awaited}");
    }
}

#[test]
fn what_does_not_fit_is_lost_and_what_follows_is_not() {
    for features in [PLAIN, MERGEABLE] {
        let mut rig = rig(features);
        let head = rig.rx.request(&[(BUFFERS, 612, WRITE)]);
        rig.arrives(&frame(601));
        rig.arrives(&frame(1400));
        rig.arrives(&[1; 11]);
        rig.arrives(&frame(600));
        rig.device.serve_here();
        assert_eq!((rig.rx.answer(), rig.rx.answer()), (Some((head.into(), 612)), None));
        assert_eq!(rig.rx.bytes(BUFFERS + 12, 600), frame(600)[12..]);
    }
}

/// A driver that has once made enough available for the longest segment is waited for when it has less.
#[test]
fn a_long_frame_waits_for_a_driver_that_will_have_room() {
    let mut rig = rig(TSO);
    let long = frame(65_000);
    let offer = |rx: &mut Driver, count: u64| {
        for n in 0..count {
            rx.request(&[(BUFFERS + n * 0x2000, 0x2000, WRITE)]);
        }
    };
    // Nine times 8 KiB is enough, and what the second frame finds is not.
    offer(&mut rig.rx, 9);
    rig.device.resume().unwrap();
    rig.arrives(&long);
    wait_for(|| rig.rx.clone().answer().is_some());
    assert_eq!(std::iter::from_fn(|| rig.rx.answer()).count(), 8);
    rig.arrives(&long);
    offer(&mut rig.rx, 4);
    rig.ring(0);
    offer(&mut rig.rx, 4);
    rig.ring(0);
    wait_for(|| rig.rx.clone().answer().is_some());
    let answers: Vec<u32> = std::iter::from_fn(|| rig.rx.answer()).map(|(_, len)| len).collect();
    assert_eq!((answers.len(), answers.iter().sum::<u32>()), (8, 65_012));
    rig.device.quiesce();
    let saved = rig.device.save(&Quiesced::in_test()).transport.queues[0];
    assert_eq!((saved.next_avail, saved.next_used), (16, 16));
}

#[test]
fn a_driver_that_breaks_a_rule_is_given_up() {
    let broken = |request: &dyn Fn(&mut Rig)| {
        let mut rig = rig(MERGEABLE);
        request(&mut rig);
        rig.device.serve_here();
        assert_eq!(status(&mut rig.device), READY | NEEDS_RESET);
        // And is whole again after a reset.
        write_register(&mut rig.device, 0x70, 0);
        let memory = rig.rx.memory.clone();
        negotiate(&mut rig.device, PLAIN);
        rig.tx = Driver::set_up(&mut rig.device, &memory, 1);
        write_register(&mut rig.device, 0x70, READY);
        rig.sends(BUFFERS, &frame(60));
        rig.device.serve_here();
        assert_eq!(rig.came_out(), Some(frame(60)));
    };
    broken(&|rig| {
        rig.rx.request(&[(BUFFERS, 11, WRITE)]);
    });
    broken(&|rig| {
        rig.rx.request(&[(BUFFERS, 100, 0)]);
    });
    broken(&|rig| {
        rig.control.request(&[(BUFFERS, 2, 0)]);
    });
    broken(&|rig| {
        rig.tx.request(&[(0x10_0000, 100, 0)]);
    });
}

/// One buffer, as often as the driver likes: that would be held without end.
#[test]
fn more_buffers_than_the_queue_has_are_no_buffers() {
    let mut rig = rig(MERGEABLE);
    rig.device.resume().unwrap();
    let head = rig.rx.request(&[(BUFFERS, 12, WRITE)]);
    (1..16).for_each(|_| rig.rx.offer(head));
    rig.ring(0);
    (0..8).for_each(|_| rig.rx.offer(head));
    rig.ring(0);
    wait_for(|| status(&mut rig.device) == READY | NEEDS_RESET);
}

#[test]
fn commands_that_there_are_not_are_refused() {
    let mut rig = rig(PLAIN);
    for command in [[3, 0], [3, 1], [0, 0], [4, 0], [255, 255]] {
        rig.control.put(BUFFERS, &command);
        rig.control.put(BUFFERS + 16, &[0xee]);
        rig.control.request(&[(BUFFERS, 2, 0), (BUFFERS + 16, 1, WRITE)]);
        rig.device.serve_here();
        assert_eq!(rig.control.answer().map(|(_, len)| len), Some(1));
        assert_eq!(rig.control.bytes(BUFFERS + 16, 1), [1], "{command:?}");
    }
}

#[test]
fn frames_go_both_ways_as_long_as_the_machine_runs_however_often_it_rests() {
    let mut rig = rig(MERGEABLE);
    rig.device.resume().unwrap();
    for round in 0..60_u64 {
        let at = BUFFERS + round % 4 * 0x2000;
        rig.rx.request(&[(at, 1530, WRITE)]);
        rig.ring(0);
        if round % 7 == 3 {
            rig.device.quiesce();
            let saved = rig.device.save(&Quiesced::in_test()).transport.queues[0];
            assert_eq!(u64::from(saved.next_avail), round);
            rig.device.resume().unwrap();
        }
        rig.arrives(&frame(round as usize));
        wait_for(|| rig.rx.clone().answer().is_some());
        assert_eq!(rig.rx.answer().map(|(_, len)| len), Some(12 + round as u32));
        rig.sends(at + 0x1000, &frame(2 * round as usize));
        rig.ring(1);
        assert_eq!(rig.comes_out(), frame(2 * round as usize));
        wait_for(|| rig.tx.clone().answer().is_some());
        rig.tx.answer();
    }
}

#[test]
fn a_host_that_has_no_room_is_waited_for() {
    let (tap, peer) = cable();
    set_socket_send_buffer_size(&tap, 4096).unwrap();
    let mut rig = rig_of(parts(tap), peer, PLAIN);
    rig.device.resume().unwrap();
    for n in 0..12 {
        rig.sends(BUFFERS + n * 0x1000, &frame(1000 + n as usize));
    }
    rig.ring(1);
    // Some have left, the rest are no requests that were begun.
    rig.device.quiesce();
    let saved = rig.device.save(&Quiesced::in_test()).transport.queues[1];
    assert_eq!(saved.next_avail, saved.next_used);
    assert!(saved.next_used < 12);
    rig.device.resume().unwrap();
    for n in 0..12 {
        assert_eq!(rig.comes_out(), frame(1000 + n));
    }
    wait_for(|| rig.tx.clone().answer().is_some());
}

#[test]
fn a_cable_that_is_cut_is_seen() {
    for sends in [false, true] {
        let mut rig = rig(PLAIN);
        rig.device.resume().unwrap();
        rig.peer = rustix::event::eventfd(0, rustix::event::EventfdFlags::empty()).unwrap();
        if sends {
            rig.sends(BUFFERS, &frame(60));
            rig.sends(BUFFERS, &frame(60));
            rig.ring(1);
        } else {
            rig.rx.request(&[(BUFFERS, 1530, WRITE)]);
            rig.ring(0);
        }
        wait_for(|| read_register(&mut rig.device, 0x60) & 2 != 0);
        assert_eq!(rig.link(), 0);
        if sends {
            wait_for(|| std::iter::from_fn(|| rig.tx.clone().answer()).next().is_some());
        }
        assert_eq!(status(&mut rig.device), READY, "no fault of the driver's");
        write_register(&mut rig.device, 0x70, 0);
        assert_eq!(rig.link(), 0, "and stays cut");
    }
}

fn limited(rx: Option<BucketConfig>, tx: Option<BucketConfig>) -> Rig {
    let (tap, peer) = cable();
    let limit = |operations| RateLimitConfig { bandwidth: None, operations };
    rig_of(Parts { rx_limit: limit(rx), tx_limit: limit(tx), ..parts(tap) }, peer, PLAIN)
}

#[test]
fn what_is_over_the_limit_stays_in_the_queue_and_on_the_wire() {
    let three_a_day = BucketConfig::new(3, BucketConfig::MAX_REFILL_MS, 0);
    let mut rig = limited(three_a_day, three_a_day);
    rig.device.resume().unwrap();
    for n in 0..5 {
        rig.sends(BUFFERS + n * 0x1000, &frame(60));
        rig.rx.request(&[(BUFFERS + 0x800 + n * 0x1000, 0x700, WRITE)]);
        rig.arrives(&frame(60));
    }
    rig.ring(0);
    rig.ring(1);
    (0..3).for_each(|_| assert_eq!(rig.comes_out(), frame(60)));
    let mut received = 0;
    wait_for(|| {
        received += std::iter::from_fn(|| rig.rx.answer()).count();
        received == 3
    });
    rig.device.quiesce();
    assert_eq!(rig.came_out(), None);
    let saved = rig.device.save(&Quiesced::in_test());
    assert_eq!([0, 1].map(|queue: usize| saved.transport.queues[queue].next_avail), [3, 3]);
    assert_eq!([saved.rx_limit, saved.tx_limit].map(|limit| limit.operations.tokens), [0, 0]);
}

#[test]
fn limits_let_everything_through_in_time() {
    let quick = BucketConfig::new(1, 2, 0);
    let mut rig = limited(quick, quick);
    rig.device.resume().unwrap();
    for n in 0..8 {
        rig.sends(BUFFERS + n * 0x1000, &frame(60 + n as usize));
        rig.rx.request(&[(BUFFERS + 0x800 + n * 0x1000, 0x700, WRITE)]);
        rig.arrives(&frame(60));
    }
    rig.ring(0);
    rig.ring(1);
    (0..8).for_each(|n| assert_eq!(rig.comes_out(), frame(60 + n)));
    let mut received = 0;
    wait_for(|| {
        received += std::iter::from_fn(|| rig.rx.answer()).count();
        received == 8
    });
}
