//! What the watch asks for while no thread waits for a page, and while one does.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use super::lazy_test::{HIGH, MIB, byte, loss_of, page_at, served_by};
use super::*;
use crate::sys::page_stub::{self, Taken};
use crate::sys::ram::Access;

/// Three looks of the watch.
const LOOKS: Duration = Duration::from_millis(2500);

/// Delivers what is asked for, and counts it.
fn count(taken: &Taken, go: &AtomicBool, asked: &AtomicUsize) {
    while !go.load(Ordering::SeqCst) {
        if let Some(offset) = taken.fault(Duration::from_millis(5)) {
            asked.fetch_add(1, Ordering::SeqCst);
            taken.deliver(offset, &page_at(offset));
        }
    }
}

#[test]
fn an_idle_guest_is_given_no_page() {
    let asked = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&asked);
    let (_stub, memory) = served_by(Duration::from_secs(10), move |stream, go| {
        count(&page_stub::take(&stream), go, &seen);
    });
    thread::sleep(LOOKS);
    assert_eq!(asked.load(Ordering::SeqCst), 0, "pages that no thread has touched were asked for");
    assert_eq!(byte(&memory, HIGH), page_at(4 * MIB)[0]);
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

/// It is noticed by the first thread that waits, and not before.
#[test]
fn a_server_that_stops_while_the_guest_is_idle_is_found_out_by_the_first_fault() {
    let limit = Duration::from_millis(300);
    let (_stub, memory) = served_by(limit, |stream, go| {
        let _taken = page_stub::take(&stream);
        while !go.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(5));
        }
    });
    thread::sleep(LOOKS);
    assert!(memory.loss().unwrap().get().is_none());
    thread::scope(|scope| {
        let waits = scope.spawn(|| memory.region(1).unwrap().populate(&(0..4096), Access::Write));
        assert_eq!(loss_of(&memory, Duration::from_secs(5)).cause, Cause::Late(limit));
        assert!(waits.join().unwrap().is_err());
    });
}

/// What `rekindle-pages` delivers for a fault at least.
const BLOCK: u64 = 64 << 10;

/// A server gives a guest that walks forward more with each fault: up to 1 MiB for a page.
#[test]
fn the_pages_that_are_asked_for_are_no_walk() {
    let asked = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    // The last page of the second region.
    let withheld = 6 * MIB - 4096;
    let (stub, memory) = served_by(Duration::from_secs(10), move |stream, go| {
        let taken = page_stub::take(&stream);
        while !go.load(Ordering::SeqCst) {
            let Some(offset) = taken.fault(Duration::from_millis(5)) else { continue };
            if offset == withheld {
                continue;
            }
            seen.lock().unwrap().push(offset);
            // The aligned block of 64 KiB around it, as `rekindle-pages` does.
            let block = offset - offset % BLOCK;
            for page in (block..block + BLOCK).step_by(4096).filter(|page| *page != withheld) {
                taken.deliver(page, &page_at(page));
            }
        }
    });
    let last = 2 * MIB as usize - 4096..2 * MIB as usize;
    thread::scope(|scope| {
        let stuck = scope.spawn(|| memory.region(1).unwrap().populate(&last, Access::Read));
        thread::sleep(Duration::from_secs(4));
        let asked = asked.lock().unwrap().clone();
        // Its end is a loss, which lets the thread go.
        drop(stub);
        assert!(stuck.join().unwrap().is_err());
        assert!(asked.len() > 2, "a thread waits, and {} pages were asked for", asked.len());
        for pair in asked.windows(2) {
            let ahead = pair[0] - pair[0] % BLOCK + BLOCK;
            assert!(!(ahead..ahead + BLOCK).contains(&pair[1]), "{pair:x?} of {asked:x?}");
        }
    });
}
