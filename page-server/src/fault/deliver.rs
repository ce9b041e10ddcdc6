//! Pages from a source into a guest's memory, by the book.
//!
//! What the kernel may answer, and what is done (Documentation/admin-guide/mm/userfaultfd.rst, and
//! `userfaultfd_copy` in fs/userfaultfd.c):
//!
//! - part of it placed: go on behind that part.
//! - `EEXIST`, somebody was faster: wake whoever waits, for the fault may have been raised before the page came.
//! - `EAGAIN`, the process is giving memory back or forking: read what it does, which it waits for, and try again.
//!   Pages that turn out to be given back are zero now, whatever the source says. A fault can be read before the
//!   removal that preceded it; the copy that answers it meets this error, and so the removal is seen in time.
//! - `ENOENT`, not registered, or not in one piece: page by page, leaving out what is not registered.
//! - `ESRCH`, the process is gone: the session is over.

#[cfg(test)]
#[path = "deliver_test.rs"]
mod deliver_test;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use snapshot_format::pages::{PAGE_BYTES, is_zero};

use super::beside::Beside;
use super::grain::{Grain, Walks};
use super::huge::Huge;
use super::space::{Kind, Space, Spot, Stretch};
use crate::prefetch::{Members, Step};
use crate::source::{self, PageSource};
use crate::stats::Stats;
use crate::sys::huge::HUGE_BYTES;
use crate::sys::uffd::{Event, Memory};
use crate::trace::{self, Trace};

/// How much is read and placed at a time: whoever waits for the first page does not wait for the others.
const PIECE: u64 = 128 << 10;

/// A huge page that has more zero pages than this, an eighth, is not worth its memory: small ones take none.
const MOST_ZEROS: u64 = HUGE_BYTES / PAGE_BYTES / 8;

/// How long a process may go on changing its memory under a page that is to be placed.
const CHANGING: Duration = Duration::from_secs(5);

/// Why nothing more can be delivered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ended {
    /// The VMM's process is gone.
    #[error("the VMM is gone")]
    VmGone,
    /// The source does not give the page's bytes.
    #[error("the page at offset {offset:#x} cannot be had")]
    Source {
        /// In the memory file.
        offset: u64,
        /// Why.
        #[source]
        source: source::Error,
    },
    /// The kernel does not take the page.
    #[error("the page at offset {offset:#x} cannot be placed")]
    Place {
        /// In the memory file.
        offset: u64,
        /// What the kernel answered.
        #[source]
        errno: Errno,
    },
    /// The kernel does not tell of faults.
    #[error("the userfaultfd cannot be read")]
    Read(#[source] Errno),
}

/// A fault that has not been answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fault {
    pub(super) address: u64,
    pub(super) write: bool,
    pub(super) read_at: Instant,
}

/// How much a page is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Worth {
    /// All the time that a source takes: somebody waits for it.
    Waiting,
    /// One attempt: somebody may wait for it later.
    One,
    /// One attempt, and after everything else: it comes ahead of the guest.
    Ahead,
}

/// The most faults that are remembered: more than any guest has vCPUs. A VMM that wakes its own threads can raise any
/// number.
const MOST_WAITING: usize = 4096;

/// How many batches of events are read before faults are answered.
const MOST_BATCHES: usize = 64;

/// Where and how pages are placed.
pub(crate) struct Place {
    /// The guest's memory.
    pub memory: Memory,
    /// Its regions.
    pub space: Space,
    /// Whether pages are write-protected: see `Hello::record`.
    pub protect: bool,
}

/// Delivers one guest's pages.
pub(crate) struct Deliverer {
    pub(super) memory: Memory,
    pub(super) space: Space,
    protect: bool,
    pub(super) source: Arc<dyn PageSource>,
    pub(super) walks: Walks,
    pub(super) waiting: VecDeque<Fault>,
    /// What is to come ahead of the guest.
    pub(super) expected: Members,
    /// Kept, so that a fault allocates nothing.
    pub(super) buffer: Vec<u8>,
    /// Zeros for a page of hugetlbfs, made when the first is wanted.
    zeros: Vec<u8>,
    events: Vec<Event>,
    pub(super) stats: Stats,
    trace: Option<Arc<Trace>>,
    /// If the memory is this process's own.
    huge: Option<Huge>,
    /// What other threads read for it.
    pub(super) beside: Beside,
}

/// What is put in place.
enum Bytes<'a> {
    Data(&'a [u8]),
    Zeros(u64),
}

impl Bytes<'_> {
    fn len(&self) -> u64 {
        match self {
            Self::Data(bytes) => bytes.len() as u64,
            Self::Zeros(len) => *len,
        }
    }
}

impl Deliverer {
    pub(crate) fn new(
        place: Place,
        source: Arc<dyn PageSource>,
        grain: Grain,
        stats: Stats,
        trace: Option<Arc<Trace>>,
    ) -> Self {
        let walks = Walks::new(grain);
        let Place { memory, space, protect } = place;
        let (waiting, events, zeros) = (VecDeque::new(), Vec::new(), Vec::new());
        Self {
            memory,
            space,
            protect,
            source,
            walks,
            waiting,
            expected: Members::default(),
            buffer: Vec::new(),
            zeros,
            events,
            stats,
            trace,
            huge: None,
            beside: Beside::default(),
        }
    }

    /// Has memory placed in huge pages where the guest goes over it, as `wanted` says or it shows. Call only if the memory
    /// is this process's own. Says whether there are huge pages.
    pub(crate) fn use_huge_pages(&mut self, wanted: impl Iterator<Item = Step>) -> bool {
        // Pages that are watched are small, so that each is seen.
        let Some(mut huge) = Huge::new().ok().filter(|_| !self.protect) else { return false };
        for Step { offset, len } in wanted {
            let Some(spot) = self.space.find_offset(offset) else { continue };
            let (address, _, page) = self.space.place(spot);
            if page == PAGE_BYTES {
                huge.expect(&(address..self.space.end(spot).min(address.saturating_add(len))));
            }
        }
        self.huge = Some(huge);
        true
    }

    /// Counts the faults on pages that are to come ahead of the guest and have not come yet.
    pub(crate) fn expect(&mut self, wanted: Members) {
        self.expected = wanted;
    }

    /// The guest's memory, to be polled.
    pub(crate) fn memory(&self) -> &Memory {
        &self.memory
    }

    pub(crate) fn space(&self) -> &Space {
        &self.space
    }

    /// Has everybody ask again who waits for a page: what somebody else has read of their faults is lost.
    pub(crate) fn wake_all(&self) {
        for region in self.space.regions() {
            self.memory.wake(region.address, region.len);
        }
    }

    /// Reads what has happened; says whether there is something to answer now.
    pub(crate) fn look(&mut self) -> Result<bool, Ended> {
        for _ in 0..MOST_BATCHES {
            let more = match self.memory.read(&mut self.events) {
                Ok(more) => more,
                Err(Errno::INTR) => true,
                Err(errno) => return Err(Ended::Read(errno)),
            };
            // As many as there are before any fault is answered: a removal may stand behind a fault that it precedes.
            for event in self.events.drain(..) {
                match event {
                    // Whoever raised it raises it again.
                    Event::Fault { address, .. } if self.waiting.len() >= MOST_WAITING => {
                        self.memory.wake(address - address % PAGE_BYTES, PAGE_BYTES);
                    }
                    Event::Fault { address, write } => {
                        self.waiting.push_back(Fault { address, write, read_at: Instant::now() });
                    }
                    Event::Removed(range) => self.space.set(range, Kind::Removed),
                    Event::Unmapped(range) => self.space.set(range, Kind::Gone),
                    Event::Forked => {}
                }
            }
            if !more {
                break;
            }
        }
        Ok(!self.waiting.is_empty() || self.has_arrived())
    }

    /// Delivers a page that is missing or removed, and what the guest is likely to touch next.
    pub(super) fn deliver_around(&mut self, spot: Spot, address: u64) -> Result<u64, Ended> {
        let mut window = self.walks.window(address);
        let Some(huge) = &self.huge else {
            return self.deliver(&self.space.alike(spot, &window), Worth::One);
        };
        if let Some(place) = huge.expected(address).filter(|_| self.space.kind(spot) == Kind::Missing) {
            let (start, offset, len) = self.space.alike(spot, &place).place(&self.space);
            if len == HUGE_BYTES {
                // Before the guest is woken, for it may be there at once.
                self.expect_behind(spot, place.end);
                let placed = self.put_huge(start, offset, Worth::One)?;
                if placed > 0 {
                    self.walks.given_to(place.end);
                    return Ok(placed);
                }
            }
        }
        if self.walks.is_long(&window) {
            // Where a huge page is to come there must be no small one.
            let place = (window.start + 1).next_multiple_of(HUGE_BYTES);
            window.end = window.end.min(place);
            self.walks.given_to(window.end);
            self.expect_behind(spot, window.end);
        }
        self.deliver(&self.space.alike(spot, &window), Worth::One)
    }

    /// The guest walks on from `end` of the region that `spot` lies in.
    fn expect_behind(&mut self, spot: Spot, end: u64) {
        let ((.., page), behind) = (self.space.place(spot), self.space.end(spot));
        if let Some(huge) = self.huge.as_mut().filter(|_| page == PAGE_BYTES) {
            let place = end.next_multiple_of(HUGE_BYTES);
            huge.expect(&(place..behind.min(place + HUGE_BYTES)));
        }
    }

    /// Delivers one page, whatever is known of it. One that was delivered before may have been asked for before it came,
    /// or the VMM has thrown it away without a word: only the kernel knows.
    pub(super) fn insist(&mut self, spot: Spot) -> Result<u64, Ended> {
        self.space.ask_again(spot);
        let (address, ..) = self.space.place(spot);
        let stretch = self.space.alike(spot, &(address..address + 1));
        self.deliver(&stretch, Worth::Waiting)
    }

    /// Delivers `len` bytes of the memory file from `offset` on, ahead of the guest: what of it is missing. Bytes. Of a working
    /// set, what has to be waited for comes later, and is counted here.
    pub(crate) fn ahead(&mut self, offset: u64, len: u64, cause: trace::Cause) -> Result<u64, Ended> {
        let Some(spot) = self.space.find_offset(offset) else { return Ok(0) };
        let start = Instant::now();
        let (from, ..) = self.space.place(spot);
        let end = from.saturating_add(len);
        let mut next = self.space.next_missing(spot, len);
        let worth = if cause == trace::Cause::Prefetch { Worth::Ahead } else { Worth::One };
        let mut delivered = 0;
        while let Some(spot) = next {
            let (address, ..) = self.space.place(spot);
            let stretch = self.space.alike(spot, &(address..end));
            delivered += self.deliver(&stretch, worth)? + self.handed_ahead();
            let (start, _, done) = stretch.place(&self.space);
            next = match self.space.find(start + done) {
                Some(spot) if start + done < end => self.space.next_missing(spot, end - start - done),
                _ => None,
            };
        }
        self.record(cause, offset, delivered, start.elapsed());
        Ok(delivered)
    }

    /// Delivers the page at `offset` of the memory file, if it is missing: whatever time that takes if it is `vital`.
    pub(crate) fn page(&mut self, offset: u64, vital: bool) -> Result<(), Ended> {
        let Some(spot) = self.space.find_offset(offset) else { return Ok(()) };
        if self.space.kind(spot) != Kind::Missing {
            return Ok(());
        }
        let (address, ..) = self.space.place(spot);
        let stretch = self.space.alike(spot, &(address..address + 1));
        self.deliver(&stretch, if vital { Worth::Waiting } else { Worth::One }).map(drop)
    }

    /// Places a stretch of pages that are alike, in pieces. Says how many bytes were placed.
    fn deliver(&mut self, stretch: &Stretch, worth: Worth) -> Result<u64, Ended> {
        let (address, offset, len) = stretch.place(&self.space);
        let removed = self.space.find(address).is_some_and(|spot| self.space.kind(spot) == Kind::Removed);
        if removed {
            return self.put(address, &Bytes::Zeros(len));
        }
        let page = self.space.find(address).map_or(PAGE_BYTES, |spot| self.space.place(spot).2);
        let (mut at, mut placed) = (0, 0);
        while at < len {
            let zeros = self.source.zeros(offset + at).min(len - at);
            let zeros = zeros - zeros % page;
            if zeros > 0 {
                placed += self.put(address + at, &Bytes::Zeros(zeros))?;
                at += zeros;
                continue;
            }
            if len - at >= HUGE_BYTES && (address + at).is_multiple_of(HUGE_BYTES) {
                let huge = self.put_huge(address + at, offset + at, worth)?;
                if huge > 0 {
                    placed += huge;
                    at += huge;
                    continue;
                }
            }
            let piece = (len - at).min(PIECE.max(page));
            let Some(bytes) = self.read_or_hand_over(address + at, offset + at, piece, worth)? else {
                at += piece;
                continue;
            };
            let put = self.put_runs(address + at, &bytes[..piece as usize], page as usize);
            self.buffer = bytes;
            placed += put?;
            at += piece;
        }
        Ok(placed)
    }

    /// Places a huge page where one is expected and nothing else is known to be. Says how many bytes were placed: none if
    /// it is better done in pieces, or cannot be done.
    fn put_huge(&mut self, address: u64, offset: u64, worth: Worth) -> Result<u64, Ended> {
        let Some(huge) = self.huge.as_mut().filter(|huge| huge.expected(address).is_some()) else {
            return Ok(0);
        };
        if !huge.make() {
            // Looking for one takes longer than placing small pages does.
            self.huge = None;
            return Ok(0);
        }
        let bytes = huge.staging.bytes();
        read(&*self.source, offset, bytes, worth)?;
        let zeros = bytes.chunks(PAGE_BYTES as usize).filter(|page| is_zero(page)).count() as u64;
        if zeros > MOST_ZEROS {
            return Ok(0);
        }
        match self.memory.move_in(address, &mut huge.staging) {
            Ok(len) => {
                self.space.set(address..address + len, Kind::There);
                self.stats.copied.inc_by(len);
                Ok(len)
            }
            // What is in the way is met again by whoever places it in pieces.
            Err(Errno::EXIST | Errno::AGAIN | Errno::NOENT | Errno::BUSY) => Ok(0),
            Err(errno) => {
                tracing::debug!(%errno, "pages cannot be moved");
                self.huge = None;
                Ok(0)
            }
        }
    }

    /// Reads one piece into the buffer, which it hands out: it may be longer.
    pub(super) fn read(&mut self, offset: u64, len: u64, worth: Worth) -> Result<Vec<u8>, Ended> {
        let mut buffer = std::mem::take(&mut self.buffer);
        if (buffer.len() as u64) < len {
            buffer.resize(len as usize, 0);
        }
        let bytes = &mut buffer[..len as usize];
        match read(&*self.source, offset, bytes, worth) {
            Ok(()) => Ok(buffer),
            Err(error) => {
                self.buffer = buffer;
                Err(error)
            }
        }
    }

    /// Places one piece, its zero pages as such.
    pub(super) fn put_runs(&mut self, address: u64, bytes: &[u8], page: usize) -> Result<u64, Ended> {
        let (mut start, mut placed) = (0, 0);
        while start < bytes.len() {
            let zero = is_zero(&bytes[start..start + page]);
            let mut end = start + page;
            while end < bytes.len() && is_zero(&bytes[end..end + page]) == zero {
                end += page;
            }
            let run = if zero { Bytes::Zeros((end - start) as u64) } else { Bytes::Data(&bytes[start..end]) };
            placed += self.put(address + start as u64, &run)?;
            start = end;
        }
        Ok(placed)
    }

    /// Places bytes at an address, whatever is in the way. Says how many were placed.
    fn put(&mut self, address: u64, bytes: &Bytes<'_>) -> Result<u64, Ended> {
        let (mut at, mut placed) = (0, 0);
        // All at once, until something is in the way that may concern some pages only.
        let mut whole = true;
        let mut changing: Option<Instant> = None;
        while at < bytes.len() {
            let here = address + at;
            let Some(spot) = self.space.find(here) else { return Ok(placed) };
            let (_, offset, page) = self.space.place(spot);
            let kind = self.space.kind(spot);
            if kind == Kind::Gone {
                // Whoever waited for it does not hear of that from the kernel.
                self.memory.wake(here, page);
                at += page;
                continue;
            }
            // No further than pages are alike: some may have been removed since the bytes were read, or gone.
            let alike = || self.space.alike(spot, &(here..address + bytes.len())).place(&self.space).2;
            let len = if whole { alike() } else { page };
            let done = match bytes {
                Bytes::Data(data) if kind != Kind::Removed => {
                    self.memory.copy(here, &data[at as usize..(at + len) as usize], self.protect)
                }
                _ => self.zero(here, if kind == Kind::Removed { page } else { len }, page),
            };
            match done {
                Ok(len) => {
                    self.space.set(here..here + len, Kind::There);
                    self.count(bytes, len);
                    placed += len;
                    at += len;
                    changing = None;
                }
                Err(Errno::EXIST) => {
                    self.space.set_one(spot, Kind::There);
                    self.memory.wake(here, page);
                    at += page;
                }
                Err(Errno::AGAIN) if changing.get_or_insert_with(Instant::now).elapsed() < CHANGING => {
                    whole = false;
                    self.look()?;
                    std::thread::yield_now();
                }
                Err(Errno::NOENT) if whole && len > page => whole = false,
                Err(Errno::NOENT) => {
                    self.space.set_one(spot, Kind::Gone);
                    // It waits for a page that is not the session's to deliver any more.
                    self.memory.wake(here, page);
                    at += page;
                }
                Err(Errno::SRCH) => return Err(Ended::VmGone),
                Err(errno) => return Err(Ended::Place { offset, errno }),
            }
        }
        Ok(placed)
    }

    /// Zeros of any kind of page.
    fn zero(&mut self, address: u64, len: u64, page: u64) -> Result<u64, Errno> {
        if page == PAGE_BYTES {
            return self.memory.zero(address, len);
        }
        // hugetlbfs has no page of zeros that could be shared. The kernel reads ours without taking a fault, and for what
        // has never been touched it wants another huge page in between, which there may not be: so these are written.
        if self.zeros.len() < page as usize {
            self.zeros = vec![1; page as usize];
            std::hint::black_box(&mut self.zeros).fill(0);
        }
        self.memory.copy(address, &self.zeros, self.protect)
    }

    fn count(&self, bytes: &Bytes<'_>, len: u64) {
        match bytes {
            Bytes::Data(_) => self.stats.copied.inc_by(len),
            Bytes::Zeros(_) => self.stats.zeroed.inc_by(len),
        }
    }

    pub(super) fn record(&self, cause: trace::Cause, offset: u64, len: u64, took: Duration) {
        if let Some(trace) = &self.trace {
            trace.record(cause, offset, len, took);
        }
    }

    /// Makes whoever touches a page that is lost fail, rather than wait for ever or find zeros. Says whether that is so,
    /// or the page is not missing after all: if not, the memory must stay registered.
    ///
    /// # Errors
    /// The VM is gone.
    pub(crate) fn poison(&mut self, offset: u64) -> Result<bool, Ended> {
        let Some(spot) = self.space.find_offset(offset) else { return Ok(true) };
        let (address, _, page) = self.space.place(spot);
        let start = Instant::now();
        let kind = loop {
            if self.space.kind(spot) == Kind::Removed {
                // Given back meanwhile: it is zero, whatever the source has.
                self.put(address, &Bytes::Zeros(page))?;
                return Ok(true);
            }
            match self.memory.poison(address, page) {
                Ok(_) => break Kind::There,
                Err(Errno::EXIST) => {
                    self.memory.wake(address, page);
                    break Kind::There;
                }
                Err(Errno::NOENT) => {
                    self.memory.wake(address, page);
                    break Kind::Gone;
                }
                Err(Errno::SRCH) => return Err(Ended::VmGone),
                Err(Errno::AGAIN) if start.elapsed() < CHANGING => {
                    self.look()?;
                    std::thread::yield_now();
                }
                Err(errno) => {
                    tracing::debug!(%errno, "the page at offset {offset:#x} cannot be poisoned");
                    return Ok(false);
                }
            }
        };
        self.space.set_one(spot, kind);
        Ok(true)
    }

    /// As on a kernel that cannot poison.
    #[cfg(test)]
    pub(crate) fn lack_poison(&mut self) {
        self.memory.lacks_poison = true;
    }

    /// Delivers all that is missing, one attempt for each page. Says whether nothing is missing any more.
    ///
    /// # Errors
    /// The VM is gone.
    pub(crate) fn deliver_rest(&mut self) -> Result<bool, Ended> {
        let regions: Vec<(u64, u64)> =
            self.space.regions().map(|region| (region.offset, region.len)).collect();
        let mut is_whole = true;
        for (offset, len) in regions {
            match self.ahead(offset, len, trace::Cause::Drain) {
                Err(Ended::Source { .. } | Ended::Place { .. }) => is_whole = false,
                done => drop(done?),
            }
        }
        Ok(is_whole)
    }

    /// Hands the memory to the kernel: what is missing from here on is zero. Call only after all that the source has was
    /// delivered.
    pub(crate) fn let_go(&self) -> Result<(), Ended> {
        for region in self.space.regions() {
            match self.memory.unregister(region.address, region.len) {
                Err(Errno::SRCH) => return Err(Ended::VmGone),
                // It is not mapped any more, or something else is: nobody waits there for a page of the session's.
                Err(errno) => tracing::debug!(%errno, "memory at {:#x} is not let go", region.address),
                Ok(()) => {}
            }
        }
        Ok(())
    }

    pub(crate) fn stats(&self) -> &Stats {
        &self.stats
    }
}

fn read(source: &dyn PageSource, offset: u64, bytes: &mut [u8], worth: Worth) -> Result<(), Ended> {
    let read = match worth {
        Worth::Waiting => source.read(offset, bytes),
        Worth::One | Worth::Ahead => source.read_ahead(offset, bytes),
    };
    read.map_err(|source| Ended::Source { offset, source })
}
