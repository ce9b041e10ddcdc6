//! Memory that devices read and write: rings and buffers, by their addresses.

use core::cell::UnsafeCell;

use crate::memory;

/// `N` bytes at a page boundary, zero at start. Only reached by volatile accesses.
#[repr(C, align(4096))]
pub struct Area<const N: usize>(UnsafeCell<[u8; N]>);

// SAFETY: nobody has a reference to the bytes; spark has one thread, and what devices do to them meets volatile accesses.
unsafe impl<const N: usize> Sync for Area<N> {}

impl<const N: usize> Area<N> {
    pub const fn new() -> Self {
        Self(UnsafeCell::new([0; N]))
    }

    /// The address of the first byte, virtual and guest-physical.
    pub fn address(&self) -> u64 {
        self.0.get().expose_provenance() as u64
    }
}

/// Writes an aligned word in an [`Area`], or in free memory.
pub fn put<T: memory::Word>(address: u64, value: T) {
    // SAFETY: the drivers call this for their areas and for buffers in free memory, where nothing of spark's own lives.
    unsafe { memory::write_volatile(address, value) }
}

/// Sets `bytes` bytes from `address`, a multiple of 8 both.
pub fn fill(address: u64, bytes: u64, word: u64) {
    for at in (address..address + bytes).step_by(8) {
        put(at, word);
    }
}
