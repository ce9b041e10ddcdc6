use std::io::Write;
use std::os::unix::fs::FileExt;

use tempfile::NamedTempFile;

use super::super::mock::*;
use super::super::{Slot, feature as common, transport};
use super::engine::Engine;
use super::*;
use crate::config::PathTrust;
use crate::device::virtio::transport::Mmio;
use crate::irq::IrqLine;
use crate::lifecycle::{Persist, Quiesced};
use crate::memory::GuestRam;

const SECTORS: u64 = 64;
const HEADER: u64 = BUFFERS;
const DATA: u64 = BUFFERS + 0x1000;
const STATUS: u64 = BUFFERS + 0x800;

struct Rig {
    file: NamedTempFile,
    device: Mmio<Blk>,
    driver: Driver,
}

fn wiring(memory: &GuestRam) -> transport::Wiring {
    transport::Wiring { memory: memory.clone(), irq: IrqLine::new().unwrap() }
}

/// A disk whose sectors are filled with their numbers, counted from 1.
fn file() -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    for sector in 0..SECTORS {
        file.write_all(&[sector as u8 + 1; SECTOR as usize]).unwrap();
    }
    file
}

fn blk(file: &NamedTempFile, read_only: bool) -> Blk {
    Blk::new(DiskId::new("root").unwrap(), Disk::open(file.path(), read_only).unwrap())
}

fn rig_with(read_only: bool, features: u64) -> Rig {
    rig_over(Engine::default(), read_only, features)
}

fn rig_over(engine: Engine, read_only: bool, features: u64) -> Rig {
    let (file, memory) = (file(), ram());
    let blk = Blk { engine, ..blk(&file, read_only) };
    let mut device = Mmio::new(Slot::new(0).unwrap(), blk, wiring(&memory)).unwrap();
    let driver = Driver::start_with(&mut device, &memory, common::VERSION_1 | common::EVENT_IDX | features);
    Rig { file, device, driver }
}

const ALL: u64 = feature::FLUSH | feature::DISCARD | feature::WRITE_ZEROES;

fn rig() -> Rig {
    rig_with(false, ALL)
}

/// One for each way to the disk.
fn rigs() -> [Rig; 3] {
    [Engine::default(), Engine::ring_only(), Engine::synchronous()].map(|engine| rig_over(engine, false, ALL))
}

impl Rig {
    /// One request with its data in one buffer; gives back status and length of the answer.
    fn ask(&mut self, kind: u32, sector: u64, data: &[(u64, u32, u16)]) -> (u8, u32) {
        self.header(kind, sector);
        self.driver.put(STATUS, &[0xee]);
        let request = [&[(HEADER, 16, 0)], data, &[(STATUS, 1, WRITE)]].concat();
        self.driver.request(&request);
        self.device.serve_here();
        assert_eq!(status(&mut self.device), READY, "the driver has broken no rule");
        let (_, len) = self.driver.answer().unwrap();
        (self.driver.bytes(STATUS, 1)[0], len)
    }

    fn header(&self, kind: u32, sector: u64) {
        let header = [&kind.to_le_bytes()[..], &[0; 4], &sector.to_le_bytes()].concat();
        self.driver.put(HEADER, &header);
    }

    /// One range to discard or clear.
    fn range(&mut self, kind: u32, sector: u64, sectors: u32, flags: u32) -> (u8, u32) {
        let range = [&sector.to_le_bytes()[..], &sectors.to_le_bytes(), &flags.to_le_bytes()].concat();
        self.driver.put(DATA, &range);
        self.ask(kind, 0, &[(DATA, 16, 0)])
    }

    fn on_disk(&self, sector: u64) -> Vec<u8> {
        let mut bytes = vec![0; SECTOR as usize];
        self.file.as_file().read_exact_at(&mut bytes, sector * SECTOR).unwrap();
        bytes
    }
}

#[test]
fn the_guest_sees_its_size_and_limits() {
    let mut rig = rig();
    let mut word = [0; 8];
    crate::bus::BusDevice::read(&mut rig.device, 0x100, &mut word);
    assert_eq!(u64::from_le_bytes(word), SECTORS);
    assert_eq!([0x10c, 0x114].map(|at| read_register(&mut rig.device, at)), [254, 512]);
    assert_eq!(
        [0x124, 0x128, 0x130, 0x134].map(|at| read_register(&mut rig.device, at)),
        [1 << 17, 1, 1 << 17, 1]
    );
}

#[test]
fn sectors_are_read_and_written() {
    for mut rig in rigs() {
        assert_eq!(rig.ask(0, 3, &[(DATA, 512, WRITE), (DATA + 0x1000, 1024, WRITE)]), (0, 1537));
        assert_eq!(rig.driver.bytes(DATA, 513), [vec![4; 512], vec![0]].concat());
        assert_eq!(rig.driver.bytes(DATA + 0x1000, 1024), [[5; 512], [6; 512]].concat());
        rig.driver.put(DATA, &[0xaa; 1024]);
        assert_eq!(rig.ask(1, SECTORS - 2, &[(DATA, 100, 0), (DATA + 100, 924, 0)]), (0, 1));
        assert_eq!(rig.on_disk(SECTORS - 3), [SECTORS as u8 - 2; 512]);
        assert_eq!([rig.on_disk(SECTORS - 2), rig.on_disk(SECTORS - 1)], [[0xaa; 512]; 2]);
        assert_eq!(rig.ask(4, 0, &[]), (0, 1));
    }
}

#[test]
fn header_and_status_lie_wherever_the_driver_puts_them() {
    for mut rig in rigs() {
        rig.header(0, 9);
        // The header in three pieces; data and status in two that do not end where they do.
        let request = [
            (HEADER, 1, 0),
            (HEADER + 1, 7, 0),
            (HEADER + 8, 8, 0),
            (DATA, 500, WRITE),
            (DATA + 500, 13, WRITE),
        ];
        rig.driver.request(&request);
        rig.device.serve_here();
        assert_eq!(rig.driver.answer().map(|(_, len)| len), Some(513));
        assert_eq!(rig.driver.bytes(DATA, 513), [vec![10; 512], vec![0]].concat());
    }
}

#[test]
fn what_is_not_on_the_disk_is_an_error_of_the_request_only() {
    for mut rig in rigs() {
        let data = [(DATA, 1024, WRITE)];
        for sector in [SECTORS - 1, SECTORS, u64::MAX, u64::MAX / 512, 1 << 55] {
            assert_eq!(rig.ask(0, sector, &data), (1, 0), "{sector:#x}");
            assert_eq!(rig.ask(1, sector, &[(DATA, 1024, 0)]), (1, 1), "{sector:#x}");
        }
        assert_eq!(rig.ask(0, 0, &[(DATA, 513, WRITE)]), (1, 0));
        assert_eq!(rig.ask(1, 0, &[(DATA, 511, 0)]), (1, 1));
        assert_eq!(rig.ask(0, 0, &[]), (0, 1));
        assert_eq!(rig.ask(77, 0, &data), (2, 0));
        assert_eq!(rig.ask(0, 0, &data), (0, 1025));
    }
}

#[test]
fn the_serial_number_is_the_id() {
    let mut rig = rig();
    assert_eq!(rig.ask(8, 0, &[(DATA, 20, WRITE)]), (0, 21));
    assert_eq!(rig.driver.bytes(DATA, 20), b"root\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    assert_eq!(rig.ask(8, 0, &[(DATA, 2, WRITE)]), (0, 3));
    assert_eq!(rig.ask(8, 0, &[(DATA, 30, WRITE)]), (0, 20));
}

#[test]
fn a_request_without_header_or_room_breaks_the_rules() {
    for request in [&[(HEADER, 15, 0), (STATUS, 1, WRITE)][..], &[(HEADER, 16, 0)], &[(STATUS, 32, WRITE)]] {
        let mut rig = rig();
        rig.header(4, 0);
        rig.driver.request(request);
        rig.device.serve_here();
        assert_eq!(status(&mut rig.device), READY | NEEDS_RESET);
        assert_eq!(rig.driver.answer(), None);
    }
}

#[test]
fn ranges_are_discarded_and_cleared() {
    let mut rig = rig();
    assert_eq!(rig.range(13, 2, 2, 0), (0, 1));
    assert_eq!([rig.on_disk(1), rig.on_disk(2), rig.on_disk(3), rig.on_disk(4)].map(|s| s[0]), [2, 0, 0, 5]);
    assert_eq!(rig.range(13, 5, 1, 1), (0, 1));
    assert_eq!(rig.on_disk(5), [0; 512]);
    assert_eq!(rig.range(11, 8, 8, 0), (0, 1));
    assert_eq!([rig.on_disk(7), rig.on_disk(16)].map(|s| s[0]), [8, 17]);
    assert_eq!(
        rig.file.as_file().metadata().unwrap().len(),
        SECTORS * SECTOR,
        "the disk is as long as before"
    );
    // Beyond the end, across it, with flags that do not belong there, more than one, and half a one.
    assert_eq!(rig.range(13, SECTORS, 1, 0), (1, 1));
    assert_eq!(rig.range(11, SECTORS - 1, 2, 0), (1, 1));
    assert_eq!(rig.range(13, u64::MAX, u32::MAX, 0), (1, 1));
    assert_eq!(rig.range(11, 0, 1, 1), (2, 1));
    assert_eq!(rig.range(13, 0, 1, 2), (2, 1));
    assert_eq!(rig.ask(13, 0, &[(DATA, 32, 0)]), (1, 1));
    assert_eq!(rig.ask(13, 0, &[(DATA, 15, 0)]), (1, 1));
    assert_eq!(rig.ask(13, 0, &[]), (1, 1));
}

#[test]
fn a_read_only_disk_stays_as_it_is() {
    let mut rig = rig_with(true, feature::RO);
    assert_eq!(rig.device.device().unwrap().features() & (feature::DISCARD | feature::WRITE_ZEROES), 0);
    assert_eq!(rig.ask(1, 0, &[(DATA, 512, 0)]), (1, 1));
    assert_eq!(rig.range(13, 0, 1, 0), (1, 1));
    assert_eq!(rig.range(11, 0, 1, 0), (1, 1));
    assert_eq!(rig.on_disk(0), [1; 512]);
    assert_eq!(rig.ask(0, 0, &[(DATA, 512, WRITE)]), (0, 513));
    assert_eq!(rig.ask(4, 0, &[]), (0, 1));
}

#[test]
fn a_host_that_fails_fails_the_request_only() {
    for mut rig in rigs() {
        rig.file.as_file().set_len(SECTOR).unwrap();
        assert_eq!(rig.ask(0, 0, &[(DATA, 1024, WRITE)]), (1, 0));
        assert_eq!(rig.ask(0, 0, &[(DATA, 512, WRITE)]), (0, 513));
    }
}

#[test]
fn a_driver_that_knows_no_caches_needs_none() {
    let flushes = |features| {
        let rig = rig_with(false, features);
        rig.device.device().unwrap().write_back
    };
    assert!(flushes(feature::FLUSH));
    assert!(!flushes(0));
    // Writes through work as well.
    let mut rig = rig_with(false, 0);
    assert_eq!(rig.ask(1, 0, &[(DATA, 512, 0)]), (0, 1));
}

#[test]
fn a_restored_disk_serves_what_was_not_begun() {
    let mut rig = rig();
    assert_eq!(rig.ask(0, 0, &[(DATA, 512, WRITE)]), (0, 513));
    rig.header(0, 7);
    rig.driver.put(STATUS, &[0xee]);
    rig.driver.request(&[(HEADER, 16, 0), (DATA, 512, WRITE), (STATUS, 1, WRITE)]);
    let state = rig.device.save(&Quiesced::in_test());
    let Rig { file, device, mut driver } = rig;
    drop(device);
    let disk = Disk::reopen(&state, None, &PathTrust::All).unwrap();
    let id = DiskId::new("root").unwrap();
    let wiring = Wiring { transport: wiring(&driver.memory), id, storage: disk.into() };
    let mut device = Mmio::<Blk>::restore(state.clone(), wiring).unwrap();
    assert_eq!(device.save(&Quiesced::in_test()), state);
    assert!(device.device().unwrap().write_back, "what the driver has accepted holds");
    device.serve_here();
    assert_eq!(driver.answer().map(|(_, len)| len), Some(513));
    assert_eq!((driver.bytes(DATA, 512), driver.bytes(STATUS, 1)), (vec![8; 512], vec![0]));
    drop(file);
}

/// A write that nobody has to wait for needs no ring, and no wake-up.
#[test]
fn what_can_be_done_at_once_is_answered_at_once() {
    let mut rig = rig();
    for sector in 0..8 {
        rig.header(1, sector);
        rig.driver.request(&[(HEADER, 16, 0), (DATA, 512, 0), (STATUS, 1, WRITE)]);
        rig.device.serve_here();
        assert_eq!(rig.driver.answer().map(|(_, len)| len), Some(1));
    }
    assert!(!rig.device.device().unwrap().engine.has_ring());
}

#[test]
fn zeros_that_the_host_may_have_to_write_count_against_the_limit() {
    use crate::config::{BucketConfig, RateLimitConfig};
    use crate::device::virtio::rate::RateLimit;

    let after = |kind: u32| {
        let (file, memory) = (file(), ram());
        let bandwidth = BucketConfig::new(16 << 10, BucketConfig::MAX_REFILL_MS, 0);
        let limit = RateLimit::new(&RateLimitConfig { bandwidth, operations: None }).unwrap();
        let mut device =
            Mmio::new(Slot::new(0).unwrap(), blk(&file, false).limited(limit), wiring(&memory)).unwrap();
        let driver = Driver::start_with(&mut device, &memory, common::VERSION_1 | common::EVENT_IDX | ALL);
        let mut rig = Rig { file, device, driver };
        assert_eq!(rig.range(kind, 0, SECTORS as u32, 0), (0, 1));
        rig.header(4, 0);
        rig.driver.request(&[(HEADER, 16, 0), (STATUS, 1, WRITE)]);
        rig.device.serve_here();
        rig.driver.answer().is_some()
    };
    assert!(!after(13), "32 KiB of zeros are more than 16 KiB");
    assert!(after(11), "what is discarded is not written");
}

#[test]
fn ids_are_plain_and_short() {
    for good in ["a", "root_disk-0.img", "01234567890123456789"] {
        assert_eq!(DiskId::new(good).unwrap().as_str(), good);
    }
    for bad in ["", "012345678901234567890", "a b", "a:b", "a/b", "ä"] {
        assert!(DiskId::new(bad).is_err(), "{bad}");
    }
}

fn number_of(sector: u64) -> u8 {
    sector as u8 + 1
}

/// Requests of all sizes, many at a time, and the machine coming to rest again and again: each is answered once, and
/// rightly.
#[test]
fn nothing_is_lost_or_done_twice_however_often_the_machine_rests() {
    for mut rig in rigs() {
        rig.device.resume().unwrap();
        let mut asked = 0_u64;
        let mut answered = 0_u64;
        while answered < 120 {
            std::thread::yield_now();
            // Four at a time, which may overtake each other, and a place for each: header, status, two sectors.
            let batch = if asked == answered { 4 } else { 0 };
            for _ in 0..batch {
                let (at, sector) = (BUFFERS + asked % 8 * 0x1000, asked * 7 % (SECTORS - 1));
                let header = [&[0; 8][..], &sector.to_le_bytes()].concat();
                rig.driver.put(at, &header);
                rig.driver.put(at + 0x10, &[0xee; 0x800]);
                rig.driver.request(&[(at, 16, 0), (at + 0x400, 1024, WRITE), (at + 0x10, 1, WRITE)]);
                asked += 1;
                write_register(&mut rig.device, 0x50, 0);
            }
            if asked.is_multiple_of(3) {
                rig.device.quiesce();
                let saved = rig.device.save(&Quiesced::in_test()).transport.queues[0];
                assert_eq!(saved.next_avail, saved.next_used, "nothing is half done");
                rig.device.resume().unwrap();
            }
            while let Some((_, len)) = rig.driver.answer() {
                assert_eq!(len, 1025);
                answered += 1;
            }
            assert_eq!(status(&mut rig.device), READY);
        }
        rig.device.quiesce();
        assert_eq!(rig.driver.answer(), None);
        for last in asked - 4..asked {
            let (at, sector) = (BUFFERS + last % 8 * 0x1000, last * 7 % (SECTORS - 1));
            let data = [[number_of(sector); 512], [number_of(sector + 1); 512]].concat();
            assert_eq!((rig.driver.bytes(at + 0x400, 1024), rig.driver.bytes(at + 0x10, 1)), (data, vec![0]));
        }
    }
}

/// What was begun before a driver broke a rule is over when its reset is: the memory is the driver's again.
#[test]
fn a_reset_after_a_broken_rule_leaves_nothing_on_its_way() {
    for mut rig in rigs() {
        rig.device.resume().unwrap();
        rig.header(0, 3);
        rig.driver.request(&[(HEADER, 16, 0), (DATA, 512, WRITE), (STATUS, 1, WRITE)]);
        rig.driver.request(&[(HEADER, 1, 0)]);
        write_register(&mut rig.device, 0x50, 0);
        while status(&mut rig.device) != READY | NEEDS_RESET {
            std::thread::yield_now();
        }
        write_register(&mut rig.device, 0x70, 0);
        let blk = rig.device.device().expect("a device that is reset has no thread");
        assert!(blk.engine.is_idle());
        rig.driver.put(DATA, &[0xaa; 512]);
        rig.driver = Driver::start_with(&mut rig.device, &rig.driver.memory.clone(), common::VERSION_1 | ALL);
        rig.device.quiesce();
        assert_eq!(rig.ask(1, 9, &[(DATA, 512, 0)]), (0, 1));
        assert_eq!((rig.on_disk(9), rig.driver.bytes(DATA, 512)), (vec![0xaa; 512], vec![0xaa; 512]));
    }
}

#[test]
fn what_is_over_the_limit_stays_in_the_queue() {
    use crate::config::{BucketConfig, RateLimitConfig};
    use crate::device::virtio::rate::RateLimit;

    for engine in [Engine::default(), Engine::synchronous()] {
        let (file, memory) = (file(), ram());
        // A kibibyte at once, and then nothing for a day.
        let bandwidth = BucketConfig::new(1024, BucketConfig::MAX_REFILL_MS, 0);
        let limit = RateLimit::new(&RateLimitConfig { bandwidth, operations: None }).unwrap();
        let blk = Blk { engine, ..blk(&file, false) }.limited(limit);
        let mut device = Mmio::new(Slot::new(0).unwrap(), blk, wiring(&memory)).unwrap();
        let mut driver =
            Driver::start_with(&mut device, &memory, common::VERSION_1 | common::EVENT_IDX | ALL);
        driver.put(HEADER, &[0; 16]);
        for n in 0..5 {
            driver.request(&[(HEADER, 16, 0), (DATA + n * 0x200, 512, WRITE), (STATUS, 1, WRITE)]);
        }
        device.serve_here();
        assert_eq!(std::iter::from_fn(|| driver.answer()).count(), 2);
        let state = device.save(&Quiesced::in_test());
        assert_eq!((state.transport.queues[0].next_avail, state.limit.bandwidth.tokens), (2, 0));
        drop(device);
        // Restored, it has no more than it had.
        let disk = Disk::reopen(&state, None, &PathTrust::All).unwrap();
        let wired =
            Wiring { transport: wiring(&memory), id: DiskId::new("root").unwrap(), storage: disk.into() };
        let mut device = Mmio::<Blk>::restore(state.clone(), wired).unwrap();
        assert_eq!(device.save(&Quiesced::in_test()), state);
        device.serve_here();
        assert_eq!(driver.answer(), None);
    }
}

#[test]
fn a_limit_lets_everything_through_in_time() {
    use crate::config::{BucketConfig, RateLimitConfig};
    use crate::device::virtio::rate::RateLimit;

    for engine in [Engine::default(), Engine::synchronous()] {
        let (file, memory) = (file(), ram());
        let operations = BucketConfig::new(1, 2, 0);
        let limit = RateLimit::new(&RateLimitConfig { bandwidth: None, operations }).unwrap();
        let blk = Blk { engine, ..blk(&file, false) }.limited(limit);
        let mut device = Mmio::new(Slot::new(0).unwrap(), blk, wiring(&memory)).unwrap();
        let mut driver =
            Driver::start_with(&mut device, &memory, common::VERSION_1 | common::EVENT_IDX | ALL);
        device.resume().unwrap();
        driver.put(HEADER, &[0; 16]);
        for n in 0..5 {
            driver.request(&[(HEADER, 16, 0), (DATA + n * 0x200, 512, WRITE), (STATUS, 1, WRITE)]);
        }
        write_register(&mut device, 0x50, 0);
        for _ in 0..5 {
            while driver.answer().is_none() {
                std::thread::yield_now();
            }
        }
        assert_eq!(status(&mut device), READY);
    }
}
