//! The pages that are delivered: which are missing, how they are asked for, and how all of them are taken away.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{MemfdFlags, memfd_create};
use snapshot_format::pages::Region;
use vm_memory::{GuestMemoryBackend, GuestMemoryRegion};

use super::{Cause, Error, Loss, Lost};
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
}

impl Pages {
    pub(super) fn new(
        ram: GuestRam,
        placement: Vec<Region>,
        uffd: Arc<Uffd>,
        loss: Arc<Loss>,
    ) -> Result<Self, Error> {
        let nothing = memfd_create("nothing", MemfdFlags::CLOEXEC).map_err(|e| Error::Watch(e.into()))?;
        let map = PageMap::open().map_err(Error::Watch)?;
        let (complete, probed) = (AtomicBool::new(false), Mutex::default());
        Ok(Self { ram, placement, uffd, map, nothing: nothing.into(), complete, loss, probed })
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

    /// Touches them.
    pub(super) fn fetch(&self, OwnRun { region, bytes }: &OwnRun) -> io::Result<()> {
        self.ram.iter().nth(*region).map_or(Ok(()), |mapped| mapped.populate(bytes, Access::Read))
    }

    /// Touches all that are missing, one piece after the other.
    pub(super) fn fetch_all(&self) -> Result<(), Error> {
        let failed = |gpa| move |source| Error::Deliver { gpa, source };
        while !self.is_complete() {
            let Some(run) = self.missing(None, PIECE).map_err(failed(0))? else { break };
            self.fetch(&run).map_err(failed(self.gpa(&run)))?;
        }
        // Memory that was taken away has nothing missing.
        match self.loss.get() {
            Some(Lost { gpa, .. }) => Err(failed(*gpa)(io::Error::from_raw_os_error(libc::EFAULT))),
            None => Ok(()),
        }
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
        let ended = self.ram.iter().try_for_each(|mapped| mapped.complete());
        match ended {
            Ok(()) => self.complete.store(true, Ordering::SeqCst),
            // Nothing is missing, so nobody will ever wait for anything.
            Err(error) => tracing::debug!(%error, "guest memory stays registered"),
        }
    }

    /// Takes all of memory away, because a page of it cannot be had: the guest must neither wait for ever nor see what
    /// was not there. What has happened is known before anybody can notice.
    pub(super) fn lose(&self, lost: Lost) {
        bus_error::announce(last_words(&lost));
        let _ = self.loss.lost.set(lost);
        if self.ram.iter().try_for_each(|mapped| mapped.sever(&self.nothing)).is_err() {
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
