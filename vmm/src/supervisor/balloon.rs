//! The balloon, on request: its size, what the guest says of its memory, and all free memory back before a snapshot.

use std::time::Duration;

use super::Supervisor;
use crate::control::{Answer, Balloon, BalloonStats, Fault, Reply};
use crate::machine::{Reclaimed, reclaim};

/// Pages of 4 KiB in a MiB.
const PAGES: u64 = 256;

fn none() -> Fault {
    Fault::refused("the VM has no balloon").with_hint("start it with --balloon")
}

impl Supervisor<'_> {
    /// Sets the size that the guest is to reach. It does so when it gets to it.
    pub(super) fn set_balloon(&self, size: Balloon) -> Reply {
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
        self.life.valve().ok_or_else(none)?.want(pages);
        Ok(Answer::Done)
    }

    pub(super) fn describe_balloon(&self) -> Reply {
        let valve = self.life.valve().ok_or_else(none)?;
        Ok(Answer::Balloon(Balloon { amount_mib: u64::from(valve.wanted()) / PAGES }))
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

    /// Has the guest give its free memory back, for `limit` at most; a snapshot follows, whatever became of it. Meanwhile
    /// nothing else is done on request: whoever asks waits, and a signal ends the wait.
    pub(super) fn reclaim(&self, limit: Duration) -> Result<(), Fault> {
        let valve = self.life.valve().ok_or_else(none)?;
        if !self.life.is_running() {
            let refusal = Fault::refused("a paused guest cannot give memory back");
            return Err(refusal.with_hint("resume it first, or leave --reclaim out"));
        }
        match reclaim(valve, limit, &mut || self.signals.is_pending() || self.life.has_stopped()) {
            Reclaimed::Whole => Ok(()),
            Reclaimed::InPart => {
                tracing::warn!(?limit, "the guest has not given all of its free memory back");
                Ok(())
            }
            Reclaimed::NoDriver => {
                let refusal = Fault::refused("the guest does not say how much of its memory is free");
                Err(refusal.with_hint("its kernel needs a driver for the balloon: the module virtio-balloon"))
            }
        }
    }
}
