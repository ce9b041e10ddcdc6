//! A kernel file: what kind it is, and the little that its kind decides.

use std::fs::File;

use linux_loader::loader::bootparam::setup_header;

use super::source::Source;
use super::{Error, Protocol, bzimage, cmdline, elf};
use crate::memory::GuestRam;
use crate::memory::layout::RamLayout;

/// Largest kernel file that is accepted: a `vmlinux` with debugging information has about this much.
const MAX_KERNEL_BYTES: u64 = 1 << 30;
/// Enough of a file to recognise it, in bytes.
const MAGIC_LEN: usize = 0x206;

/// A kernel file that has been recognised and whose headers have been checked.
pub struct Kernel<'a> {
    source: Source<'a>,
    format: Format,
}

enum Format {
    Elf(elf::Headers),
    BzImage(bzimage::Header),
}

impl<'a> Kernel<'a> {
    /// Recognises a kernel file and checks its headers.
    ///
    /// # Errors
    /// The file is unreadable, not a kernel, not one for this architecture, truncated, or contradicts itself.
    pub fn from_file(file: File) -> Result<Self, Error> {
        Self::identify(Source::from_file(file, "the kernel")?)
    }

    /// The same for a kernel that is a part of this program.
    ///
    /// # Errors
    /// As [`Kernel::from_file`].
    pub fn from_bytes(bytes: &'a [u8]) -> Result<Self, Error> {
        Self::identify(Source::from_bytes(bytes))
    }

    pub(super) fn identify(mut source: Source<'a>) -> Result<Self, Error> {
        let len = source.len();
        if len > MAX_KERNEL_BYTES {
            return Err(Error::KernelTooLarge { len, max: MAX_KERNEL_BYTES });
        }
        let mut start = [0; MAGIC_LEN];
        source.read_at(0, &mut start).map_err(Error::read("the kernel"))?;
        let format = match Magic::of(&start) {
            Magic::Elf => Format::Elf(elf::Headers::read(&mut source)?),
            Magic::BzImage => Format::BzImage(bzimage::Header::read(&mut source)?),
            Magic::Foreign(found) => return Err(Error::WrongArchitecture { found: found.to_owned() }),
            Magic::Compressed(format) => return Err(Error::Compressed { format }),
            Magic::Unknown => return Err(Error::NotAKernel),
        };
        Ok(Self { source, format })
    }

    /// The longest command line that the kernel reads, in bytes, without the NUL.
    pub(super) fn cmdline_max(&self) -> u64 {
        match &self.format {
            Format::Elf(_) => cmdline::DEFAULT_MAX,
            Format::BzImage(header) => header.cmdline_max(),
        }
    }

    /// First address after the memory that the kernel needs to come up.
    pub(super) fn end(&self) -> u64 {
        match &self.format {
            Format::Elf(headers) => headers.end(),
            Format::BzImage(header) => header.end(),
        }
    }

    /// First address that an initrd may not reach, as the kernel has it.
    pub(super) fn initrd_limit(&self) -> u64 {
        match &self.format {
            Format::Elf(_) => u64::MAX,
            Format::BzImage(header) => header.initrd_limit(),
        }
    }

    /// The setup header that belongs in `boot_params`; an ELF file has none.
    pub(super) fn setup_header(&self) -> Option<setup_header> {
        match &self.format {
            Format::Elf(_) => None,
            Format::BzImage(header) => Some(header.setup()),
        }
    }

    /// Checks that the kernel fits into the guest's memory.
    pub(super) fn fits(&self, ram: RamLayout) -> Result<(), Error> {
        let (needed, available) = (self.end(), ram.low_end());
        if needed > available { Err(Error::MemoryTooSmall { needed, available }) } else { Ok(()) }
    }

    /// Reads the kernel into guest memory; says how it wants to be entered, and where. Call only after
    /// [`Kernel::fits`].
    pub(super) fn load(&mut self, memory: &GuestRam) -> Result<(Protocol, u64), Error> {
        match &self.format {
            Format::Elf(headers) => headers.load(&mut self.source, memory),
            Format::BzImage(header) => header.load(&mut self.source, memory),
        }
    }
}

/// What the first bytes of a file look like.
enum Magic {
    Elf,
    BzImage,
    Foreign(&'static str),
    Compressed(&'static str),
    Unknown,
}

impl Magic {
    fn of(start: &[u8; MAGIC_LEN]) -> Self {
        let at = |offset: usize, magic: &[u8]| start[offset..].starts_with(magic);
        match () {
            () if at(0, b"\x7FELF") => Self::Elf,
            () if at(bzimage::MAGIC_OFFSET, bzimage::MAGIC) => Self::BzImage,
            // Both look like an EFI program and have a magic number of their own in its unused fields (Linux,
            // Documentation/arch/arm64/booting.rst and Documentation/arch/riscv/boot-image-header.rst).
            () if at(0x38, b"ARM\x64") => Self::Foreign("arm64"),
            () if at(0x38, b"RSC\x05") => Self::Foreign("riscv"),
            () if at(0, b"MZ\0\0zimg") => Self::Compressed("EFI zboot"),
            () if at(0, b"\x1F\x8B") => Self::Compressed("gzip"),
            () if at(0, b"\xFD7zXZ\0") => Self::Compressed("xz"),
            () if at(0, b"\x28\xB5\x2F\xFD") => Self::Compressed("zstd"),
            () => Self::Unknown,
        }
    }
}
