//! One request: what it asks for, whether that is allowed, and the answer (virtio 1.2, 5.2.6).

use std::io;
use std::ops::Range;

use super::{Blk, MOST_BYTES, MOST_RANGES, SECTOR};
use crate::device::virtio::{Broken, Chain};
use crate::memory::GuestRam;
use crate::sys::uring::Transfer;

/// `struct virtio_blk_req`, up to its data: type, reserved, sector.
const HEADER: u32 = 16;
/// `struct virtio_blk_discard_write_zeroes`: sector, number of sectors, flags.
const RANGE: u32 = 16;
/// The serial number's length, padded with NUL.
const SERIAL: usize = 20;

/// Request types.
mod kind {
    pub(super) const IN: u32 = 0;
    pub(super) const OUT: u32 = 1;
    pub(super) const FLUSH: u32 = 4;
    pub(super) const GET_ID: u32 = 8;
    pub(super) const DISCARD: u32 = 11;
    pub(super) const WRITE_ZEROES: u32 = 13;
}

/// The answer's last byte.
mod status {
    pub(super) const OK: u8 = 0;
    pub(super) const IOERR: u8 = 1;
    pub(super) const UNSUPP: u8 = 2;
}

/// A flag of [`kind::WRITE_ZEROES`]: the sectors may be given back to the host.
const UNMAP: u32 = 1;

/// What is asked for.
#[derive(Debug)]
pub(super) struct Request {
    pub kind: u32,
    pub sector: u64,
    /// Bytes of the answer before the status.
    pub room: u32,
    pub chain: Chain,
}

impl Request {
    /// What it takes of a limit on bytes: data in either direction, and what is to become zero, which a host without holes
    /// has to write. What is discarded costs nothing like its length anywhere.
    ///
    /// # Errors
    /// Guest memory cannot be read.
    pub(super) fn cost(&self, memory: &GuestRam) -> Result<u64, Broken> {
        let data = u64::from(self.room) + u64::from(self.chain.readable.len().saturating_sub(HEADER));
        if self.kind != kind::WRITE_ZEROES {
            return Ok(data);
        }
        // What is not there stays 0. There is one range: `MOST_RANGES`.
        let mut sectors = [0; 4];
        self.chain.readable.read(memory, HEADER + 8, &mut sectors)?;
        // A request for more is refused.
        Ok(data + (u64::from(u32::from_le_bytes(sectors)) * SECTOR).min(MOST_BYTES))
    }
}

/// An operation on the disk that can go on by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Operation {
    pub transfer: Transfer,
    /// The first byte on the disk.
    pub at: u64,
    /// Bytes of the buffers to read from or to write to.
    pub bytes: Range<u32>,
    /// Bytes of the answer that it writes, if it does all that it should.
    pub writes: u32,
}

/// Why a request comes to nothing.
pub(super) enum Failure {
    /// The driver asks for what there is not: other sectors, half sectors, a write to a read-only disk.
    Refused,
    /// The driver asks for what was never offered.
    Unsupported,
    /// The host's disk fails.
    Host(io::Error),
    /// The driver has broken a rule of queues.
    Broken(Broken),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Host(error)
    }
}

impl From<Broken> for Failure {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

impl Blk {
    /// Reads what is asked for.
    pub(super) fn read_request(&self, chain: Chain, memory: &GuestRam) -> Result<Request, Broken> {
        let broken = |problem| Broken::Chain { head: chain.head(), problem };
        let mut header = [0; HEADER as usize];
        if chain.readable.read(memory, 0, &mut header)? < header.len() {
            return Err(broken("has no whole header of a disk request"));
        }
        // The status is the last byte, wherever the buffers begin and end (2.7.4.1).
        let room = chain.writable.len().checked_sub(1).ok_or_else(|| broken("has no room for a status"))?;
        let [k0, k1, k2, k3, _, _, _, _, sector @ ..] = header;
        let (kind, sector) = (u32::from_le_bytes([k0, k1, k2, k3]), u64::from_le_bytes(sector));
        Ok(Request { kind, sector, room, chain })
    }

    /// Writes the status of a request; says how many bytes from the answer's start on are written.
    pub(super) fn conclude(
        &mut self,
        request: &Request,
        done: Result<u32, Failure>,
        memory: &GuestRam,
    ) -> Result<u32, Broken> {
        let Request { room, chain, .. } = request;
        let room = *room;
        let (status, written) = match done {
            Ok(written) => (status::OK, written),
            Err(Failure::Refused) => (status::IOERR, 0),
            Err(Failure::Unsupported) => (status::UNSUPP, 0),
            Err(Failure::Host(error)) => {
                self.log(&error);
                (status::IOERR, 0)
            }
            Err(Failure::Broken(broken)) => return Err(broken),
        };
        chain.writable.write(memory, room, &[status])?;
        // The count is of bytes from the start on, and the status counts only if it joins them (2.7.8.2).
        Ok(if written == room { room + 1 } else { written })
    }

    /// Does what is asked; says how many bytes of the answer's `room` it has written.
    pub(super) fn execute(&mut self, request: &Request, memory: &GuestRam) -> Result<u32, Failure> {
        let Request { kind, sector, room, chain } = request;
        let (kind, sector, room) = (*kind, *sector, *room);
        match kind {
            kind::IN => {
                let at = self.place(sector, room.into())?;
                self.storage.read(&chain.writable.slices(memory, 0..room)?, at)?;
                Ok(room)
            }
            kind::OUT => {
                let end = chain.readable.len();
                let at = self.place(sector, u64::from(end - HEADER))?;
                self.check_writable()?;
                self.storage.write(&chain.readable.slices(memory, HEADER..end)?, at)?;
                self.settle()
            }
            kind::FLUSH => {
                self.storage.flush()?;
                Ok(0)
            }
            kind::GET_ID => {
                let mut serial = [0; SERIAL];
                let id = self.id().as_str().as_bytes();
                serial[..id.len()].copy_from_slice(id);
                let fits = SERIAL.min(room as usize);
                Ok(chain.writable.write(memory, 0, &serial[..fits])? as u32)
            }
            kind::DISCARD | kind::WRITE_ZEROES => {
                self.check_writable()?;
                self.clear(kind == kind::WRITE_ZEROES, chain, memory)?;
                self.settle()
            }
            _ => Err(Failure::Unsupported),
        }
    }

    /// The operation that does what is asked, if one alone does.
    pub(super) fn operation(&self, request: &Request) -> Option<Operation> {
        let Request { kind, sector, room, chain } = request;
        let len = chain.readable.len();
        match *kind {
            kind::IN => {
                let at = self.place(*sector, (*room).into()).ok()?;
                Some(Operation { transfer: Transfer::Read, at, bytes: 0..*room, writes: *room })
            }
            kind::OUT if self.write_back && !self.storage.is_read_only() => {
                let at = self.place(*sector, u64::from(len - HEADER)).ok()?;
                Some(Operation { transfer: Transfer::Write, at, bytes: HEADER..len, writes: 0 })
            }
            kind::FLUSH => Some(Operation { transfer: Transfer::Sync, at: 0, bytes: 0..0, writes: 0 }),
            _ => None,
        }
    }

    /// Discards ranges, or makes them zero.
    fn clear(&mut self, to_zero: bool, chain: &Chain, memory: &GuestRam) -> Result<(), Failure> {
        let len = chain.readable.len() - HEADER;
        if len == 0 || !len.is_multiple_of(RANGE) || len / RANGE > MOST_RANGES {
            return Err(Failure::Refused);
        }
        for number in 0..len / RANGE {
            let mut range = [0; RANGE as usize];
            chain.readable.read(memory, HEADER + number * RANGE, &mut range)?;
            let [sector @ .., n0, n1, n2, n3, f0, f1, f2, f3] = range;
            let (sector, count) = (u64::from_le_bytes(sector), u32::from_le_bytes([n0, n1, n2, n3]));
            let flags = u32::from_le_bytes([f0, f1, f2, f3]);
            let allowed = if to_zero { UNMAP } else { 0 };
            if flags & !allowed != 0 {
                return Err(Failure::Unsupported);
            }
            let bytes = u64::from(count) * SECTOR;
            let at = self.place(sector, bytes)?;
            if to_zero {
                self.storage.write_zeroes(at, bytes, flags & UNMAP != 0)?;
            } else {
                self.storage.discard(at, bytes)?;
            }
        }
        Ok(())
    }

    /// Where `bytes` bytes from `sector` on lie on the disk, if they are whole sectors that it has.
    fn place(&self, sector: u64, bytes: u64) -> Result<u64, Failure> {
        let at = sector.checked_mul(SECTOR).ok_or(Failure::Refused)?;
        let end = at.checked_add(bytes).ok_or(Failure::Refused)?;
        if end > self.storage.len() || !bytes.is_multiple_of(SECTOR) || bytes > MOST_BYTES {
            return Err(Failure::Refused);
        }
        Ok(at)
    }

    fn check_writable(&self) -> Result<(), Failure> {
        if self.storage.is_read_only() { Err(Failure::Refused) } else { Ok(()) }
    }

    /// For a driver that does not know of caches, a write is on the host's disk when it is answered (5.2.6.2).
    fn settle(&self) -> Result<u32, Failure> {
        if !self.write_back {
            self.storage.flush()?;
        }
        Ok(0)
    }

    fn log(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.failure_logged, true) {
            let (disk, path) = (self.id().as_str(), self.storage.path().display());
            tracing::warn!(%error, disk, %path, "the host's disk fails, and so do requests of the guest");
        }
    }
}
