//! vsock (virtio 1.2, 5.10), stream sockets: one connection at a time, from here to a port of the host.
//!
//! Packets and credit, and whose turn it is. What is sent and received is the caller's.

use super::Problem;
use super::area::{Area, put};
use super::queue::{self, Answer, Part, Queue};
use super::transport::{EVENT_IDX, INDIRECT_DESC, Transport};
use crate::memory::read_volatile;

const ID: u32 = 19;
/// The host's address.
const HOST: u64 = 2;

/// Packets of each kind that can be under way.
const DEPTH: usize = 8;
/// Bytes of data that a packet from here can carry, and one to here.
pub const MOST: u64 = 4096;
const HEADER: u64 = 44;
/// Each packet has a place for its header, then one for its data.
const IN_FRAME: u64 = DATA_AT + MOST;
const DATA_AT: u64 = 64;
/// What we say that we have room for. More than ever comes at a time.
const ROOM: u32 = 32 << 10;

static RX_RINGS: Area<{ queue::BYTES }> = Area::new();
static TX_RINGS: Area<{ queue::BYTES }> = Area::new();
static EVENT_RINGS: Area<{ queue::BYTES }> = Area::new();
static RX: Area<{ DEPTH * IN_FRAME as usize }> = Area::new();
static TX: Area<{ DEPTH * IN_FRAME as usize }> = Area::new();
static EVENTS: Area<4096> = Area::new();

/// What a packet is for.
mod op {
    pub const REQUEST: u16 = 1;
    pub const RESPONSE: u16 = 2;
    pub const RST: u16 = 3;
    pub const SHUTDOWN: u16 = 4;
    pub const RW: u16 = 5;
    pub const CREDIT_UPDATE: u16 = 6;
    pub const CREDIT_REQUEST: u16 = 7;
}

const STREAM: u16 = 1;
/// The event that says that all connections are gone.
const TRANSPORT_RESET: u32 = 0;

/// Where fields of the header are.
mod field {
    pub const SRC_CID: u64 = 0;
    pub const DST_CID: u64 = 8;
    pub const SRC_PORT: u64 = 16;
    pub const DST_PORT: u64 = 20;
    pub const LEN: u64 = 24;
    pub const TYPE: u64 = 28;
    pub const OP: u64 = 30;
    pub const FLAGS: u64 = 32;
    pub const BUF_ALLOC: u64 = 36;
    pub const FWD_CNT: u64 = 40;
}

/// Something that has happened.
pub enum News {
    Connected,
    /// Bytes at an address, valid until the next call.
    Data(u64, u64),
    /// The other end has closed or refused the connection.
    Reset,
    /// Every connection is gone, because the machine is not where it was.
    TransportReset,
    /// A packet that changes nothing for the caller.
    Nothing,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Closed,
    Requested,
    Connected,
}

pub struct Vsock {
    rx: Queue,
    tx: Queue,
    event: Queue,
    device: Transport,
    cid: u64,
    state: State,
    port: u32,
    own_port: u32,
    /// Bytes sent and received on this connection, and the other end's last word on its room.
    sent: u32,
    received: u32,
    room: u32,
    taken: u32,
    /// By head: the frame that it is.
    rx_frames: [u8; queue::SIZE as usize],
    tx_frames: [u8; queue::SIZE as usize],
    tx_busy: [bool; DEPTH],
    /// A frame whose data the caller has, to be offered again.
    held: Option<u64>,
    /// The other end wants to know our credit.
    asked: bool,
    /// A connection that is not ours is to be refused: its own port and ours.
    stray: Option<(u32, u32)>,
}

impl Vsock {
    /// The first vsock device, ready.
    pub fn find() -> Result<Self, &'static str> {
        let device = Transport::find(ID).ok_or("no vsock device")?;
        let features = device.negotiate(INDIRECT_DESC | EVENT_IDX)?;
        let rx = device.queue(0, RX_RINGS.address(), features)?;
        let tx = device.queue(1, TX_RINGS.address(), features)?;
        let event = device.queue(2, EVENT_RINGS.address(), features)?;
        device.go()?;
        let frames = [0; queue::SIZE as usize];
        let mut vsock = Self {
            rx,
            tx,
            event,
            device,
            cid: 0,
            state: State::Closed,
            port: 0,
            own_port: 1024,
            sent: 0,
            received: 0,
            room: 0,
            taken: 0,
            rx_frames: frames,
            tx_frames: frames,
            tx_busy: [false; DEPTH],
            held: None,
            asked: false,
            stray: None,
        };
        vsock.read_cid();
        for frame in 0..DEPTH as u64 {
            vsock.receive_into(frame);
        }
        vsock.await_event();
        vsock.rx.notify();
        vsock.event.notify();
        Ok(vsock)
    }

    pub fn cid(&self) -> u64 {
        self.cid
    }

    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    fn read_cid(&mut self) {
        self.cid = (self.device.config(4) as u64) << 32 | self.device.config(0) as u64;
    }

    fn receive_into(&mut self, frame: u64) {
        let address = RX.address() + frame * IN_FRAME;
        let header = Part { address, len: HEADER as u32, answer: true };
        let data = Part { address: address + DATA_AT, len: MOST as u32, answer: true };
        if let Some(head) = self.rx.offer(&[header, data], false)
            && let Some(place) = self.rx_frames.get_mut(head as usize)
        {
            *place = frame as u8;
        }
    }

    fn await_event(&mut self) {
        self.event.offer(&[Part { address: EVENTS.address(), len: 4, answer: true }], false);
    }

    /// Asks for a connection to `port` of the host. Whether there was room.
    pub fn connect(&mut self, port: u32) -> bool {
        (self.sent, self.received, self.room, self.taken, self.asked) = (0, 0, 0, 0, false);
        self.port = port;
        // No two connections of a machine's life are alike, so that late packets of one are not taken for the next's.
        self.own_port = self.own_port.wrapping_add(1).max(1024);
        let begun = self.send(op::REQUEST, 0, (self.own_port, self.port));
        if begun {
            self.state = State::Requested;
        }
        begun
    }

    /// Gives the connection up. Whether there was room to say so.
    pub fn close(&mut self) -> bool {
        let said = self.state == State::Closed || self.send(op::RST, 0, (self.own_port, self.port));
        if said {
            self.state = State::Closed;
        }
        said
    }

    /// How many bytes the other end has room for.
    pub fn credit(&self) -> u64 {
        let under_way = self.sent.wrapping_sub(self.taken);
        match self.state {
            State::Connected => self.room.saturating_sub(under_way) as u64,
            _ => 0,
        }
    }

    /// Where the data of the next packet goes, at most [`MOST`] bytes and [`Self::credit`], if it can be sent now.
    pub fn to_send(&self) -> Option<u64> {
        let frame = self.tx_busy.iter().position(|busy| !busy)? as u64;
        Some(TX.address() + frame * IN_FRAME + DATA_AT)
    }

    /// Sends `bytes` bytes from [`Self::to_send`], which was asked just now.
    pub fn send_data(&mut self, bytes: u64) {
        if self.send(op::RW, bytes, (self.own_port, self.port)) {
            self.sent = self.sent.wrapping_add(bytes as u32);
        }
    }

    fn send(&mut self, op: u16, bytes: u64, (own_port, port): (u32, u32)) -> bool {
        let Some(frame) = self.tx_busy.iter().position(|busy| !busy) else { return false };
        let address = TX.address() + frame as u64 * IN_FRAME;
        put(address + field::SRC_CID, self.cid);
        put(address + field::DST_CID, HOST);
        put(address + field::SRC_PORT, own_port);
        put(address + field::DST_PORT, port);
        put(address + field::LEN, bytes as u32);
        put(address + field::TYPE, STREAM);
        put(address + field::OP, op);
        put(address + field::FLAGS, 0u32);
        put(address + field::BUF_ALLOC, ROOM);
        put(address + field::FWD_CNT, self.received);
        let header = Part { address, len: HEADER as u32, answer: false };
        let data = Part { address: address + DATA_AT, len: bytes as u32, answer: false };
        let both = [header, data];
        let parts = if bytes == 0 { both.get(..1) } else { Some(&both[..]) };
        let Some(head) = parts.and_then(|parts| self.tx.offer(parts, false)) else { return false };
        if let (Some(place), Some(busy)) =
            (self.tx_frames.get_mut(head as usize), self.tx_busy.get_mut(frame))
        {
            *place = frame as u8;
            *busy = true;
        }
        true
    }

    /// Tells the device of everything that is new.
    pub fn notify(&mut self) {
        self.rx.notify();
        self.tx.notify();
        self.event.notify();
    }

    /// For whoever polls: see [`Queue::be_quiet`].
    pub fn be_quiet(&mut self) {
        self.rx.be_quiet();
        self.tx.be_quiet();
        self.event.be_quiet();
    }

    /// What has happened since, one thing at a time.
    pub fn news(&mut self) -> Result<Option<News>, Problem> {
        if let Some(frame) = self.held.take() {
            self.receive_into(frame);
        }
        while let Some(Answer { head, len }) = self.tx.answer()? {
            let frame = self.tx_frames.get(head as usize).copied().unwrap_or(0);
            let busy =
                self.tx_busy.get_mut(frame as usize).ok_or("an answer to a packet that was not sent")?;
            if len != 0 || !*busy {
                return Err("a packet that was sent was written to");
            }
            *busy = false;
        }
        if let Some(ports) = self.stray
            && self.send(op::RST, 0, ports)
        {
            self.stray = None;
        }
        if self.asked && self.send(op::CREDIT_UPDATE, 0, (self.own_port, self.port)) {
            self.asked = false;
        }
        if let Some(Answer { len, .. }) = self.event.answer()? {
            if len != 4 || read_volatile::<u32>(EVENTS.address()) != TRANSPORT_RESET {
                return Err("an event that there is not");
            }
            self.await_event();
            self.read_cid();
            self.state = State::Closed;
            return Ok(Some(News::TransportReset));
        }
        let Some(Answer { head, len }) = self.rx.answer()? else { return Ok(None) };
        let frame = self.rx_frames.get(head as usize).copied().unwrap_or(0) as u64;
        self.held = Some(frame);
        self.packet(RX.address() + frame * IN_FRAME, len as u64).map(Some)
    }

    /// A packet of `written` bytes has come.
    fn packet(&mut self, address: u64, written: u64) -> Result<News, Problem> {
        let len = read_volatile::<u32>(address + field::LEN) as u64;
        if written != HEADER + len || len > MOST {
            return Err("a packet of the wrong length");
        }
        if read_volatile::<u64>(address + field::SRC_CID) != HOST
            || read_volatile::<u64>(address + field::DST_CID) != self.cid
            || read_volatile::<u16>(address + field::TYPE) != STREAM
        {
            return Err("a packet that is not for us");
        }
        let from = read_volatile::<u32>(address + field::SRC_PORT);
        let to = read_volatile::<u32>(address + field::DST_PORT);
        let op = read_volatile::<u16>(address + field::OP);
        if (from, to) != (self.port, self.own_port) || self.state == State::Closed {
            // Somebody who connects to us, or what is left of an earlier connection.
            if op != op::RST {
                self.stray = Some((to, from));
            }
            return Ok(News::Nothing);
        }
        self.room = read_volatile(address + field::BUF_ALLOC);
        self.taken = read_volatile(address + field::FWD_CNT);
        match op {
            op::RESPONSE if self.state == State::Requested => {
                self.state = State::Connected;
                Ok(News::Connected)
            }
            op::RW if self.state == State::Connected => {
                self.received = self.received.wrapping_add(len as u32);
                // What was received is told with every packet from here; a whole window without any is told alone.
                self.asked |= self.received % (ROOM / 4) < len as u32;
                Ok(News::Data(address + DATA_AT, len))
            }
            op::CREDIT_REQUEST => {
                self.asked = true;
                Ok(News::Nothing)
            }
            op::CREDIT_UPDATE => Ok(News::Nothing),
            op::RST => {
                self.state = State::Closed;
                Ok(News::Reset)
            }
            op::SHUTDOWN => {
                self.send(op::RST, 0, (self.own_port, self.port));
                self.state = State::Closed;
                Ok(News::Reset)
            }
            _ => Err("a packet out of turn"),
        }
    }

    /// Packets sent that the device has not taken yet.
    pub fn outstanding(&self) -> usize {
        self.tx.outstanding()
    }
}
