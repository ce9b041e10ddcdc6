//! A kernel as an ELF file: entered by PVH if it has the note for that, by the 64-bit Linux protocol
//! otherwise.
//!
//! The loader that reads the segments believes what the program headers say, so they are checked here first.

use linux_loader::loader::{Elf, KernelLoader, PvhBootCapability};

use super::source::Source;
use super::{Error, Protocol};
use crate::memory::GuestRam;
use crate::memory::layout;

/// Sizes and values of `elf(5)`.
const FILE_HEADER_LEN: usize = 64;
const PROGRAM_HEADER_LEN: usize = 56;
const CLASS_64: u8 = 2;
const LITTLE_ENDIAN: u8 = 1;
const EXECUTABLE: u16 = 2;
const X86_64: u16 = 62;
const LOAD: u32 = 1;
const NOTE: u32 = 4;

/// More program headers than any kernel has; Linux has about five.
const MAX_PROGRAM_HEADERS: u16 = 64;
/// Longest note segment that is searched, in bytes; Linux's has less than 1 KiB.
const MAX_NOTE_LEN: u64 = 64 << 10;

/// An ELF file's headers that have been checked.
pub(super) struct Headers {
    entry: u64,
    /// What is loaded, by rising address; without overlap, and all of it from 1 MiB to the hole.
    segments: Vec<Segment>,
}

#[derive(Clone, Copy, Debug)]
struct Segment {
    /// Guest-physical address.
    start: u64,
    /// First address after it.
    end: u64,
}

/// One program header.
struct ProgramHeader {
    kind: u32,
    offset: u64,
    paddr: u64,
    file_len: u64,
    memory_len: u64,
}

impl Headers {
    pub(super) fn read(source: &mut Source<'_>) -> Result<Self, Error> {
        let mut header = [0; FILE_HEADER_LEN];
        read_exact(source, 0, &mut header)?;
        check_identity(&header)?;
        let offset = u64_at(&header, 32);
        let (entry_len, count) = (u16_at(&header, 54), u16_at(&header, 56));
        if usize::from(entry_len) != PROGRAM_HEADER_LEN {
            return Err(Error::Header { field: "e_phentsize", value: u64::from(entry_len) });
        }
        if offset < FILE_HEADER_LEN as u64 {
            return Err(Error::Header { field: "e_phoff", value: offset });
        }
        if count > MAX_PROGRAM_HEADERS {
            return Err(Error::Header { field: "e_phnum", value: u64::from(count) });
        }
        let mut table = vec![0; usize::from(count) * PROGRAM_HEADER_LEN];
        read_exact(source, offset, &mut table)?;
        let mut segments = Vec::new();
        for header in table.chunks_exact(PROGRAM_HEADER_LEN).map(ProgramHeader::from_bytes) {
            segments.extend(header.check(source.len())?);
        }
        Ok(Self { entry: u64_at(&header, 24), segments: without_overlap(segments)? })
    }

    pub(super) fn end(&self) -> u64 {
        self.segments.last().map_or(0, |last| last.end)
    }

    pub(super) fn load(&self, source: &mut Source<'_>, memory: &GuestRam) -> Result<(Protocol, u64), Error> {
        let loaded = Elf::load(memory, None, source, None).map_err(Error::Load)?;
        let (protocol, entry) = match loaded.pvh_boot_cap {
            PvhBootCapability::PvhEntryPresent(entry) => (Protocol::Pvh, entry.0),
            PvhBootCapability::PvhEntryNotPresent | PvhBootCapability::PvhEntryIgnored => {
                (Protocol::Linux64, self.entry)
            }
        };
        if !self.segments.iter().any(|segment| (segment.start..segment.end).contains(&entry)) {
            return Err(Error::EntryOutside { entry });
        }
        Ok((protocol, entry))
    }
}

impl ProgramHeader {
    fn from_bytes(bytes: &[u8]) -> Self {
        Self {
            kind: u32_at(bytes, 0),
            offset: u64_at(bytes, 8),
            paddr: u64_at(bytes, 24),
            file_len: u64_at(bytes, 32),
            memory_len: u64_at(bytes, 40),
        }
    }

    /// The memory that it takes, if any; refuses what the loader should not see.
    fn check(&self, source_len: u64) -> Result<Option<Segment>, Error> {
        if self.kind != LOAD && self.kind != NOTE {
            return Ok(None);
        }
        let promised = self.offset.checked_add(self.file_len);
        let promised = promised.ok_or(Error::Header { field: "p_offset", value: self.offset })?;
        if promised > source_len {
            return Err(Error::Truncated { expected: promised, found: source_len });
        }
        if self.kind == NOTE {
            let too_long = Error::Header { field: "p_filesz", value: self.file_len };
            return if self.file_len > MAX_NOTE_LEN { Err(too_long) } else { Ok(None) };
        }
        if self.file_len > self.memory_len {
            return Err(Error::Header { field: "p_memsz", value: self.memory_len });
        }
        if self.memory_len == 0 {
            return Ok(None);
        }
        let (paddr, len) = (self.paddr, self.memory_len);
        let end = paddr.checked_add(len).filter(|&end| end <= layout::MMIO_HOLE_START);
        let end = end.ok_or(Error::SegmentOutsideRam { paddr, len })?;
        if paddr < layout::KERNEL_START {
            return Err(Error::SegmentOverBootData { paddr, len });
        }
        Ok(Some(Segment { start: paddr, end }))
    }
}

fn check_identity(header: &[u8; FILE_HEADER_LEN]) -> Result<(), Error> {
    let foreign = |found: String| Err(Error::WrongArchitecture { found });
    let (class, order) = (header[4], header[5]);
    let (kind, machine) = (u16_at(header, 16), u16_at(header, 18));
    if order != LITTLE_ENDIAN {
        return foreign("a big-endian machine".to_owned());
    }
    if machine != X86_64 {
        return foreign(machine_name(machine));
    }
    if class != CLASS_64 {
        return foreign("32-bit mode".to_owned());
    }
    if kind != EXECUTABLE {
        return Err(Error::ElfKind { kind });
    }
    Ok(())
}

fn machine_name(machine: u16) -> String {
    match machine {
        3 => "i386".to_owned(),
        40 => "arm".to_owned(),
        183 => "arm64".to_owned(),
        243 => "riscv".to_owned(),
        other => format!("ELF machine {other}"),
    }
}

fn without_overlap(mut segments: Vec<Segment>) -> Result<Vec<Segment>, Error> {
    segments.sort_unstable_by_key(|segment| segment.start);
    if segments.is_empty() {
        return Err(Error::NoSegment);
    }
    match segments.windows(2).find(|pair| pair[0].end > pair[1].start) {
        Some(pair) => Err(Error::SegmentsOverlap { paddr: pair[1].start }),
        None => Ok(segments),
    }
}

fn read_exact(source: &mut Source<'_>, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
    let len = buffer.len() as u64;
    let expected = offset.checked_add(len).ok_or(Error::Header { field: "e_phoff", value: offset })?;
    if expected > source.len() {
        return Err(Error::Truncated { expected, found: source.len() });
    }
    let found = source.read_at(offset, buffer).map_err(Error::read("the kernel"))? as u64;
    // The file has shrunk since its length was asked for.
    if found < len { Err(Error::Truncated { expected, found: offset + found }) } else { Ok(()) }
}

fn bytes_at<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    *bytes[offset..].first_chunk().expect("the offsets lie within the header's fixed length")
}

fn u16_at(bytes: &[u8], offset: usize) -> u16 {
    u16::from_le_bytes(bytes_at(bytes, offset))
}

fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(bytes_at(bytes, offset))
}

fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(bytes_at(bytes, offset))
}
