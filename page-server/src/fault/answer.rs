//! Faults, one by one: each is answered at once if its page can be had at once, and beside the others if not.

use super::deliver::{Deliverer, Ended, Fault};
use super::space::{Kind, Spot};
use crate::trace;
use snapshot_format::pages::PAGE_BYTES;

impl Deliverer {
    /// Places what was read beside, and answers every fault that waits, or has it answered once its page was read.
    pub(crate) fn answer(&mut self) -> Result<(), Ended> {
        self.place_arrived()?;
        while let Some(fault) = self.waiting.pop_front() {
            self.stats.faults.inc();
            let Some(spot) = self.space.find(fault.address) else {
                // Of memory that was not handed over: the kernel would not have told.
                self.memory.wake(fault.address - fault.address % PAGE_BYTES, PAGE_BYTES);
                continue;
            };
            let (_, offset, _) = self.space.place(spot);
            if self.space.kind(spot) == Kind::Missing && self.expected.contains(offset) {
                self.stats.set_faults.inc();
            }
            if !self.joins(fault) {
                self.answer_one(fault, spot, false)?;
            }
        }
        Ok(())
    }

    /// Delivers the page of a fault, alone if `is_urgent`: what is around it could not be had.
    pub(super) fn answer_one(&mut self, fault: Fault, spot: Spot, is_urgent: bool) -> Result<(), Ended> {
        let (_, offset, _) = self.space.place(spot);
        self.beside.answer(Some(fault.address));
        let delivered = match self.space.kind(spot) {
            Kind::Missing | Kind::Removed if !is_urgent => match self.deliver_around(spot, fault.address) {
                // It may be a neighbour that cannot be had, which nobody has asked for yet.
                Err(Ended::Source { .. } | Ended::Place { .. }) => self.insist(spot),
                delivered => delivered,
            },
            _ => self.insist(spot),
        };
        let handed = self.beside.answer(None);
        let delivered = delivered?;
        if !self.awaits(handed, fault) {
            self.answered(fault, offset, delivered);
        }
        Ok(())
    }

    /// A fault's page is there.
    pub(super) fn answered(&self, fault: Fault, offset: u64, delivered: u64) {
        let took = fault.read_at.elapsed();
        self.stats.latency.observe(took);
        self.stats.demanded.inc_by(delivered);
        self.record(trace::Cause::Fault { write: fault.write }, offset, delivered, took);
    }
}
