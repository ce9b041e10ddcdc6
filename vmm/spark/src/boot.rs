//! What the boot loader says: the memory map and the command line. Read once, from the zero page.
//!
//! Offsets are those of `Documentation/arch/x86/zero-page.rst` and `struct setup_header` in the Linux kernel.

use core::ops::Range;

use crate::memory;
use crate::text;

const E820_ENTRIES: u64 = 0x1e8;
const E820_TABLE: u64 = 0x2d0;
const E820_ENTRY_BYTES: u64 = 20;
const E820_MAX: u64 = 128;
const E820_RAM: u32 = 1;
const CMD_LINE_PTR: u64 = 0x228;

/// The longest command line looked at, in bytes; Linux itself stops at 2048.
const LONGEST_COMMAND_LINE: u64 = 4096;

/// Below it lie boot data and legacy holes, and spark leaves them alone.
const LOW_MEMORY: u64 = 1 << 20;
/// Where no RAM is looked for: the devices below 4 GiB.
const DEVICES: Range<u64> = 3 << 30..4 << 30;
/// What one PDPT maps.
const MAPPABLE: u64 = 512 << 30;

/// The RAM above 1 MiB, as at most `MAX` ranges of whole pages.
#[derive(Default)]
pub struct Ram {
    ranges: [Range<u64>; Ram::MAX],
}

impl Ram {
    const MAX: usize = 8;

    /// All RAM in bytes, the first MiB counted in full.
    pub fn total(&self) -> u64 {
        self.ranges().map(|range| range.end - range.start).sum::<u64>() + LOW_MEMORY
    }

    /// The ranges, none of them empty.
    pub fn ranges(&self) -> impl Iterator<Item = &Range<u64>> {
        self.ranges.iter().filter(|range| !range.is_empty())
    }

    /// What is left of it from `address` up.
    pub fn from(mut self, address: u64) -> Self {
        for range in &mut self.ranges {
            range.start = range.start.max(address);
        }
        self
    }
}

/// The RAM of the e820 table. A table that is out of order is taken as it is; ranges past the eighth are left unused.
pub fn ram(boot_params: u64) -> Ram {
    let mut ram = Ram::default();
    let mut places = ram.ranges.iter_mut();
    let entries = (memory::read::<u8>(boot_params + E820_ENTRIES) as u64).min(E820_MAX);
    for entry in (0..entries).map(|i| boot_params + E820_TABLE + i * E820_ENTRY_BYTES) {
        let base = memory::read::<u64>(entry);
        let end = base.saturating_add(memory::read::<u64>(entry + 8));
        if memory::read::<u32>(entry + 16) != E820_RAM {
            continue;
        }
        for limits in [LOW_MEMORY..DEVICES.start, DEVICES.end..MAPPABLE] {
            // Not `clamp`: its assertion would draw core's formatting in, 1 KiB.
            let start = base.min(limits.end).max(limits.start).next_multiple_of(memory::PAGE);
            let end = end.min(limits.end) / memory::PAGE * memory::PAGE;
            if start < end
                && let Some(place) = places.next()
            {
                *place = start..end;
            }
        }
    }
    ram
}

/// What the command line may ask for.
pub struct Options {
    /// Bytes to fill before saying that spark is ready.
    pub fill: u64,
    /// The pattern's seed.
    pub seed: u64,
}

/// The options on the command line: `spark.fill=SIZE` and `spark.seed=N`. A value that cannot be read is passed over.
pub fn options(boot_params: u64) -> Options {
    let mut options = Options { fill: 8 << 20, seed: 1 };
    let start = memory::read::<u32>(boot_params + CMD_LINE_PTR) as u64;
    let bytes = (start..start + LONGEST_COMMAND_LINE).map(memory::read::<u8>).take_while(|&byte| byte != 0);
    let mut word = [0; 64];
    let mut len = 0;
    // The space after the last byte ends the last word.
    for byte in bytes.chain([b' ']) {
        if byte != b' ' {
            if let Some(place) = word.get_mut(len) {
                *place = byte;
            }
            len += 1;
            continue;
        }
        // A word too long for the buffer is not one of ours.
        if let Some(word) = word.get(..len) {
            option(word, &mut options);
        }
        len = 0;
    }
    options
}

fn option(word: &[u8], options: &mut Options) {
    if let Some(fill) = word.strip_prefix(b"spark.fill=").and_then(text::size) {
        options.fill = fill;
    }
    if let Some(seed) = word.strip_prefix(b"spark.seed=").and_then(text::number) {
        options.seed = seed;
    }
}
