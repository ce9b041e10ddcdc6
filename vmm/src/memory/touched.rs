//! Which pages a guest touches, in the coarse order in which it first does, and which of them it writes.
//!
//! Found in the page map of this process, looked at again and again: KVM touches memory as this process would. A page
//! that is mapped from an image is there once it was read and private once it was written; one that is delivered tells
//! by the write protection that it came with, and by whether it still is what the image's file says.

use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use snapshot_format::pages::{PAGE_BYTES, Region, is_zero};
use snapshot_format::working_set::{MAX_RUNS, Run};
use vm_memory::{Bytes, GuestMemoryBackend, GuestMemoryRegion, MemoryRegionAddress};

use super::lazy::Probes;
use super::{GuestRam, Image, OwnRun};
use crate::sys::pagemap::{Own, PageMap, is_unknown};
use crate::sys::uffd::Uffd;

const PAGE: usize = PAGE_BYTES as usize;

/// How often the page map is looked at, if that is cheap.
const LOOK_AGAIN: Duration = Duration::from_millis(3);
/// How many times as long as a look takes is waited until the next.
const SPARING: u32 = 10;

/// The pages that were touched so far.
#[derive(Debug)]
pub(crate) struct Touched {
    // Declared first, so that it goes before the memory does.
    /// While it is there, the kernel maps no neighbours of a page that is touched.
    _one_by_one: Option<Uffd>,
    ram: GuestRam,
    placement: Vec<Region>,
    map: PageMap,
    /// Pages that this process has asked for itself, if pages are delivered.
    probed: Option<Probes>,
    /// The image's memory, if pages are delivered and it is here.
    image: Option<Arc<Image>>,
    /// Of each region, page by page, whether it was seen.
    seen: Vec<Vec<bool>>,
    /// In the order in which they were seen; within a look, ascending.
    order: Vec<OwnRun>,
}

impl Touched {
    pub(super) fn new(
        ram: GuestRam,
        placement: Vec<Region>,
        one_by_one: Option<Uffd>,
        probed: Option<Probes>,
        image: Option<Arc<Image>>,
    ) -> io::Result<Self> {
        let seen = placement.iter().map(|region| vec![false; region.pages().get() as usize]).collect();
        Ok(Self {
            _one_by_one: one_by_one,
            ram,
            placement,
            map: PageMap::open()?,
            probed,
            image,
            seen,
            order: Vec::new(),
        })
    }

    /// Looks until `until`, or until `enough` says so, which may wait for the time that it is given.
    pub(crate) fn watch(
        &mut self,
        until: Instant,
        mut enough: impl FnMut(Duration) -> bool,
    ) -> io::Result<()> {
        loop {
            let start = Instant::now();
            self.look()?;
            let pause = (start.elapsed() * SPARING).max(LOOK_AGAIN);
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            if enough(pause.min(left)) {
                // What it touched last.
                return self.look();
            }
        }
    }

    fn look(&mut self) -> io::Result<()> {
        for (number, mapped) in self.ram.iter().enumerate() {
            let present = self.map.present(mapped.host_address(), mapped.len() as usize)?;
            let seen = &mut self.seen[number];
            for Range { start, end } in present {
                let mut fresh: Option<usize> = None;
                for (page, seen) in (start / PAGE..).zip(&mut seen[start / PAGE..end / PAGE]) {
                    if !std::mem::replace(seen, true) {
                        fresh.get_or_insert(page);
                    } else if let Some(first) = fresh.take() {
                        self.order.push(OwnRun { region: number, bytes: first * PAGE..page * PAGE });
                    }
                }
                if let Some(first) = fresh {
                    self.order.push(OwnRun { region: number, bytes: first * PAGE..end });
                }
            }
        }
        Ok(())
    }

    /// The runs of a working set.
    pub(crate) fn runs(&self) -> io::Result<Vec<Run>> {
        let mut written = Vec::with_capacity(self.seen.len());
        for (number, mapped) in self.ram.iter().enumerate() {
            let mut pages = vec![false; self.seen[number].len()];
            let Own { data, zeros } = self.written(mapped.host_address(), mapped.len() as usize)?;
            for Range { start, end } in data {
                for (page, written) in (start / PAGE..).zip(&mut pages[start / PAGE..end / PAGE]) {
                    *written = !self.is_as_delivered(number, page);
                }
            }
            // The kernel's zero page is where a server had zeros to deliver, where the guest has read what it had given
            // back, or in the place of a page that was written with zeros.
            for Range { start, end } in zeros {
                for (page, written) in (start / PAGE..).zip(&mut pages[start / PAGE..end / PAGE]) {
                    *written = self.before(number, page).is_some_and(|before| !is_zero(&before));
                }
            }
            written.push(pages);
        }
        let mut runs: Vec<Run> = Vec::new();
        let probed = self.probed.as_ref().map(Probes::all).unwrap_or_default();
        let asked = |region: usize, page: usize| {
            probed.iter().any(|run| run.region == region && run.bytes.contains(&(page * PAGE)))
        };
        for OwnRun { region, bytes } in &self.order {
            let first = self.placement[*region].offset().get() / PAGE_BYTES;
            let pages = bytes.start / PAGE..bytes.end / PAGE;
            for (page, is_written) in pages.clone().zip(written[*region][pages].iter().copied()) {
                if !is_written && asked(*region, page) {
                    continue;
                }
                let number = first + page as u64;
                let is_full = runs.len() == MAX_RUNS;
                match runs.last_mut() {
                    Some(run) if run.first + run.pages == number && run.written == is_written => {
                        run.pages += 1
                    }
                    _ if is_full => return Ok(runs),
                    _ => runs.push(Run { first: number, pages: 1, written: is_written }),
                }
            }
        }
        Ok(runs)
    }

    /// Whether a page that was delivered is as it is in the image's file, if that is here. KVM asks for a page that is not
    /// there as if to write it (`async_pf_execute`), whatever the guest does, which takes the write protection off.
    fn is_as_delivered(&self, region: usize, page: usize) -> bool {
        let (Some(_), Some(mapped)) = (&self.probed, self.ram.iter().nth(region)) else { return false };
        let mut now = [0; PAGE];
        let there = mapped.read_slice(&mut now, MemoryRegionAddress((page * PAGE) as u64)).is_ok();
        there && self.before(region, page) == Some(now)
    }

    /// A page of the image's file, if that is here.
    fn before(&self, region: usize, page: usize) -> Option<[u8; PAGE]> {
        let mut before = [0; PAGE];
        let offset = self.placement[region].offset().get() + (page * PAGE) as u64;
        self.image.as_ref()?.file().read_exact_at(&mut before, offset).ok()?;
        Some(before)
    }

    fn written(&self, start: usize, len: usize) -> io::Result<Own> {
        if self.probed.is_none() {
            return self.map.private(start, len);
        }
        match self.map.written(start, len) {
            Err(error) if is_unknown(&error) => Ok(Own::default()),
            written => written,
        }
    }
}

#[cfg(test)]
#[path = "touched_test.rs"]
mod touched_test;
