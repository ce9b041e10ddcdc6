use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::super::{Grain, Place, Space};
use super::*;
use crate::source::{self, PageSource};
use crate::stats::Metrics;
use crate::sys::uffd;
use crate::testing::{Memory as Guest, Pattern};
use crate::trace;

const PAGE: usize = 4096;

/// A source of which nothing can be had at once. Reads of what lies at `slow` wait until that is allowed; some fail.
#[derive(Debug)]
struct Slow {
    pattern: Pattern,
    slow: u64,
    may_go: AtomicBool,
    reads: AtomicUsize,
    /// What ends with an error: reads of more than a page, and every read of these pages.
    fails_together: bool,
    lost: Mutex<Vec<u64>>,
}

impl Slow {
    fn new(guest: &Guest) -> Self {
        let pattern = Pattern { len: guest.mapping(0).len, zero: 0, fails_from: u64::MAX };
        let (may_go, reads, lost) = (AtomicBool::new(false), AtomicUsize::new(0), Mutex::default());
        Self { pattern, slow: u64::MAX, may_go, reads, fails_together: false, lost }
    }
}

impl PageSource for Slow {
    fn len(&self) -> u64 {
        self.pattern.len
    }

    fn zeros(&self, _: u64) -> u64 {
        0
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), source::Error> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        let read = offset..offset + buffer.len() as u64;
        while read.contains(&self.slow) && !self.may_go.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(1));
        }
        let is_lost = self.lost.lock().unwrap().iter().any(|lost| read.contains(lost));
        if is_lost || (self.fails_together && buffer.len() > PAGE) {
            let what = "the test".to_owned();
            return Err(source::Error::Damaged { what, offset, how: "it is slow".to_owned() });
        }
        self.pattern.read(offset, buffer)
    }
}

fn deliverer(guest: &Guest, source: &Arc<Slow>, grain: Grain) -> Deliverer {
    let memory = uffd::Memory::new(guest.uffd().try_clone_to_owned().unwrap()).unwrap();
    let place = Place { memory, space: Space::new(&[guest.mapping(0)]), protect: false };
    let stats = Metrics::new().unwrap().of_session("test", "image");
    let mut deliverer = Deliverer::new(place, Arc::clone(source) as Arc<dyn PageSource>, grain, stats, None);
    deliverer.read_beside();
    deliverer
}

/// The first page of the first whole window: windows are aligned by address.
fn block(guest: &Guest) -> usize {
    let address = guest.mapping(0).address;
    (address.next_multiple_of(64 << 10) - address) as usize / PAGE
}

/// Serves until `done` says so.
fn serve_until(deliverer: &mut Deliverer, mut done: impl FnMut(&Deliverer) -> bool) -> Result<(), Ended> {
    let start = Instant::now();
    while !done(deliverer) {
        assert!(start.elapsed() < Duration::from_secs(20));
        if deliverer.look()? {
            deliverer.answer()?;
        }
        thread::yield_now();
    }
    Ok(())
}

#[test]
fn a_read_that_does_not_come_keeps_no_other_fault_waiting() {
    let guest = Guest::new(1 << 20, PAGE).unwrap();
    let first = block(&guest);
    let source = Arc::new(Slow { slow: (first * PAGE) as u64, ..Slow::new(&guest) });
    let mut deliverer = deliverer(&guest, &source, Grain::default());
    thread::scope(|scope| {
        let stuck = scope.spawn(|| guest.byte(first * PAGE));
        serve_until(&mut deliverer, |deliverer| deliverer.under_way() == 1).unwrap();
        let others = scope.spawn(|| [64, 128].map(|page| guest.byte((first + page) * PAGE)));
        serve_until(&mut deliverer, |_| others.is_finished()).unwrap();
        assert_eq!(others.join().unwrap(), [64, 128].map(|page| (first + page + 1) as u8));
        assert!(!stuck.is_finished() && deliverer.under_way() == 1);
        // Of the same window: it waits for the same read.
        let also = scope.spawn(|| guest.byte((first + 5) * PAGE));
        serve_until(&mut deliverer, |deliverer| deliverer.stats().faults.get() == 4).unwrap();
        assert_eq!((deliverer.under_way(), source.reads.load(Ordering::SeqCst)), (1, 3));
        source.may_go.store(true, Ordering::SeqCst);
        serve_until(&mut deliverer, |_| stuck.is_finished() && also.is_finished()).unwrap();
        assert_eq!([stuck.join().unwrap(), also.join().unwrap()], [first as u8 + 1, first as u8 + 6]);
    });
    assert_eq!(deliverer.stats().latency.count(), 4);
    assert_eq!(deliverer.stats().demanded.get(), 3 * (64 << 10));
}

#[test]
fn what_is_given_back_while_it_is_read_is_zero() {
    let guest = Guest::new(1 << 20, PAGE).unwrap();
    let first = block(&guest);
    let source = Arc::new(Slow { slow: (first * PAGE) as u64, ..Slow::new(&guest) });
    let mut deliverer = deliverer(&guest, &source, Grain::default());
    thread::scope(|scope| {
        let stuck = scope.spawn(|| guest.byte(first * PAGE));
        serve_until(&mut deliverer, |deliverer| deliverer.under_way() == 1).unwrap();
        let gives = scope.spawn(|| guest.give_back((first + 4) * PAGE, PAGE).unwrap());
        serve_until(&mut deliverer, |_| gives.is_finished()).unwrap();
        source.may_go.store(true, Ordering::SeqCst);
        serve_until(&mut deliverer, |_| stuck.is_finished()).unwrap();
        let after = scope.spawn(|| [3, 4, 5].map(|page| guest.byte((first + page) * PAGE)));
        serve_until(&mut deliverer, |_| after.is_finished()).unwrap();
        assert_eq!(after.join().unwrap(), [first as u8 + 4, 0, first as u8 + 6]);
    });
}

/// What is around it is not worth a guest's life.
#[test]
fn a_page_is_read_by_itself_if_its_neighbours_cannot_be_had() {
    let guest = Guest::new(1 << 20, PAGE).unwrap();
    let source = Arc::new(Slow { fails_together: true, ..Slow::new(&guest) });
    let mut deliverer = deliverer(&guest, &source, Grain::default());
    thread::scope(|scope| {
        let waits = scope.spawn(|| guest.byte(7 * PAGE));
        serve_until(&mut deliverer, |_| waits.is_finished()).unwrap();
        assert_eq!(waits.join().unwrap(), 8);
        source.lost.lock().unwrap().push(9 * PAGE as u64);
        let lost = scope.spawn(|| guest.populate(9 * PAGE, PAGE));
        match serve_until(&mut deliverer, |_| lost.is_finished()) {
            Err(Ended::Source { offset, .. }) => assert_eq!(offset, 9 * PAGE as u64),
            other => panic!("{other:?}"),
        }
        guest.release();
        lost.join().unwrap().unwrap();
    });
}

#[test]
fn what_comes_ahead_is_read_beside_and_a_fault_joins_it() {
    let guest = Guest::new(1 << 20, PAGE).unwrap();
    let source = Arc::new(Slow { slow: 0, ..Slow::new(&guest) });
    let mut deliverer = deliverer(&guest, &source, Grain::default());
    assert_eq!(deliverer.ahead(0, 128 << 10, trace::Cause::Prefetch).unwrap(), 128 << 10);
    assert_eq!(deliverer.under_way(), 1);
    thread::scope(|scope| {
        let joins = scope.spawn(|| guest.byte(20 * PAGE));
        serve_until(&mut deliverer, |deliverer| deliverer.stats().faults.get() == 1).unwrap();
        assert_eq!(deliverer.under_way(), 1);
        source.may_go.store(true, Ordering::SeqCst);
        serve_until(&mut deliverer, |_| joins.is_finished()).unwrap();
        assert_eq!(joins.join().unwrap(), 21);
    });
    // When the server is to end, nothing is handed over any more.
    let reads = source.reads.load(Ordering::SeqCst);
    assert_eq!(deliverer.ahead(0, 1 << 20, trace::Cause::Drain).unwrap(), 896 << 10);
    assert!(deliverer.under_way() == 0 && source.reads.load(Ordering::SeqCst) > reads);
}
