use std::error::Error as _;
use std::sync::Arc;

use vm_memory::GuestAddress;
use vmm_sys_util::eventfd::EventFd;

use super::*;
use crate::bus::Bus;
use crate::clock::HostClock;
use crate::irq::IrqLine;
use crate::lifecycle::{Effect, Quiesced, StopReason};
use crate::memory::{GuestRam, layout, ram_at};

fn wiring() -> (Wiring, IrqLine, IrqLine) {
    let (serial_irq, keyboard_irq) = (IrqLine::new().unwrap(), IrqLine::new().unwrap());
    let wiring = Wiring {
        serial_irq: serial_irq.clone(),
        console: serial::ConsoleOut::null(),
        input_drained: Arc::new(EventFd::new(libc::EFD_NONBLOCK).unwrap()),
        keyboard_irq: keyboard_irq.clone(),
        clock: Arc::new(HostClock),
        ready_armed: true,
    };
    (wiring, serial_irq, keyboard_irq)
}

fn ram() -> GuestRam {
    ram_at(&[(GuestAddress(0), layout::MIN_RAM as usize)])
}

fn built() -> DeviceSet {
    DeviceSet::build(wiring().0, &ram()).unwrap()
}

fn plugged(set: &DeviceSet) -> Bus {
    let mut bus = Bus::default();
    set.plug(&mut bus).unwrap();
    bus
}

#[test]
fn every_device_answers_at_its_ports() {
    let bus = plugged(&built());
    let read = |port| {
        let mut data = [0];
        bus.read(port, &mut data);
        data[0]
    };
    assert_eq!(read(0x3fd), 0x60, "line status");
    assert_eq!(read(0x64), 0x14, "keyboard controller status");
    assert_eq!(read(0x61), 0xff, "not ours");
    assert_eq!(read(0x604), 1, "ACPI mode");
    assert_eq!(read(0x505), 3, "panic events");
    bus.write(0x70, &[0x0d]);
    assert_eq!(read(0x71), 0x80, "the clock is valid");
    assert_eq!(bus.write(0x5e0, &[1]), Effect::Stop(StopReason::Ready));
    assert_eq!(bus.write(0x604, &[0x00, 0x34]), Effect::Stop(StopReason::PowerOff));
    assert_eq!(bus.write(0x60c, &[1]), Effect::Stop(StopReason::Reset));
    assert_eq!(bus.write(0x64, &[0xfe]), Effect::Stop(StopReason::Reset));
    assert_eq!(bus.write(0x505, &[1]), Effect::Stop(StopReason::Panic));
}

#[test]
fn the_set_comes_back_as_it_was_saved_and_interrupts_when_it_may() {
    let set = built();
    let bus = plugged(&set);
    bus.write(0x3f9, &[1]);
    assert_eq!(set.serial().receive(b"typed"), 5);
    set.i8042().send_ctrl_alt_del().unwrap();
    bus.write(0x70, &[0x0f]);
    bus.write(0x71, &[0x5a]);
    bus.write(0x602, &[0x20, 0x01]);
    bus.write(0x5e0, &[0x77]);
    let state = set.save(&Quiesced::in_test());

    let (wiring, serial_irq, keyboard_irq) = wiring();
    let again = DeviceSet::restore(state.clone(), wiring, &ram()).unwrap();
    assert_eq!(again.save(&Quiesced::in_test()), state);
    assert!(serial_irq.eventfd().read().is_err() && keyboard_irq.eventfd().read().is_err());
    again.raise_pending();
    assert_eq!(serial_irq.eventfd().read().unwrap(), 1);
    assert_eq!(keyboard_irq.eventfd().read().unwrap(), 1);
    let mut first = [0];
    plugged(&again).read(0x3f8, &mut first);
    assert_eq!(first, *b"t");
}

#[test]
fn a_refusal_names_the_section_and_keeps_its_cause() {
    let mut state = built().save(&Quiesced::in_test());
    state.rtc.index = 200;
    let refused = DeviceSet::restore(state, wiring().0, &ram()).err().unwrap();
    assert_eq!(refused.to_string(), "restoring device section `rtc`");
    assert_eq!(refused.source().unwrap().to_string(), "the selected register 0xc8 does not exist");
}
