use std::ops::Range;

use super::*;
use crate::source::Error;

/// Zeros in these chunks, and data elsewhere; one that lasts for ever in the direction of the end.
#[derive(Debug)]
struct Holes {
    len: u64,
    chunks: Vec<Range<u64>>,
}

impl PageSource for Holes {
    fn len(&self) -> u64 {
        self.len
    }

    fn zeros(&self, offset: u64) -> u64 {
        let within = self.chunks.iter().find(|hole| hole.contains(&(offset / CHUNK_BYTES)));
        within.map_or(0, |hole| (hole.end * CHUNK_BYTES).min(self.len) - offset)
    }

    fn read(&self, _: u64, _: &mut [u8]) -> Result<(), Error> {
        panic!("nothing is read")
    }
}

#[test]
fn the_longest_stretches_that_both_say_are_zero_come_first() {
    let len = 10 * CHUNK_BYTES - 4096;
    let source = Holes { len, chunks: vec![1..3, 4..10] };
    let mut sums = [0; 10];
    assert_eq!(
        find(&source, &sums),
        [[4 * CHUNK_BYTES, 6 * CHUNK_BYTES - 4096], [CHUNK_BYTES, 2 * CHUNK_BYTES]]
    );
    sums[5] = 1;
    let split = [
        [6 * CHUNK_BYTES, 4 * CHUNK_BYTES - 4096],
        [CHUNK_BYTES, 2 * CHUNK_BYTES],
        [4 * CHUNK_BYTES, CHUNK_BYTES],
    ];
    assert_eq!(find(&source, &sums), split);
    // A sum of 0 is no proof, nor is there a chunk without a sum.
    assert!(find(&Holes { len, chunks: Vec::new() }, &[0; 10]).is_empty());
    assert!(find(&source, &[]).is_empty());
}

#[test]
fn no_more_stretches_are_found_than_may_be_told() {
    let chunks: Vec<Range<u64>> = (0..2000).map(|i| 2 * i..2 * i + 1).collect();
    let source = Holes { len: 4000 * CHUNK_BYTES, chunks };
    assert_eq!(find(&source, &[0; 4000]).len(), MAX_ZEROS);
}
