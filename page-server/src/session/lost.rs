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
use std::time::Duration;

use snapshot_format::handoff::FromServer;

use super::run::{End, Wanted, chain, say};
use super::{Peer, Session};
use crate::fault::Ended;
use crate::sys::uffd::Memory;

/// How often a page that is lost to a VM that nothing can be done about is looked for once more.
const AGAIN: Duration = Duration::from_secs(1);

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
        if self.deliverer.poison(offset)? {
            tracing::error!("a page is lost to a VM, which fails if it touches it: {why}");
            return Ok(());
        }
        match self.peer.as_ref().map(Peer::end) {
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

/// Says at the start of a session that pages which are lost to it could not be poisoned.
pub(super) fn warn_of_kernel(memory: &Memory) {
    if !memory.can_poison() {
        tracing::warn!(
            "this kernel cannot poison a page (Linux 6.6 can): a VM that loses one is killed, if that is allowed"
        );
    }
}
