//! How much is delivered for one fault.
//!
//! A guest that goes through memory in order is given more with each fault; one that jumps about is given the block
//! around what it asked for. Several such walks may go on at once, one per vCPU and more, so a few are remembered.

#[cfg(test)]
#[path = "grain_test.rs"]
mod grain_test;

use std::ops::Range;

/// How many walks are remembered.
const WALKS: usize = 8;

/// A guest that is given so much for a fault is expected to go on for as much as a huge page has.
const LONG: u64 = 1 << 20;

/// How much is delivered at least and at most, in bytes: powers of two, whole pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grain {
    /// For a fault that continues nothing: the aligned block of that size around it.
    pub least: u64,
    /// For one that continues a long walk.
    pub most: u64,
}

impl Default for Grain {
    /// From 64 KiB, where a fault's fixed cost and the copying are about even, to 1 MiB, which takes as long to copy as a
    /// few faults take: another vCPU's fault waits no longer than that.
    fn default() -> Self {
        Self { least: 64 << 10, most: 1 << 20 }
    }
}

impl Grain {
    /// Page by page.
    #[must_use]
    pub fn single() -> Self {
        Self { least: 4096, most: 4096 }
    }
}

/// The walks of one guest.
#[derive(Debug)]
pub(crate) struct Walks {
    grain: Grain,
    /// The most recent first.
    walks: Vec<Walk>,
}

#[derive(Clone, Copy, Debug)]
struct Walk {
    /// Where it is met again.
    next: u64,
    /// How much it was given last.
    given: u64,
}

impl Walks {
    pub(crate) fn new(grain: Grain) -> Self {
        Self { grain, walks: Vec::with_capacity(WALKS + 1) }
    }

    /// Whether only a long walk is given so much.
    pub(crate) fn is_long(&self, window: &Range<u64>) -> bool {
        let given = window.end - window.start;
        given >= LONG && given > self.grain.least
    }

    /// The walk that was met last has got everything up to `end`, rather than what [`Self::window`] said.
    pub(crate) fn given_to(&mut self, end: u64) {
        if let Some(walk) = self.walks.first_mut() {
            walk.next = end;
        }
    }

    /// What to deliver for a fault at `address`, which lies in it.
    pub(crate) fn window(&mut self, address: u64) -> Range<u64> {
        let Grain { least, most } = self.grain;
        // The guest may have had a few pages beyond what it was given: a walk is met within its next block.
        let met = self.walks.iter().position(|walk| (walk.next..walk.next + least).contains(&address));
        let (start, given) = match met.map(|at| self.walks.remove(at)) {
            Some(walk) => (address, (walk.given * 2).min(most)),
            None => (address - address % least, least),
        };
        let end = (start + given).next_multiple_of(least);
        self.walks.insert(0, Walk { next: end, given });
        self.walks.truncate(WALKS);
        start..end
    }
}
