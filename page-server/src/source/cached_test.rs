//! What is fetched, how often, and what stays.

use std::sync::Barrier;

use super::super::mock::Mock;
use super::*;

const PAGES: u64 = BLOCK_BYTES / 4096;

fn cached(blocks: u64, capacity: u64) -> Cached<Arc<Mock>> {
    Cached::new(Arc::new(Mock::numbered(blocks * PAGES)), BlockCache::new(capacity * BLOCK_BYTES))
}

fn touch(source: &impl PageSource, block: u64) {
    let mut page = [0; 4096];
    source.read(block * BLOCK_BYTES + 4096, &mut page).unwrap();
    assert_eq!(page, [(block * PAGES + 1) as u8; 4096]);
}

#[test]
fn a_block_is_fetched_once_while_it_stays() {
    let source = cached(4, 2);
    for _ in 0..3 {
        touch(&source, 0);
    }
    assert_eq!(source.inner.reads(), 1);
    let mut all = vec![0; 4 * BLOCK_BYTES as usize];
    source.read(0, &mut all).unwrap();
    assert_eq!(all, source.inner.bytes);
    assert_eq!(source.inner.reads(), 4);
}

#[test]
fn the_block_that_was_not_used_for_longest_goes_first() {
    let source = cached(4, 2);
    for block in [0, 1, 0, 2, 0] {
        touch(&source, block);
    }
    assert_eq!(source.inner.reads(), 3, "0 was used, so 1 went");
    assert_eq!(source.cache.bytes(), 2 * BLOCK_BYTES);
    touch(&source, 1);
    assert_eq!(source.inner.reads(), 4);
}

#[test]
fn sources_share_the_bound_and_leave_nothing_behind() {
    let cache = BlockCache::new(3 * BLOCK_BYTES);
    let [first, second] =
        [4, 4].map(|blocks| Cached::new(Arc::new(Mock::numbered(blocks * PAGES)), Arc::clone(&cache)));
    for block in 0..4 {
        touch(&first, block);
        touch(&second, block);
    }
    assert_eq!(cache.bytes(), 3 * BLOCK_BYTES);
    assert_eq!((first.inner.reads(), second.inner.reads()), (4, 4), "each has blocks of its own");
    drop(second);
    assert_eq!(cache.bytes(), BLOCK_BYTES, "one was the first's");
    drop(first);
    assert_eq!(cache.bytes(), 0);
    assert!(cache.lock().slots.is_empty() && cache.lock().order.is_empty());
}

#[test]
fn of_many_that_miss_one_fetches() {
    let source = cached(1, 1);
    let barrier = Barrier::new(8);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                barrier.wait();
                touch(&source, 0);
            });
        }
    });
    assert_eq!(source.inner.reads(), 1);
}

#[test]
fn a_fetch_that_fails_or_panics_is_left_to_the_next() {
    let source = cached(1, 1);
    source.inner.failures.lock().unwrap().push(Mock::io_error());
    assert!(source.read(0, &mut [0; 4096]).is_err());
    let cache = Arc::clone(&source.cache);
    let panicked = std::thread::spawn(move || drop(cache.get((0, 0), || panic!("a broken source")))).join();
    assert!(panicked.is_err());
    touch(&source, 0);
}

#[test]
fn zeros_are_those_of_the_source_and_of_blocks_that_are_here() {
    let mut bytes = vec![0; BLOCK_BYTES as usize];
    bytes[2 * 4096] = 1;
    let source = Cached::new(Mock { bytes, ..Mock::default() }, BlockCache::new(BLOCK_BYTES));
    assert_eq!(source.zeros(0), 0);
    source.read(0, &mut [0; 4096]).unwrap();
    assert_eq!((source.zeros(0), source.zeros(4096), source.zeros(8192)), (8192, 4096, 0));
    assert_eq!(source.zeros(3 * 4096), BLOCK_BYTES - 3 * 4096);
}
