//! Which parts of a mapping were replaced with emptiness. Plain arithmetic.

use std::collections::BTreeMap;
use std::ops::Range;

/// The most that there may be. Each splits a mapping in two, and a process may have 65530 (`vm.max_map_count`).
const MOST: usize = 8192;

/// Byte ranges that neither overlap nor touch.
#[derive(Debug, Default)]
pub(crate) struct Holes {
    /// End by start.
    ranges: BTreeMap<usize, usize>,
}

impl Holes {
    /// Whether there is room for one more.
    pub(crate) fn has_room(&self) -> bool {
        self.ranges.len() < MOST
    }

    /// Whether all of `range` is in holes.
    pub(crate) fn cover(&self, range: &Range<usize>) -> bool {
        self.ranges.range(..=range.start).next_back().is_some_and(|(_, end)| *end >= range.end)
    }

    /// Where the hole ends that `at` is in, if it is in one.
    pub(crate) fn end_of(&self, at: usize) -> Option<usize> {
        self.ranges.range(..=at).next_back().map(|(_, end)| *end).filter(|end| at < *end)
    }

    /// Where the next hole begins after `at`.
    pub(crate) fn next_after(&self, at: usize) -> Option<usize> {
        self.ranges.range(at + 1..).next().map(|(start, _)| *start)
    }

    /// What of `range` is in no hole, in order.
    pub(crate) fn outside(&self, range: &Range<usize>) -> Vec<Range<usize>> {
        let (mut at, mut outside) = (range.start, Vec::new());
        while at < range.end {
            match self.end_of(at) {
                Some(end) => at = end,
                None => {
                    let end = self.next_after(at).unwrap_or(range.end).min(range.end);
                    outside.push(at..end);
                    at = end;
                }
            }
        }
        outside
    }

    /// Adds a range that is not empty.
    pub(crate) fn insert(&mut self, range: Range<usize>) {
        let Range { mut start, mut end } = range;
        // From behind, so that only those that overlap or touch are looked at.
        while let Some((&at, &until)) = self.ranges.range(..=end).next_back() {
            if until < start {
                break;
            }
            (start, end) = (start.min(at), end.max(until));
            self.ranges.remove(&at);
        }
        self.ranges.insert(start, end);
    }

    /// All of them, in order.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        self.ranges.iter().map(|(start, end)| *start..*end)
    }
}

#[cfg(test)]
#[path = "holes_test.rs"]
mod holes_test;
