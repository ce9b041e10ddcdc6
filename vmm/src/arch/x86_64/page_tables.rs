//! The page tables of the 64-bit boot protocol: the first 4 GiB mapped to themselves in 2 MiB pages, for
//! supervisor code only. A kernel replaces them as its first act.

use vm_memory::{Bytes, GuestAddress, GuestMemoryError};

use crate::memory::GuestRam;
use crate::memory::layout::{PAGE_SIZE, PAGE_TABLES, PAGE_TABLES_END};

#[cfg(test)]
#[path = "page_tables_test.rs"]
mod page_tables_test;

const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
/// In a page-directory entry: maps 2 MiB instead of naming a page table.
const LARGE: u64 = 1 << 7;

const ENTRIES: u64 = 512;
const LARGE_PAGE: u64 = 2 << 20;
/// One page directory for each GiB: all RAM below the hole, and the hole with the APICs.
const DIRECTORIES: u64 = 4;

/// What belongs in CR3: the address of the top-level table.
pub const CR3: u64 = PAGE_TABLES;
const POINTERS: u64 = PAGE_TABLES + PAGE_SIZE;
const FIRST_DIRECTORY: u64 = POINTERS + PAGE_SIZE;
const _: () = assert!(FIRST_DIRECTORY + DIRECTORIES * PAGE_SIZE == PAGE_TABLES_END);

/// Writes the tables at [`PAGE_TABLES`].
///
/// # Errors
/// Guest memory ends before them.
pub fn write(memory: &GuestRam) -> Result<(), GuestMemoryError> {
    // Accessed and dirty are set beforehand, so that no walk has to write to the tables.
    let table = PRESENT | WRITABLE | ACCESSED;
    write_table(memory, CR3, std::iter::once(POINTERS | table))?;
    write_table(memory, POINTERS, (0..DIRECTORIES).map(|i| (FIRST_DIRECTORY + i * PAGE_SIZE) | table))?;
    let pages = (0..DIRECTORIES * ENTRIES).map(|i| (i * LARGE_PAGE) | table | DIRTY | LARGE);
    write_table(memory, FIRST_DIRECTORY, pages)
}

fn write_table(
    memory: &GuestRam,
    at: u64,
    entries: impl Iterator<Item = u64>,
) -> Result<(), GuestMemoryError> {
    let bytes: Vec<u8> = entries.flat_map(u64::to_le_bytes).collect();
    memory.write_slice(&bytes, GuestAddress(at))
}
