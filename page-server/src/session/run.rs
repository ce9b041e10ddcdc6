//! The loop of a session: faults first, then what is delivered ahead, then a short look-out, then sleep.

use std::fmt::Write as _;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use snapshot_format::handoff::FromServer;
use snapshot_format::pages::PAGE_BYTES;

use super::{Session, cpus};
use crate::fault::Ended;
use crate::prefetch::{Queue, Step};
use crate::trace::Cause;

/// Faults come one after the other if the next one comes within this many times the look-out.
const BUSY: u32 = 20;
/// How often a session that never sleeps looks whether it is wanted.
const LOOK_UP: u32 = 32;
/// The most that is read ahead of a guest at once, where it has to be waited for.
const MOST_AHEAD: usize = 8;

/// How a session ended.
#[derive(Debug)]
pub(crate) enum End {
    /// The VMM is gone, or has closed its connection.
    VmGone,
    /// Every page was delivered, because the server is to end.
    Complete,
    /// Another server is to go on, because this one is to end.
    Left,
    /// A page cannot be delivered.
    Lost(Ended),
}

/// Whether a session is wanted.
pub(super) enum Wanted {
    Yes,
    /// The VMM has closed its connection.
    No,
    /// The server is to end.
    Drain,
}

impl Session {
    /// Serves the VM until one of the three is gone. `stop` is readable once the server is to end.
    pub(crate) fn run(mut self, stop: Option<&impl AsFd>) -> End {
        // Whoever served this VM before may have read faults that were never answered.
        self.deliverer.wake_all();
        let end = self.serve_to_the_end(stop);
        if let Some(trace) = &self.options.trace {
            trace.flush();
        }
        end
    }

    pub(super) fn serve(&mut self, stop: Option<&impl AsFd>) -> Result<End, Ended> {
        let mut rounds: u32 = 0;
        let mut last_fault: Option<Instant> = None;
        loop {
            rounds = rounds.wrapping_add(1);
            if rounds.is_multiple_of(LOOK_UP) {
                match self.wait(stop, Some(Duration::ZERO))? {
                    Wanted::Yes => {}
                    Wanted::No => return Ok(End::VmGone),
                    Wanted::Drain => return self.drain(),
                }
            }
            if self.deliverer.look()? {
                self.deliverer.answer()?;
                let now = Instant::now();
                self.lookout.answered(now);
                last_fault = Some(now);
                continue;
            }
            // Not before the guest runs: until then its VM is being built, and has better uses for the processor.
            let has_begun = self.deliverer.stats().faults.get() > 0;
            let may_more = self.deliverer.under_way() < MOST_AHEAD;
            if has_begun
                && may_more
                && let Some(step) = self.ahead.next()
            {
                self.deliver_ahead(step)?;
                continue;
            }
            let busy = last_fault.is_some_and(|at| at.elapsed() < self.options.poll * BUSY);
            if busy && self.look_out()? {
                let now = Instant::now();
                self.lookout.answered(now);
                last_fault = Some(now);
                continue;
            }
            // There is time now, and a server that is killed writes nothing any more.
            if let Some(trace) = &self.options.trace {
                trace.flush();
            }
            match self.wait(stop, None)? {
                Wanted::Yes => {}
                Wanted::No => return Ok(End::VmGone),
                Wanted::Drain => return self.drain(),
            }
        }
    }

    fn deliver_ahead(&mut self, Step { offset, len }: Step) -> Result<(), Ended> {
        let failed = self.deliverer.failed_ahead().map(Err);
        let delivered = match failed.unwrap_or_else(|| self.deliverer.ahead(offset, len, Cause::Prefetch)) {
            // Nobody has asked for it yet. What the guest does ask for is worth the source's whole time.
            Err(error @ (Ended::Source { .. } | Ended::Place { .. })) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "nothing more is delivered ahead");
                self.ahead = Queue::default();
                return Ok(());
            }
            delivered => delivered?,
        };
        let stats = self.deliverer.stats();
        stats.prefetched.inc_by(delivered);
        stats.late.inc_by(len.saturating_sub(delivered));
        Ok(())
    }

    /// Looks for a fault without sleeping, for a moment, while there are CPUs to spare.
    fn look_out(&mut self) -> Result<bool, Ended> {
        let Self { deliverer, lookout, .. } = self;
        let found = lookout.look(self.options.poll, cpus(), || match deliverer.look() {
            Ok(false) => None,
            found => Some(found),
        });
        if found.transpose()? == Some(true) {
            self.deliverer.answer()?;
            return Ok(true);
        }
        Ok(false)
    }

    /// Waits until something happens, for as long as `limit`.
    pub(super) fn wait(
        &mut self,
        stop: Option<&impl AsFd>,
        limit: Option<Duration>,
    ) -> Result<Wanted, Ended> {
        let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
        let mut watched = Vec::with_capacity(4);
        watched.push(PollFd::new(&self.socket, PollFlags::IN));
        watched.push(PollFd::new(self.deliverer.memory(), PollFlags::IN));
        watched.extend(stop.map(|stop| PollFd::new(stop, PollFlags::IN)));
        let told = watched.len();
        watched.extend(self.deliverer.mailbox().map(|mailbox| PollFd::new(mailbox, PollFlags::IN)));
        match poll(&mut watched, limit.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Wanted::Yes),
            Err(errno) => return Err(Ended::Read(errno)),
        }
        let happened: Vec<PollFlags> = watched.iter().map(PollFd::revents).collect();
        drop(watched);
        if !happened[0].is_empty() && has_closed(&mut self.socket) {
            return Ok(Wanted::No);
        }
        if happened[1].intersects(PollFlags::ERR | PollFlags::NVAL) {
            // It was never told which features are wanted, so it will never tell of faults.
            return Err(Ended::Read(Errno::INVAL));
        }
        let drain = happened[..told].get(2).is_some_and(|flags| flags.contains(PollFlags::IN));
        Ok(if drain { Wanted::Drain } else { Wanted::Yes })
    }

    /// Delivers every page that is missing, faults first, and says so.
    fn drain(&mut self) -> Result<End, Ended> {
        // It connects to the same path again, and wakes all who wait: what this server has read of faults is raised again.
        if self.is_ours && self.options.handover {
            return Ok(End::Left);
        }
        let regions = self.deliverer.space().regions();
        // What the guest is known to want before the rest.
        let mut rest = Queue::new(regions.map(|region| Step { offset: region.offset, len: region.len }));
        let mut rounds: u32 = 0;
        loop {
            rounds = rounds.wrapping_add(1);
            if rounds.is_multiple_of(LOOK_UP)
                && let Wanted::No = self.wait(None::<&UnixStream>, Some(Duration::ZERO))?
            {
                return Ok(End::VmGone);
            }
            if self.deliverer.look()? {
                self.deliverer.answer()?;
            }
            let Some(step) = self.ahead.next().or_else(|| rest.next()) else { break };
            self.drain_step(step)?;
        }
        if self.deliverer.look()? {
            self.deliverer.answer()?;
        }
        // Ours looks whether that is so, and lets go itself.
        if self.is_ours {
            say(&mut self.socket, &FromServer::Complete);
        } else {
            self.let_go()?;
        }
        Ok(End::Complete)
    }

    /// Delivers what is missing of a step, page by page if not all of it can be had. A page that cannot is the end of one
    /// of ours; any other VM goes on without it, and without a server: it must find no zeros there, and nobody to wait for.
    fn drain_step(&mut self, Step { offset, len }: Step) -> Result<(), Ended> {
        match self.deliverer.ahead(offset, len, Cause::Drain) {
            Err(Ended::Source { .. } | Ended::Place { .. }) => {}
            done => return done.map(drop),
        }
        for offset in (offset..offset + len).step_by(PAGE_BYTES as usize) {
            // Where one is lost for good there is little hope for others, and as many as may be are to be saved in time.
            match self.deliverer.page(offset, self.lost.is_none()) {
                Err(error @ (Ended::Source { .. } | Ended::Place { .. })) if !self.is_ours => {
                    self.lose(error)?;
                }
                done => done?,
            }
        }
        Ok(())
    }
}

/// Says something to a VMM, which may not listen.
pub(crate) fn say(socket: &mut UnixStream, said: &FromServer) {
    const PATIENCE: Duration = Duration::from_secs(1);
    let _ = socket.set_write_timeout(Some(PATIENCE));
    if let Err(error) = socket.write_all(&said.encode()) {
        tracing::debug!(%error, "the VMM does not listen");
    }
}

/// An error and its causes, one behind the other.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}

/// Whether the other side has closed. What it says is of no interest.
fn has_closed(socket: &mut UnixStream) -> bool {
    let mut heard = [0; 256];
    let _ = socket.set_nonblocking(true);
    let read = socket.read(&mut heard);
    let _ = socket.set_nonblocking(false);
    match read {
        Ok(len) => len == 0,
        Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
    }
}
