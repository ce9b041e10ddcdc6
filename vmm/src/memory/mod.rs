//! Guest memory: where it lies, what backs it, what of it was ever touched.
//!
//! An [`Image`] is immutable, shared and file-backed; a [`Memory`] is one VM's view, and nobody writes through it to
//! an image. Device models and the loader reach it through [`GuestRam`]'s bounds-checked volatile accesses.

mod given_back;
mod image;
pub mod layout;
pub mod lazy;
mod mapping;
mod prefetch;
pub mod touched;

pub use given_back::give_back;
pub use image::Image;
pub use mapping::{Memory, OwnPages, OwnRun};

use vm_memory::{Bytes, GuestAddress, GuestRegionCollection, MemoryRegionAddress};

use crate::sys::pagemap;
use crate::sys::ram::HUGE;
pub use crate::sys::ram::RamRegion;

/// The guest's physical memory as devices see it.
pub type GuestRam = GuestRegionCollection<RamRegion>;

/// Whether a byte of memory that was asked for in huge pages comes in one.
///
/// # Errors
/// There is no memory, or the kernel does not say what came.
pub fn can_have_huge_page() -> std::io::Result<bool> {
    let region = RamRegion::anonymous(GuestAddress(0), HUGE)?;
    region.ask_for_huge_pages(&(0..HUGE));
    region.write_obj(1_u8, MemoryRegionAddress(0)).map_err(std::io::Error::other)?;
    let own = pagemap::private_pages(region.host_address(), HUGE)?;
    Ok(own.data.iter().map(|pages| pages.len()).sum::<usize>() == HUGE)
}

/// Zeroed memory at these addresses, for tests of what is written to it.
#[cfg(test)]
pub(crate) fn ram_at(ranges: &[(GuestAddress, usize)]) -> GuestRam {
    let region = |&(base, len): &(_, usize)| RamRegion::anonymous(base, len).unwrap();
    GuestRam::from_regions(ranges.iter().map(region).collect()).unwrap()
}

/// Why guest memory could not be mapped or given to KVM.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The host has no room for the mapping.
    #[error("cannot reserve {bytes} bytes of address space for guest memory at {gpa:#x}")]
    Reserve {
        /// Guest-physical address of the region.
        gpa: u64,
        /// Its length.
        bytes: u64,
        /// What the kernel answered.
        #[source]
        source: std::io::Error,
    },
    /// The image's memory file could not be mapped.
    #[error("cannot map {bytes} bytes of the image's memory file for guest memory at {gpa:#x}")]
    Map {
        /// Guest-physical address of the region.
        gpa: u64,
        /// Its length.
        bytes: u64,
        /// What the kernel answered.
        #[source]
        source: std::io::Error,
    },
    /// Two regions overlap, or a region ends beyond the address space.
    #[error("the regions of guest memory do not fit together")]
    Regions(#[source] vm_memory::GuestRegionCollectionError),
    /// The page index of an image, or the placement of a new one, is not sound.
    #[error("the page index is not sound")]
    Index(#[source] snapshot_format::pages::Error),
    /// `KVM_SET_USER_MEMORY_REGION` failed.
    #[error("cannot give guest memory at {gpa:#x} to KVM")]
    Slot {
        /// Guest-physical address of the region.
        gpa: u64,
        /// What the kernel answered.
        #[source]
        source: std::io::Error,
    },
    /// The pages of an image cannot be delivered by a page server.
    #[error("cannot have guest memory delivered")]
    Lazy(#[source] lazy::Error),
    /// What the guest touches cannot be watched.
    #[error("cannot watch what the guest touches")]
    Touched(#[source] std::io::Error),
    /// `/proc/self/pagemap` could not be read.
    #[error("cannot tell which pages of guest memory are in use")]
    PageMap(#[source] std::io::Error),
}
