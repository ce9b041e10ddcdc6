//! A console's limits against a clock of the test's own.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::console::Sink;
use super::limit::{ConsoleLimits, FULL, Limited};

#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl Sink for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn wait(&mut self, _timeout: Duration) -> io::Result<bool> {
        Ok(true)
    }
}

fn all(limited: &mut Limited, mut bytes: &[u8], now: Instant) {
    while !bytes.is_empty() {
        let taken = limited.write_at(bytes, now).unwrap();
        assert!(taken > 0, "it would be tried for ever");
        bytes = &bytes[taken..];
    }
}

#[test]
fn a_file_never_grows_beyond_its_size_and_says_that_it_is_full() {
    for size in [FULL.len() as u64, 100, 1000] {
        let memory = Memory::default();
        let limits = ConsoleLimits { size: Some(size), rate: None };
        let mut limited = Limited::new(Box::new(memory.clone()), limits);
        for _ in 0..500 {
            all(&mut limited, b"seven.\n", Instant::now());
        }
        let written = memory.0.lock().unwrap().clone();
        assert_eq!(written.len() as u64, size);
        assert!(written.ends_with(FULL), "{}", String::from_utf8_lossy(&written));
    }
}

#[test]
fn what_comes_too_fast_is_dropped_and_counted_where_it_is_missing() {
    let memory = Memory::default();
    let limits = ConsoleLimits { size: None, rate: Some(100) };
    let (mut limited, start) = (Limited::new(Box::new(memory.clone()), limits), Instant::now());
    // A second's worth at once, and the rest is lost.
    all(&mut limited, &[b'a'; 250], start);
    assert_eq!(*memory.0.lock().unwrap(), [b'a'; 100]);
    // Half a second is worth fifty.
    all(&mut limited, &[b'b'; 60], start + Duration::from_millis(500));
    all(&mut limited, &[b'c'; 10], start + Duration::from_secs(5));
    let said = String::from_utf8(memory.0.lock().unwrap().clone()).unwrap();
    let note = |bytes: u32| format!("\n[rekindle: {bytes} bytes of console output are dropped here]\n");
    let expected = "a".repeat(100) + &note(150) + &"b".repeat(50) + &note(10) + &"c".repeat(10);
    assert_eq!(said, expected);
}

#[test]
fn without_limits_nothing_is_lost() {
    let memory = Memory::default();
    let mut limited = Limited::new(Box::new(memory.clone()), ConsoleLimits::default());
    all(&mut limited, &[b'x'; 100_000], Instant::now());
    assert_eq!(memory.0.lock().unwrap().len(), 100_000);
}
