//! Random bytes in all lengths, several requests at a time: as many as were asked for, nowhere else, and never the same.

use super::{Dice, Exercise, dawdle};
use crate::memory::read_volatile;
use crate::text::Text;
use crate::virtio::Problem;
use crate::virtio::rng::{Drawn, MOST, Rng};

/// Shorter ones may be zeros, or alike, by chance.
const TELLING: u64 = 16;

pub struct Exerciser<'a> {
    rng: &'a mut Rng,
    dice: Dice,
    /// Bytes still to be asked for.
    left: u64,
    depth: usize,
    last: [u64; 2],
    bytes: u64,
    requests: u64,
}

impl<'a> Exerciser<'a> {
    /// `bytes` bytes, `depth` requests at a time.
    pub fn new(rng: &'a mut Rng, bytes: u64, seed: u64, depth: usize) -> Self {
        Self { rng, dice: Dice::new(seed), left: bytes, depth, last: [0; 2], bytes: 0, requests: 0 }
    }

    fn check(&mut self, drawn: &Drawn) -> Result<(), Problem> {
        let &Drawn { address, asked, given } = drawn;
        if given != asked {
            return Err("not as many random bytes as were asked for");
        }
        if (given..2 * MOST).any(|at| read_volatile::<u8>(address + at) != 0) {
            return Err("random bytes where none were asked for");
        }
        if given >= TELLING {
            let start = [read_volatile(address), read_volatile(address + 8)];
            if start == self.last || start == [0; 2] {
                return Err("random bytes that are not");
            }
            self.last = start;
            // The last bytes as well: 8 zeros come by chance once in 10^19 draws.
            if (given - 8..given).all(|at| read_volatile::<u8>(address + at) == 0) {
                return Err("random bytes that were not written");
            }
        }
        Ok(())
    }
}

impl Exercise for Exerciser<'_> {
    fn turn(&mut self, ending: bool) -> Result<bool, Problem> {
        let mut busy = false;
        while let Some(drawn) = self.rng.drawn()? {
            self.check(&drawn)?;
            self.bytes += drawn.given;
            self.requests += 1;
            busy = true;
        }
        while !ending && self.left > 0 && self.rng.outstanding() < self.depth {
            let bytes = (1 + self.dice.below(MOST)).min(self.left);
            if !self.rng.ask(bytes, self.dice.below(2) == 0) {
                break;
            }
            self.left -= bytes;
            busy = true;
        }
        if busy {
            dawdle(&mut self.dice);
        }
        self.rng.notify();
        if ending {
            self.left = 0;
        }
        Ok(busy)
    }

    fn is_over(&self) -> bool {
        self.left == 0 && self.rng.outstanding() == 0
    }

    fn report(&self, to: &mut Text) {
        to.str("rng ").dec(self.requests).str(" requests ").dec(self.bytes).str(" bytes");
    }
}
