//! Bringing in the pages of a mapped image that guests were seen to touch, beside the guest and before it touches them.
//!
//! A thread of low priority. Pages that were written get their private copies, the others are mapped. It is a courtesy:
//! whatever fails, the guest faults as it would have. Where the guest does otherwise than the set says it may lose by
//! it: to write to a page that was mapped costs about twice what it costs to write to one that was not.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use snapshot_format::WorkingSet;
use snapshot_format::pages::{PAGE_BYTES, Region};
use snapshot_format::working_set::Run;
use vm_memory::GuestMemoryBackend;

use super::GuestRam;
use crate::sys::pagemap::PageMap;
use crate::sys::ram::Access;
use crate::sys::signals;

/// The most that is brought in by one call: who asks for an end waits for no more than this.
const STEP: u64 = 2 << 20;

/// How much nicer than the guest.
const NICE: i32 = 5;

/// A prefetch that goes on. Dropped, it stops.
#[derive(Debug)]
pub(super) struct Prefetch {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Prefetch {
    /// Starts to bring in what `wanted` gives, which is asked on the thread.
    pub(super) fn start(
        ram: GuestRam,
        placement: Vec<Region>,
        wanted: impl FnOnce() -> Option<WorkingSet> + Send + 'static,
    ) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let builder = thread::Builder::new().name("prefetch".to_owned()).stack_size(128 << 10);
        let thread = builder.spawn(move || {
            signals::leave_to_others();
            let (Some(set), Ok(map)) = (wanted(), PageMap::open()) else { return };
            // Of this thread alone. Without it the prefetch is only less modest.
            let _ = rustix::process::nice(NICE);
            for (offset, len, access) in steps(set.runs()) {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                if let Err(error) = bring_in((&ram, &map), &placement, offset..offset + len, access) {
                    tracing::debug!(%error, "guest memory is not prefetched");
                    return;
                }
            }
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }

    /// Waits until all of it is there.
    #[cfg(test)]
    pub(super) fn finish(mut self) {
        self.thread.take().into_iter().for_each(|thread| thread.join().unwrap());
    }
}

impl Drop for Prefetch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed.
            let _ = thread.join();
        }
    }
}

/// Offsets in the memory file and lengths, in the order of the runs: neighbours together, none longer than [`STEP`].
fn steps(runs: &[Run]) -> Vec<(u64, u64, Access)> {
    let mut steps: Vec<(u64, u64, Access)> = Vec::with_capacity(runs.len());
    for Run { first, pages, written } in runs {
        let access = if *written { Access::Write } else { Access::Read };
        let (mut at, mut left) = (first * PAGE_BYTES, pages * PAGE_BYTES);
        while left > 0 {
            match steps.last_mut() {
                Some((start, len, as_before))
                    if *start + *len == at && *as_before == access && *len < STEP =>
                {
                    let more = left.min(STEP - *len);
                    *len += more;
                    (at, left) = (at + more, left - more);
                }
                _ => {
                    let some = left.min(STEP);
                    steps.push((at, some, access));
                    (at, left) = (at + some, left - some);
                }
            }
        }
    }
    steps
}

/// Brings in the bytes of the memory file that are of one region or another.
fn bring_in(
    (ram, map): (&GuestRam, &PageMap),
    placement: &[Region],
    wanted: Range<u64>,
    access: Access,
) -> io::Result<()> {
    for (mapped, region) in ram.iter().zip(placement) {
        let start = region.offset().get();
        let part = wanted.start.max(start)..wanted.end.min(region.file_end());
        if part.start < part.end {
            mapped.populate_ahead(
                map,
                &((part.start - start) as usize..(part.end - start) as usize),
                access,
            )?;
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "prefetch_test.rs"]
mod prefetch_test;
