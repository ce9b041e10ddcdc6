//! The balloon, on request: its size, what the guest says of its memory, and all free memory back before a snapshot.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use event_manager::EventOps;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

use super::{Supervisor, Token};
use crate::control::{Answer, Balloon, BalloonStats, Fault, Letter, Reply};
use crate::machine::{Reclaimed, Reclaiming};

/// Pages of 4 KiB in a MiB.
const PAGES: u64 = 256;

fn none() -> Fault {
    Fault::refused("the VM has no balloon").with_hint("start it with --balloon")
}

impl Supervisor<'_> {
    /// Sets the size that the guest is to reach. It does so when it gets to it, and when its free memory is not wanted any
    /// more.
    pub(super) fn set_balloon(&mut self, size: Balloon) -> Reply {
        let Balloon { amount_mib } = size;
        let memory_mib = self.life.memory_bytes() >> 20;
        if amount_mib > memory_mib {
            let refusal =
                format!("a balloon of {amount_mib} MiB is larger than the guest, which has {memory_mib}");
            return Err(Fault::refused(refusal));
        }
        let pages = u32::try_from(amount_mib * PAGES);
        let pages =
            pages.map_err(|_| Fault::refused("the balloon protocol has no number for that many pages"))?;
        let valve = self.life.valve().ok_or_else(none)?;
        match &mut self.waiting {
            Some(waiting) => waiting.reclaiming.go_back_to(pages),
            None => valve.want(pages),
        }
        Ok(Answer::Done)
    }

    pub(super) fn describe_balloon(&self) -> Reply {
        let valve = self.life.valve().ok_or_else(none)?;
        let pages = match &self.waiting {
            Some(waiting) => waiting.reclaiming.goes_back_to(),
            None => valve.wanted(),
        };
        Ok(Answer::Balloon(Balloon { amount_mib: u64::from(pages) / PAGES }))
    }

    /// What the guest has said last; it is asked to say it anew for the next time.
    pub(super) fn balloon_stats(&self) -> Reply {
        let valve = self.life.valve().ok_or_else(none)?;
        let (stats, _) = valve.stats().unwrap_or_default();
        valve.ask_for_stats();
        let (target, actual) = (valve.wanted(), valve.actual());
        Ok(Answer::BalloonStats(BalloonStats {
            target_pages: target,
            actual_pages: actual,
            target_mib: u64::from(target) / PAGES,
            actual_mib: u64::from(actual) / PAGES,
            swap_in: stats.swap_in,
            swap_out: stats.swap_out,
            major_faults: stats.major_faults,
            minor_faults: stats.minor_faults,
            free_memory: stats.free,
            total_memory: stats.total,
            available_memory: stats.available,
            disk_caches: stats.disk_caches,
        }))
    }

    /// Asks the guest for its free memory, of which it has `limit` to give what it can. The event loop goes on meanwhile.
    pub(super) fn begin_reclaim(
        &self,
        limit: Duration,
        ops: &mut EventOps<'_>,
    ) -> Result<(Reclaiming, OwnedFd), Fault> {
        let valve = self.life.valve().ok_or_else(none)?;
        if !self.life.is_running() {
            let refusal = Fault::refused("a paused guest cannot give memory back");
            return Err(refusal.with_hint("resume it first, or leave --reclaim out"));
        }
        let tick = every(Reclaiming::LOOK_AGAIN).map_err(|e| Fault::of(&e))?;
        let reclaiming = Reclaiming::begin(valve, limit).ok_or_else(|| {
            let refusal = Fault::refused("the guest does not say how much of its memory is free");
            refusal.with_hint("its kernel needs a driver for the balloon: the module virtio-balloon")
        })?;
        let watched = ops.add(Token::Reclaim.event(&tick));
        watched.map_err(|e| Fault::refused(format!("cannot wait for the guest: {e}")))?;
        Ok((reclaiming, tick))
    }

    /// Time has passed: if the guest has given its free memory back, or had time enough, the snapshot is taken that waits
    /// for that.
    pub(super) fn look_at_reclaim(&mut self, ops: &mut EventOps<'_>) {
        // The ticks keep the event loop from finding that nothing happens.
        self.retry_input();
        let Some(waiting) = &mut self.waiting else { return };
        let _ = rustix::io::read(&waiting.tick, &mut [0; 8]);
        let Some(how_far) = waiting.reclaiming.look() else { return };
        if how_far != Reclaimed::Whole {
            tracing::warn!(limit = ?waiting.limit, "the guest has not given all of its free memory back");
        }
        if let Some((letter, out, resume)) = self.end_wait(ops) {
            self.snapshot_now(letter, &out, resume, ops);
        }
    }

    /// Somebody wants the guest to stand still, and has it so: it gives nothing back any more. The snapshot that waits
    /// for that is taken as the guest is now, and does not make it run again.
    pub(super) fn wait_no_longer(&mut self, ops: &mut EventOps<'_>) {
        if let Some((letter, out, _)) = self.end_wait(ops) {
            tracing::warn!("the guest was paused before it had given all of its free memory back");
            self.snapshot_now(letter, &out, false, ops);
        }
    }

    fn end_wait(&mut self, ops: &mut EventOps<'_>) -> Option<(Letter, PathBuf, bool)> {
        let Waiting { letter, out, resume, limit: _, reclaiming: _, tick } = self.waiting.take()?;
        // Fails only if it is not watched, and it is.
        let _ = ops.remove(Token::Reclaim.event(&tick));
        Some((letter, out, resume))
    }
}

/// A snapshot that is taken when the guest has given its free memory back.
pub(super) struct Waiting {
    pub letter: Letter,
    pub out: PathBuf,
    pub resume: bool,
    pub limit: Duration,
    pub reclaiming: Reclaiming,
    /// Readable when it is time to look how far the guest is.
    pub tick: OwnedFd,
}

/// Becomes readable every `period`.
fn every(period: Duration) -> io::Result<OwnedFd> {
    let tick = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
    let period = Timespec { tv_sec: 0, tv_nsec: period.subsec_nanos().into() };
    let spec = Itimerspec { it_interval: period, it_value: period };
    timerfd_settime(&tick, TimerfdTimerFlags::empty(), &spec)?;
    Ok(tick)
}
