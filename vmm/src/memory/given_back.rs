//! Memory that the guest does not need: taken from it, page by page, wherever it lies.

use std::io;
use std::ops::Range;
use std::sync::Once;

use vm_memory::{GuestMemoryBackend, GuestMemoryRegion};

use super::GuestRam;
use super::layout::{KERNEL_START, LOW_RAM_END, PAGE_SIZE};

/// Takes back the whole pages of `gpas` that are RAM of the guest's: they take no space on the host any more, and read
/// as zero when the guest uses them again. Gives back how many bytes that were.
///
/// What is no RAM is passed over, and so is what lies between [`LOW_RAM_END`] and [`KERNEL_START`], which is not the
/// guest's to give: tables and its identity.
///
/// # Errors
/// The host is short of memory. Some of the pages may have been taken.
pub fn give_back(ram: &GuestRam, gpas: Range<u64>) -> io::Result<u64> {
    let mut given = 0;
    for part in [gpas.start..gpas.end.min(LOW_RAM_END), gpas.start.max(KERNEL_START)..gpas.end] {
        let Some(start) = part.start.checked_next_multiple_of(PAGE_SIZE) else { continue };
        let pages = start..part.end - part.end % PAGE_SIZE;
        for region in ram.iter() {
            let (base, len) = (region.start_addr().0, region.len());
            let start = pages.start.max(base).saturating_sub(base);
            let end = pages.end.saturating_sub(base).min(len);
            if start >= end {
                continue;
            }
            if region.take_back(start as usize..end as usize)? {
                given += end - start;
            } else {
                warn_of_pieces();
            }
        }
    }
    Ok(given)
}

/// Once: a guest may try as often as it likes.
fn warn_of_pieces() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        tracing::warn!("the guest gives memory back in too many pieces: the host does not get it before all of the image \
            is here");
    });
}

#[cfg(test)]
#[path = "given_back_test.rs"]
mod given_back_test;
