//! A disk (virtio 1.2, 5.2): requests by number, several at a time.

use super::Problem;
use super::area::{Area, put};
use super::queue::{self, Part, Queue};
use super::transport::{EVENT_IDX, INDIRECT_DESC, Transport};
use crate::memory::read_volatile;

const ID: u32 = 2;

const FLUSH: u64 = 1 << 9;
const WRITE_ZEROES: u64 = 1 << 14;

/// Bytes of a sector.
pub const SECTOR: u64 = 512;
/// Requests that can be outstanding.
pub const DEPTH: usize = 16;
/// Bytes of the buffer of each.
pub const ROOM: usize = 16 << 10;
/// Bytes of a disk's name.
pub const NAME: usize = 20;

/// Of each request: header, then range or name, then status; [`IN_FRAME`] apart.
static FRAMES: Area<{ DEPTH * IN_FRAME as usize }> = Area::new();
const IN_FRAME: u64 = 64;
const HEADER_BYTES: u32 = 16;
const RANGE: u64 = 16;
const STATUS: u64 = 48;
/// What the status is before the device writes it.
const UNANSWERED: u8 = 0xff;

static DATA: Area<{ DEPTH * ROOM }> = Area::new();
static RINGS: Area<{ queue::BYTES }> = Area::new();

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Read,
    Write,
    Flush,
    Name,
    Zero,
}

impl Kind {
    /// The type in the header.
    fn number(self) -> u32 {
        match self {
            Self::Read => 0,
            Self::Write => 1,
            Self::Flush => 4,
            Self::Name => 8,
            Self::Zero => 13,
        }
    }
}

/// How the data lies in the request.
#[derive(Clone, Copy)]
pub struct Shape {
    /// Through a table of descriptors.
    pub indirect: bool,
    /// Where the data is cut in two, in bytes; nowhere if that is not inside of it.
    pub cut: u32,
}

impl Shape {
    pub const PLAIN: Self = Self { indirect: false, cut: 0 };
}

pub struct Disk {
    device: Transport,
    queue: Queue,
    can_zero: bool,
    /// By head: the request that it is.
    requests: [u8; queue::SIZE as usize],
    /// By request: what it is, and how many bytes of answer it has, the status included.
    begun: [Option<(Kind, u32)>; DEPTH],
}

impl Disk {
    /// The first disk, ready.
    pub fn find() -> Result<Self, &'static str> {
        let device = Transport::find(ID).ok_or("no disk")?;
        let features = device.negotiate(INDIRECT_DESC | EVENT_IDX | FLUSH | WRITE_ZEROES)?;
        let queue = device.queue(0, RINGS.address(), features)?;
        device.go()?;
        let can_zero = features & WRITE_ZEROES != 0;
        Ok(Self { device, queue, can_zero, requests: [0; queue::SIZE as usize], begun: [None; DEPTH] })
    }

    pub fn slot(&self) -> u64 {
        self.device.slot()
    }

    pub fn sectors(&self) -> u64 {
        (self.device.config(4) as u64) << 32 | self.device.config(0) as u64
    }

    /// Whether it knows [`Kind::Zero`].
    pub fn can_zero(&self) -> bool {
        self.can_zero
    }

    /// A number for a request, if one is free.
    pub fn free(&self) -> Option<usize> {
        self.begun.iter().position(Option::is_none)
    }

    /// The buffer of a request, [`ROOM`] bytes. What is read is put there, and the name.
    pub fn buffer(&self, request: usize) -> u64 {
        DATA.address() + (request * ROOM) as u64
    }

    /// Begins the free request `request` on `bytes` bytes from `sector` on. Its data is in its buffer, or in `elsewhere`.
    /// Whether there was room in the queue.
    pub fn begin(
        &mut self,
        request: usize,
        kind: Kind,
        sector: u64,
        bytes: u32,
        shape: Shape,
        elsewhere: Option<u64>,
    ) -> bool {
        let frame = FRAMES.address() + request as u64 * IN_FRAME;
        put(frame, kind.number());
        put(frame + 4, 0u32);
        put(frame + 8, if matches!(kind, Kind::Read | Kind::Write) { sector } else { 0 });
        put(frame + STATUS, UNANSWERED);
        let answer = matches!(kind, Kind::Read | Kind::Name);
        let (address, len) = match kind {
            Kind::Flush => (0, 0),
            Kind::Zero => {
                put(frame + RANGE, sector);
                put(frame + RANGE + 8, bytes / SECTOR as u32);
                put(frame + RANGE + 12, 0u32);
                (frame + RANGE, 16)
            }
            _ => (elsewhere.unwrap_or_else(|| self.buffer(request)), bytes),
        };
        let header = Part { address: frame, len: HEADER_BYTES, answer: false };
        let status = Part { address: frame + STATUS, len: 1, answer: true };
        let cut = if shape.cut < len { shape.cut } else { 0 };
        let first = Part { address, len: if cut == 0 { len } else { cut }, answer };
        let second = Part { address: address + cut as u64, len: len - cut, answer };
        let parts: &[Part] = match (len, cut) {
            (0, _) => &[header, status],
            (_, 0) => &[header, first, status],
            _ => &[header, first, second, status],
        };
        let Some(head) = self.queue.offer(parts, shape.indirect) else { return false };
        if let (Some(place), Some(begun)) =
            (self.requests.get_mut(head as usize), self.begun.get_mut(request))
        {
            *place = request as u8;
            *begun = Some((kind, if answer { len + 1 } else { 1 }));
        }
        true
    }

    /// Tells the disk of what was begun.
    pub fn notify(&mut self) {
        self.queue.notify();
    }

    /// A request that has been answered, as it must be.
    pub fn answered(&mut self) -> Result<Option<(usize, Kind)>, Problem> {
        let Some(answer) = self.queue.answer()? else { return Ok(None) };
        let request = self.requests.get(answer.head as usize).copied().unwrap_or(0) as usize;
        let begun = self.begun.get_mut(request).and_then(Option::take);
        let (kind, bytes) = begun.ok_or("an answer to a request that was not begun")?;
        if read_volatile::<u8>(FRAMES.address() + request as u64 * IN_FRAME + STATUS) != 0 {
            return Err("a request failed");
        }
        if answer.len != bytes {
            return Err("an answer of the wrong length");
        }
        Ok(Some((request, kind)))
    }

    pub fn outstanding(&self) -> usize {
        self.queue.outstanding()
    }

    /// Does one request, polling: the data is in the buffer of request 0. None other may be outstanding.
    pub fn alone(&mut self, kind: Kind, sector: u64, bytes: u32) -> Result<(), Problem> {
        self.begin(0, kind, sector, bytes, Shape::PLAIN, None);
        self.notify();
        while self.answered()?.is_none() {
            core::hint::spin_loop();
        }
        Ok(())
    }

    /// For whoever polls: see [`Queue::be_quiet`].
    pub fn be_quiet(&mut self) {
        self.queue.be_quiet();
    }
}
