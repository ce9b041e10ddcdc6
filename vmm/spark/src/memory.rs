//! Free memory: filling it with the pattern, verifying it, touching it.
//!
//! An *offset* counts the bytes of free memory in the order of their addresses, the holes left out.

use core::ops::Range;

use crate::boot::Ram;
use crate::pattern;

/// Bytes of a page.
pub const PAGE: u64 = 4096;
const WORD_BYTES: usize = 8;

/// What is read and written: all bytes make a valid value.
pub trait Word: Copy {}
impl Word for u8 {}
impl Word for u16 {}
impl Word for u32 {}
impl Word for u64 {}

/// Reads guest memory at `address`, aligned or not. The address must be mapped; a wrong one is a reported fault.
pub fn read<T: Word>(address: u64) -> T {
    // SAFETY: a page that is not mapped faults, and the fault is reported; for a `Word` all bytes will do.
    unsafe { core::ptr::with_exposed_provenance::<T>(address as usize).read_unaligned() }
}

/// Reads an aligned word that a device, the host or a snapshot may have changed.
pub fn read_volatile<T: Word>(address: u64) -> T {
    // SAFETY: as in `read`.
    unsafe { core::ptr::with_exposed_provenance::<T>(address as usize).read_volatile() }
}

/// Writes an aligned word.
///
/// # Safety
/// Nothing of spark's own may live there.
pub unsafe fn write_volatile<T: Word>(address: u64, value: T) {
    // SAFETY: the caller's promise; a page that is not mapped faults, and the fault is reported.
    unsafe { core::ptr::with_exposed_provenance_mut::<T>(address as usize).write_volatile(value) }
}

/// A word that is not what the pattern says.
pub struct Mismatch {
    pub address: u64,
    pub expected: u64,
    pub found: u64,
}

/// All memory that is not spark's own, and what was filled of it.
pub struct Memory {
    free: Ram,
    total: u64,
    /// The offsets of the fill.
    filled: Range<u64>,
    seed: u64,
}

impl Memory {
    /// The memory of `ram` from `start` up is free, and mapped.
    pub fn new(start: u64, ram: Ram) -> Self {
        Self { total: ram.total(), free: ram.from(start), filled: 0..0, seed: 0 }
    }

    /// Bytes of RAM, free or not.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// First and last address of free memory; a hole may lie between them.
    pub fn bounds(&self) -> Range<u64> {
        let start = self.free.ranges().map(|range| range.start).min().unwrap_or(0);
        let end = self.free.ranges().map(|range| range.end).max().unwrap_or(0);
        start..end
    }

    /// Bytes filled.
    pub fn filled(&self) -> u64 {
        self.filled.end - self.filled.start
    }

    /// The last fill's seed.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The address ranges of `offsets`, or why there are none.
    fn area(&self, offsets: Range<u64>) -> Result<impl Iterator<Item = Range<u64>>, &'static str> {
        let free: u64 = self.free.ranges().map(|range| range.end - range.start).sum();
        if offsets.end > free {
            return Err("not that much free memory");
        }
        Ok(self.free.ranges().scan(0, move |passed, range| {
            let len = range.end - range.start;
            let from = offsets.start.saturating_sub(*passed).min(len);
            let to = offsets.end.saturating_sub(*passed).min(len);
            *passed += len;
            Some(range.start + from..range.start + to)
        }))
    }

    /// Fills `size` bytes from the offset `skip`, both rounded up to whole pages, with the pattern of `seed`.
    pub fn fill(&mut self, size: u64, seed: u64, skip: u64) -> Result<(), &'static str> {
        const OUT_OF_RANGE: &str = "size out of range";
        let start = skip.checked_next_multiple_of(PAGE).ok_or(OUT_OF_RANGE)?;
        let size = size.checked_next_multiple_of(PAGE).ok_or(OUT_OF_RANGE)?;
        let offsets = start..start.checked_add(size).ok_or(OUT_OF_RANGE)?;
        for range in self.area(offsets.clone())? {
            for address in range.step_by(WORD_BYTES) {
                // SAFETY: free memory holds nothing of spark's own.
                unsafe { write_volatile(address, pattern::word(seed, address)) };
            }
        }
        (self.filled, self.seed) = (offsets, seed);
        Ok(())
    }

    /// Zeroes `size` bytes from offset 0, rounded up to whole pages, and forgets the fill. Returns the size.
    pub fn zero(&mut self, size: u64) -> Result<u64, &'static str> {
        let size = size.checked_next_multiple_of(PAGE).ok_or("size out of range")?;
        for address in self.area(0..size)?.flat_map(|range| range.step_by(WORD_BYTES)) {
            // SAFETY: free memory holds nothing of spark's own.
            unsafe { write_volatile(address, 0u64) };
        }
        self.filled = 0..0;
        Ok(size)
    }

    /// Compares what was filled with the pattern, up to the first difference.
    pub fn verify(&self) -> Result<(), Mismatch> {
        let Ok(area) = self.area(self.filled.clone()) else { return Ok(()) };
        for address in area.flat_map(|range| range.step_by(WORD_BYTES)) {
            let (expected, found) = (pattern::word(self.seed, address), read_volatile(address));
            if expected != found {
                return Err(Mismatch { address, expected, found });
            }
        }
        Ok(())
    }

    /// Reads or writes the first word of each page of the first `size` bytes. What was filled stays as it is; pages
    /// past it are written with the same pattern. Returns the number of pages.
    pub fn touch(&self, size: u64, write: bool) -> Result<u64, &'static str> {
        let size = size.checked_next_multiple_of(PAGE).ok_or("size out of range")?;
        for address in self.area(0..size)?.flat_map(|range| range.step_by(PAGE as usize)) {
            if write {
                // SAFETY: free memory holds nothing of spark's own.
                unsafe { write_volatile(address, pattern::word(self.seed, address)) };
            } else {
                read_volatile::<u64>(address);
            }
        }
        Ok(size / PAGE)
    }
}
