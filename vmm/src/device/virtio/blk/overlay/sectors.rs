//! A set of sectors: which of them a layer answers for.
//!
//! What it takes grows with what was written and not with the disk: at most one bit for a sector of each 16 MiB that
//! were touched, so a guest cannot make it large without filling the host's disk much faster.

use std::collections::BTreeMap;
use std::ops::Range;

/// Sectors of a group: 16 MiB.
const GROUP: u64 = 1 << 15;
/// Words of a group's bits.
const WORDS: usize = (GROUP / 64) as usize;

/// The set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sectors {
    /// By number; one that is not there is empty.
    groups: BTreeMap<u64, Group>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Group {
    All,
    Some(Box<[u64; WORDS]>),
}

impl Sectors {
    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Adds every sector of `run`.
    pub(super) fn insert(&mut self, run: Range<u64>) {
        let mut at = run.start;
        while at < run.end {
            let number = at / GROUP;
            let end = run.end.min((number + 1) * GROUP);
            if end - at == GROUP {
                self.groups.insert(number, Group::All);
            } else {
                let group = self.groups.entry(number).or_insert_with(|| Group::Some(Box::new([0; WORDS])));
                group.insert(at % GROUP, end - at);
            }
            at = end;
        }
    }

    /// Whether the first sector of `range`, which is not empty, is a member, and up to where those behind it are as it
    /// is, within `range`.
    pub(super) fn run(&self, range: Range<u64>) -> (bool, u64) {
        let is_in = self.contains(range.start);
        let mut at = range.start;
        while at < range.end {
            let (number, within) = (at / GROUP, at % GROUP);
            let next = (number + 1) * GROUP;
            let change = match self.groups.get(&number) {
                None => is_in.then_some(at),
                Some(Group::All) => (!is_in).then_some(at),
                Some(Group::Some(bits)) => change(bits, within, is_in).map(|within| number * GROUP + within),
            };
            match change {
                Some(change) => return (is_in, change.min(range.end)),
                None => at = next,
            }
        }
        (is_in, range.end)
    }

    /// All members, as runs in order, with others in between.
    pub(super) fn runs(&self) -> Vec<Range<u64>> {
        let mut runs: Vec<Range<u64>> = Vec::new();
        for number in self.groups.keys() {
            let mut at = number * GROUP;
            let end = at + GROUP;
            while at < end {
                let (is_in, run_end) = self.run(at..end);
                match runs.last_mut() {
                    Some(last) if is_in && last.end == at => last.end = run_end,
                    _ if is_in => runs.push(at..run_end),
                    _ => {}
                }
                at = run_end;
            }
        }
        runs
    }

    fn contains(&self, sector: u64) -> bool {
        let within = sector % GROUP;
        match self.groups.get(&(sector / GROUP)) {
            None => false,
            Some(Group::All) => true,
            Some(Group::Some(bits)) => bits[(within / 64) as usize] >> (within % 64) & 1 != 0,
        }
    }
}

impl Group {
    fn insert(&mut self, from: u64, count: u64) {
        let Self::Some(bits) = self else { return };
        let (mut at, end) = (from, from + count);
        while at < end {
            let bit = at % 64;
            let here = (64 - bit).min(end - at);
            bits[(at / 64) as usize] |= (u64::MAX >> (64 - here)) << bit;
            at += here;
        }
        if bits.iter().all(|word| *word == u64::MAX) {
            *self = Self::All;
        }
    }
}

/// The first sector of a group, from `from` on, that is a member if `is_in` is not and the other way round.
fn change(bits: &[u64; WORDS], from: u64, is_in: bool) -> Option<u64> {
    let mut at = from;
    while at < GROUP {
        let word = bits[(at / 64) as usize];
        let differing = (if is_in { !word } else { word }) >> (at % 64);
        if differing != 0 {
            return Some(at + u64::from(differing.trailing_zeros()));
        }
        at += 64 - at % 64;
    }
    None
}
