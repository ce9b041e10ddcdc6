//! Which stretches of an image's memory are zero, as its source knows without reading them: what a VMM that does not have the
//! memory is told, so that it need not ask for them.

#[cfg(test)]
#[path = "zeros_test.rs"]
mod zeros_test;

use std::cmp::Reverse;
use std::time::{Duration, Instant};

use snapshot_format::handoff::MAX_ZEROS;
use snapshot_format::pages::CHUNK_BYTES;

use crate::source::PageSource;

/// How long to look. What is not found by then is delivered. A file system tells of a chunk in some microseconds.
const LOOKING: Duration = Duration::from_millis(200);

/// The longest stretches of whole chunks (the last one of the file may be shorter) that are zero, the longest first: offset
/// and length. A chunk whose sum is not 0 is not looked at; the sum alone proves nothing.
pub(super) fn find(source: &dyn PageSource, chunk_sums: &[u64]) -> Vec<[u64; 2]> {
    let (len, start) = (source.len(), Instant::now());
    let mut found: Vec<[u64; 2]> = Vec::new();
    let mut at = 0;
    while at < len && start.elapsed() < LOOKING {
        let chunk = at / CHUNK_BYTES;
        let next = chunk.saturating_add(1).saturating_mul(CHUNK_BYTES).min(len);
        let is_zero = chunk_sums.get(chunk as usize) == Some(&0) && source.zeros(at) >= next - at;
        if is_zero {
            match found.last_mut() {
                Some([offset, bytes]) if *offset + *bytes == at => *bytes = next - *offset,
                _ => found.push([at, next - at]),
            }
        }
        at = next;
    }
    found.sort_by_key(|[_, bytes]| Reverse(*bytes));
    found.truncate(MAX_ZEROS);
    found
}
