//! Values that live in the vector registers, and nowhere else, while spark sleeps for its next command.
//!
//! A command runs compiled code, which uses the registers for itself. So the values are loaded when the console goes to
//! sleep, wiped from memory, and stored back when a byte has come. No handler at CPL 0 touches a vector register: a
//! snapshot taken while spark is idle has to carry them.

use core::arch::global_asm;

use crate::pattern::splitmix64;
use crate::trap::{self, Event};

global_asm!(include_str!("simd.s"));

unsafe extern "C" {
    fn simd_wait_xmm(image: *mut Image, event: *const Event);
    fn simd_wait_ymm(image: *mut Image, event: *const Event);
}

const WORDS: usize = 64;

/// Sixteen registers of up to 32 bytes each; of an XMM register the second 16 bytes are not used.
#[repr(C, align(32))]
struct Image([u64; WORDS]);

/// The registers' content.
pub struct Vectors {
    /// What they were loaded from; `None` when nothing is kept in them.
    seed: Option<u64>,
    wide: bool,
    image: Image,
}

impl Default for Vectors {
    fn default() -> Self {
        Self { seed: None, wide: false, image: Image([0; WORDS]) }
    }
}

impl Vectors {
    /// From now on the registers hold values made from `seed` whenever spark sleeps.
    pub fn load(&mut self, seed: u64) {
        self.seed = Some(seed);
        self.wide = trap::has_avx();
        for (index, word) in self.image.0.iter_mut().enumerate() {
            *word = expected(seed, index);
        }
    }

    /// `ymm` or `xmm`: what the values are kept in.
    pub fn kind(&self) -> &'static str {
        if self.wide { "ymm" } else { "xmm" }
    }

    /// Whether the registers came back as they were: the seed, or the number of the first register that did not.
    pub fn check(&self) -> Result<Result<u64, u64>, &'static str> {
        let seed = self.seed.ok_or("no values loaded")?;
        let used = |index: usize| self.wide || index % 4 < 2;
        let wrong =
            (0..).zip(&self.image.0).find(|&(index, &word)| used(index) && word != expected(seed, index));
        Ok(match wrong {
            Some((index, _)) => Err(index as u64 / 4),
            None => Ok(seed),
        })
    }

    /// Sleeps as [`Event::wait`] does, with the values in the registers.
    pub fn wait(&mut self, event: &Event) {
        let wait = match (self.seed, self.wide) {
            (None, _) => return event.wait(),
            (Some(_), false) => simd_wait_xmm,
            (Some(_), true) => simd_wait_ymm,
        };
        // SAFETY: both read and write the image, which is aligned, read the event, and keep to the C calling
        // convention, under which every vector register is the callee's to change. AVX is on if `wide`.
        unsafe { wait(&mut self.image, event) }
    }
}

fn expected(seed: u64, index: usize) -> u64 {
    splitmix64(seed ^ splitmix64(index as u64))
}
