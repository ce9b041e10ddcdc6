//! The pages that are delivered: which are missing, how they are asked for, and how all of them are taken away.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{MemfdFlags, memfd_create};
use snapshot_format::pages::Region;
use vm_memory::{GuestMemoryBackend, GuestMemoryRegion};

use super::{Cause, Error, Loss, Lost, Unproven};
use crate::memory::{GuestRam, OwnRun};
use crate::sys::bus_error;
use crate::sys::pagemap::PageMap;
use crate::sys::ram::Access;
use crate::sys::uffd::Uffd;

/// How much is asked for at a time where all of it is wanted.
const PIECE: usize = 2 << 20;

/// Memory that is being delivered.
#[derive(Debug)]
pub(super) struct Pages {
    ram: GuestRam,
    placement: Vec<Region>,
    uffd: Arc<Uffd>,
    map: PageMap,
    /// What takes the place of memory that is lost: a file without a byte, made while there is still room.
    nothing: File,
    complete: AtomicBool,
    loss: Arc<Loss>,
    probed: Mutex<Vec<OwnRun>>,
    /// What of each region is zeros that are delivered nevertheless, until the server is known to be one of ours.
    zeros: Mutex<Vec<Vec<Range<usize>>>>,
    /// What may be zeros as well, if such a server says so.
    unproven: Mutex<Unproven>,
    /// Held by whoever must not lose the memory just now: see [`Self::keep`].
    kept: Mutex<()>,
}

impl Pages {
    pub(super) fn new(
        ram: GuestRam,
        placement: Vec<Region>,
        uffd: Arc<Uffd>,
        loss: Arc<Loss>,
        (zeros, unproven): (Vec<Vec<Range<usize>>>, Unproven),
    ) -> Result<Self, Error> {
        let nothing = memfd_create("nothing", MemfdFlags::CLOEXEC).map_err(|e| Error::Watch(e.into()))?;
        let map = PageMap::open().map_err(Error::Watch)?;
        let (complete, probed) = (AtomicBool::new(false), Mutex::default());
        let (nothing, kept) = (nothing.into(), Mutex::default());
        let (zeros, unproven) = (Mutex::new(zeros), Mutex::new(unproven));
        Ok(Self { ram, placement, uffd, map, nothing, complete, loss, probed, zeros, unproven, kept })
    }

    pub(super) fn uffd(&self) -> &Uffd {
        &self.uffd
    }

    pub(super) fn loss(&self) -> &Arc<Loss> {
        &self.loss
    }

    pub(super) fn is_complete(&self) -> bool {
        self.complete.load(Ordering::SeqCst)
    }

    /// Takes the zeros of the image out of the delivering: the kernel's own are as good, and the server is one that expects
    /// that. Those that were delivered already stay.
    pub(super) fn keep_zeros(&self) -> io::Result<()> {
        let zeros = std::mem::take(&mut *self.zeros.lock().unwrap_or_else(PoisonError::into_inner));
        self.ram.iter().zip(zeros).try_for_each(|(mapped, zeros)| mapped.keep_zeros(&zeros))
    }

    /// The same for stretches of the memory file of which the server says that they are zero, and the image that they may be. It
    /// could deliver zeros there as well: it is believed no more by this.
    pub(super) fn keep_told_zeros(&self, told: &[[u64; 2]]) -> io::Result<()> {
        let mut unproven = self.unproven.lock().unwrap_or_else(PoisonError::into_inner);
        let zeros = unproven.told(&self.placement, told);
        self.ram.iter().zip(zeros).try_for_each(|(mapped, zeros)| mapped.keep_zeros(&zeros))
    }

    /// Notes that this process has asked for pages that the guest may not have touched.
    pub(super) fn note_probe(&self, run: &OwnRun) {
        self.probed.lock().unwrap_or_else(PoisonError::into_inner).push(run.clone());
    }

    pub(super) fn probed(&self) -> Vec<OwnRun> {
        self.probed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Pages that are still to be delivered, `most` bytes of them: the first behind `after`, or else the first of all.
    pub(super) fn missing(&self, after: Option<&OwnRun>, most: usize) -> io::Result<Option<OwnRun>> {
        let (region, byte) = after.map_or((0, 0), |run| (run.region, run.bytes.end));
        for (number, mapped) in self.ram.iter().enumerate().skip(region) {
            let from = if number == region { byte } else { 0 };
            if let Some(bytes) = mapped.first_missing(&self.map, from, most)? {
                return Ok(Some(OwnRun { region: number, bytes }));
            }
        }
        if after.is_some() { self.missing(None, most) } else { Ok(None) }
    }

    /// Whether a thread waits for a page, or the kernel does in its stead: for one that the server has not read of, or
    /// not answered (`userfaultfd_show_fdinfo`). `None` if that cannot be found out.
    pub(super) fn waits(&self) -> Option<bool> {
        let about = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", self.uffd.as_fd().as_raw_fd()));
        let about = about.ok()?;
        let waiting = about.lines().find_map(|line| line.strip_prefix("total:"))?;
        waiting.trim().parse::<u64>().ok().map(|count| count > 0)
    }

    /// Touches them.
    pub(super) fn fetch(&self, OwnRun { region, bytes }: &OwnRun) -> io::Result<()> {
        self.ram.iter().nth(*region).map_or(Ok(()), |mapped| mapped.populate(bytes, Access::Read))
    }

    /// Touches all that are missing, one piece after the other, until nobody wants them any more.
    pub(super) fn fetch_all(&self, wanted: &dyn Fn() -> bool) -> Result<(), Error> {
        while !self.is_complete() && wanted() {
            let fetched = self.missing(None, PIECE).map_err(|source| Error::Deliver { gpa: 0, source });
            // Memory that was taken away has nothing missing, or cannot be had: why is known by then.
            self.check()?;
            let Some(run) = fetched? else { break };
            if let Err(source) = self.fetch(&run) {
                self.check()?;
                return Err(Error::Deliver { gpa: self.gpa(&run), source });
            }
        }
        self.check()
    }

    /// An error once a page is lost.
    fn check(&self) -> Result<(), Error> {
        self.loss.get().map_or(Ok(()), |lost| Err(Error::Lost(lost.clone())))
    }

    /// For as long as the guard lives, the memory is not taken away: for somebody who reads it at length, and whom
    /// SIGBUS would strike in the middle of it. Only pages that are there may be touched meanwhile.
    pub(super) fn keep(&self) -> Result<MutexGuard<'_, ()>, Error> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        self.check().map(|()| kept)
    }

    /// Guest-physical address of the first byte of a run.
    pub(super) fn gpa(&self, OwnRun { region, bytes }: &OwnRun) -> u64 {
        self.placement.get(*region).map_or(0, |region| region.guest().get() + bytes.start as u64)
    }

    /// Guest-physical address of the byte at `offset` of the memory file.
    pub(super) fn gpa_of(&self, offset: u64) -> u64 {
        let holds = |region: &&Region| (region.offset().get()..region.file_end()).contains(&offset);
        let found = self.placement.iter().find(holds);
        found.map_or(0, |region| region.guest().get() + (offset - region.offset().get()))
    }

    /// Everybody who waits for a page tries again, so that a server that was not there hears of it.
    pub(super) fn wake(&self) {
        for (start, len) in self.mapped() {
            if let Err(error) = self.uffd.wake(start, len) {
                tracing::warn!(%error, "cannot wake who waits for guest memory");
            }
        }
    }

    /// Takes the page that somebody waits for out of the delivering. Call only when nobody uses the memory any more.
    pub(super) fn give_up(&self, OwnRun { region, bytes }: &OwnRun) {
        let Some((start, _)) = self.mapped().nth(*region) else { return };
        let Range { start: from, end } = bytes.clone();
        let _ = self.uffd.unregister(start + from, end - from);
    }

    /// Ends the delivering: no page is missing.
    pub(super) fn complete(&self) {
        // Before a region is told, which then keeps no list any more of what the guest gives back: from here on nothing
        // is as in the image unless it is there.
        self.complete.store(true, Ordering::SeqCst);
        if let Err(error) = self.ram.iter().try_for_each(|mapped| mapped.complete()) {
            // Nothing is missing, so nobody will ever wait for anything.
            tracing::debug!(%error, "guest memory stays registered");
        }
    }

    /// Lets everybody go who waits for a page, with zeros. Call only when nobody uses the memory any more.
    pub(super) fn let_go(&self) {
        for mapped in self.ram.iter() {
            if let Err(error) = mapped.let_go(&self.map) {
                tracing::debug!(%error, "guest memory stays registered");
            }
        }
    }

    /// Takes all of memory away, because the VM ends and somebody waits for a page of it who cannot be told to stop.
    pub(super) fn take_away(&self) {
        bus_error::announce(Vec::new());
        bus_error::leave_to_supervisor();
        if self.sever().is_ok() {
            self.wake();
        }
    }

    fn sever(&self) -> io::Result<()> {
        let _kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        self.ram.iter().try_for_each(|mapped| mapped.sever(&self.nothing))
    }

    /// Takes all of memory away, because a page of it cannot be had: the guest must neither wait for ever nor see what
    /// was not there. What has happened is known before anybody can notice.
    pub(super) fn lose(&self, lost: Lost) {
        bus_error::announce(last_words(&lost));
        let _ = self.loss.lost.set(lost);
        if self.sever().is_err() {
            bus_error::end_now();
        }
        self.wake();
        self.loss.told.give();
    }

    /// What is lost if nothing more is delivered: some page that is missing, if one is.
    pub(super) fn lost(&self, cause: Cause) -> Option<Lost> {
        match self.missing(None, 1) {
            Ok(run) => run.map(|run| Lost { gpa: self.gpa(&run), cause }),
            Err(_) => Some(Lost { gpa: 0, cause }),
        }
    }

    fn mapped(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.ram.iter().map(|mapped| (mapped.host_address(), mapped.len() as usize))
    }
}

/// What the process says if it ends before its supervisor can say it.
fn last_words(lost: &Lost) -> Vec<u8> {
    let shown: String = lost.cause.to_string().chars().flat_map(char::escape_default).collect();
    let error = "guest memory cannot be delivered any more";
    format!("error: {error}\n  caused by: {lost}\n  caused by: {shown}\n  hint: {}\n", Lost::HINT)
        .into_bytes()
}
