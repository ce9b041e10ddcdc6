//! A thread on every CPU that reads the clock all the time: does it ever go back, from one CPU to another included,
//! do naps end, and does every CPU go on?

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use rustix::time::ClockId;

use crate::{cpus, nanoseconds, pin, say};

const NAP: Duration = Duration::from_millis(2);
const READINGS: usize = 32;

#[derive(Default)]
struct Seen {
    latest: AtomicI64,
    went_back: AtomicU64,
    furthest_back: AtomicI64,
}

/// For ever, with a line every half second: what went back, the longest nap in us since the last line, and the rounds
/// of each CPU.
pub(crate) fn run() -> io::Result<()> {
    let seen = Arc::new(Seen::default());
    let rounds: Arc<Vec<AtomicU64>> = Arc::new((0..cpus()).map(|_| AtomicU64::new(0)).collect());
    let longest = Arc::new(AtomicI64::new(0));
    for cpu in 0..cpus() {
        let (seen, rounds, longest) = (Arc::clone(&seen), Arc::clone(&rounds), Arc::clone(&longest));
        thread::spawn(move || -> io::Result<()> {
            pin(cpu)?;
            loop {
                let before = nanoseconds(ClockId::Monotonic);
                thread::sleep(NAP);
                longest.fetch_max(nanoseconds(ClockId::Monotonic) - before, Ordering::Relaxed);
                (0..READINGS).for_each(|_| seen.look());
                rounds[cpu].fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    loop {
        thread::sleep(Duration::from_millis(500));
        let mut line = format!("watch back={}", seen.went_back.load(Ordering::Relaxed));
        line.push_str(&format!(" furthest={}", seen.furthest_back.load(Ordering::Relaxed)));
        line.push_str(&format!(" longest={}", longest.swap(0, Ordering::Relaxed) / 1000));
        for (cpu, rounds) in rounds.iter().enumerate() {
            line.push_str(&format!(" cpu{cpu}={}", rounds.load(Ordering::Relaxed)));
        }
        say(&line)?;
    }
}

impl Seen {
    /// One reading, against the latest one of any CPU that was published before it.
    fn look(&self) {
        let latest = self.latest.load(Ordering::SeqCst);
        let now = nanoseconds(ClockId::Monotonic);
        if now < latest {
            self.went_back.fetch_add(1, Ordering::Relaxed);
            self.furthest_back.fetch_max(latest - now, Ordering::Relaxed);
        }
        self.latest.fetch_max(now, Ordering::SeqCst);
    }
}
