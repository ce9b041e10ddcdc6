//! Guest memory in huge pages, where a VM is served by its own process.
//!
//! A hypervisor's guest faults once on a huge page, where it would fault on each of 512 small ones, and the kernel has one
//! page to account for. A huge page is only to be had while nothing is in its place, not even a table for small pages,
//! which a fault makes unless the place was marked before ([`mark_huge`]). So what a guest is expected to go over, because
//! it walks that way or its working set says so, is marked, and a marked place gets all of its page at once.

#[cfg(test)]
#[path = "huge_test.rs"]
mod huge_test;

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::sys::huge::{HUGE_BYTES, Staging, mark_huge};

/// The most places that are marked: each may split a mapping, of which a process has few.
const MOST_MARKED: usize = 4096;

/// Processor time that a huge page may take to make, which a healthy host makes in a fifth of it. One that has given its
/// free memory back to a host of its own takes far longer, and small pages, which it keeps, are the better ones there.
const MOST_TIME: Duration = Duration::from_millis(1);

/// Where huge pages are made ready, and which are expected.
#[derive(Debug)]
pub(super) struct Huge {
    pub(super) staging: Staging,
    /// Addresses of marked places.
    marked: BTreeSet<u64>,
    /// See [`MOST_TIME`].
    pub(super) most_time: Duration,
}

impl Huge {
    /// # Errors
    /// The kernel has no huge pages.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { staging: Staging::new()?, marked: BTreeSet::new(), most_time: MOST_TIME })
    }

    /// Makes a huge page in the staging. Says whether it is there.
    pub(super) fn make(&mut self) -> bool {
        let before = own_time();
        let made = self.staging.make_huge();
        let took = own_time().saturating_sub(before);
        if let Err(errno) = made {
            tracing::debug!(%errno, "there are no huge pages");
            return false;
        }
        if took > self.most_time {
            tracing::debug!(?took, "huge pages take long to make");
        }
        took <= self.most_time
    }

    /// Marks every whole place within `addresses`, which are the guest's.
    pub(super) fn expect(&mut self, addresses: &Range<u64>) {
        let Some(first) = addresses.start.checked_next_multiple_of(HUGE_BYTES) else { return };
        for place in (first..addresses.end).step_by(HUGE_BYTES as usize) {
            let is_whole = place + HUGE_BYTES <= addresses.end;
            if !is_whole || self.marked.len() >= MOST_MARKED {
                return;
            }
            if !self.marked.contains(&place) && mark_huge(place, true).is_ok() {
                self.marked.insert(place);
            }
        }
    }

    /// The marked place that `address` lies in.
    pub(super) fn expected(&self, address: u64) -> Option<Range<u64>> {
        let place = address - address % HUGE_BYTES;
        self.marked.contains(&place).then_some(place..place + HUGE_BYTES)
    }
}

impl Drop for Huge {
    /// Nobody is to expect any more what does not come.
    fn drop(&mut self) {
        for place in &self.marked {
            // Fails where nothing is mapped any more.
            let _ = mark_huge(*place, false);
        }
    }
}

/// Processor time of this thread.
fn own_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(now).unwrap_or_default()
}
