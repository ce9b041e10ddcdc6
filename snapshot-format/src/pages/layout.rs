//! Addresses, offsets and counts that were checked when they were made.

use super::{Error, MAX_GUEST_ADDRESS, MAX_MEMORY_BYTES, PAGE_BYTES};

/// A page-aligned guest-physical address, at most 2^52.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Gpa(u64);

impl Gpa {
    /// Refuses what is unaligned or above 2^52.
    pub fn new(address: u64) -> Result<Self, Error> {
        aligned("guest address", address)?;
        if address > MAX_GUEST_ADDRESS {
            Err(Error::GuestAddress { guest: address })
        } else {
            Ok(Self(address))
        }
    }

    /// The address.
    pub fn get(self) -> u64 {
        self.0
    }
}

/// A number of pages, at most as many as the largest `memory` file has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PageCount(u64);

impl PageCount {
    /// Refuses what is no whole number of pages, or more than 1 TiB.
    pub fn from_bytes(bytes: u64) -> Result<Self, Error> {
        aligned("length", bytes)?;
        if bytes > MAX_MEMORY_BYTES {
            return Err(Error::FileBound { value: bytes });
        }
        Ok(Self(bytes / PAGE_BYTES))
    }

    /// The number.
    pub fn get(self) -> u64 {
        self.0
    }

    /// The same in bytes.
    pub fn bytes(self) -> u64 {
        self.0 * PAGE_BYTES
    }
}

/// A page-aligned offset into the `memory` file, at most 1 TiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileOffset(u64);

impl FileOffset {
    /// Refuses what is unaligned or above 1 TiB.
    pub fn new(offset: u64) -> Result<Self, Error> {
        aligned("file offset", offset)?;
        if offset > MAX_MEMORY_BYTES { Err(Error::FileBound { value: offset }) } else { Ok(Self(offset)) }
    }

    /// The offset in bytes.
    pub fn get(self) -> u64 {
        self.0
    }
}

/// A contiguous piece of guest RAM, contiguous in the file too. Not empty; both ends are within bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    guest: Gpa,
    pages: PageCount,
    offset: FileOffset,
}

impl Region {
    /// Refuses an empty region, and one whose end is out of bounds.
    pub fn new(guest: Gpa, pages: PageCount, offset: FileOffset) -> Result<Self, Error> {
        if pages.get() == 0 {
            return Err(Error::EmptyRegion { guest: guest.get() });
        }
        // No sum wraps: each part is far below 2^63.
        let region = Self { guest, pages, offset };
        if region.guest_end() > MAX_GUEST_ADDRESS {
            return Err(Error::GuestAddress { guest: guest.get() });
        }
        if region.file_end() > MAX_MEMORY_BYTES {
            return Err(Error::FileBound { value: region.file_end() });
        }
        Ok(region)
    }

    /// Where it begins in the guest.
    pub fn guest(&self) -> Gpa {
        self.guest
    }

    /// The first guest-physical address behind it.
    pub fn guest_end(&self) -> u64 {
        self.guest.get() + self.pages.bytes()
    }

    /// Its length.
    pub fn pages(&self) -> PageCount {
        self.pages
    }

    /// Where it begins in the file.
    pub fn offset(&self) -> FileOffset {
        self.offset
    }

    /// The first byte of the file behind it.
    pub fn file_end(&self) -> u64 {
        self.offset.get() + self.pages.bytes()
    }
}

fn aligned(what: &'static str, value: u64) -> Result<(), Error> {
    if value.is_multiple_of(PAGE_BYTES) { Ok(()) } else { Err(Error::Unaligned { what, value }) }
}
