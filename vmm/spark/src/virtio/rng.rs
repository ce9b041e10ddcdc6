//! The entropy device (virtio 1.2, 5.4): buffers that it fills, several at a time.

use super::Problem;
use super::area::{Area, fill};
use super::queue::{self, Part, Queue};
use super::transport::{EVENT_IDX, INDIRECT_DESC, Transport};

const ID: u32 = 4;

/// Requests that can be outstanding.
pub const DEPTH: usize = 8;
/// Bytes that each can ask for.
pub const MOST: u64 = 2048;

/// For each request as much again, which the device must leave alone.
static DATA: Area<{ DEPTH * 2 * MOST as usize }> = Area::new();
static RINGS: Area<{ queue::BYTES }> = Area::new();

/// What has been drawn.
pub struct Drawn {
    pub address: u64,
    /// Bytes that were asked for.
    pub asked: u64,
    /// Bytes that were given.
    pub given: u64,
}

pub struct Rng {
    queue: Queue,
    /// By head: the request that it is.
    requests: [u8; queue::SIZE as usize],
    /// By request: the bytes asked for.
    begun: [Option<u64>; DEPTH],
}

impl Rng {
    /// The first entropy device, ready.
    pub fn find() -> Result<Self, &'static str> {
        let device = Transport::find(ID).ok_or("no entropy device")?;
        let features = device.negotiate(INDIRECT_DESC | EVENT_IDX)?;
        let queue = device.queue(0, RINGS.address(), features)?;
        device.go()?;
        Ok(Self { queue, requests: [0; queue::SIZE as usize], begun: [None; DEPTH] })
    }

    /// Asks for `bytes` random bytes, at most [`MOST`], in a buffer of zeros. Whether there was room.
    pub fn ask(&mut self, bytes: u64, indirect: bool) -> bool {
        let Some(request) = self.begun.iter().position(Option::is_none) else { return false };
        let address = DATA.address() + request as u64 * 2 * MOST;
        fill(address, 2 * MOST, 0);
        let parts = [Part { address, len: bytes as u32, answer: true }];
        let Some(head) = self.queue.offer(&parts, indirect) else { return false };
        if let (Some(place), Some(begun)) =
            (self.requests.get_mut(head as usize), self.begun.get_mut(request))
        {
            *place = request as u8;
            *begun = Some(bytes);
        }
        true
    }

    /// Tells the device of what was asked for.
    pub fn notify(&mut self) {
        self.queue.notify();
    }

    /// What has been drawn; it stays as it is until the next [`Self::ask`].
    pub fn drawn(&mut self) -> Result<Option<Drawn>, Problem> {
        let Some(answer) = self.queue.answer()? else { return Ok(None) };
        let request = self.requests.get(answer.head as usize).copied().unwrap_or(0) as usize;
        let begun = self.begun.get_mut(request).and_then(Option::take);
        let asked = begun.ok_or("an answer to a request that was not begun")?;
        let address = DATA.address() + request as u64 * 2 * MOST;
        Ok(Some(Drawn { address, asked, given: answer.len as u64 }))
    }

    pub fn outstanding(&self) -> usize {
        self.queue.outstanding()
    }
}
