//! A split virtqueue (virtio 1.2, 2.7) from the driver's side. It keeps its own record of what is outstanding, and
//! believes the device nothing.

use core::sync::atomic::{Ordering, fence};

use super::Problem;
use super::area::{fill, put};
use super::transport::Transport;
use crate::memory::read_volatile;

/// Descriptors of every queue.
pub const SIZE: u16 = 64;
/// Bytes that a queue needs: a page of rings, and a table of [`IN_TABLE`] descriptors for each head.
pub const BYTES: usize = 4096 + SIZE as usize * IN_TABLE * 16;
/// The longest chain.
pub const IN_TABLE: usize = 8;

const AVAIL: u64 = 0x400;
const USED: u64 = 0x800;
const TABLES: u64 = 0x1000;

/// Descriptor flags.
const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;

/// Descriptor table, available ring and used ring of the queue at `rings`.
pub fn rings_of(rings: u64) -> [u64; 3] {
    [rings, rings + AVAIL, rings + USED]
}

/// A buffer of a request.
#[derive(Clone, Copy)]
pub struct Part {
    pub address: u64,
    pub len: u32,
    /// The device writes it, rather than reads it.
    pub answer: bool,
}

/// Something that the device has given back.
pub struct Answer {
    pub head: u16,
    /// Bytes that the device says it has written.
    pub len: u32,
}

pub struct Queue {
    device: Transport,
    number: u32,
    rings: u64,
    event_idx: bool,
    /// A bit for each free descriptor.
    free: u64,
    /// By head: a bit for each descriptor of an outstanding chain, 0 if there is none.
    chains: [u64; SIZE as usize],
    outstanding: usize,
    /// Index of the next place in the available ring, and what it was when the device was last notified.
    next: u16,
    told: u16,
    /// Index of the next answer.
    seen: u16,
}

impl Queue {
    /// An empty one; nobody may be using its memory.
    pub fn new(device: Transport, number: u32, rings: u64, event_idx: bool) -> Self {
        fill(rings, TABLES, 0);
        let (free, chains) = (u64::MAX, [0; SIZE as usize]);
        Self { device, number, rings, event_idx, free, chains, outstanding: 0, next: 0, told: 0, seen: 0 }
    }

    /// How many requests are outstanding.
    pub fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// Makes a request of `parts`, at most [`IN_TABLE`] and not none; its head, or `None` if there is no room. The
    /// device need not know yet: see [`Self::notify`].
    pub fn offer(&mut self, parts: &[Part], indirect: bool) -> Option<u16> {
        let needed = if indirect { 1 } else { parts.len() };
        let mut numbers = [0; IN_TABLE];
        let mut chain = 0u64;
        for number in numbers.get_mut(..needed)? {
            let free = self.free & !chain;
            if free == 0 {
                return None;
            }
            *number = free.trailing_zeros() as u16;
            chain |= 1 << *number;
        }
        let head = numbers[0];
        if indirect {
            let table = self.rings + TABLES + head as u64 * IN_TABLE as u64 * 16;
            for (part, n) in parts.iter().zip(0..) {
                let more = n as usize + 1 < parts.len();
                describe(table + n * 16, part, more.then_some(n as u16 + 1));
            }
            let at = self.rings + head as u64 * 16;
            put(at, table);
            put(at + 8, parts.len() as u32 * 16);
            put(at + 12, INDIRECT);
            put(at + 14, 0u16);
        } else {
            for (part, n) in parts.iter().zip(0..) {
                let next = (n + 1 < parts.len()).then_some(n + 1).and_then(|n| numbers.get(n)).copied();
                let number = numbers.get(n).copied()?;
                describe(self.rings + number as u64 * 16, part, next);
            }
        }
        *self.chains.get_mut(head as usize)? = chain;
        self.free &= !chain;
        self.outstanding += 1;
        put(self.rings + AVAIL + 4 + (self.next % SIZE) as u64 * 2, head);
        self.next = self.next.wrapping_add(1);
        // What the index announces is there before the index: the processor keeps the order of writes.
        fence(Ordering::SeqCst);
        put(self.rings + AVAIL + 2, self.next);
        Some(head)
    }

    /// Tells the device of new requests, if it wants to be told.
    pub fn notify(&mut self) {
        if self.told == self.next {
            return;
        }
        // The index is written before the device's wish is read.
        fence(Ordering::SeqCst);
        let wanted = if self.event_idx {
            let at = read_volatile::<u16>(self.rings + USED + 4 + SIZE as u64 * 8);
            self.next.wrapping_sub(at).wrapping_sub(1) < self.next.wrapping_sub(self.told)
        } else {
            read_volatile::<u16>(self.rings + USED) & 1 == 0
        };
        self.told = self.next;
        if wanted {
            self.device.notify(self.number);
        }
    }

    /// The next answer, if there is one. From then on the device interrupts for the one after it.
    pub fn answer(&mut self) -> Result<Option<Answer>, Problem> {
        let index = read_volatile::<u16>(self.rings + USED + 2);
        let new = index.wrapping_sub(self.seen);
        if new == 0 {
            return Ok(None);
        }
        if new as usize > self.outstanding {
            return Err("more answers than requests");
        }
        let at = self.rings + USED + 4 + (self.seen % SIZE) as u64 * 8;
        let (head, len) = (read_volatile::<u32>(at), read_volatile::<u32>(at + 4));
        let chain = self.chains.get_mut(head as usize).ok_or("an answer to no request at all")?;
        if *chain == 0 {
            return Err("an answer to a request that is not outstanding");
        }
        self.free |= *chain;
        *chain = 0;
        self.outstanding -= 1;
        self.seen = self.seen.wrapping_add(1);
        if self.event_idx {
            put(self.rings + AVAIL + 4 + SIZE as u64 * 2, self.seen);
            // The wish is written before the ring is looked at again.
            fence(Ordering::SeqCst);
        }
        Ok(Some(Answer { head: head as u16, len }))
    }

    /// Has the device not interrupt, for as long as nothing else is said: for whoever polls. Call after each answer.
    pub fn be_quiet(&mut self) {
        if self.event_idx {
            put(self.rings + AVAIL + 4 + SIZE as u64 * 2, self.seen.wrapping_sub(1));
        } else {
            put(self.rings + AVAIL, 1u16);
        }
    }
}

fn describe(at: u64, part: &Part, next: Option<u16>) {
    let write = if part.answer { WRITE } else { 0 };
    put(at, part.address);
    put(at + 8, part.len);
    put(at + 12, write | if next.is_some() { NEXT } else { 0 });
    put(at + 14, next.unwrap_or(0));
}
