use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use acpi_tables::Aml;
use snapshot_format::{Architecture, StateReader, StateWriter};
use tempfile::TempDir;

use super::super::blk::{Disk, DiskId, Storage};
use super::super::mock::*;
use super::super::{SLOTS, Slot};
use super::*;
use crate::bus::BusDevice;
use crate::config::{DeviceOverrides, DevicesConfig, DiskConfig, PathTrust, RateLimitConfig};
use crate::lifecycle::{Effect, Quiesced};

/// The driver's access by address, as a vCPU's.
struct At<'a>(&'a Bus, u64);

impl BusDevice for At<'_> {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        self.0.read(self.1 + offset, data);
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Effect {
        self.0.write(self.1 + offset, data)
    }
}

fn disks(dir: &TempDir, names: &[&str]) -> Vec<(DiskId, Storage, RateLimitConfig)> {
    let open = |name: &&str| {
        let path = dir.path().join(name);
        fs::write(&path, [1; 1024]).unwrap();
        (DiskId::new(name).unwrap(), Disk::open(&path, false).unwrap().into(), RateLimitConfig::default())
    };
    names.iter().map(open).collect()
}

/// Of an image that was made here.
fn trusting() -> DeviceOverrides {
    DeviceOverrides { trust: PathTrust::All, ..DeviceOverrides::default() }
}

#[test]
fn each_device_has_a_place_an_interrupt_and_doorbells_of_its_own() {
    let dir = TempDir::new().unwrap();
    let set =
        VirtioSet::build(Parts { rng: true, disks: disks(&dir, &["b", "a"]), ..Parts::default() }, &ram())
            .unwrap();
    let slots: Vec<(u64, u32)> = set.slots().iter().map(|slot| (slot.base(), slot.gsi())).collect();
    assert_eq!(slots, [(0xc000_1000, 16), (0xc000_2000, 17), (0xc000_3000, 18)]);
    let mut lines: Vec<u32> = set.lines().iter().map(|(gsi, _)| *gsi).collect();
    lines.sort_unstable();
    assert_eq!(lines, [16, 17, 18]);
    let mut doorbells: Vec<(u64, u32)> =
        set.doorbells().iter().map(|bell| (bell.address, bell.value)).collect();
    doorbells.sort_unstable();
    assert_eq!(doorbells, [(0xc000_1050, 0), (0xc000_2050, 0), (0xc000_3050, 0)]);
    let mut mmio = Bus::default();
    set.plug(&mut mmio).unwrap();
    let kinds = [0xc000_1008, 0xc000_2008, 0xc000_3008, 0xc000_4008].map(|at| {
        let mut kind = [0; 4];
        mmio.read(at, &mut kind);
        u32::from_le_bytes(kind)
    });
    assert_eq!(kinds, [2, 2, 4, u32::MAX]);
}

#[test]
fn what_does_not_fit_or_cannot_be_opened_is_refused() {
    let dir = TempDir::new().unwrap();
    let many = disks(&dir, &["0", "1", "2", "3", "4", "5", "6", "7"]);
    assert!(matches!(
        VirtioSet::build(Parts { rng: true, disks: many, ..Parts::default() }, &ram()),
        Err(Error::TooMany { count: 9 })
    ));
    let path = dir.path().join("0");
    let disk = |id: usize| DiskConfig {
        id: DiskId::new(&id.to_string()).unwrap(),
        path: path.clone(),
        read_only: true,
        overlay: false,
        is_raw: false,
        limit: RateLimitConfig::default(),
    };
    let many = DevicesConfig { disks: (0..9).map(disk).collect(), ..DevicesConfig::default() };
    assert!(matches!(Parts::open(&many), Err(Error::TooMany { count: 9 })));
    let most = DevicesConfig { disks: (0..8).map(disk).collect(), ..DevicesConfig::default() };
    assert_eq!(Parts::open(&most).unwrap().disks.len(), 8);
    let none = DevicesConfig {
        disks: vec![DiskConfig { path: dir.path().join("none"), ..disk(0) }],
        ..DevicesConfig::default()
    };
    assert!(matches!(Parts::open(&none), Err(Error::Disk { id, .. }) if id == "0"));
}

/// A driver at work, a pause, an image, another process: and the driver goes on.
#[test]
fn a_set_goes_through_an_image() {
    let dir = TempDir::new().unwrap();
    let memory = ram();
    let set =
        VirtioSet::build(Parts { rng: true, disks: disks(&dir, &["root"]), ..Parts::default() }, &memory)
            .unwrap();
    let mut mmio = Bus::default();
    set.plug(&mut mmio).unwrap();
    set.resume().unwrap();
    let mut driver = Driver::start(&mut At(&mmio, 0xc000_2000), &memory);
    driver.request(&[(BUFFERS, 8, WRITE)]);
    write_register(&mut At(&mmio, 0xc000_2000), 0x50, 0);
    set.quiesce();
    driver.request(&[(BUFFERS, 8, WRITE)]);
    let state = set.save(&Quiesced::in_test());
    let mut image = StateWriter::new(Architecture::X86_64);
    state.write(&mut image).unwrap();
    let image = image.finish().unwrap();
    drop((set, mmio));

    let mut reader = StateReader::parse(&image).unwrap();
    let read = VirtioSetState::read(&mut reader).unwrap();
    reader.finish().unwrap();
    assert_eq!(read, state);
    let saved = read.open(BTreeMap::new(), &trusting()).unwrap();
    let set = VirtioSet::restore(saved, &memory).unwrap();
    assert_eq!(set.save(&Quiesced::in_test()), state);
    let mut mmio = Bus::default();
    set.plug(&mut mmio).unwrap();
    set.raise_pending();
    set.resume().unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut answers = 0;
    while answers < 2 {
        answers += std::iter::from_fn(|| driver.answer()).count();
        assert!(Instant::now() < deadline, "{answers} answers");
    }
    set.quiesce();
    assert_eq!(driver.answer(), None, "each once");
}

#[test]
fn disks_are_opened_as_the_image_or_the_user_says() {
    let dir = TempDir::new().unwrap();
    let set = VirtioSet::build(
        Parts { rng: false, disks: disks(&dir, &["data", "root"]), ..Parts::default() },
        &ram(),
    )
    .unwrap();
    let state = set.save(&Quiesced::in_test());
    let instead = |id: &str, name: &str| DeviceOverrides {
        disks: [(DiskId::new(id).unwrap(), dir.path().join(name))].into(),
        ..trusting()
    };
    assert!(
        matches!(state.clone().open(BTreeMap::new(), &trusting()), Err(Error::Disk { .. })),
        "the first set still has them"
    );
    drop(set);
    state.clone().open(BTreeMap::new(), &trusting()).unwrap();
    let unknown = state.clone().open(BTreeMap::new(), &instead("swap", "swap")).unwrap_err();
    assert_eq!(unknown.to_string(), "the image has no disk `swap`; it has `data`, `root`");
    fs::remove_file(dir.path().join("root")).unwrap();
    assert!(
        matches!(state.clone().open(BTreeMap::new(), &trusting()), Err(Error::Disk { id, .. }) if id == "root")
    );
    fs::write(dir.path().join("other"), [0; 1024]).unwrap();
    state.clone().open(BTreeMap::new(), &instead("root", "other")).unwrap();
    let none = VirtioSetState::default().open(BTreeMap::new(), &instead("root", "other")).unwrap_err();
    assert_eq!(none.to_string(), "the image has no disk `root`; it has none");
}

#[test]
fn two_devices_in_one_place_are_refused() {
    let dir = TempDir::new().unwrap();
    let set =
        VirtioSet::build(Parts { rng: true, disks: disks(&dir, &["root"]), ..Parts::default() }, &ram())
            .unwrap();
    let mut state = set.save(&Quiesced::in_test());
    drop(set);
    state.rng.as_mut().unwrap().transport.slot = 0;
    let saved = state.open(BTreeMap::new(), &trusting()).unwrap();
    assert!(matches!(VirtioSet::restore(saved, &ram()), Err(Error::SameSlot { slot: 0 })));
}

#[test]
fn a_kernel_is_told_of_a_place() {
    let slot = Slot::new(1).unwrap();
    assert_eq!(slot.kernel_parameter(), "virtio_mmio.device=4K@0xc0002000:17");
    assert_eq!(Slot::new(SLOTS), None);
    let mut aml = Vec::new();
    slot.to_aml_bytes(&mut aml);
    let has = |bytes: &[u8]| aml.windows(bytes.len()).any(|window| window == bytes);
    assert!(has(b"VR01") && has(b"LNRO0005"));
    // A 32-bit fixed memory range, read and write (ACPI 6.5, 6.4.3.4), and an extended interrupt: consumer, edge,
    // active high, exclusive (6.4.3.6).
    assert!(has(&[0x86, 9, 0, 1, 0x00, 0x20, 0x00, 0xc0, 0x00, 0x10, 0, 0]));
    assert!(has(&[0x89, 6, 0, 0b0011, 1, 17, 0, 0, 0]));
}

/// Only handles: every clone means the same devices.
#[test]
fn clones_share_the_devices() {
    let set = VirtioSet::build(Parts { rng: true, ..Parts::default() }, &ram()).unwrap();
    let (one, other) = (set.doorbells(), set.clone().doorbells());
    assert!(Arc::ptr_eq(&one[0].eventfd, &other[0].eventfd));
}
