//! Random numbers drawn without pause on every CPU, so that a restored guest tells which of them its clones draw too.

use std::fs::File;
use std::io::{self, Read as _};
use std::thread;

use rustix::time::ClockId;

use crate::{cpus, nanoseconds, pin, say};

/// A pause between two numbers that is longer than any but the one between a snapshot and a restore.
const PAUSE_NS: i64 = 2_000_000_000;
/// How many numbers are kept from then on.
const KEPT: usize = 1 << 14;

/// For ever: draws, and after each long pause says what it drew then: each of the first eight numbers, and then every one
/// whose count is a power of two, with the time since the first.
pub(crate) fn run() -> io::Result<()> {
    let workers: Vec<_> = (0..cpus()).map(|cpu| thread::spawn(move || draw(cpu))).collect();
    say("numbers run")?;
    for worker in workers {
        worker.join().map_err(|_| io::Error::other("a worker died"))??;
    }
    Ok(())
}

fn draw(cpu: usize) -> io::Result<()> {
    pin(cpu)?;
    let mut random = File::open("/dev/urandom")?;
    let mut next = move || -> io::Result<u64> {
        let mut number = [0; 8];
        random.read_exact(&mut number)?;
        Ok(u64::from_le_bytes(number))
    };
    let mut last = nanoseconds(ClockId::Monotonic);
    loop {
        let number = next()?;
        let now = nanoseconds(ClockId::Monotonic);
        if now - last < PAUSE_NS {
            last = now;
            continue;
        }
        let mut drawn = vec![(0, number)];
        while drawn.len() <= KEPT {
            let number = next()?;
            drawn.push((nanoseconds(ClockId::Monotonic) - now, number));
        }
        for (at, (ns, number)) in drawn.iter().enumerate().filter(|(at, _)| *at < 8 || at.is_power_of_two()) {
            say(&format!("drawn cpu{cpu} {at} us={} {number:016x}", ns / 1000))?;
        }
        last = nanoseconds(ClockId::Monotonic);
    }
}
