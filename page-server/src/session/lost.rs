//! What becomes of a VM whose page cannot be had.
//!
//! One of ours is told, and ends itself. Any other understands nothing: the page is poisoned (`UFFDIO_POISON`), so that
//! whoever touches it fails, and the rest is served. Where the kernel cannot poison (before Linux 6.6), the process is
//! ended; where that is not allowed either, its memory stays registered for as long as it lives, so that whoever touches
//! the page waits, and finds no zeros there.

#[cfg(test)]
#[path = "lost_test.rs"]
mod lost_test;

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use snapshot_format::handoff::{FromServer, Mapping};

use super::foreign::Foreign;
use super::run::{End, Wanted, chain, say};
use super::{Peer, Session};
use crate::fault::Ended;
use crate::sys::uffd::Memory;

/// How often a page that is lost to a VM that nothing can be done about is looked for once more.
const AGAIN: Duration = Duration::from_secs(1);

/// How long poisoning all of a VM's memory may take: the kernel does some gigabytes a second.
pub(super) const FORSAKING: Duration = Duration::from_secs(5);

/// How long a process that was killed may take to end: the kernel frees some gigabytes a second, too.
const DYING: Duration = Duration::from_secs(5);

impl Session {
    /// Serves the VM until it needs no server any more, whatever is lost meanwhile.
    pub(super) fn serve_to_the_end(&mut self, stop: Option<&impl AsFd>) -> End {
        let end = loop {
            match self.serve(stop) {
                Ok(end) => break end,
                Err(Ended::VmGone) => break End::VmGone,
                Err(lost) => {
                    if self.lose(lost).is_err() {
                        break End::VmGone;
                    }
                }
            }
        };
        self.lost.take().map_or(end, End::Lost)
    }

    /// Keeps the guest from going on as if a page that is lost were zero, and remembers the first such page.
    ///
    /// # Errors
    /// The session is over, perhaps by this.
    pub(super) fn lose(&mut self, lost: Ended) -> Result<(), Ended> {
        let why = chain(&lost);
        let offset = match lost {
            Ended::Source { offset, .. } | Ended::Place { offset, .. } => Some(offset),
            Ended::VmGone | Ended::Read(_) => None,
        };
        self.lost.get_or_insert(lost);
        let Some(offset) = offset else { return Err(Ended::VmGone) };
        if self.is_ours {
            say(&mut self.socket, &FromServer::Lost { offset, cause: why });
            return Err(Ended::VmGone);
        }
        self.losses += 1;
        if self.deliverer.poison(offset)? {
            // A source that has gone loses every page.
            if self.losses.is_power_of_two() {
                let losses = self.losses;
                tracing::error!(losses, "a page is lost to a VM, which fails if it touches it: {why}");
            }
            return Ok(());
        }
        if self.is_kept {
            return Ok(());
        }
        match self.peer.as_deref().map(Peer::end) {
            Some(Err(error)) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "a page is lost to a VM, which waits if it touches it: {why}");
                self.is_kept = true;
                Ok(())
            }
            Some(Ok(())) => {
                tracing::error!("a VM was killed, because a page is lost to it: {why}");
                Err(Ended::VmGone)
            }
            None => Err(Ended::VmGone),
        }
    }

    /// Every page was delivered, but for those that were poisoned: the VM needs no server any more. If one is neither,
    /// it is not let go: its memory stays registered until it ends, or the page can be had after all.
    pub(super) fn let_go(&mut self) -> Result<(), Ended> {
        while self.is_kept {
            if let Wanted::No = self.wait(None::<&UnixStream>, Some(AGAIN))? {
                return Err(Ended::VmGone);
            }
            // Faults stay where they are: whoever waits is woken by the page, and by nothing else.
            self.deliverer.look()?;
            self.is_kept = !self.deliverer.deliver_rest()?;
        }
        self.deliverer.let_go()
    }
}

/// A VM that is not ours and is not served: whoever touches its memory fails, or its process is ended, rather than wait for
/// ever for pages that nobody delivers, or find zeros in their place once the userfaultfd is closed.
pub(super) fn forsake(foreign: Foreign, limit: Instant) {
    let Foreign { mut memory, mappings, peer } = foreign;
    let deadline = limit.min(Instant::now() + FORSAKING);
    let poisoned = memory.take_over(deadline)
        && mappings.iter().all(|mapping| poison_all(&mut memory, mapping, deadline));
    if poisoned {
        tracing::warn!("a VM that is not served fails when it touches its memory");
        return;
    }
    match peer.end_within(DYING) {
        Ok(()) => tracing::warn!("a VM that is not served was killed"),
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, "a VM that is not served waits for its memory for ever");
        }
    }
}

/// Poisons every page of a region that is missing. Says whether that is done.
fn poison_all(memory: &mut Memory, mapping: &Mapping, deadline: Instant) -> bool {
    let Mapping { address, len, page_bytes: page, .. } = *mapping;
    let (mut at, mut step, mut events) = (0, len, Vec::new());
    while at < len {
        if Instant::now() >= deadline {
            return false;
        }
        match memory.poison(address + at, step.min(len - at)) {
            Ok(done) => at += done.max(page),
            Err(Errno::EXIST) => at += page,
            // Not all of it is one mapping, or registered: in smaller parts, down to a page that is not.
            Err(Errno::NOENT) if step > page => step = (step / 2).next_multiple_of(page),
            Err(Errno::NOENT) => at += page,
            Err(Errno::AGAIN) => {
                // The process is giving memory back, and waits until that is heard.
                if memory.read(&mut events).is_err() {
                    return false;
                }
                events.clear();
                thread::yield_now();
            }
            Err(errno) => return errno == Errno::SRCH,
        }
    }
    true
}

/// Says at the start of a session that pages which are lost to it could not be poisoned.
pub(super) fn warn_of_kernel(memory: &Memory) {
    if !memory.can_poison() {
        tracing::warn!(
            "this kernel cannot poison a page (Linux 6.6 can): a VM that loses one is killed, if that is allowed"
        );
    }
}
