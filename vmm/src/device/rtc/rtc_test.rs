use std::sync::Mutex;
use std::time::SystemTime;

use snapshot_format::codec::prelude::Blob;
use snapshot_format::state::RtcState;

use super::*;
use crate::lifecycle::{Persist, Quiesced};

/// 2026-11-23 09:04:37 UTC, a Monday.
const NOW: u64 = 1_795_424_677;

/// A clock that stands where it was put.
struct Fixed(Mutex<SystemTime>);

impl Fixed {
    fn at(time: SystemTime) -> Arc<Self> {
        Arc::new(Self(Mutex::new(time)))
    }

    fn advance(&self, by: Duration) {
        *self.0.lock().unwrap() += by;
    }
}

impl WallClock for Fixed {
    fn now(&self) -> SystemTime {
        *self.0.lock().unwrap()
    }
}

fn clock() -> (Rtc, Arc<Fixed>) {
    let host = Fixed::at(UNIX_EPOCH + Duration::from_secs(NOW));
    (Rtc::new(host.clone()), host)
}

fn get(rtc: &mut Rtc, register: u8) -> u8 {
    rtc.write(0, &[register]);
    let mut data = [0xff];
    rtc.read(1, &mut data);
    data[0]
}

fn set(rtc: &mut Rtc, register: u8, value: u8) {
    rtc.write(0, &[register]);
    rtc.write(1, &[value]);
}

fn time(rtc: &mut Rtc) -> [u8; 8] {
    TIME.map(|register| get(rtc, register))
}

#[test]
fn the_registers_show_the_host_s_time_as_it_goes() {
    let (mut rtc, host) = clock();
    assert_eq!(time(&mut rtc), [0x37, 0x04, 0x09, 0x02, 0x23, 0x11, 0x26, 0x20]);
    host.advance(Duration::from_secs(23));
    assert_eq!(time(&mut rtc)[..2], [0x00, 0x05]);
    set(&mut rtc, REGISTER_B, BINARY);
    host.advance(Duration::from_secs(12 * 3_600));
    assert_eq!(time(&mut rtc), [0, 5, 9 | 0x80, 2, 23, 11, 26, 20], "binary, 12 hours, PM");
}

/// The steps of Linux's mc146818_set_time.
#[test]
fn linux_sets_the_time() {
    let (mut rtc, host) = clock();
    let control = get(&mut rtc, REGISTER_B);
    assert_eq!(control, HOURS_24);
    set(&mut rtc, REGISTER_B, control | SET);
    let rate = get(&mut rtc, REGISTER_A);
    set(&mut rtc, REGISTER_A, rate | 0x70);
    for (register, value) in
        [(9, 0x01), (8, 0x02), (7, 0x28), (4, 0x23), (2, 0x59), (0, 0x58), (CENTURY, 0x20)]
    {
        set(&mut rtc, register, value);
    }
    host.advance(Duration::from_secs(100));
    assert_eq!(time(&mut rtc)[..3], [0x58, 0x59, 0x23], "it stands while it is set");
    set(&mut rtc, REGISTER_B, control);
    set(&mut rtc, REGISTER_A, rate);
    host.advance(Duration::from_secs(2));
    assert_eq!(time(&mut rtc), [0x00, 0x00, 0x00, 0x05, 0x01, 0x03, 0x01, 0x20]);
    assert_eq!(rtc.offset_seconds, 983_404_800 - (NOW as i64 + 102));
}

#[test]
fn a_register_written_while_the_clock_runs_changes_it_at_once() {
    let (mut rtc, host) = clock();
    set(&mut rtc, 0x04, 0x10);
    assert_eq!(rtc.offset_seconds, 3_600);
    set(&mut rtc, 0x07, 0x31);
    assert_eq!(rtc.offset_seconds, 3_600, "there is no 31st of November");
    host.advance(Duration::from_secs(1));
    assert_eq!(time(&mut rtc), [0x38, 0x04, 0x10, 0x02, 0x23, 0x11, 0x26, 0x20]);
}

#[test]
fn an_impossible_date_leaves_the_clock_as_it_was() {
    let (mut rtc, _) = clock();
    set(&mut rtc, REGISTER_B, HOURS_24 | SET);
    set(&mut rtc, 0x08, 0xff);
    assert_eq!(get(&mut rtc, 0x08), 0xff);
    set(&mut rtc, REGISTER_B, HOURS_24);
    assert_eq!(get(&mut rtc, 0x08), 0x11);
    assert_eq!(rtc.offset_seconds, 0);
}

#[test]
fn an_update_is_announced_in_time_and_status_registers_are_sane() {
    let (mut rtc, host) = clock();
    assert_eq!(get(&mut rtc, REGISTER_A), REGISTER_A_RESET);
    host.advance(Duration::from_micros(999_800));
    assert_eq!(get(&mut rtc, REGISTER_A), REGISTER_A_RESET | UIP);
    set(&mut rtc, REGISTER_B, HOURS_24 | SET);
    assert_eq!(get(&mut rtc, REGISTER_A), REGISTER_A_RESET, "no update while it is held");
    set(&mut rtc, REGISTER_C, 0xff);
    set(&mut rtc, REGISTER_D, 0xff);
    assert_eq!([get(&mut rtc, REGISTER_C), get(&mut rtc, REGISTER_D)], [0, VRT]);
}

#[test]
fn alarms_and_memory_are_kept_and_the_index_is_write_only() {
    let (mut rtc, _) = clock();
    for register in [0x01, 0x03, 0x05, 0x0e, 0x0f, 0x7f] {
        set(&mut rtc, register, 0xc0 | register);
    }
    assert_eq!(get(&mut rtc, 0x05), 0xc5);
    assert_eq!(get(&mut rtc, 0x8f), 0xcf, "the NMI mask is no part of the index");

    rtc.write(0, &[0x7f, 0x12]);
    let mut both = [0xff; 2];
    rtc.read(0, &mut both);
    assert_eq!(both, [0xff, 0x12]);
}

#[test]
fn a_host_clock_beyond_the_registers_shows_their_end() {
    for (host, year) in [
        (UNIX_EPOCH - Duration::from_secs(1 << 40), [0x00, 0x00]),
        (UNIX_EPOCH + Duration::from_secs(1 << 40), [0x99, 0x99]),
    ] {
        let mut rtc = Rtc::new(Fixed::at(host));
        assert_eq!([get(&mut rtc, 0x09), get(&mut rtc, CENTURY)], year);
        set(&mut rtc, 0x09, 0x50);
        assert_eq!(get(&mut rtc, 0x09), 0x50);
        assert!(rtc.offset_seconds.abs() < OFFSET_MAX);
    }
}

#[test]
fn a_restored_clock_is_right_however_long_it_lay() {
    let (mut rtc, host) = clock();
    set(&mut rtc, 0x04, 0x10);
    set(&mut rtc, 0x0f, 0x0a);
    let state = rtc.save(&Quiesced::in_test());
    host.advance(Duration::from_secs(3 * 86_400));
    let mut rtc = Rtc::restore(state.clone(), host).unwrap();
    assert_eq!(rtc.save(&Quiesced::in_test()), state);
    let mut selected = [0];
    rtc.read(1, &mut selected);
    assert_eq!(selected, [0x0a], "the register that was selected still is");
    assert_eq!(time(&mut rtc), [0x37, 0x04, 0x10, 0x05, 0x26, 0x11, 0x26, 0x20]);
}

#[test]
fn a_restore_while_the_clock_is_being_set_goes_on_there() {
    let (mut rtc, host) = clock();
    set(&mut rtc, REGISTER_B, HOURS_24 | SET);
    set(&mut rtc, 0x00, 0x11);
    let state = rtc.save(&Quiesced::in_test());
    host.advance(Duration::from_secs(500));
    let mut rtc = Rtc::restore(state, host).unwrap();
    set(&mut rtc, 0x02, 0x22);
    set(&mut rtc, REGISTER_B, HOURS_24);
    assert_eq!(time(&mut rtc)[..3], [0x11, 0x22, 0x09]);
}

#[test]
fn hostile_states_are_refused() {
    let (rtc, host) = clock();
    let good = rtc.save(&Quiesced::in_test());
    let refusal = |state| Rtc::restore(state, host.clone()).err();
    let with = |register: u8, value| {
        let mut cmos = good.cmos.0.clone();
        cmos[usize::from(register)] = value;
        RtcState { cmos: Blob(cmos), ..good.clone() }
    };
    assert_eq!(refusal(good.clone()), None);
    assert_eq!(refusal(RtcState { index: 128, ..good.clone() }), Some(Error::Index { index: 128 }));
    for len in [0, 127, 129] {
        let cmos = Blob(vec![0; len]);
        assert_eq!(refusal(RtcState { cmos, ..good.clone() }), Some(Error::CmosLength { len }));
    }
    for seconds in [i64::MIN, -OFFSET_MAX - 1, OFFSET_MAX + 1, i64::MAX] {
        let state = RtcState { offset_seconds: seconds, ..good.clone() };
        assert_eq!(refusal(state), Some(Error::Offset { seconds }));
    }
    for (register, value) in
        [(0x00, 1), (CENTURY, 0x20), (REGISTER_A, 0xa6), (REGISTER_C, 1), (REGISTER_D, VRT)]
    {
        assert_eq!(refusal(with(register, value)), Some(Error::ImpossibleRegister { register, value }));
    }
    let held = RtcState { offset_seconds: -OFFSET_MAX, ..with(REGISTER_B, SET) };
    let mut rtc = Rtc::restore(held, host.clone()).unwrap();
    set(&mut rtc, REGISTER_B, HOURS_24);
    assert_eq!(
        get(&mut rtc, 0x09),
        0x00,
        "day 0 of month 0 is no date, and the far offset shows the first year"
    );
}
