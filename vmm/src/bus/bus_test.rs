use super::*;
use crate::lifecycle::StopReason;

struct Echo(Vec<(u64, Vec<u8>)>);

impl BusDevice for Echo {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        data[0] = offset as u8;
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Effect {
        self.0.push((offset, data.to_vec()));
        Effect::Stop(StopReason::Ready)
    }
}

fn echo() -> Arc<Mutex<Echo>> {
    Arc::new(Mutex::new(Echo(Vec::new())))
}

#[test]
fn an_access_reaches_the_device_whose_range_holds_all_of_it() {
    let (device, mut bus) = (echo(), Bus::default());
    bus.insert(0x3f8, 8, device.clone()).unwrap();

    assert_eq!(bus.write(0x3fa, &[7, 8]), Effect::Stop(StopReason::Ready));
    assert_eq!(device.lock().unwrap().0, [(2, vec![7, 8])]);

    let mut data = [0; 2];
    bus.read(0x3fe, &mut data);
    assert_eq!(data, [6, 0xff]);
}

#[test]
fn what_nobody_claims_reads_as_ones_and_swallows_writes() {
    let (device, mut bus) = (echo(), Bus::default());
    bus.insert(0x3f8, 8, device.clone()).unwrap();
    for (addr, len) in [(0x3f7, 1), (0x400, 4), (0x3ff, 2), (u64::MAX, 1), (u64::MAX - 1, 4)] {
        let mut data = vec![0; len];
        bus.read(addr, &mut data);
        assert_eq!(data, vec![0xff; len], "{addr:#x}+{len}");
        assert_eq!(bus.write(addr, &data), Effect::Continue);
    }
    assert!(device.lock().unwrap().0.is_empty());
}

#[test]
fn overlapping_empty_and_wrapping_ranges_are_refused() {
    let mut bus = Bus::default();
    bus.insert(0x60, 1, echo()).unwrap();
    bus.insert(0x64, 1, echo()).unwrap();
    bus.insert(0x61, 3, echo()).unwrap();
    for (base, len) in [(0x60, 1), (0x5f, 2), (0x62, 1), (0x50, 0x100), (0x70, 0), (u64::MAX, 2)] {
        assert_eq!(bus.insert(base, len, echo()), Err(Error::Overlap { base, len }));
    }
}
