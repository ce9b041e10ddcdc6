//! Connections across a snapshot: the guest that goes on keeps them, the one that comes back hears that they are gone.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use snapshot_format::codec::Blob;
use snapshot_format::state::VirtioVsockState;

use super::super::transport::Mmio;
use super::mock::*;
use super::packet::{Header, op};
use super::*;
use crate::lifecycle::{Persist, Quiesced};

impl Guest {
    fn save(&self) -> VirtioVsockState {
        self.device.save(&Quiesced::in_test())
    }

    /// The same guest in another process, its old one gone.
    fn come_back(self, state: &VirtioVsockState) -> Self {
        let Self { dir, memory, device, rx, tx, events, offered, next } = self;
        drop(device);
        let vsock = Vsock::reopen(state, None).unwrap();
        let wiring = Wiring { transport: wiring(&memory), device: vsock };
        let device = Mmio::<Vsock>::restore(state.clone(), wiring).unwrap();
        Self { dir, memory, device, rx, tx, events, offered, next }
    }
}

/// The guest, connected to port 5 of the host, and the host's end.
fn connected() -> (Guest, UnixStream) {
    let mut guest = Guest::new();
    let server = UnixListener::bind(guest.port(5)).unwrap();
    guest.send(to(5, op::REQUEST), &[]);
    guest.packet(op::RESPONSE);
    let (host, _) = server.accept().unwrap();
    (guest, host)
}

#[test]
fn a_guest_that_goes_on_keeps_its_connections() {
    let (mut guest, mut host) = connected();
    let state = guest.save();
    assert_eq!(state.resets.len(), 1);
    guest.send(to(5, op::RW), b"still here");
    let mut heard = [0; 10];
    host.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"still here");
    assert_eq!(guest.save().resets, state.resets);
}

#[test]
fn a_guest_that_comes_back_hears_that_they_are_gone_before_anything_else() {
    let (mut guest, mut host) = connected();
    (0..2).for_each(|_| guest.offer_event());
    let state = guest.save();
    let mut guest = guest.come_back(&state);
    assert_eq!(guest.save(), state, "a restored device is the saved one");
    assert_eq!(host.read(&mut [0; 8]).unwrap(), 0, "its old process is gone");

    // A host program that is quick, and a packet of the guest's from before.
    let mut caller = UnixStream::connect(guest.path()).unwrap();
    caller.write_all(b"CONNECT 9\n").unwrap();
    guest.post(to(5, op::RW), b"lost");
    assert!(guest.packets().is_empty());
    assert_eq!(guest.event(), Some(0));
    assert!(guest.packets().is_empty(), "not before the event's buffer is back");
    guest.offer_event();
    let packets: Vec<(u16, u32, u32)> =
        guest.packets().iter().map(|(header, _)| (header.op, header.src_port, header.dst_port)).collect();
    assert_eq!(packets[0], (op::RST, 5, 100), "the connection that was");
    assert_eq!(packets[1], (op::RST, 5, 100), "the packet for it");
    assert_eq!((packets[2].0, packets[2].2), (op::REQUEST, 9));
    assert_eq!(packets.len(), 3);
    guest.send(Header { src_port: 9, ..to(packets[2].1, op::RESPONSE) }, &[]);
    let mut line = [0; 3];
    caller.read_exact(&mut line).unwrap();
    assert_eq!(&line, b"OK ");
    assert_eq!(guest.event(), None, "once");
}

#[test]
fn the_event_waits_for_a_buffer_but_not_for_ever() {
    let (guest, _host) = connected();
    let state = guest.save();
    let mut guest = guest.come_back(&state);
    assert!(guest.packets().is_empty());
    guest.offer_event();
    assert!(guest.packets().is_empty());
    assert_eq!(guest.event(), Some(0));
    let again = guest.save();
    assert_eq!(again, VirtioVsockState { transport: again.transport.clone(), ..state.clone() });

    // Not even the first buffer comes.
    let mut guest = guest.come_back(&again);
    assert!(guest.packets().is_empty());
    std::thread::sleep(Duration::from_millis(2010));
    assert_eq!(guest.packet(op::RST).src_port, 5);
    assert!(guest.save().resets.is_empty());
}

#[test]
fn a_guest_without_a_driver_has_nothing_to_hear() {
    let mut guest = Guest::new();
    super::super::mock::write_register(&mut guest.device, 0x70, 0);
    let state = guest.save();
    let guest = guest.come_back(&state);
    assert!(guest.device.device().unwrap().reset.is_done());
}

#[test]
fn another_socket_takes_the_place_of_the_recorded_one() {
    let (guest, _host) = connected();
    let state = guest.save();
    let in_use = Vsock::reopen(&state, None).unwrap_err();
    assert!(matches!(in_use, Error::Socket(crate::socket::Error::InUse { .. })), "{in_use:?}");
    let other = guest.dir.path().join("other");
    let vsock = Vsock::reopen(&state, Some(&other)).unwrap();
    UnixStream::connect(&other).unwrap();
    let wiring = Wiring { transport: wiring(&guest.memory), device: vsock };
    let clone = Mmio::<Vsock>::restore(state, wiring).unwrap();
    let path = clone.save(&Quiesced::in_test()).path;
    assert_eq!(path, Blob(other.into_os_string().into_encoded_bytes()));
}

#[test]
fn records_that_make_no_sense() {
    let state = Guest::new().save();
    let blob = |text: &[u8]| Blob(text.to_vec());
    let wrong = [
        VirtioVsockState { cid: 2, ..state.clone() },
        VirtioVsockState { cid: u32::MAX, ..state.clone() },
        VirtioVsockState { path: blob(b"vsock"), ..state.clone() },
        VirtioVsockState { path: blob(b""), ..state.clone() },
        VirtioVsockState { path: blob(b"/tmp/a\0b"), ..state.clone() },
        VirtioVsockState { resets: vec![Default::default(); 2000], ..state },
    ];
    for state in wrong {
        assert!(matches!(Vsock::reopen(&state, None), Err(Error::Record { .. })), "{state:?}");
    }
}
