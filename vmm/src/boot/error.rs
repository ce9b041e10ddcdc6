//! Why a guest could not be put together.

use std::io;

use vm_memory::GuestMemoryError;

use crate::arch::x86_64::acpi;
use crate::memory::layout;

/// Why a guest could not be put together. The caller knows the names of the files and adds them.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel or the initrd cannot be read.
    #[error("cannot read {what}")]
    Read {
        /// What was being read.
        what: &'static str,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// A directory, a pipe or a device.
    #[error("{what} is not a regular file")]
    NotAFile {
        /// What it was given as.
        what: &'static str,
    },
    /// The kernel file is beyond reason.
    #[error("the kernel file has {len} bytes, more than the {max} that are accepted")]
    KernelTooLarge {
        /// Its length in bytes.
        len: u64,
        /// The limit.
        max: u64,
    },
    /// No magic number that we know.
    #[error("not a kernel: neither a bzImage nor an ELF file")]
    NotAKernel,
    /// A compressed file; a bzImage unpacks itself, anything else has to be unpacked before.
    #[error("the kernel file is compressed with {format}: unpack it, or use the bzImage")]
    Compressed {
        /// What it is compressed with.
        format: &'static str,
    },
    /// A kernel of another architecture.
    #[error("the kernel is made for {found}, this machine is an x86-64")]
    WrongArchitecture {
        /// What it is made for.
        found: String,
    },
    /// The file ends before its headers say.
    #[error("the kernel file is truncated: its headers promise {expected} bytes, it has {found}")]
    Truncated {
        /// What the headers say.
        expected: u64,
        /// The file's length.
        found: u64,
    },
    /// An ELF file that is not an executable at fixed addresses.
    #[error("the ELF file is of type {kind}, not an executable at fixed addresses (type 2)")]
    ElfKind {
        /// `e_type`.
        kind: u16,
    },
    /// A header field of the kernel file makes no sense.
    #[error("the kernel's header field {field} has the impossible value {value:#x}")]
    Header {
        /// The field's name.
        field: &'static str,
        /// Its value.
        value: u64,
    },
    /// An ELF file without anything to load.
    #[error("the ELF file has no segment to load")]
    NoSegment,
    /// A segment wants the memory below 1 MiB, where boot data lies.
    #[error("segment {paddr:#x}+{len:#x} of the kernel lies below 1 MiB, where boot data goes")]
    SegmentOverBootData {
        /// Guest-physical address.
        paddr: u64,
        /// Length in memory, bytes.
        len: u64,
    },
    /// A segment wants addresses that are not RAM in any guest.
    #[error("segment {paddr:#x}+{len:#x} of the kernel does not end below {:#x}", layout::MMIO_HOLE_START)]
    SegmentOutsideRam {
        /// Guest-physical address.
        paddr: u64,
        /// Length in memory, bytes.
        len: u64,
    },
    /// Two segments claim the same memory.
    #[error("two segments of the kernel overlap at {paddr:#x}")]
    SegmentsOverlap {
        /// Guest-physical address of the second.
        paddr: u64,
    },
    /// The entry point lies in no segment.
    #[error("the kernel's entry point {entry:#x} lies in none of its segments")]
    EntryOutside {
        /// Guest-physical address.
        entry: u64,
    },
    /// A bzImage from before Linux 3.8.
    #[error("the bzImage speaks boot protocol {major}.{minor:02}, at least 2.12 is needed")]
    ProtocolTooOld {
        /// High byte of the version.
        major: u16,
        /// Low byte of the version.
        minor: u16,
    },
    /// A 32-bit bzImage.
    #[error("the bzImage has no 64-bit entry point")]
    No64BitEntry,
    /// The kernel does not fit, or not with what it needs to unpack itself.
    #[error("memory is too small for the kernel: it needs {needed} bytes, there are {available} below 3 GiB")]
    MemoryTooSmall {
        /// The end of what the kernel needs, counted from address 0.
        needed: u64,
        /// RAM below the hole, bytes.
        available: u64,
    },
    /// An empty initrd is a mistake, not a wish.
    #[error("the initrd is empty")]
    InitrdEmpty,
    /// The initrd does not fit above the kernel.
    #[error(
        "the initrd has {len} bytes, and there is room for {room} between the kernel and the end of memory"
    )]
    InitrdTooLarge {
        /// Its length in bytes.
        len: u64,
        /// What there is, in bytes.
        room: u64,
    },
    /// More than the kernel reads.
    #[error("the command line has {len} bytes, the kernel reads at most {max}")]
    CmdlineTooLong {
        /// Its length in bytes.
        len: u64,
        /// The kernel's limit.
        max: u64,
    },
    /// The kernel would read just the part before it.
    #[error("the command line has a NUL at byte {at}")]
    CmdlineNul {
        /// Its position.
        at: usize,
    },
    /// The loader refused the kernel.
    #[error("cannot load the kernel")]
    Load(#[source] linux_loader::loader::Error),
    /// The ACPI tables could not be made.
    #[error("cannot describe the machine to the guest")]
    Acpi(#[source] acpi::Error),
    /// Guest memory refused a write.
    #[error("cannot write {what} at {gpa:#x}")]
    Write {
        /// What was being written.
        what: &'static str,
        /// Where to.
        gpa: u64,
        /// What guest memory said.
        #[source]
        source: GuestMemoryError,
    },
}

impl Error {
    pub(super) fn write(what: &'static str, gpa: u64, source: GuestMemoryError) -> Self {
        Self::Write { what, gpa, source }
    }

    pub(super) fn read(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Read { what, source }
    }
}
