//! Reads that have to be waited for, beside the answering of other faults.
//!
//! A session's thread reads what it can have at once, and hands the rest to the threads of [`Pool`]. They only read: what has
//! come is placed by the session's thread, so that what is known of the guest's memory stays in one place. A page
//! that was placed, removed or unregistered meanwhile is met as it always is, by what the kernel answers.

#[cfg(test)]
#[path = "beside_test.rs"]
mod beside_test;

use std::sync::Arc;

use super::deliver::{Deliverer, Ended, Fault, Worth};
use super::space::Kind;
use crate::source::pool::{Arrived, Haste, Job, Mailbox, Pool};

/// The most reads of a session at once; what is beyond is read as if there were no threads. A guest has a few faults for
/// each vCPU, so that is a VMM that wants to fill this process's memory.
const MOST: usize = 256;

/// A read that is under way.
struct Read {
    id: u64,
    /// What is read is for these addresses.
    address: u64,
    offset: u64,
    len: u64,
    worth: Worth,
    /// What waits for it.
    faults: Vec<Fault>,
}

/// The reads of one session.
#[derive(Default)]
pub(super) struct Beside {
    mailbox: Option<Arc<Mailbox>>,
    under_way: Vec<Read>,
    next: u64,
    /// The fault that is being answered.
    wanted: Option<u64>,
    /// The read that it waits for.
    handed: Option<u64>,
    /// Bytes that were handed over ahead of the guest and were not counted yet.
    ahead: u64,
    /// Whether reads are handed over at all.
    is_on: bool,
    /// Why something that was to come ahead could not be had.
    failed_ahead: Option<Ended>,
}

impl Beside {
    /// The fault at this address is being answered, or no more; gives the read that the one before waits for.
    pub(super) fn answer(&mut self, wanted: Option<u64>) -> Option<u64> {
        self.wanted = wanted;
        self.handed.take()
    }

    /// Hands a read over. Says whether that was possible.
    fn hand(
        &mut self,
        pool: &'static Pool,
        mut read: Read,
        job: impl FnOnce(u64, Arc<Mailbox>) -> Job,
    ) -> bool {
        if self.mailbox.is_none() {
            self.mailbox = Mailbox::new().ok();
        }
        let Some(mailbox) = self.mailbox.as_ref().filter(|_| self.under_way.len() < MOST) else {
            return false;
        };
        self.next += 1;
        read.id = self.next;
        if pool.read(job(read.id, Arc::clone(mailbox))).is_err() {
            return false;
        }
        self.under_way.push(read);
        true
    }

    /// The read that brings the page at `address`.
    fn of(&mut self, address: u64) -> Option<&mut Read> {
        self.under_way.iter_mut().find(|read| (read.address..read.address + read.len).contains(&address))
    }
}

impl Deliverer {
    /// From here on, what has to be waited for is read by other threads: for a fault, or ahead of the guest.
    pub(crate) fn read_beside(&mut self) {
        self.beside.is_on = true;
    }

    /// Readable once something has come that was read beside, if anything ever was.
    pub(crate) fn mailbox(&self) -> Option<&Mailbox> {
        self.beside.mailbox.as_deref()
    }

    /// Whether something has come that is to be placed.
    pub(super) fn has_arrived(&self) -> bool {
        !self.beside.under_way.is_empty() && self.mailbox().is_some_and(|mailbox| !mailbox.is_empty())
    }

    /// How many reads have not come yet.
    pub(crate) fn under_way(&self) -> usize {
        self.beside.under_way.len()
    }

    /// Why something that was to come ahead of the guest could not be had, if that was so since the last time.
    pub(crate) fn failed_ahead(&mut self) -> Option<Ended> {
        self.beside.failed_ahead.take()
    }

    /// How many bytes are on their way ahead of the guest, since the last time.
    pub(super) fn handed_ahead(&mut self) -> u64 {
        std::mem::take(&mut self.beside.ahead)
    }

    /// Reads one piece into the buffer, which it hands out: it may be longer. What cannot be had at once is handed over for
    /// `address`, if it is for a fault or comes ahead, and is `None`.
    pub(super) fn read_or_hand_over(
        &mut self,
        address: u64,
        offset: u64,
        len: u64,
        worth: Worth,
    ) -> Result<Option<Vec<u8>>, Ended> {
        if !self.beside.is_on || (self.beside.wanted.is_none() && worth != Worth::Ahead) {
            return self.read(offset, len, worth).map(Some);
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        if (buffer.len() as u64) < len {
            buffer.resize(len as usize, 0);
        }
        match self.source.read_now(offset, &mut buffer[..len as usize]) {
            Ok(true) => return Ok(Some(buffer)),
            Ok(false) => self.buffer = buffer,
            Err(source) => {
                self.buffer = buffer;
                return Err(Ended::Source { offset, source });
            }
        }
        if self.hand_over(address, offset, len, worth) {
            return Ok(None);
        }
        self.read(offset, len, worth).map(Some)
    }

    /// Hands a piece over. Says whether that was possible.
    fn hand_over(&mut self, address: u64, offset: u64, len: u64, worth: Worth) -> bool {
        let wanted = self.beside.wanted.filter(|wanted| (address..address + len).contains(wanted));
        let haste = match worth {
            Worth::Waiting => Haste::Waiting,
            Worth::One if wanted.is_some() => Haste::First,
            Worth::One | Worth::Ahead => Haste::Ahead,
        };
        let source = Arc::clone(&self.source);
        let read = Read { id: 0, address, offset, len, worth, faults: Vec::new() };
        let job = |id, to| Job { source, offset, len: len as usize, haste, id, to };
        let handed = self.beside.hand(Pool::shared(), read, job);
        if handed && wanted.is_some() {
            self.beside.handed = Some(self.beside.next);
        }
        if handed && worth == Worth::Ahead {
            self.beside.ahead += len;
        }
        handed
    }

    /// Has a fault wait for a read that is under way and brings its page, if there is one.
    pub(super) fn joins(&mut self, fault: Fault) -> bool {
        let is_missing =
            self.space.find(fault.address).is_some_and(|spot| self.space.kind(spot) == Kind::Missing);
        let Some(read) = self.beside.of(fault.address).filter(|_| is_missing) else { return false };
        read.faults.push(fault);
        let id = read.id;
        if let Some(mailbox) = &self.beside.mailbox {
            Pool::shared().hasten(mailbox, id);
        }
        true
    }

    /// Has a fault wait for the read that was handed over for it, if one was: else its page is there.
    pub(super) fn awaits(&mut self, handed: Option<u64>, fault: Fault) -> bool {
        let read = self.beside.under_way.iter_mut().find(|read| Some(read.id) == handed);
        read.map(|read| read.faults.push(fault)).is_some()
    }

    /// Places what has come.
    pub(super) fn place_arrived(&mut self) -> Result<(), Ended> {
        let Some(mailbox) = self.beside.mailbox.clone().filter(|_| self.has_arrived()) else { return Ok(()) };
        for Arrived { id, bytes } in mailbox.take() {
            let Some(at) = self.beside.under_way.iter().position(|read| read.id == id) else { continue };
            let read = self.beside.under_way.swap_remove(at);
            match bytes {
                Ok(bytes) => self.place_read(read, &bytes)?,
                Err(source) => self.fail(read, source)?,
            }
        }
        Ok(())
    }

    fn place_read(&mut self, read: Read, bytes: &[u8]) -> Result<(), Ended> {
        let Read { address, faults, .. } = read;
        let page = self.space.find(address).map_or(bytes.len() as u64, |spot| self.space.place(spot).2);
        let mut placed = match self.put_runs(address, bytes, page as usize) {
            // It may be a neighbour that cannot be placed.
            Err(Ended::Place { .. }) if read.worth != Worth::Waiting => return self.answer_urgently(faults),
            placed => placed?,
        };
        if faults.is_empty() && read.worth != Worth::Ahead {
            self.stats.demanded.inc_by(placed);
        }
        for fault in faults {
            let offset = read.offset + (fault.address - address) / page * page;
            self.answered(fault, offset, std::mem::take(&mut placed));
        }
        Ok(())
    }

    fn fail(&mut self, read: Read, source: crate::source::Error) -> Result<(), Ended> {
        let ended = Ended::Source { offset: read.offset, source };
        if read.worth == Worth::Waiting {
            return Err(ended);
        }
        if read.worth == Worth::Ahead && read.faults.is_empty() {
            self.beside.failed_ahead.get_or_insert(ended);
        }
        self.answer_urgently(read.faults)
    }

    /// It may be a neighbour that could not be had: each page that is waited for, by itself.
    fn answer_urgently(&mut self, faults: Vec<Fault>) -> Result<(), Ended> {
        for fault in faults {
            if self.joins(fault) {
                continue;
            }
            if let Some(spot) = self.space.find(fault.address) {
                self.answer_one(fault, spot, true)?;
            }
        }
        Ok(())
    }
}
