//! Where everything lies in the guest's physical address space, drawn once.
//!
//! Addresses only: nothing here knows what backs the memory or what is written at these places.

#[cfg(test)]
#[path = "layout_test.rs"]
mod layout_test;

/// The size of a page, and what guest RAM is counted in: 4 KiB.
pub const PAGE_SIZE: u64 = 0x1000;
/// The least RAM a guest may have: 16 MiB.
pub const MIN_RAM: u64 = 16 << 20;
/// The most RAM a guest may have: it ends at 1 TiB, with 40 physical address bits. A host with fewer refuses what it has no
/// addresses for (`machine::Error::AddressBits`).
pub const MAX_RAM: u64 = (1 << 40) - (MMIO_HOLE_END - MMIO_HOLE_START);

/// The GDT that the first vCPU starts with; see [`crate::arch::x86_64::gdt`].
pub const GDT: u64 = 0x500;
/// `struct hvm_start_info` of the PVH protocol, its module list and its memory map: one page.
pub const PVH_START_INFO: u64 = 0x6000;
/// `struct boot_params` of the Linux protocol, the "zero page".
pub const ZERO_PAGE: u64 = 0x7000;
/// Where the stack of the first vCPU begins, growing down; kernels set up their own at once.
pub const BOOT_STACK: u64 = 0x9000;
/// The identity map of the 64-bit protocol; see [`crate::arch::x86_64::page_tables`].
pub const PAGE_TABLES: u64 = 0x9000;
/// First address after [`PAGE_TABLES`].
pub const PAGE_TABLES_END: u64 = 0xF000;
/// The kernel command line with its NUL.
pub const CMDLINE: u64 = 0x2_0000;
/// Room for the command line, in bytes, NUL included.
pub const CMDLINE_MAX: u64 = 0x1_0000;
/// Where RAM below 1 MiB ends for the guest: video memory and ROMs on a PC.
pub const LOW_RAM_END: u64 = 0xA_0000;
/// The ACPI tables; kernels that are not told where the RSDP is search this range for it (ACPI 6.5, 5.2.5.1).
pub const ACPI_START: u64 = 0xE_0000;
/// First address after the ACPI tables.
pub const ACPI_END: u64 = 0xF_D000;
/// The MP table, of a page at most; kernels search for it from 0xF_0000 on (MP specification 1.4, 4).
pub const MP_TABLE: u64 = 0xF_D000;
/// The generation ID, alone in its page (see `device::identity`).
pub const GENERATION_ID: u64 = 0xF_E000;
/// The page of the VMClock.
pub const VMCLOCK: u64 = 0xF_F000;
/// 1 MiB: where a bzImage is put, and the lowest address an ELF kernel may claim.
pub const KERNEL_START: u64 = 0x10_0000;

/// The hole below 4 GiB, for devices.
pub const MMIO_HOLE_START: u64 = 0xC000_0000;
/// First address after the hole.
pub const MMIO_HOLE_END: u64 = 0x1_0000_0000;
/// The first virtio-mmio device's registers; each device has a page.
pub const VIRTIO_MMIO_START: u64 = 0xC000_1000;
/// The IOAPIC's registers (KVM's `IOAPIC_DEFAULT_BASE_ADDRESS`).
pub const IOAPIC: u64 = 0xFEC0_0000;
/// The local APIC's registers (KVM's `APIC_DEFAULT_PHYS_BASE`).
pub const LAPIC: u64 = 0xFEE0_0000;
/// The page for `KVM_SET_IDENTITY_MAP_ADDR`, which VMX without unrestricted guest needs.
pub const KVM_IDENTITY_MAP: u64 = 0xFFFB_C000;
/// Three pages for `KVM_SET_TSS_ADDR`.
pub const KVM_TSS: u64 = 0xFFFB_D000;

/// Why an amount of RAM is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not whole pages.
    #[error("guest memory of {bytes} bytes is not a multiple of 4096 bytes")]
    Unaligned {
        /// What was asked for, in bytes.
        bytes: u64,
    },
    /// Outside [`MIN_RAM`]..=[`MAX_RAM`].
    #[error("guest memory of {bytes} bytes is outside {MIN_RAM}..={MAX_RAM}")]
    OutOfRange {
        /// What was asked for, in bytes.
        bytes: u64,
    },
}

/// One stretch of guest RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RamRegion {
    /// First guest-physical address.
    pub base: u64,
    /// Length in bytes, a multiple of [`PAGE_SIZE`], not 0.
    pub len: u64,
}

impl RamRegion {
    /// First address after the region.
    #[must_use]
    pub const fn end(self) -> u64 {
        self.base + self.len
    }
}

/// A guest's RAM, laid out.
///
/// ```text
///  1_0000_0000 + high  +---------------------------+  end of RAM
///                      | RAM                       |  second region, if there is more than 3 GiB
///  1_0000_0000         +---------------------------+  MMIO_HOLE_END
///                      | nothing (a PC's BIOS)     |
///    FFFC_0000         |- - - - - - - - - - - - - -|
///    FFFB_D000         | KVM's TSS, 3 pages        |  KVM_TSS
///    FFFB_C000         | KVM's identity map        |  KVM_IDENTITY_MAP
///    FEE0_0000         | local APIC                |  LAPIC
///    FEC0_0000         | IOAPIC                    |  IOAPIC
///    C000_1000         | virtio-mmio, a page each  |  VIRTIO_MMIO_START
///    C000_0000         +---------------------------+  MMIO_HOLE_START
///                      | nothing                   |
///    low_end           +---------------------------+  end of the first region, at most 3 GiB
///                      | initrd, as high as fits   |
///                      |                           |
///                      | kernel                    |
///      10_0000         +---------------------------+  KERNEL_START
///       F_E000         | VMGenID, VMClock, reserved|  GENERATION_ID, VMCLOCK
///       F_D000         | MP table, reserved        |  MP_TABLE = ACPI_END
///       E_0000         | ACPI tables, reserved     |  ACPI_START
///       A_0000         | RAM the guest isn't told  |  LOW_RAM_END
///                      | free                      |
///       2_0000         | command line, 64 KiB      |  CMDLINE
///         9000         | page tables, 6 pages      |  PAGE_TABLES = BOOT_STACK
///         7000         | boot_params (and stack)   |  ZERO_PAGE
///         6000         | hvm_start_info            |  PVH_START_INFO
///          500         | GDT                       |  GDT
///            0         +---------------------------+  start of the first region
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RamLayout {
    /// A multiple of [`PAGE_SIZE`] within [`MIN_RAM`]..=[`MAX_RAM`].
    bytes: u64,
}

impl RamLayout {
    /// Lays out `bytes` of RAM.
    ///
    /// # Errors
    /// `bytes` is not a multiple of 4 KiB, or not within [`MIN_RAM`]..=[`MAX_RAM`].
    pub const fn new(bytes: u64) -> Result<Self, Error> {
        if !bytes.is_multiple_of(PAGE_SIZE) {
            return Err(Error::Unaligned { bytes });
        }
        if bytes < MIN_RAM || bytes > MAX_RAM {
            return Err(Error::OutOfRange { bytes });
        }
        Ok(Self { bytes })
    }

    /// All RAM, in bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.bytes
    }

    /// The end of RAM below the hole.
    #[must_use]
    pub const fn low_end(self) -> u64 {
        if self.bytes < MMIO_HOLE_START { self.bytes } else { MMIO_HOLE_START }
    }

    /// The one or two stretches of RAM, by rising address.
    #[must_use]
    pub fn regions(self) -> Vec<RamRegion> {
        let low = RamRegion { base: 0, len: self.low_end() };
        let high = RamRegion { base: MMIO_HOLE_END, len: self.bytes - low.len };
        [low, high].into_iter().filter(|region| region.len > 0).collect()
    }
}
