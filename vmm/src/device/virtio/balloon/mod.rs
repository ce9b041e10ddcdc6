//! The balloon (virtio 1.2, 5.5): memory that the guest gives back to the host.
//!
//! It gives in two ways. On its own it reports free blocks of 2 MiB and more (VIRTIO_BALLOON_F_REPORTING), a few seconds after
//! they became free; and on request it takes pages from its own free memory into the balloon, page by page, until the
//! balloon has the size that [`Valve`] asks for. Either way the driver waits for the answer before it uses a page again, and
//! when the answer comes, the page takes no space and reads as zero.
//!
//! Free-page hinting (VIRTIO_BALLOON_F_FREE_PAGE_HINT) is not offered. A driver may take a hinted page into use again
//! before the device has seen the hint (Linux does when memory runs short: `virtio_balloon_shrinker_scan`), so
//! a device must know which pages were written since, and dirty pages are not tracked here. Nor is page poisoning: a
//! driver that poisons free pages then does not report them.

mod pages;
mod saved;
mod stats;
mod valve;

#[cfg(test)]
mod balloon_test;

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use super::{Broken, Chain, ConfigSpace, Queues, VirtioDevice};

pub use saved::{SECTION, Wiring};
pub use stats::Stats;
pub use valve::{Reclaim, Valve};

/// The device ID.
const ID: u32 = 5;
/// To inflate, to deflate, statistics, and reporting, which a driver may look for in two places: see [`Role::of`]. Linux
/// reports up to 32 blocks at a time and needs a queue as long.
const QUEUES: [u16; 5] = [128, 128, 64, 64, 64];

/// Feature bits (5.5.3).
mod feature {
    pub(super) const STATS_VQ: u64 = 1 << 1;
    pub(super) const DEFLATE_ON_OOM: u64 = 1 << 2;
    pub(super) const REPORTING: u64 = 1 << 5;
}

/// What a queue is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Inflate,
    Deflate,
    Stats,
    Report,
    /// The driver may not use it.
    None,
}

impl Role {
    /// The standard numbers the queues (5.5.2); Linux leaves out those whose feature was not accepted, and numbers the
    /// rest without gaps (`vm_find_vqs`).
    fn of(queue: usize, features: u64) -> Self {
        let has = |feature| features & feature != 0;
        let optional = [(feature::STATS_VQ, Self::Stats), (feature::REPORTING, Self::Report)];
        let optional = optional.into_iter().filter(|(feature, _)| has(*feature)).map(|(_, role)| role);
        let in_standard = if queue == 4 && has(feature::REPORTING) { Self::Report } else { Self::None };
        [Self::Inflate, Self::Deflate].into_iter().chain(optional).nth(queue).unwrap_or(in_standard)
    }
}

/// The device.
#[derive(Debug)]
pub struct Balloon {
    // Connections.
    valve: Arc<Valve>,
    /// Whether the log has heard that the host is short of memory: a guest may try as often as it likes.
    failure_logged: bool,
    // Guest-visible state: the configuration space, which the valve shares.
    /// Follows from the features that the driver has accepted.
    features: u64,
    /// The buffer of statistics that the driver has lent, to be given back when newer ones are wanted. Given back when
    /// the machine comes to rest, too.
    lent: Option<u16>,
}

impl Balloon {
    /// A balloon at `valve`.
    #[must_use]
    pub fn new(valve: Arc<Valve>) -> Self {
        Self { valve, failure_logged: false, features: 0, lent: None }
    }

    /// Gives the buffer of statistics back, so that the driver fills it again.
    fn ask_for_stats(&mut self, queues: &mut Queues) -> Result<(), Broken> {
        let Some(head) = self.lent.take() else { return Ok(()) };
        let stats = (0..queues.count()).find(|queue| Role::of(*queue, self.features) == Role::Stats);
        match stats.and_then(|queue| queues.get_mut(queue)) {
            Some(queue) => queue.answer(head, 0),
            None => Ok(()),
        }
    }

    fn take_stats(&mut self, queue: usize, queues: &mut Queues) -> Result<(), Broken> {
        let Some(queue) = queues.get_mut(queue) else { return Ok(()) };
        loop {
            while let Some(chain) = queue.take()? {
                let stats = Stats::read(&chain.readable, queue.memory())?;
                self.valve.tell(stats);
                // A driver lends one buffer; of several the last counts.
                if let Some(before) = self.lent.replace(chain.head()) {
                    queue.answer(before, 0)?;
                }
            }
            if queue.is_to_rest() || !queue.listen()? {
                return Ok(());
            }
        }
    }

    /// Answers every chain of pages, whatever becomes of the pages: to give back is the driver's offer.
    fn take_pages(&mut self, role: Role, queue: usize, queues: &mut Queues) -> Result<(), Broken> {
        let Some(queue) = queues.get_mut(queue) else { return Ok(()) };
        let failure_logged = &mut self.failure_logged;
        queue.serve(|chain: &Chain, memory| {
            let given = match role {
                Role::Inflate => pages::numbered(&chain.readable, memory)?,
                Role::Report => pages::named(&chain.writable, memory),
                // Its pages come back as they are used.
                _ => Ok(0),
            };
            if let Err(error) = given
                && !std::mem::replace(failure_logged, true)
            {
                tracing::warn!(%error, "the host cannot take memory that the guest gives back");
            }
            Ok(0)
        })
    }
}

impl VirtioDevice for Balloon {
    fn id(&self) -> u32 {
        ID
    }

    fn label(&self) -> String {
        "the balloon".to_owned()
    }

    fn queue_sizes(&self) -> &'static [u16] {
        &QUEUES
    }

    fn features(&self) -> u64 {
        feature::STATS_VQ | feature::DEFLATE_ON_OOM | feature::REPORTING
    }

    fn config(&self) -> Arc<ConfigSpace> {
        self.valve.config()
    }

    fn activate(&mut self, driver_features: u64) {
        self.features = driver_features;
        self.valve.driver_is_there(driver_features & feature::STATS_VQ != 0);
    }

    fn reset(&mut self) {
        self.features = 0;
        self.lent = None;
        self.valve.driver_is_gone();
    }

    fn sources(&self) -> Vec<BorrowedFd<'_>> {
        vec![self.valve.wish()]
    }

    fn queue_ready(&mut self, queue: usize, queues: &mut Queues) -> Result<(), Broken> {
        match Role::of(queue, self.features) {
            Role::Stats => self.take_stats(queue, queues),
            Role::None => Ok(()),
            role => self.take_pages(role, queue, queues),
        }
    }

    fn source_ready(&mut self, _source: usize, queues: &mut Queues) -> Result<(), Broken> {
        let valve::Wishes { size, stats } = self.valve.take_wishes();
        if size {
            queues.interrupt().config_changed();
        }
        if stats { self.ask_for_stats(queues) } else { Ok(()) }
    }

    fn drain(&mut self, queues: &mut Queues) -> Result<(), Broken> {
        self.ask_for_stats(queues)
    }
}
