use snapshot_format::state::ReadyPortState;

use super::*;
use crate::lifecycle::{Persist, Quiesced};

fn last(port: &mut ReadyPort) -> u8 {
    let mut data = [0xff];
    port.read(0, &mut data);
    data[0]
}

#[test]
fn an_armed_port_stops_the_guest_once() {
    let mut port = ReadyPort::new(true);
    assert_eq!(last(&mut port), 0);
    assert_eq!(port.write(0, &[7]), Effect::Stop(StopReason::Ready));
    assert_eq!(port.write(0, &[8]), Effect::Continue);
    assert_eq!(last(&mut port), 8);
}

#[test]
fn a_port_nobody_waits_for_just_remembers() {
    let mut port = ReadyPort::new(false);
    assert_eq!(port.write(0, &[7]), Effect::Continue);
    assert_eq!(last(&mut port), 7);
}

#[test]
fn the_last_byte_is_restored_and_arming_is_decided_anew() {
    let mut port = ReadyPort::new(true);
    port.write(0, &[9]);
    let state = port.save(&Quiesced::in_test());
    assert_eq!(state, ReadyPortState { last: 9 });

    let mut again = ReadyPort::restore(state, true).unwrap();
    assert_eq!(last(&mut again), 9);
    assert_eq!(again.write(0, &[1]), Effect::Stop(StopReason::Ready));
    assert_eq!(ReadyPort::restore(state, false).unwrap().write(0, &[1]), Effect::Continue);
}
