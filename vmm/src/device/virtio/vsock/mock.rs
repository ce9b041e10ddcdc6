//! A guest's driver of the socket device, for tests: it keeps the three queues, and sends and receives packets.

use std::collections::VecDeque;
use std::path::PathBuf;

use tempfile::TempDir;

use super::super::Slot;
use super::super::feature::{EVENT_IDX, INDIRECT_DESC, VERSION_1};
use super::super::mock::*;
use super::super::transport::{Mmio, Wiring};
use super::packet::{HEADER, HOST_CID, Header, STREAM};
use super::{EVENTS, Host, RX, TX, Vsock};
use crate::config::{GuestCid, VsockPort};
use crate::irq::IrqLine;
use crate::memory::GuestRam;

pub(super) const CID: u32 = 7;
/// Data that a buffer for packets has room for.
pub(super) const ROOM: u32 = 4096;
const RX_BUFFERS: u64 = BUFFERS;
const TX_BUFFER: u64 = BUFFERS + 0x4_0000;
const EVENT_BUFFER: u64 = BUFFERS + 0x7_0000;

pub(super) fn wiring(memory: &GuestRam) -> Wiring {
    Wiring { memory: memory.clone(), irq: IrqLine::new().unwrap() }
}

pub(super) struct Guest {
    pub dir: TempDir,
    pub memory: GuestRam,
    pub device: Mmio<Vsock>,
    pub rx: Driver,
    pub tx: Driver,
    pub events: Driver,
    /// Buffers for packets that the device has, in the order in which it gets them: head and address.
    pub offered: VecDeque<(u16, u64)>,
    pub next: u64,
}

impl Guest {
    /// A driver that is ready and has given the device a few buffers for packets.
    pub(super) fn new() -> Self {
        Self::with(None)
    }

    pub(super) fn with(ready: Option<&str>) -> Self {
        let dir = TempDir::new().unwrap();
        let ready = ready.map(|port| VsockPort::parse(port).unwrap());
        let host = Host::listen(&dir.path().join("vsock")).unwrap();
        let vsock = Vsock::new(GuestCid::new(CID).unwrap(), host, ready).unwrap();
        let memory = ram();
        let mut device = Mmio::new(Slot::new(0).unwrap(), vsock, wiring(&memory)).unwrap();
        negotiate(&mut device, VERSION_1 | INDIRECT_DESC | EVENT_IDX);
        let mut queue = |number: usize| Driver::set_up(&mut device, &memory, number as u32);
        let (rx, tx, events) = (queue(RX), queue(TX), queue(EVENTS));
        write_register(&mut device, 0x70, READY);
        let mut guest = Self { dir, memory, device, rx, tx, events, offered: VecDeque::new(), next: 0 };
        guest.offer(8);
        guest
    }

    /// The host's socket.
    pub(super) fn path(&self) -> PathBuf {
        self.dir.path().join("vsock")
    }

    /// The socket of a port of the host's.
    pub(super) fn port(&self, port: u32) -> PathBuf {
        self.dir.path().join(format!("vsock_{port}"))
    }

    /// Gives the device more buffers for packets.
    pub(super) fn offer(&mut self, count: usize) {
        for _ in 0..count {
            let at = RX_BUFFERS + self.next % 16 * 0x2000;
            self.next += 1;
            let head = self.rx.request(&[(at, HEADER + ROOM, WRITE)]);
            self.offered.push_back((head, at));
        }
    }

    /// Gives the device a buffer for events.
    pub(super) fn offer_event(&mut self) {
        self.events.request(&[(EVENT_BUFFER, 8, WRITE)]);
    }

    /// The event that has come.
    pub(super) fn event(&mut self) -> Option<u32> {
        let (_, len) = self.events.answer()?;
        assert_eq!(len, 4);
        Some(u32::from_le_bytes(self.events.bytes(EVENT_BUFFER, 4).try_into().unwrap()))
    }

    /// Sends a packet; whether the device has taken it.
    pub(super) fn send(&mut self, header: Header, data: &[u8]) -> bool {
        self.post(header, data);
        self.device.serve_here();
        self.tx.answer().is_some()
    }

    /// The same without letting the device work.
    pub(super) fn post(&mut self, header: Header, data: &[u8]) {
        let header = Header { len: data.len() as u32, ..header };
        self.tx.put(TX_BUFFER, &header.bytes());
        self.tx.put(TX_BUFFER + 0x1000, data);
        let mut buffers = vec![(TX_BUFFER, HEADER, 0)];
        if !data.is_empty() {
            buffers.push((TX_BUFFER + 0x1000, data.len() as u32, 0));
        }
        self.tx.request(&buffers);
    }

    /// The packets that have come. Their buffers are offered again.
    pub(super) fn packets(&mut self) -> Vec<(Header, Vec<u8>)> {
        let mut packets = Vec::new();
        loop {
            self.device.serve_here();
            let before = packets.len();
            while let Some((head, len)) = self.rx.answer() {
                let (offered, at) = self.offered.pop_front().expect("it was offered");
                assert_eq!(head, u32::from(offered), "in order");
                let bytes = self.rx.bytes(at, len as usize);
                let (header, data) = bytes.split_at(HEADER as usize);
                let header = Header::from_bytes(header.try_into().unwrap());
                assert_eq!((header.dst_cid, header.len as usize), (CID.into(), data.len()));
                packets.push((header, data.to_vec()));
                self.offer(1);
            }
            if packets.len() == before {
                return packets;
            }
        }
    }

    /// The one packet that has come, without data.
    #[track_caller]
    pub(super) fn packet(&mut self, op: u16) -> Header {
        let packets = self.packets();
        let [(header, data)] = packets.as_slice() else { panic!("one packet, not {packets:?}") };
        assert_eq!((header.op, data.len()), (op, 0), "{header:?}");
        *header
    }

    /// All data that has come, and what came beside it.
    pub(super) fn data(&mut self) -> (Vec<u8>, Vec<u16>) {
        let (mut all, mut others) = (Vec::new(), Vec::new());
        for (header, data) in self.packets() {
            if header.op == super::packet::op::RW {
                all.extend(data);
            } else {
                others.push(header.op);
            }
        }
        (all, others)
    }
}

/// A packet from port 100 of the guest to `port` of the host, whose sender has plenty of room.
pub(super) fn to(port: u32, op: u16) -> Header {
    Header {
        src_cid: CID.into(),
        dst_cid: HOST_CID,
        src_port: 100,
        dst_port: port,
        kind: STREAM,
        op,
        buf_alloc: 1 << 20,
        ..Header::default()
    }
}
