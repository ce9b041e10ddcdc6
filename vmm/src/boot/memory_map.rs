//! What the guest is told of its memory, whichever protocol tells it.

use crate::memory::layout::{self, RamLayout};

/// What a stretch of addresses is; the numbers are those of the e820 table and of PVH's memory map alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Kind {
    Ram = 1,
    Reserved = 2,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) base: u64,
    /// In bytes, not 0.
    pub(super) len: u64,
    pub(super) kind: Kind,
}

impl Range {
    fn new(start: u64, end: u64, kind: Kind) -> Self {
        Self { base: start, len: end - start, kind }
    }
}

/// By rising address, without overlap.
///
/// Boot data below 1 MiB is not reserved: a kernel copies what it wants to keep before it hands out memory.
pub(super) fn of(ram: RamLayout) -> Vec<Range> {
    let mut ranges = vec![
        Range::new(0, layout::LOW_RAM_END, Kind::Ram),
        // The ACPI tables, the MP table, and behind them the pages by which the guest is told who it is.
        Range::new(layout::ACPI_START, layout::KERNEL_START, Kind::Reserved),
    ];
    // The first region without its first MiB, which is told above.
    let above = ram.regions().into_iter().map(|region| (region.base.max(layout::KERNEL_START), region.end()));
    ranges.extend(above.map(|(start, end)| Range::new(start, end, Kind::Ram)));
    // KVM keeps pages of its own here, so nothing else may be put there.
    ranges.push(Range::new(layout::KVM_IDENTITY_MAP, layout::MMIO_HOLE_END, Kind::Reserved));
    ranges.sort_unstable_by_key(|range| range.base);
    ranges
}
