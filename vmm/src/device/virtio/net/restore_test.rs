//! What a restored guest's driver sees.

use snapshot_format::state::VirtioNetState;

use super::super::feature as common;
use super::super::mock::*;
use super::super::transport::{self, Mmio};
use super::net_test::*;
use super::*;
use crate::config::BucketConfig;
use crate::lifecycle::{Persist, Quiesced};

const ANNOUNCING: u64 = PLAIN | feature::GUEST_ANNOUNCE;

fn state(rig: &Rig) -> VirtioNetState {
    rig.device.save(&Quiesced::in_test())
}

fn restored(state: &VirtioNetState, rig: Rig) -> Rig {
    let Rig { device, rx, tx, control, peer: _ } = rig;
    drop(device);
    let (tap, peer) = cable();
    let wiring = Wiring { transport: wiring(&rx.memory), id: "eth0".parse().unwrap(), tap };
    let device = Mmio::<Net>::restore(state.clone(), wiring).unwrap();
    assert_eq!(device.save(&Quiesced::in_test()), *state, "a restored device is the saved one");
    Rig { device, rx, tx, control, peer }
}

/// The driver takes its interrupt: which bits were set.
fn interrupt(rig: &mut Rig) -> u32 {
    let bits = read_register(&mut rig.device, 0x60);
    write_register(&mut rig.device, 0x64, bits);
    bits
}

#[test]
fn a_driver_that_can_is_asked_to_announce_itself() {
    let mut rig = rig(ANNOUNCING);
    rig.device.serve_here();
    assert_eq!((interrupt(&mut rig), rig.link()), (0, 1), "nothing is new before");
    let state = state(&rig);
    let mut rig = restored(&state, rig);
    assert_eq!((interrupt(&mut rig), rig.link()), (0, 1));
    rig.device.serve_here();
    assert_eq!((interrupt(&mut rig), rig.link()), (2, 3));
    rig.device.serve_here();
    assert_eq!(interrupt(&mut rig), 0, "it is asked once");
    rig.control.put(BUFFERS, &[3, 0]);
    rig.control.put(BUFFERS + 16, &[0xee]);
    rig.control.request(&[(BUFFERS, 2, 0), (BUFFERS + 16, 1, WRITE)]);
    rig.device.serve_here();
    assert_eq!((rig.control.bytes(BUFFERS + 16, 1), rig.link()), (vec![0], 1));
}

#[test]
fn any_other_sees_its_cable_pulled_and_put_back() {
    let rig = rig(PLAIN);
    let state = state(&rig);
    let mut rig = restored(&state, rig);
    rig.device.resume().unwrap();
    wait_for(|| read_register(&mut rig.device, 0x60) == 2);
    assert_eq!(interrupt(&mut rig), 2);
    let generation = read_register(&mut rig.device, 0xfc);
    // Its address is something else; only the status counts.
    read_register(&mut rig.device, 0x100);
    rig.device.quiesce();
    assert_eq!(read_register(&mut rig.device, 0xfc), generation, "it is pulled until that was seen");
    let between = rig.device.save(&Quiesced::in_test());
    assert_eq!(between.transport.config[6..8], [0, 0]);
    rig.device.resume().unwrap();
    assert_eq!(rig.link(), 0);
    wait_for(|| read_register(&mut rig.device, 0x60) == 2);
    assert_eq!((interrupt(&mut rig), rig.link()), (2, 1));
    rig.device.quiesce();

    // And if it is saved in between, it sees both again.
    let mut rig = restored(&between, rig);
    rig.device.serve_here();
    assert_eq!((interrupt(&mut rig), rig.link()), (2, 0));
    rig.device.serve_here();
    assert_eq!((interrupt(&mut rig), rig.link()), (2, 1));
}

#[test]
fn a_driver_that_never_looks_is_told_nothing() {
    let mut rig = rig(common::VERSION_1);
    rig.device.serve_here();
    let state = state(&rig);
    let mut rig = restored(&state, rig);
    rig.device.serve_here();
    assert_eq!((interrupt(&mut rig), rig.link()), (0, 1));
}

#[test]
fn a_driver_that_begins_anew_finds_its_cable_in() {
    let rig = rig(PLAIN);
    let state = state(&rig);
    let mut rig = restored(&state, rig);
    rig.device.serve_here();
    write_register(&mut rig.device, 0x70, 0);
    assert_eq!((interrupt(&mut rig), rig.link()), (0, 1));
    let memory = rig.rx.memory.clone();
    negotiate(&mut rig.device, ANNOUNCING);
    rig.rx = Driver::set_up(&mut rig.device, &memory, 0);
    write_register(&mut rig.device, 0x70, READY);
    rig.device.serve_here();
    assert_eq!((interrupt(&mut rig), rig.link()), (0, 1));
}

#[test]
fn addresses_limits_and_what_was_not_begun_come_back() {
    let day = BucketConfig::MAX_REFILL_MS;
    let bandwidth = |size| RateLimitConfig { bandwidth: BucketConfig::new(size, day, 0), operations: None };
    let (tap, peer) = cable();
    let parts = Parts { rx_limit: bandwidth(1000), tx_limit: bandwidth(500), ..parts(tap) };
    let mut rig = rig_of(parts, peer, MERGEABLE);
    rig.tx.request(&[(BUFFERS, 112, 0)]);
    rig.device.serve_here();
    rig.tx.request(&[(BUFFERS, 112, 0)]);
    rig.rx.request(&[(BUFFERS, 1530, WRITE)]);
    let state = state(&rig);
    assert_eq!((state.rx_limit.bandwidth.tokens, state.tx_limit.bandwidth.tokens), (1000, 400));
    let mut rig = restored(&state, rig);
    let mut mac = [0; 6];
    crate::bus::BusDevice::read(&mut rig.device, 0x100, &mut mac);
    assert_eq!(mac, [2, 0, 0, 0, 0, 7]);
    rig.device.serve_here();
    assert_eq!(std::iter::from_fn(|| rig.tx.answer()).count(), 2, "one before, one after");
    assert_eq!(rig.device.save(&Quiesced::in_test()).tx_limit.bandwidth.tokens, 300);
}

#[test]
fn states_that_no_interface_has_are_refused() {
    let rig = rig(PLAIN);
    let good = state(&rig);
    let refuse = |change: &dyn Fn(&mut VirtioNetState)| {
        let mut state = good.clone();
        change(&mut state);
        let (tap, _peer) = cable();
        let wiring = Wiring { transport: wiring(&rig.rx.memory), id: "eth0".parse().unwrap(), tap };
        Mmio::<Net>::restore(state, wiring).map(drop).unwrap_err()
    };
    assert!(matches!(refuse(&|s| s.rx_limit.bandwidth.tokens = 1), transport::Error::Rate(_)));
    assert!(matches!(refuse(&|s| s.tx_limit.operations.size = 1), transport::Error::Rate(_)));
    assert!(matches!(refuse(&|s| s.transport.config.truncate(8)), transport::Error::ConfigLength { .. }));
    assert!(matches!(refuse(&|s| s.transport.queues.truncate(2)), transport::Error::QueueCount { .. }));
    assert!(matches!(refuse(&|s| s.transport.device_features |= 1 << 22), transport::Error::Features { .. }));
    for tap in ["", "tap%d", "../tap0", "a-name-that-is-too-long"] {
        let state = VirtioNetState { tap: tap.into(), ..good.clone() };
        assert!(matches!(Tap::reopen(&state, None), Err(Error::Record { .. })), "{tap}");
    }
}

#[test]
fn a_tap_that_carries_shorter_packets_than_the_guest_sends_is_refused() {
    let mut state = state(&rig(PLAIN));
    let tap = || cable().0;
    assert!(tap().carries_packets_of(&state).is_ok());
    for (guest, is_enough) in [(1499_u16, true), (1500, true), (1501, false), (9000, false)] {
        state.transport.config[10..12].copy_from_slice(&guest.to_le_bytes());
        match tap().carries_packets_of(&state) {
            Ok(_) => assert!(is_enough, "{guest}"),
            Err(Error::Mtu { mtu: 1500, guest: told, .. }) => assert_eq!((told, is_enough), (guest, false)),
            Err(other) => panic!("{other}"),
        }
    }
    // An interface that never said what its MTU is.
    state.transport.device_features &= !feature::MTU;
    assert!(tap().carries_packets_of(&state).is_ok());
}
