//! Work whose result is known: checksums over page cache and over anonymous memory that keeps being moved, on every CPU.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::thread;

use crate::{cpus, pin, say};

const MIB: usize = 1 << 20;
/// What each CPU keeps of its own.
const OWN: usize = 8 * MIB;

/// Writes so many MiB of numbers that no two pages have in common.
pub(crate) fn fill(mib: usize) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let mut next = Numbers(0x9e37_79b9_7f4a_7c15);
    let mut chunk = vec![0; MIB];
    for _ in 0..mib {
        next.write(&mut chunk);
        out.write_all(&chunk)?;
    }
    out.flush()
}

/// For ever, on every CPU: the file's sum must stay what it was; memory that is rewritten with new numbers each round
/// must read back as they say. A line for every round of every CPU.
pub(crate) fn load(path: &str) -> io::Result<()> {
    let expected = sum(&std::fs::read(path)?);
    let workers: Vec<_> = (0..cpus())
        .map(|cpu| {
            let path = path.to_owned();
            thread::spawn(move || -> io::Result<()> {
                pin(cpu)?;
                let mut memory = vec![0; OWN];
                for round in 1_u64.. {
                    let seed = (round << 8) | (cpu as u64 + 1);
                    Numbers(seed).write(&mut memory);
                    let file_is_right = sum_of_file(&path)? == expected;
                    let memory_is_right = Numbers(seed).matches(&memory);
                    let verdict = if file_is_right && memory_is_right { "right" } else { "WRONG" };
                    say(&format!("load cpu{cpu} round={round} {verdict}"))?;
                }
                Ok(())
            })
        })
        .collect();
    for worker in workers {
        worker.join().map_err(|_| io::Error::other("a worker died"))??;
    }
    Ok(())
}

fn sum_of_file(path: &str) -> io::Result<u64> {
    let mut file = File::open(path)?;
    let mut chunk = vec![0; MIB];
    let mut state = SEED;
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(state),
            read => state = sum_on(state, &chunk[..read]),
        }
    }
}

const SEED: u64 = 0xcbf2_9ce4_8422_2325;

fn sum(bytes: &[u8]) -> u64 {
    sum_on(SEED, bytes)
}

/// Like FNV, by words: order matters and it is quick in an emulator. The length is a multiple of eight.
fn sum_on(state: u64, bytes: &[u8]) -> u64 {
    let words = bytes.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word));
    words.fold(state, |state, word| (state ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23))
}

/// Marsaglia's xorshift.
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn write(&mut self, to: &mut [u8]) {
        to.as_chunks_mut().0.iter_mut().for_each(|word| *word = self.next().to_le_bytes());
    }

    pub(crate) fn matches(&mut self, bytes: &[u8]) -> bool {
        bytes.as_chunks().0.iter().all(|word| u64::from_le_bytes(*word) == self.next())
    }
}
