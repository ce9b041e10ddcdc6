use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::*;

/// Sixteen, where four locks had let four.
#[test]
fn any_number_of_chunks_are_read_at_once() {
    let (turns, all) = (Turns::default(), Barrier::new(16));
    thread::scope(|scope| {
        for chunk in 0..16 {
            let (turns, all) = (&turns, &all);
            scope.spawn(move || {
                let _turn = turns.take(chunk);
                all.wait();
            });
        }
    });
    assert!(turns.lock().taken.is_empty());
    assert!(turns.lock().buffers.len() <= KEPT);
}

#[test]
fn a_chunk_is_read_by_one_at_a_time_even_after_a_panic() {
    let (turns, inside) = (Turns::default(), AtomicUsize::new(0));
    thread::scope(|scope| {
        let panics = scope.spawn(|| {
            let _turn = turns.take(3);
            panic!("the test wants it so");
        });
        assert!(panics.join().is_err());
        for _ in 0..8 {
            scope.spawn(|| {
                let mut turn = turns.take(3);
                assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                turn.resize(4096, 1);
                thread::yield_now();
                inside.fetch_sub(1, Ordering::SeqCst);
            });
        }
    });
}
