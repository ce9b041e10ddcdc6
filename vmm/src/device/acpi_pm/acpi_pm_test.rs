use snapshot_format::state::AcpiPmState;

use super::*;
use crate::lifecycle::{Persist, Quiesced};

fn read16(pm: &mut AcpiPm, offset: u64) -> u16 {
    let mut data = [0xff; 2];
    pm.read(offset, &mut data);
    u16::from_le_bytes(data)
}

#[test]
fn soft_off_takes_sleep_enable_and_the_right_type() {
    let mut pm = AcpiPm::default();
    // ACPICA writes the type first and the enable bit with a second write.
    assert_eq!(pm.write(4, &(5u16 << 10 | 1).to_le_bytes()), Effect::Continue);
    assert_eq!(read16(&mut pm, 4), 5 << 10 | 1);
    assert_eq!(pm.write(4, &(4u16 << 10 | 1 << 13).to_le_bytes()), Effect::Continue);
    assert_eq!(pm.write(4, &(5u16 << 10 | 1 << 13).to_le_bytes()), Effect::Stop(StopReason::PowerOff));
    assert_eq!(read16(&mut pm, 4), 5 << 10 | 1, "SLP_EN is write-only and SCI_EN stays");
}

#[test]
fn the_same_bytes_do_the_same_at_every_width() {
    let high = 5u8 << 2 | 1 << 5;
    assert_eq!(AcpiPm::default().write(5, &[high]), Effect::Stop(StopReason::PowerOff));
    assert_eq!(AcpiPm::default().write(2, &[0, 0, 0, high]), Effect::Stop(StopReason::PowerOff));
    assert_eq!(AcpiPm::default().write(4, &[high]), Effect::Continue, "the low byte is not the high one");

    let mut pm = AcpiPm::default();
    pm.write(1, &[0, 0x21, 0x07, 0x02]);
    let mut all = [0xff; 8];
    pm.read(0, &mut all);
    assert_eq!(all, [0, 0, 0x21, 0x07, 0x03, 0, 0, 0]);
}

#[test]
fn only_the_reset_value_in_the_reset_register_resets() {
    let mut pm = AcpiPm::default();
    assert_eq!(pm.write(0xc, &[0]), Effect::Continue);
    assert_eq!(pm.write(0xb, &[RESET_VALUE]), Effect::Continue);
    assert_eq!(pm.write(0xc, &[RESET_VALUE]), Effect::Stop(StopReason::Reset));
    assert_eq!(pm.write(0x8, &[0, 0, 0, 0, RESET_VALUE, 0, 0, 0]), Effect::Stop(StopReason::Reset));
}

#[test]
fn status_bits_are_cleared_by_writing_ones() {
    let state = AcpiPmState { pm1_status: 0x8101, pm1_enable: 0x0120, pm1_control: 1 };
    let mut pm = AcpiPm::restore(state, ()).unwrap();
    pm.write(0, &[0x00, 0x01]);
    assert_eq!(read16(&mut pm, 0), 0x8001);
    pm.write(0, &[0x01]);
    assert_eq!(read16(&mut pm, 0), 0x8000);
}

#[test]
fn what_was_saved_comes_back_and_impossible_bits_are_refused() {
    let state = AcpiPmState { pm1_status: 0x8100, pm1_enable: 0x0120, pm1_control: 0x1401 };
    assert_eq!(AcpiPm::restore(state, ()).unwrap().save(&Quiesced::in_test()), state);

    let bad = [
        AcpiPmState { pm1_status: 0x0002, ..state },
        AcpiPmState { pm1_enable: 0x8000, ..state },
        AcpiPmState { pm1_control: 0x2001, ..state },
        AcpiPmState { pm1_control: 0x1400, ..state },
    ];
    for state in bad {
        assert!(matches!(AcpiPm::restore(state, ()), Err(Error::ImpossibleRegisters { .. })), "{state:?}");
    }
}
