//! Connections as a guest and the programs of its host see them.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use super::super::mock::*;
use super::connection::{BUFFER, PATIENCE};
use super::mock::*;
use super::muxer::MOST_RESETS;
use super::packet::{Header, NO_PORT, STREAM, op, shutdown};
use super::*;

/// The guest connected to port 5 of the host, and the host program's end.
fn connected(guest: &mut Guest) -> UnixStream {
    let server = UnixListener::bind(guest.port(5)).unwrap();
    assert!(guest.send(to(5, op::REQUEST), &[]));
    let answer = guest.packet(op::RESPONSE);
    assert_eq!((answer.src_cid, answer.src_port, answer.dst_port), (2, 5, 100));
    assert_eq!((answer.kind, answer.buf_alloc, answer.fwd_cnt), (STREAM, BUFFER, 0));
    let (stream, _) = server.accept().unwrap();
    stream.set_nonblocking(true).unwrap();
    std::fs::remove_file(guest.port(5)).unwrap();
    stream
}

/// What can be read now; whether the end has come.
fn read(stream: &mut UnixStream) -> (Vec<u8>, bool) {
    let mut all = Vec::new();
    match stream.read_to_end(&mut all) {
        Ok(_) => (all, true),
        Err(e) if e.kind() == ErrorKind::WouldBlock => (all, false),
        Err(e) => panic!("{e}"),
    }
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n * 31 % 251) as u8).collect()
}

#[test]
fn a_guest_talks_to_a_port_of_the_host() {
    let mut guest = Guest::new();
    let mut host = connected(&mut guest);
    guest.send(to(5, op::RW), b"from the guest");
    assert_eq!(read(&mut host).0, b"from the guest");
    let sent = pattern(10_000);
    host.write_all(&sent).unwrap();
    let packets = guest.packets();
    assert!(packets.iter().all(|(header, _)| header.op == op::RW && header.fwd_cnt == 14), "{packets:?}");
    let received: Vec<u8> = packets.into_iter().flat_map(|(_, data)| data).collect();
    assert_eq!(received, sent);
}

#[test]
fn a_host_program_asks_for_a_port_and_what_it_says_at_once_is_not_lost() {
    let mut guest = Guest::new();
    let mut host = UnixStream::connect(guest.path()).unwrap();
    host.set_nonblocking(true).unwrap();
    host.write_all(b"CONN").unwrap();
    assert!(guest.packets().is_empty());
    host.write_all(b"ECT 9\nhello").unwrap();
    let request = guest.packet(op::REQUEST);
    assert_eq!((request.src_cid, request.dst_port, request.kind), (2, 9, STREAM));
    assert_eq!(read(&mut host), (Vec::new(), false), "the guest has not answered");
    let answer = Header { src_port: 9, ..to(request.src_port, op::RESPONSE) };
    guest.send(answer, &[]);
    assert_eq!(read(&mut host).0, format!("OK {}\n", request.src_port).into_bytes());
    assert_eq!(guest.data(), (b"hello".to_vec(), vec![]));
    guest.send(Header { op: op::RW, ..answer }, b"welcome");
    assert_eq!(read(&mut host).0, b"welcome");
}

#[test]
fn a_guest_that_refuses_or_does_not_answer_leaves_its_caller_at_the_end() {
    let mut guest = Guest::new();
    let mut callers: Vec<UnixStream> = (0..2).map(|_| UnixStream::connect(guest.path()).unwrap()).collect();
    for caller in &mut callers {
        caller.set_nonblocking(true).unwrap();
        caller.write_all(b"connect 9\n").unwrap();
    }
    let requests = guest.packets();
    assert_eq!(requests.len(), 2);
    assert_ne!(requests[0].0.src_port, requests[1].0.src_port, "each has a port of its own");
    guest.send(Header { src_port: 9, ..to(requests[0].0.src_port, op::RST) }, &[]);
    assert_eq!(read(&mut callers[0]), (Vec::new(), true));
    assert_eq!(read(&mut callers[1]), (Vec::new(), false));
    std::thread::sleep(PATIENCE + std::time::Duration::from_millis(10));
    let reset = guest.packet(op::RST);
    assert_eq!(reset.src_port, requests[1].0.src_port);
    assert_eq!(read(&mut callers[1]), (Vec::new(), true));
}

#[test]
fn who_asks_for_nothing_that_there_is_or_does_not_ask_is_let_go() {
    let mut guest = Guest::new();
    let lines: [&[u8]; 8] = [
        b"\n",
        b"CONNECT\n",
        b"CONNECT \n",
        b"CONNECT +1\n",
        b"CONNECT 4294967295\n",
        b"CONNECT 4294967296\n",
        b"LISTEN 1\n",
        b"CONNECT 00000000000000000000000000000001\n",
    ];
    for line in lines {
        let mut host = UnixStream::connect(guest.path()).unwrap();
        host.set_nonblocking(true).unwrap();
        host.write_all(line).unwrap();
        assert!(guest.packets().is_empty());
        // What it had said and nobody has read makes that a reset.
        let ended = match host.read(&mut [0; 8]) {
            Ok(len) => len == 0,
            Err(e) => e.kind() == ErrorKind::ConnectionReset,
        };
        assert!(ended, "{}", String::from_utf8_lossy(line));
    }
    let mut silent = UnixStream::connect(guest.path()).unwrap();
    silent.set_nonblocking(true).unwrap();
    guest.device.serve_here();
    assert_eq!(read(&mut silent), (Vec::new(), false));
    std::thread::sleep(PATIENCE + std::time::Duration::from_millis(10));
    assert!(guest.packets().is_empty());
    assert_eq!(read(&mut silent), (Vec::new(), true));
}

#[test]
fn what_belongs_nowhere_is_reset_and_a_reset_is_not() {
    let mut guest = Guest::new();
    let strange = [
        to(6, op::REQUEST),
        to(5, op::RW),
        to(5, 77),
        to(NO_PORT, op::REQUEST),
        Header { src_port: NO_PORT, ..to(5, op::REQUEST) },
        Header { dst_cid: 3, ..to(5, op::REQUEST) },
        Header { kind: 2, ..to(5, op::REQUEST) },
    ];
    for sent in strange {
        guest.send(sent, &[]);
        let reset = guest.packet(op::RST);
        assert_eq!((reset.src_cid, reset.src_port), (sent.dst_cid, sent.dst_port));
        assert_eq!((reset.dst_port, reset.kind), (sent.src_port, sent.kind));
        guest.send(Header { op: op::RST, ..sent }, &[]);
        assert!(guest.packets().is_empty());
    }
    // In the name of another guest: nobody to be answered.
    guest.send(Header { src_cid: 8, ..to(6, op::REQUEST) }, &[]);
    assert!(guest.packets().is_empty());
}

#[test]
fn a_packet_out_of_turn_breaks_its_connection_and_no_other() {
    for wrong in [op::REQUEST, op::RESPONSE, 0, 8] {
        let mut guest = Guest::new();
        let mut host = connected(&mut guest);
        guest.send(to(5, wrong), &[]);
        guest.packet(op::RST);
        assert_eq!(read(&mut host), (Vec::new(), true));
        let mut other = connected(&mut guest);
        guest.send(to(5, op::RW), b"x");
        assert_eq!(read(&mut other).0, b"x");
    }
    let mut guest = Guest::new();
    let mut caller = UnixStream::connect(guest.path()).unwrap();
    caller.write_all(b"CONNECT 9\n").unwrap();
    let request = guest.packet(op::REQUEST);
    guest.send(Header { src_port: 9, ..to(request.src_port, op::RW) }, b"too early");
    guest.packet(op::RST);
}

#[test]
fn a_guest_is_sent_no_more_than_it_has_room_for() {
    let mut guest = Guest::new();
    let server = UnixListener::bind(guest.port(5)).unwrap();
    let small = |op, fwd_cnt| Header { buf_alloc: 100, fwd_cnt, ..to(5, op) };
    guest.send(small(op::REQUEST, 0), &[]);
    guest.packet(op::RESPONSE);
    let (mut host, _) = server.accept().unwrap();
    let sent = pattern(250);
    host.write_all(&sent).unwrap();
    let (first, others) = guest.data();
    assert_eq!((first.len(), others), (100, vec![op::CREDIT_REQUEST]), "and asks for more, once");
    assert!(guest.packets().is_empty());
    guest.send(small(op::CREDIT_UPDATE, 40), &[]);
    let (second, others) = guest.data();
    assert_eq!((second.len(), others), (40, vec![op::CREDIT_REQUEST]));
    // Accounts that cannot be: more passed on than was sent.
    guest.send(small(op::CREDIT_UPDATE, 150), &[]);
    assert_eq!(guest.data(), (vec![], vec![op::CREDIT_REQUEST]));
    guest.send(small(op::CREDIT_UPDATE, 140), &[]);
    let (third, _) = guest.data();
    guest.send(small(op::CREDIT_UPDATE, 240), &[]);
    let (last, others) = guest.data();
    assert_eq!([first, second, third, last].concat(), sent);
    assert!(others.is_empty(), "{others:?}");
}

/// Bytes in each packet of [`fill`].
const PIECE: usize = 16 << 10;

/// Sends what the device gives credit for until it gives no more; how much that was.
fn fill(guest: &mut Guest) -> usize {
    let (mut sent, mut told) = (0, 0);
    while sent + PIECE <= told + BUFFER as usize {
        assert!(guest.send(to(5, op::RW), &pattern(PIECE)));
        sent += PIECE;
        told = guest.packets().iter().map(|(header, _)| header.fwd_cnt as usize).max().unwrap_or(told);
    }
    assert_eq!(sent, told + BUFFER as usize, "all credit is used");
    sent
}

#[test]
fn a_host_program_that_does_not_read_stops_its_guest_and_loses_nothing() {
    let mut guest = Guest::new();
    let mut host = connected(&mut guest);
    let sent = fill(&mut guest);
    let mut received = Vec::new();
    let mut passed = 0;
    while received.len() < sent {
        let (more, _) = read(&mut host);
        assert!(!more.is_empty(), "{} of {sent} bytes", received.len());
        received.extend(more);
        passed = guest.packets().iter().map(|(header, _)| header.fwd_cnt as usize).max().unwrap_or(passed);
    }
    assert!(received.chunks(PIECE).all(|chunk| chunk == pattern(PIECE)));
    assert!(passed > sent - BUFFER as usize, "the guest is told of room: {passed} of {sent}");
}

#[test]
fn more_than_there_is_room_for_breaks_the_connection() {
    let mut guest = Guest::new();
    let _host = connected(&mut guest);
    fill(&mut guest);
    guest.send(to(5, op::RW), b"x");
    guest.packet(op::RST);
}

#[test]
fn a_guest_closes_in_order() {
    let mut guest = Guest::new();
    let mut host = connected(&mut guest);
    guest.send(to(5, op::RW), b"last words");
    guest.send(Header { flags: shutdown::SEND, ..to(5, op::SHUTDOWN) }, &[]);
    assert_eq!(read(&mut host), (b"last words".to_vec(), true));
    host.write_all(b"farewell").unwrap();
    assert_eq!(guest.data().0, b"farewell", "the other direction stays open");
    guest.send(Header { flags: shutdown::BOTH, ..to(5, op::SHUTDOWN) }, &[]);
    guest.packet(op::RST);
    assert!(host.write_all(b"x").is_err());
}

#[test]
fn a_guest_that_has_gone_leaves_what_it_has_said() {
    for (flags, is_orderly) in [(shutdown::BOTH, true), (0, false)] {
        let mut guest = Guest::new();
        let mut host = connected(&mut guest);
        let sent = fill(&mut guest);
        if is_orderly {
            guest.send(Header { flags, ..to(5, op::SHUTDOWN) }, &[]);
            assert!(guest.packets().is_empty(), "an RST only when all is passed on");
        }
        guest.send(to(5, op::RST), &[]);
        let mut received = 0;
        let is_at_end = loop {
            let (more, is_at_end) = read(&mut host);
            received += more.len();
            if is_at_end || more.is_empty() {
                break is_at_end;
            }
            guest.device.serve_here();
        };
        assert!(is_at_end);
        assert_eq!(received == sent, is_orderly, "{received} of {sent}");
        assert!(guest.packets().is_empty());
    }
}

#[test]
fn a_host_program_closes_in_order() {
    let mut guest = Guest::new();
    let mut host = connected(&mut guest);
    host.write_all(b"last words").unwrap();
    host.shutdown(std::net::Shutdown::Write).unwrap();
    let packets = guest.packets();
    let flags: Vec<(u16, u32)> = packets.iter().map(|(header, _)| (header.op, header.flags)).collect();
    assert_eq!(flags, [(op::RW, 0), (op::SHUTDOWN, shutdown::SEND)]);
    guest.send(to(5, op::RW), b"farewell");
    assert_eq!(read(&mut host).0, b"farewell");
    drop(host);
    assert_eq!(guest.packet(op::SHUTDOWN).flags, shutdown::BOTH);
    guest.send(to(5, op::RST), &[]);
    assert!(guest.packets().is_empty());
    connected(&mut guest);
}

#[test]
fn a_guest_that_does_not_let_go_of_a_closed_connection_is_made_to() {
    let mut guest = Guest::new();
    drop(connected(&mut guest));
    assert_eq!(guest.packet(op::SHUTDOWN).flags, shutdown::BOTH);
    std::thread::sleep(PATIENCE + std::time::Duration::from_millis(10));
    guest.packet(op::RST);
}

#[test]
fn a_guest_that_takes_no_packets_loses_none_and_is_not_listened_to_for_ever() {
    let mut guest = Guest::new();
    let offered = guest.offered.len();
    let count = offered + MOST_RESETS + 5;
    let mut taken = 0;
    for n in 0..count {
        taken += usize::from(guest.send(Header { src_port: n as u32, ..to(6, op::REQUEST) }, &[]));
        if taken <= n {
            break;
        }
    }
    assert_eq!(taken, offered + MOST_RESETS);
    let resets = guest.packets();
    assert_eq!(resets.len(), taken + 1, "the one that had to wait as well");
    assert!((0..).zip(&resets).all(|(n, (header, _))| header.op == op::RST && header.dst_port == n));
}

#[test]
fn connections_that_come_and_go_unheard_leave_nothing() {
    let mut guest = Guest::new();
    let server = UnixListener::bind(guest.port(5)).unwrap();
    // Every buffer is used up.
    while !guest.offered.is_empty() {
        guest.send(to(6, op::RW), &[]);
        if guest.rx.answer().is_some() {
            guest.offered.pop_front();
        }
    }
    for _ in 0..50 {
        assert!(guest.send(to(5, op::REQUEST), &[]));
        drop(server.accept().unwrap());
        assert!(guest.send(to(5, op::RST), &[]));
    }
    guest.offer(8);
    assert!(guest.packets().is_empty());
}

#[test]
fn chains_that_are_none_stop_the_device() {
    let short: fn(&mut Guest) = |guest| {
        guest.tx.request(&[(BUFFERS, 43, 0)]);
    };
    let long: fn(&mut Guest) = |guest| {
        let header = Header { len: 100, ..to(5, op::RW) };
        guest.tx.put(BUFFERS, &header.bytes());
        guest.tx.request(&[(BUFFERS, 44 + 99, 0)]);
    };
    let no_room: fn(&mut Guest) = |guest| {
        guest.send(to(6, op::REQUEST), &[]);
        for _ in 0..16 {
            guest.rx.request(&[(BUFFERS, 44, WRITE)]);
        }
        for _ in 0..16 {
            guest.send(to(6, op::REQUEST), &[]);
        }
    };
    for breaks in [short, long, no_room] {
        let mut guest = Guest::new();
        let mut host = connected(&mut guest);
        breaks(&mut guest);
        guest.device.serve_here();
        assert_eq!(status(&mut guest.device) & NEEDS_RESET, NEEDS_RESET);
        write_register(&mut guest.device, 0x70, 0);
        assert_eq!(read(&mut host), (Vec::new(), true), "a reset ends every connection");
    }
}

/// The guest connected to the port by which it says that it is ready, and what is written then.
fn at_the_ready_port(guest: &mut Guest) -> Arc<EventFd> {
    let said = guest.device.device().unwrap().said_ready().unwrap();
    guest.send(to(1024, op::REQUEST), &[]);
    let ops: Vec<u16> = guest.packets().iter().map(|(header, _)| header.op).collect();
    assert_eq!(ops, [op::RESPONSE, op::CREDIT_REQUEST], "and a question that it can answer only then");
    assert!(said.read().is_err(), "it does not know yet");
    said
}

#[test]
fn the_guest_is_ready_when_it_speaks_or_closes() {
    for op in [op::RW, op::SHUTDOWN, op::RST] {
        let mut guest = Guest::with(Some("1024"));
        let said = at_the_ready_port(&mut guest);
        guest.send(Header { flags: shutdown::BOTH, ..to(1024, op) }, &[]);
        assert_eq!(said.read().unwrap(), 1, "{op}");
    }
    let mut guest = Guest::with(Some("1024"));
    at_the_ready_port(&mut guest);
    // What it says there goes nowhere, and there is always room for more.
    for _ in 0..8 {
        assert!(guest.send(to(1024, op::RW), &pattern(16 << 10)));
    }
    let told = guest.packets();
    let (last, _) = told.last().expect("it is told of room");
    assert_eq!(last.op, op::CREDIT_UPDATE);
    assert!((128 << 10) - last.fwd_cnt <= BUFFER / 2, "{last:?}");
}

#[test]
fn the_guest_is_ready_a_moment_after_its_kernel_knows_or_when_it_never_answers() {
    for answer in [Some(op::CREDIT_UPDATE), None] {
        let mut guest = Guest::with(Some("1024"));
        let said = at_the_ready_port(&mut guest);
        if let Some(answer) = answer {
            guest.send(to(1024, answer), &[]);
        }
        let deadline = Instant::now() + std::time::Duration::from_secs(60);
        while said.read().is_err() {
            assert!(Instant::now() < deadline);
            std::thread::sleep(std::time::Duration::from_millis(5));
            guest.device.serve_here();
        }
        std::thread::sleep(PATIENCE);
        guest.device.serve_here();
        assert!(said.read().is_err(), "once");
    }
}

#[test]
fn sockets_that_cannot_be_had() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("vsock");
    let first = Host::listen(&path).unwrap();
    let in_use = Host::listen(&path).unwrap_err();
    assert!(matches!(in_use, Error::Socket(crate::socket::Error::InUse { .. })), "{in_use:?}");
    drop(first);
    assert!(!path.exists());
    let room = Host::LONGEST_PATH - dir.path().as_os_str().len() - 1;
    Host::listen(&dir.path().join("x".repeat(room))).unwrap();
    let long = dir.path().join("x".repeat(room + 1));
    assert!(matches!(Host::listen(&long), Err(Error::PathTooLong { .. })));
    assert!(matches!(
        Host::listen(Path::new("/nonexistent/vsock")),
        Err(Error::Socket(crate::socket::Error::Listen { .. }))
    ));
}
