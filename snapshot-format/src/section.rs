//! The section table, and the kinds of sections with their versions.
//!
//! Owns names, the table's layout and its checks, and the one table of supported versions. Never looks into a
//! section.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::codec::Part;
use crate::codec::prelude::Versionize;
use crate::error::Error;
use crate::header::{CHECKSUM_BYTES, HEADER_BYTES, Header, u16_at, u64_at};
use crate::state::{
    AcpiPmState, ChipsetState, ClockState, CpuidEntryState, CpuidWordState, DebugRegsState,
    DescriptorTableState, EventsState, HostCheckState, HostNeedsState, I8042State, IdentityState,
    IoapicState, ManifestState, MemoryRegionState, MemoryState, MsrState, OverlayState, PicState,
    PitChannelState, PitState, PvpanicState, RateLimitState, ReadyPortState, RegsState, RtcState,
    SegmentState, SerialState, SregsState, TokenBucketState, TscState, VcpuState, VirtioBalloonState,
    VirtioBlkState, VirtioMmioState, VirtioNetState, VirtioRngState, VirtioVsockState, VirtqueueState,
    VsockResetState, XcrState,
};

#[cfg(test)]
#[path = "section_test.rs"]
mod section_test;

/// Length of a section's name in the table, padded with NUL.
pub const NAME_BYTES: usize = 32;

/// Length of one entry of the table.
pub const ENTRY_BYTES: usize = 56;

/// The most sections that an image may have: 32 vCPUs and any number of devices that a machine has slots for.
pub const MAX_SECTIONS: usize = 512;

/// A kind of section: the part of the name before the colon, and the versions that this build reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// The name, or its part before the colon.
    pub name: &'static str,
    /// Whether there may be several, told apart by what follows the colon: `vcpu:0`.
    pub many: bool,
    /// The oldest version that this build reads.
    pub oldest: u16,
    /// The newest version that this build reads, the one it writes.
    pub current: u16,
}

impl Kind {
    const fn one(name: &'static str, oldest: u16, current: u16) -> Self {
        Self { name, many: false, oldest, current }
    }

    const fn many(name: &'static str, oldest: u16, current: u16) -> Self {
        Self { name, many: true, oldest, current }
    }

    /// The kind that a section's name belongs to, if this build knows it.
    pub fn of(name: &str) -> Option<&'static Self> {
        KINDS.iter().find(|kind| kind.owns(name))
    }

    /// Whether `name` is one that a section of this kind can have.
    pub fn owns(&self, name: &str) -> bool {
        match name.split_once(':') {
            Some((kind, instance)) => self.many && kind == self.name && !instance.is_empty(),
            None => !self.many && name == self.name,
        }
    }
}

/// Every kind of section that this build reads and writes. The only place where section versions are stated.
pub const KINDS: [Kind; 19] = [
    //         name         oldest  current
    Kind::one("manifest", 1, 1),
    Kind::one("host-check", 1, 1),
    Kind::one("memory", 1, 1),
    Kind::one("clock", 1, 1),
    Kind::one("chipset", 1, 1),
    Kind::many("vcpu", 1, 1),
    Kind::many("serial", 1, 1),
    Kind::one("i8042", 1, 1),
    Kind::one("rtc", 1, 1),
    Kind::one("acpi-pm", 1, 1),
    Kind::one("ready-port", 1, 1),
    Kind::one("pvpanic", 1, 1),
    Kind::one("identity", 1, 1),
    Kind::one("virtio-rng", 1, 1),
    Kind::one("virtio-balloon", 1, 1),
    Kind::many("virtio-blk", 1, 1),
    Kind::many("virtio-net", 1, 1),
    Kind::one("virtio-vsock", 1, 1),
    Kind::many("overlay", 1, 1),
];

/// A saved type that is the whole of one section.
pub trait Saved: Versionize + 'static {
    /// The kind of that section.
    const KIND: Kind;
    /// Every type that the section's bytes are made of, this one included.
    const PARTS: &'static [Part];
}

/// `saved!(kind: whole, part, part…)`; the kind is looked up in [`KINDS`] while compiling.
macro_rules! saved {
    ($kind:literal: $whole:ty $(, $part:ty)*) => {
        impl Saved for $whole {
            const KIND: Kind = find($kind);
            const PARTS: &'static [Part] = &[Part::of::<$whole>() $(, Part::of::<$part>())*];
        }
    };
}

saved!("manifest": ManifestState, HostNeedsState, CpuidWordState);
saved!("host-check": HostCheckState);
saved!("memory": MemoryState, MemoryRegionState);
saved!("clock": ClockState);
saved!("chipset": ChipsetState, PicState, IoapicState, PitState, PitChannelState);
saved!("vcpu": VcpuState, CpuidEntryState, RegsState, SegmentState, DescriptorTableState, SregsState, XcrState,
    DebugRegsState, EventsState, MsrState, TscState);
saved!("serial": SerialState);
saved!("i8042": I8042State);
saved!("rtc": RtcState);
saved!("acpi-pm": AcpiPmState);
saved!("ready-port": ReadyPortState);
saved!("pvpanic": PvpanicState);
saved!("identity": IdentityState);
saved!("virtio-rng": VirtioRngState, VirtioMmioState, VirtqueueState);
saved!("virtio-balloon": VirtioBalloonState, VirtioMmioState, VirtqueueState);
saved!("virtio-blk": VirtioBlkState, VirtioMmioState, VirtqueueState, RateLimitState, TokenBucketState);
saved!("virtio-net": VirtioNetState, VirtioMmioState, VirtqueueState, RateLimitState, TokenBucketState);
saved!("virtio-vsock": VirtioVsockState, VirtioMmioState, VirtqueueState, VsockResetState);
saved!("overlay": OverlayState);

/// The row of [`KINDS`] with that name; a name without a row does not compile.
const fn find(name: &str) -> Kind {
    let mut row = 0;
    while row < KINDS.len() {
        if same(KINDS[row].name.as_bytes(), name.as_bytes()) {
            return KINDS[row];
        }
        row += 1;
    }
    panic!("no such kind of section: add a row to KINDS")
}

/// Equality of names in a constant, where `==` is not to be had.
const fn same(a: &[u8], b: &[u8]) -> bool {
    let mut at = 0;
    while at < a.len() && at < b.len() && a[at] == b[at] {
        at += 1;
    }
    at == a.len() && at == b.len()
}

/// One line of the section table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The section's name, unique in the image.
    pub name: String,
    /// The version of its kind by which it was saved.
    pub version: u16,
    /// Where its bytes lie in the file.
    pub bytes: Range<usize>,
}

/// What is wrong with an entry or with a name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TableError {
    /// The name breaks the rules of FORMAT.md for names.
    #[error("the name is empty, too long, or has a character that no name has")]
    Name,
    /// The name is one of another kind.
    #[error("the name belongs to another kind of section")]
    Kind,
    /// The name occurs twice.
    #[error("the name `{0}` occurs twice")]
    Duplicate(String),
    /// Version 0 does not exist.
    #[error("the section's version is 0")]
    Version,
    /// A reserved field is not zero.
    #[error("a reserved field is set")]
    Reserved,
    /// The section does not begin where the one before it ends.
    #[error("the section begins at byte {found}, {expected} expected")]
    Offset {
        /// Where it says.
        found: u64,
        /// End of the one before it, or of the table.
        expected: u64,
    },
    /// The section reaches beyond the end of the file.
    #[error("the section is {len} bytes long, {left} are left")]
    Length {
        /// Its length.
        len: u64,
        /// Bytes between its start and the checksum.
        left: u64,
    },
    /// The table or the last section does not end where it should.
    #[error("{0} bytes belong to no section")]
    Unclaimed(u64),
}

/// Whether `name` may stand in a table: 1 to 32 bytes of `a-z A-Z 0-9 - _ .`, with at most one colon, which has
/// something on both sides.
pub fn is_name(name: &str) -> bool {
    let (kind, instance) = name.split_once(':').unwrap_or((name, "0"));
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    name.len() <= NAME_BYTES
        && [kind, instance].iter().all(|part| !part.is_empty() && part.chars().all(allowed))
}

/// Reads the table of a whole file whose header and checksum are good.
///
/// Sections lie one behind the other in the table's order, from the table's end to the checksum, so no byte of the
/// file can hide outside of them and none can belong to two.
pub fn parse_table(file: &[u8], header: &Header) -> Result<Vec<Entry>, Error> {
    let count = usize::try_from(header.sections).ok().filter(|&count| count <= MAX_SECTIONS);
    let Some(count) = count else {
        return Err(Error::TooManySections { count: u64::from(header.sections), max: MAX_SECTIONS });
    };
    let end = file.len().saturating_sub(CHECKSUM_BYTES);
    let mut next = HEADER_BYTES + count * ENTRY_BYTES;
    if next > end {
        return Err(Error::Truncated { len: file.len(), min: next + CHECKSUM_BYTES });
    }
    let mut seen = BTreeSet::new();
    let mut table = Vec::with_capacity(count);
    for index in 0..count {
        let at = HEADER_BYTES + index * ENTRY_BYTES;
        let broken = |source| Error::Table { entry: index, source };
        let entry = parse_entry(&file[at..at + ENTRY_BYTES], next, end).map_err(broken)?;
        if !seen.insert(entry.name.clone()) {
            return Err(broken(TableError::Duplicate(entry.name)));
        }
        next = entry.bytes.end;
        table.push(entry);
    }
    if next != end {
        return Err(Error::Table { entry: count, source: TableError::Unclaimed((end - next) as u64) });
    }
    Ok(table)
}

/// Reads one entry, whose section must begin at `start` and end at `end` or before.
fn parse_entry(entry: &[u8], start: usize, end: usize) -> Result<Entry, TableError> {
    let name = parse_name(&entry[..NAME_BYTES])?;
    let version = u16_at(entry, 32);
    if version == 0 {
        return Err(TableError::Version);
    }
    if entry[34..40] != [0; 6] {
        return Err(TableError::Reserved);
    }
    let (offset, len) = (u64_at(entry, 40), u64_at(entry, 48));
    if offset != start as u64 {
        return Err(TableError::Offset { found: offset, expected: start as u64 });
    }
    let left = end - start;
    let len = usize::try_from(len).ok().filter(|&len| len <= left);
    let Some(len) = len else { return Err(TableError::Length { len: u64_at(entry, 48), left: left as u64 }) };
    Ok(Entry { name, version, bytes: start..start + len })
}

fn parse_name(padded: &[u8]) -> Result<String, TableError> {
    let len = padded.iter().position(|&byte| byte == 0).unwrap_or(padded.len());
    let (name, padding) = padded.split_at(len);
    let name = std::str::from_utf8(name).map_err(|_| TableError::Name)?;
    if !is_name(name) || padding.iter().any(|&byte| byte != 0) {
        return Err(TableError::Name);
    }
    Ok(name.to_owned())
}

/// The bytes of an entry. Call only with a name that [`is_name`] accepts.
pub(crate) fn entry_bytes(entry: &Entry) -> [u8; ENTRY_BYTES] {
    let mut bytes = [0; ENTRY_BYTES];
    bytes[..entry.name.len()].copy_from_slice(entry.name.as_bytes());
    bytes[32..34].copy_from_slice(&entry.version.to_le_bytes());
    bytes[40..48].copy_from_slice(&(entry.bytes.start as u64).to_le_bytes());
    bytes[48..56].copy_from_slice(&(entry.bytes.len() as u64).to_le_bytes());
    bytes
}
