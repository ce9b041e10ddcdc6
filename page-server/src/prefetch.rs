//! What is delivered ahead of the guest, in which order, and in steps so small that a fault waits for none of them
//! long.

#[cfg(test)]
#[path = "prefetch_test.rs"]
mod prefetch_test;

use std::collections::VecDeque;

/// The most that one step delivers: 128 KiB take about as long to copy as a sleeping thread takes to wake.
const STEP: u64 = 128 << 10;

/// A huge page, which costs less to place than those few would.
const HUGE: u64 = 2 << 20;

/// Bytes of the memory file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) offset: u64,
    pub(crate) len: u64,
}

/// What is still to be delivered ahead.
#[derive(Clone, Debug, Default)]
pub(crate) struct Queue {
    left: VecDeque<Step>,
    huge: bool,
}

impl Queue {
    /// These bytes, in this order.
    pub(crate) fn new(wanted: impl IntoIterator<Item = Step>) -> Self {
        Self { left: wanted.into_iter().filter(|step| step.len > 0).collect(), huge: false }
    }

    /// From now on every whole huge page that is wanted is one step.
    pub(crate) fn prefer_huge_pages(&mut self) {
        self.huge = true;
    }

    /// The next few.
    pub(crate) fn next(&mut self) -> Option<Step> {
        let first = self.left.front_mut()?;
        let most = match first.offset % HUGE {
            0 if self.huge && first.len >= HUGE => HUGE,
            // Up to where the next one begins.
            past if self.huge => STEP.min(HUGE - past),
            _ => STEP,
        };
        let step = Step { len: first.len.min(most), ..*first };
        first.offset += step.len;
        first.len -= step.len;
        if first.len == 0 {
            self.left.pop_front();
        }
        Some(step)
    }

    /// All that is wanted yet.
    pub(crate) fn left(&self) -> impl Iterator<Item = Step> {
        self.left.iter().copied()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.left.is_empty()
    }
}
