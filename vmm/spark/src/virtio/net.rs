//! A network card (virtio 1.2, 5.1) without any offload: whole frames, one at a time out and several in.

use super::Problem;
use super::area::Area;
use super::queue::{self, Answer, Part, Queue};
use super::transport::{EVENT_IDX, INDIRECT_DESC, Transport};

const ID: u32 = 1;
const MAC: u64 = 1 << 5;

/// `struct virtio_net_hdr_v1`, all zeros from us.
const HEADER: u64 = 12;
/// Bytes of a frame's buffer.
const ROOM: u64 = 2048;
const DEPTH: u64 = 8;

static RX_RINGS: Area<{ queue::BYTES }> = Area::new();
static TX_RINGS: Area<{ queue::BYTES }> = Area::new();
/// [`ROOM`] apart; the last is for what is sent.
static FRAMES: Area<{ (DEPTH + 1) as usize * ROOM as usize }> = Area::new();

pub struct Net {
    device: Transport,
    rx: Queue,
    tx: Queue,
    /// By head: the frame that it is.
    frames: [u8; queue::SIZE as usize],
    /// A frame that the caller has, to be offered again.
    held: Option<u64>,
}

impl Net {
    /// The first network card, ready.
    pub fn find() -> Result<Self, &'static str> {
        let device = Transport::find(ID).ok_or("no network card")?;
        let features = device.negotiate(INDIRECT_DESC | EVENT_IDX | MAC)?;
        let rx = device.queue(0, RX_RINGS.address(), features)?;
        let tx = device.queue(1, TX_RINGS.address(), features)?;
        device.go()?;
        let mut net = Self { device, rx, tx, frames: [0; queue::SIZE as usize], held: None };
        for frame in 0..DEPTH {
            net.receive_into(frame);
        }
        net.rx.notify();
        Ok(net)
    }

    /// Its address, the first byte in the lowest bits.
    pub fn mac(&self) -> u64 {
        (self.device.config(4) as u64 & 0xffff) << 32 | self.device.config(0) as u64
    }

    fn receive_into(&mut self, frame: u64) {
        let part = Part { address: FRAMES.address() + frame * ROOM, len: ROOM as u32, answer: true };
        if let Some(head) = self.rx.offer(&[part], false)
            && let Some(place) = self.frames.get_mut(head as usize)
        {
            *place = frame as u8;
        }
    }

    /// Where the frame to be sent is put.
    pub fn to_send(&self) -> u64 {
        FRAMES.address() + DEPTH * ROOM + HEADER
    }

    /// Sends `bytes` bytes from there, and waits, polling, until they may be written again.
    pub fn send(&mut self, bytes: u64) -> Result<(), Problem> {
        let part = Part { address: self.to_send() - HEADER, len: (HEADER + bytes) as u32, answer: false };
        self.tx.offer(&[part], false);
        self.tx.notify();
        while self.tx.answer()?.is_none() {
            core::hint::spin_loop();
        }
        self.tx.be_quiet();
        Ok(())
    }

    /// The next frame that has come: its address and length. Valid until the next call.
    pub fn receive(&mut self) -> Result<Option<(u64, u64)>, Problem> {
        if let Some(frame) = self.held.take() {
            self.receive_into(frame);
            self.rx.notify();
        }
        let Some(Answer { head, len }) = self.rx.answer()? else { return Ok(None) };
        self.rx.be_quiet();
        let frame = self.frames.get(head as usize).copied().unwrap_or(0) as u64;
        self.held = Some(frame);
        let bytes = (len as u64).checked_sub(HEADER).ok_or("a frame without its header")?;
        Ok(Some((FRAMES.address() + frame * ROOM + HEADER, bytes)))
    }
}
