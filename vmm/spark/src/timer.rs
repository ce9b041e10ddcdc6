//! Waiting for the LAPIC timer's interrupt.

use crate::apic;
use crate::clock;
use crate::trap::TIMER_EVENT;

const MS: u64 = 1_000_000;
/// How long the timer is compared with kvmclock, in ns.
const CALIBRATION: u64 = 2 * MS;

/// The timer, and how fast it counts.
#[derive(Default)]
pub struct Timer {
    /// Ticks and the ns of kvmclock that they took; not measured yet while either is 0.
    ticks: u64,
    ns: u64,
}

impl Timer {
    /// The longest wait, in ms: about what the 32-bit counter can hold at KVM's 1 GHz divided by 16.
    pub const LONGEST: u64 = 60_000;

    /// Sleeps until a one-shot interrupt `ms` from now has come, and returns the ns that it took by kvmclock. A wait of
    /// more than [`Self::LONGEST`] ends when the counter does.
    pub fn sleep(&mut self, ms: u64) -> Result<u64, &'static str> {
        let ticks = self.ticks(ms)?;
        let start = clock::now()?;
        TIMER_EVENT.clear();
        apic::arm(ticks);
        while !TIMER_EVENT.is_set() {
            TIMER_EVENT.wait();
        }
        Ok(clock::now()?.saturating_sub(start))
    }

    /// Has [`TIMER_EVENT`] set `ms` from now, in place of whatever the timer was to do.
    pub fn arm(&mut self, ms: u64) -> Result<(), &'static str> {
        let ticks = self.ticks(ms)?;
        TIMER_EVENT.clear();
        apic::arm(ticks);
        Ok(())
    }

    /// What the timer counts in `ms`, at least 1: a count of 0 would stop it.
    fn ticks(&mut self, ms: u64) -> Result<u32, &'static str> {
        if self.ticks == 0 || self.ns == 0 {
            self.calibrate()?;
        }
        let ticks = ms as u128 * MS as u128 * self.ticks as u128 / self.ns as u128;
        Ok(u32::try_from(ticks).unwrap_or(u32::MAX).max(1))
    }

    fn calibrate(&mut self) -> Result<(), &'static str> {
        loop {
            let start = clock::now()?;
            apic::start_counting();
            while clock::now()? < start + CALIBRATION {}
            self.ticks = apic::counted() as u64;
            self.ns = clock::now()?.saturating_sub(start);
            // More than that is a pause or a snapshot, which the clock counts and the timer does not.
            if self.ns < 2 * CALIBRATION {
                return Ok(());
            }
        }
    }
}
