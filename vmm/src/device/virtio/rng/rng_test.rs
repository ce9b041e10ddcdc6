use super::super::Slot;
use super::super::mock::*;
use super::super::transport::{Mmio, Wiring};
use super::*;
use crate::irq::IrqLine;
use crate::lifecycle::{Persist, Quiesced};

fn wiring(memory: &GuestRam) -> Wiring {
    Wiring { memory: memory.clone(), irq: IrqLine::new().unwrap() }
}

fn rng(memory: &GuestRam) -> Mmio<Rng> {
    Mmio::new(Slot::new(0).unwrap(), Rng::default(), wiring(memory)).unwrap()
}

#[test]
fn buffers_are_filled_and_never_twice_alike() {
    let memory = ram();
    let mut device = rng(&memory);
    let mut driver = Driver::start(&mut device, &memory);
    let head = driver.request(&[(BUFFERS, 100, WRITE), (BUFFERS + 0x1000, 1000, WRITE)]);
    device.serve_here();
    assert_eq!(driver.answer(), Some((head.into(), 1100)));
    let first = [driver.bytes(BUFFERS, 100), driver.bytes(BUFFERS + 0x1000, 1000)].concat();
    assert!(
        first.windows(16).all(|window| window.iter().any(|byte| *byte != 0)),
        "every part of it is filled"
    );
    assert_eq!(driver.bytes(BUFFERS + 100, 8), [0; 8], "and nothing else");
    driver.request(&[(BUFFERS, 100, WRITE)]);
    device.serve_here();
    assert_ne!(driver.bytes(BUFFERS, 100), first[..100]);
}

#[test]
fn a_request_is_bounded_and_one_for_nothing_is_answered() {
    let memory = ram();
    let mut device = rng(&memory);
    let mut driver = Driver::start(&mut device, &memory);
    driver.request(&[(0x20_0000, 0x10_0000, WRITE)]);
    driver.request(&[(BUFFERS, 16, 0)]);
    driver.request(&[(BUFFERS, 0, WRITE)]);
    device.serve_here();
    let answered: Vec<u32> = std::iter::from_fn(|| driver.answer()).map(|(_, len)| len).collect();
    assert_eq!(answered, [0x1_0000, 0, 0]);
    assert_eq!(driver.bytes(0x21_0000, 64), [0; 64]);
}

#[test]
fn it_comes_back_as_it_was_saved() {
    let memory = ram();
    let mut device = rng(&memory);
    let mut driver = Driver::start(&mut device, &memory);
    driver.request(&[(BUFFERS, 8, WRITE)]);
    device.serve_here();
    driver.request(&[(BUFFERS, 8, WRITE)]);
    let state = device.save(&Quiesced::in_test());
    drop(device);
    let mut device = Mmio::<Rng>::restore(state.clone(), wiring(&memory)).unwrap();
    assert_eq!(device.save(&Quiesced::in_test()), state);
    device.serve_here();
    assert_eq!(std::iter::from_fn(|| driver.answer()).count(), 2);
}
