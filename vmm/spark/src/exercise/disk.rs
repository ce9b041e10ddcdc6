//! Reads, writes, flushes and cleared blocks all over a disk, several at a time, with a record of what every block must
//! hold.

use super::{Dice, Exercise, dawdle};
use crate::memory::read_volatile;
use crate::pattern::{splitmix64, word};
use crate::text::Text;
use crate::virtio::Problem;
use crate::virtio::area::{fill, put};
use crate::virtio::blk::{DEPTH, Disk, Kind, ROOM, SECTOR, Shape};

/// What the record counts in.
const BLOCK: u64 = 4096;
/// As many blocks of a disk as the record has room for are used: the first 32 MiB.
const MOST: usize = 8192;
/// Blocks that a request may touch.
const IN_ONE: u64 = ROOM as u64 / BLOCK;
/// What a buffer holds before it is read into.
const POISON: u64 = 0xdead_dead_dead_dead;

/// What was written to the blocks of a disk, over all exercises.
pub struct Record {
    /// Blocks in use; 0 before the first fill.
    blocks: u64,
    seed: u64,
    /// The last write's number; the fill's is 1.
    last: u32,
    /// By block: the number of the write that it must hold, 0 for zeros.
    versions: [u32; MOST],
    /// A bit for each block that a request is under way for.
    busy: [u64; MOST / 64],
}

impl Record {
    pub const fn new() -> Self {
        Self { blocks: 0, seed: 0, last: 0, versions: [0; MOST], busy: [0; MOST / 64] }
    }

    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// The disk is about to hold something else.
    pub fn forget(&mut self) {
        self.blocks = 0;
    }

    /// The word that block `block` holds `offset` bytes from its start after write number `version`.
    fn word(&self, block: u64, version: u32, offset: u64) -> u64 {
        match version {
            0 => 0,
            version => word(splitmix64(self.seed) ^ version as u64, block * BLOCK + offset),
        }
    }

    fn version(&self, block: u64) -> u32 {
        self.versions.get(block as usize).copied().unwrap_or(0)
    }

    fn set_version(&mut self, block: u64, version: u32) {
        if let Some(place) = self.versions.get_mut(block as usize) {
            *place = version;
        }
    }

    fn is_busy(&self, block: u64) -> bool {
        self.busy.get(block as usize / 64).is_some_and(|bits| bits >> (block % 64) & 1 != 0)
    }

    fn flip(&mut self, first: u64, count: u64) {
        for block in first..first + count {
            if let Some(bits) = self.busy.get_mut(block as usize / 64) {
                *bits ^= 1 << (block % 64);
            }
        }
    }

    /// Puts what write `version` of the blocks holds at `buffer`.
    fn compose(&self, buffer: u64, first: u64, count: u64, version: u32) {
        for at in (0..count * BLOCK).step_by(8) {
            put(buffer + at, self.word(first + at / BLOCK, version, at % BLOCK));
        }
    }

    /// Whether `buffer` holds what the blocks must.
    fn is_right(&self, buffer: u64, first: u64, count: u64) -> bool {
        (0..count * BLOCK).step_by(8).all(|at| {
            let block = first + at / BLOCK;
            read_volatile::<u64>(buffer + at) == self.word(block, self.version(block), at % BLOCK)
        })
    }

    /// Writes every block, as write number 1 of a record that begins anew.
    pub fn fill(&mut self, disk: &mut Disk, seed: u64) -> Result<(), Problem> {
        self.blocks = (disk.sectors() * SECTOR / BLOCK).min(MOST as u64);
        (self.seed, self.last) = (seed, 1);
        self.busy = [0; MOST / 64];
        self.versions = [1; MOST];
        for first in (0..self.blocks).step_by(IN_ONE as usize) {
            let count = IN_ONE.min(self.blocks - first);
            self.compose(disk.buffer(0), first, count, 1);
            disk.alone(Kind::Write, first * BLOCK / SECTOR, (count * BLOCK) as u32)?;
        }
        disk.alone(Kind::Flush, 0, 0)
    }

    /// Compares every block with the record; the first that is wrong.
    pub fn verify(&self, disk: &mut Disk) -> Result<Option<u64>, Problem> {
        for first in (0..self.blocks).step_by(IN_ONE as usize) {
            let count = IN_ONE.min(self.blocks - first);
            fill(disk.buffer(0), count * BLOCK, POISON);
            disk.alone(Kind::Read, first * BLOCK / SECTOR, (count * BLOCK) as u32)?;
            if !self.is_right(disk.buffer(0), first, count) {
                let wrong = |block: &u64| !self.is_right(disk.buffer(0) + (block - first) * BLOCK, *block, 1);
                return Ok((first..first + count).find(wrong));
            }
        }
        Ok(None)
    }
}

/// What a request will have done.
#[derive(Clone, Copy)]
struct Begun {
    first: u64,
    count: u64,
    version: u32,
}

pub struct Exerciser<'a> {
    disk: &'a mut Disk,
    record: &'a mut Record,
    dice: Dice,
    depth: usize,
    /// Requests still to be begun.
    left: u64,
    begun: [Begun; DEPTH],
    done: u64,
}

impl<'a> Exerciser<'a> {
    /// `count` requests, `depth` at a time, at most [`DEPTH`].
    pub fn new(
        disk: &'a mut Disk,
        record: &'a mut Record,
        count: u64,
        seed: u64,
        depth: usize,
    ) -> Result<Self, &'static str> {
        if record.blocks == 0 {
            return Err("fill the disk first");
        }
        // Requests of an exercise that failed are not waited for any more.
        record.busy = [0; MOST / 64];
        let begun = [Begun { first: 0, count: 0, version: 0 }; DEPTH];
        Ok(Self { disk, record, dice: Dice::new(seed), depth, left: count, begun, done: 0 })
    }

    fn begin(&mut self, request: usize) -> bool {
        let dice = &mut self.dice;
        let kind = match dice.below(20) {
            0 => Kind::Flush,
            1 if self.disk.can_zero() => Kind::Zero,
            2..=10 => Kind::Write,
            _ => Kind::Read,
        };
        let most = IN_ONE.min(self.record.blocks);
        let count = if kind == Kind::Flush { 0 } else { 1 + dice.below(most) };
        // Somewhere else if another request has these blocks: which of two comes first is nobody's business.
        let first = loop {
            let first = dice.below(self.record.blocks - count + 1);
            if !(first..first + count).any(|block| self.record.is_busy(block)) {
                break first;
            }
        };
        let shape = Shape { indirect: dice.below(2) == 0, cut: dice.below(2 * count * BLOCK) as u32 };
        let version = if kind == Kind::Zero { 0 } else { self.record.last + 1 };
        let buffer = self.disk.buffer(request);
        match kind {
            Kind::Write => {
                self.record.last = version;
                self.record.compose(buffer, first, count, version);
            }
            Kind::Read => fill(buffer, count * BLOCK, POISON),
            _ => {}
        }
        let (sector, bytes) = (first * BLOCK / SECTOR, (count * BLOCK) as u32);
        if !self.disk.begin(request, kind, sector, bytes, shape, None) {
            return false;
        }
        self.record.flip(first, count);
        if let Some(begun) = self.begun.get_mut(request) {
            *begun = Begun { first, count, version };
        }
        true
    }

    fn end(&mut self, request: usize, kind: Kind) -> Result<(), Problem> {
        let Begun { first, count, version } = self.begun.get(request).copied().ok_or("no such request")?;
        match kind {
            Kind::Read if !self.record.is_right(self.disk.buffer(request), first, count) => {
                return Err("a disk read gave other data than was written");
            }
            Kind::Write | Kind::Zero => {
                (first..first + count).for_each(|block| self.record.set_version(block, version));
            }
            _ => {}
        }
        self.record.flip(first, count);
        self.done += 1;
        Ok(())
    }
}

impl Exercise for Exerciser<'_> {
    fn turn(&mut self, ending: bool) -> Result<bool, Problem> {
        let mut busy = false;
        while let Some((request, kind)) = self.disk.answered()? {
            self.end(request, kind)?;
            busy = true;
        }
        while !ending && self.left > 0 && self.disk.outstanding() < self.depth {
            let Some(request) = self.disk.free() else { break };
            if !self.begin(request) {
                break;
            }
            self.left -= 1;
            // At times one by one, at times several with one ring of the bell.
            if self.dice.below(4) > 0 {
                self.disk.notify();
            }
            busy = true;
        }
        if busy {
            dawdle(&mut self.dice);
        }
        self.disk.notify();
        if ending {
            self.left = 0;
        }
        Ok(busy)
    }

    fn is_over(&self) -> bool {
        self.left == 0 && self.disk.outstanding() == 0
    }

    fn report(&self, to: &mut Text) {
        to.str("disk ").dec(self.done);
    }
}
