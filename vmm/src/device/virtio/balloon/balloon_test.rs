use std::sync::Arc;
use std::time::{Duration, Instant};

use vm_memory::{Bytes, GuestAddress};

use super::super::mock::*;
use super::super::transport::{self, Mmio};
use super::super::{Slot, feature as common};
use super::*;
use crate::irq::IrqLine;
use crate::lifecycle::{Persist, Quiesced};
use crate::memory::GuestRam;

/// Where pages are given from: the second region.
const PAGES: u64 = 0x20_0000;
const ALL: u64 = feature::STATS_VQ | feature::DEFLATE_ON_OOM | feature::REPORTING;

struct Rig {
    memory: GuestRam,
    device: Mmio<Balloon>,
    valve: Arc<Valve>,
    /// By the number of their queues.
    drivers: Vec<Driver>,
}

fn wiring(memory: &GuestRam) -> transport::Wiring {
    transport::Wiring { memory: memory.clone(), irq: IrqLine::new().unwrap() }
}

impl Rig {
    /// A driver that has accepted `features` and set up all queues; every page of the second region begins with a 1.
    fn new(features: u64) -> Self {
        let (memory, valve) = (ram(), Valve::new().unwrap());
        for page in (PAGES..0x30_0000).step_by(4096) {
            memory.write_obj(1_u8, GuestAddress(page)).unwrap();
        }
        let balloon = Balloon::new(Arc::clone(&valve));
        let mut device = Mmio::new(Slot::new(0).unwrap(), balloon, wiring(&memory)).unwrap();
        negotiate(&mut device, features | common::VERSION_1);
        let drivers = (0..5).map(|queue| Driver::set_up(&mut device, &memory, queue)).collect();
        write_register(&mut device, 0x70, READY);
        Self { memory, device, valve, drivers }
    }

    /// Sends `bytes` in one buffer, and demands the answer.
    fn send(&mut self, queue: usize, bytes: &[u8]) {
        self.drivers[queue].put(BUFFERS, bytes);
        let head = self.drivers[queue].request(&[(BUFFERS, bytes.len() as u32, 0)]);
        self.device.serve_here();
        assert_eq!(self.drivers[queue].answer(), Some((head.into(), 0)));
    }

    fn inflate(&mut self, pages: impl IntoIterator<Item = u32>) {
        let bytes: Vec<u8> = pages.into_iter().flat_map(u32::to_le_bytes).collect();
        self.send(0, &bytes);
    }

    /// The pages of the second region that are gone, by their place in it.
    fn gone(&self) -> Vec<u64> {
        let is_gone =
            |page: &u64| self.memory.read_obj::<u8>(GuestAddress(PAGES + page * 4096)).unwrap() == 0;
        (0..256).filter(is_gone).collect()
    }

    /// What the driver would write when it has changed the balloon's size.
    fn tell_actual(&mut self, pages: u32) {
        write_register(&mut self.device, 0x104, pages);
    }

    fn tell_stats(&mut self, stats: &[(u16, u64)]) {
        let bytes: Vec<u8> = stats
            .iter()
            .flat_map(|(tag, value)| [&tag.to_le_bytes()[..], &value.to_le_bytes()].concat())
            .collect();
        self.send(2, &bytes);
    }
}

#[test]
fn inflated_pages_are_gone_and_come_back_empty() {
    let mut rig = Rig::new(ALL);
    rig.inflate([0x203, 0x201, 0x202, 0x207]);
    assert_eq!(rig.gone(), [1, 2, 3, 7]);
    rig.send(1, &0x203_u32.to_le_bytes());
    rig.memory.write_obj(5_u8, GuestAddress(0x20_3000)).unwrap();
    assert_eq!(rig.gone(), [1, 2, 7], "a page that was taken back is the guest's again");
}

#[test]
fn page_numbers_that_make_no_sense_do_nothing() {
    let mut rig = Rig::new(ALL);
    // The hole, the end of memory, the last number there is; then the same page over and over.
    rig.inflate([0x1ff, 0x300, u32::MAX, u32::MAX - 1, 0x180]);
    assert!(rig.gone().is_empty());
    rig.inflate([0x2ff; 512]);
    assert_eq!(rig.gone(), [255]);
    // No number, and half a number.
    rig.send(0, &[]);
    rig.send(0, &[1, 2, 0]);
    assert_eq!(rig.gone(), [255]);
    // The tables below 1 MiB are not the guest's to give.
    rig.memory.write_obj(7_u8, GuestAddress(0xf_e000)).unwrap();
    rig.inflate([0xfe]);
    assert_eq!(rig.memory.read_obj::<u8>(GuestAddress(0xf_e000)).unwrap(), 7);
}

#[test]
fn more_numbers_than_are_looked_at_are_answered_all_the_same() {
    let mut rig = Rig::new(ALL);
    rig.memory.write_obj(0x2ff_u32, GuestAddress(0x20_0000)).unwrap();
    let head = rig.drivers[0].request(&[(0x20_0000, 0x10_0000, 0)]);
    rig.device.serve_here();
    assert_eq!(rig.drivers[0].answer(), Some((head.into(), 0)));
    assert_eq!(rig.gone().last(), Some(&255));
}

#[test]
fn reported_blocks_are_gone_wherever_the_driver_looks_for_the_queue() {
    // By the standard, and without gaps.
    for (features, queue) in [(ALL, 4), (ALL, 3), (feature::REPORTING, 2)] {
        let mut rig = Rig::new(features);
        let head = rig.drivers[queue].request(&[
            (0x20_0000, 0x2000, WRITE),
            (0x20_5800, 0x2800, WRITE),
            (0x2f_f000, 0x1000, WRITE),
        ]);
        rig.device.serve_here();
        assert_eq!(rig.drivers[queue].answer(), Some((head.into(), 0)));
        assert_eq!(rig.gone(), [0, 1, 6, 7, 255], "queue {queue}");
    }
    let mut rig = Rig::new(feature::STATS_VQ);
    rig.drivers[4].request(&[(0x20_0000, 0x2000, WRITE)]);
    rig.device.serve_here();
    assert_eq!((rig.drivers[4].answer(), rig.gone()), (None, vec![]), "the feature was not accepted");
}

#[test]
fn what_the_guest_says_of_its_memory_is_heard() {
    let mut rig = Rig::new(ALL);
    assert_eq!(rig.valve.stats(), Some((Stats::default(), 0)));
    rig.tell_stats(&[(4, 100), (5, 200), (99, 1), (6, 150), (4, 101)]);
    let (stats, told) = rig.valve.stats().unwrap();
    assert_eq!(
        (stats.free, stats.total, stats.available, stats.swap_in, told),
        (Some(101), Some(200), Some(150), None, 1)
    );
    // As many as fit, and a part of one.
    rig.tell_stats(&[(5, 7); 40]);
    assert_eq!(rig.valve.stats().unwrap().0, Stats { total: Some(7), ..Stats::default() });
    write_register(&mut rig.device, 0x70, 0);
    assert_eq!(rig.valve.stats(), None);
    assert_eq!(Rig::new(feature::REPORTING).valve.stats(), None);
}

#[test]
fn a_size_is_told_the_driver_and_survives_an_image() {
    let mut rig = Rig::new(ALL);
    rig.device.resume().unwrap();
    rig.valve.want(77);
    let deadline = Instant::now() + Duration::from_secs(10);
    while read_register(&mut rig.device, 0x60) & 2 == 0 {
        assert!(Instant::now() < deadline, "the driver hears of it");
    }
    assert_eq!((read_register(&mut rig.device, 0x100), rig.valve.wanted()), (77, 77));
    rig.tell_actual(33);
    assert_eq!(rig.valve.actual(), 33);
    rig.device.quiesce();
    write_register(&mut rig.device, 0x64, 3);

    let saved = rig.device.save(&Quiesced::in_test());
    let valve = Valve::new().unwrap();
    let wiring = Wiring { transport: wiring(&rig.memory), valve: Arc::clone(&valve) };
    let mut restored = Mmio::<Balloon>::restore(saved.clone(), wiring).unwrap();
    assert_eq!(restored.save(&Quiesced::in_test()), saved);
    assert_eq!((valve.wanted(), valve.actual()), (77, 33));
    restored.resume().unwrap();
    while read_register(&mut restored, 0x60) & 2 == 0 {
        assert!(Instant::now() < deadline, "it is told again of a size that it has not reached");
    }
    write_register(&mut restored, 0x70, 0);
    assert_eq!((valve.wanted(), valve.actual()), (77, 0), "a new driver's balloon is empty");
}

/// Statistics, blown up, emptied.
#[test]
fn free_memory_is_reclaimed_step_by_step() {
    let mut rig = Rig::new(ALL);
    let start = Instant::now();
    let mut reclaim = Reclaim::begin(&rig.valve).unwrap();
    assert!(!reclaim.step(start));
    assert_eq!(rig.valve.wanted(), 0, "nothing before the guest has said what is free");
    // 16 MiB and a 64th of all memory stay.
    rig.tell_stats(&[(4, 200 << 20), (5, 256 << 20)]);
    assert!(!reclaim.step(start));
    assert_eq!(rig.valve.wanted(), (200 - 16 - 4) << 8);
    rig.tell_actual(100);
    assert!(!reclaim.step(start + Duration::from_millis(500)));
    assert!(!reclaim.step(start + Duration::from_millis(900)), "it grew half a second ago");
    assert!(!reclaim.step(start + Duration::from_millis(1200)));
    assert_eq!(rig.valve.wanted(), 0, "it is as large as it gets");
    assert!(!reclaim.step(start + Duration::from_millis(1300)));
    rig.tell_actual(0);
    assert!(reclaim.step(start + Duration::from_millis(1301)));
}

/// Whoever sets the size meanwhile gets it when free memory is not wanted any more.
#[test]
fn a_size_that_is_set_during_a_reclaim_is_what_it_ends_with() {
    let mut rig = Rig::new(ALL);
    let start = Instant::now();
    let mut reclaim = Reclaim::begin(&rig.valve).unwrap();
    reclaim.go_back_to(5);
    assert_eq!((rig.valve.wanted(), reclaim.goes_back_to()), (5, 5), "nothing else is wanted yet");
    rig.tell_stats(&[(4, 200 << 20), (5, 256 << 20)]);
    assert!(!reclaim.step(start));
    let all = (200 - 16 - 4) << 8;
    reclaim.go_back_to(10);
    assert_eq!((rig.valve.wanted(), reclaim.goes_back_to()), (all, 10), "it is being blown up");
    rig.tell_actual(all);
    assert!(!reclaim.step(start));
    assert_eq!(rig.valve.wanted(), 10);
    reclaim.go_back_to(20);
    assert_eq!(rig.valve.wanted(), 20, "it is being emptied");
    rig.tell_actual(20);
    assert!(reclaim.step(start));
    drop(reclaim);
    assert_eq!(rig.valve.wanted(), 20);
}

#[test]
fn a_reclaim_that_is_given_up_leaves_the_size_as_it_was() {
    let mut rig = Rig::new(ALL);
    rig.valve.want(10);
    rig.tell_actual(10);
    let mut reclaim = Reclaim::begin(&rig.valve).unwrap();
    rig.tell_stats(&[(4, 1 << 30)]);
    assert!(!reclaim.step(Instant::now()));
    assert!(rig.valve.wanted() > 10);
    drop(reclaim);
    assert_eq!(rig.valve.wanted(), 10);
    // A driver that goes away meanwhile, and one that does not tell.
    let mut reclaim = Reclaim::begin(&rig.valve).unwrap();
    write_register(&mut rig.device, 0x70, 0);
    assert!(reclaim.step(Instant::now()));
    assert!(Reclaim::begin(&rig.valve).is_none());
}
