//! Where the time of a restore went.

use std::time::{Duration, Instant};

use crate::clock::TimeShift;

/// The phases of one restore, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What was done, and for how long.
    pub phases: Vec<Phase>,
    /// Whether all guest TSCs were set in exact relation to kvmclock: by an offset, because the kernels relate it to the
    /// host's TSC at the save and now, and that runs at the guest's frequency. If not, they are set as exactly as a value can be
    /// written: see [`crate::clock::TimeShift::tsc`].
    pub exact_tsc: bool,
    /// By how much the guest's wall clock is behind: see [`crate::clock::MAX_AT_WORK`].
    pub clock_behind: Duration,
}

/// One phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Phase {
    /// Its name, as in the report.
    pub name: &'static str,
    /// How long it took.
    pub took: Duration,
}

impl Report {
    /// All phases together.
    pub fn total(&self) -> Duration {
        self.phases.iter().map(|phase| phase.took).sum()
    }

    /// Runs `work` as a phase of its own.
    pub fn phase<T>(&mut self, name: &'static str, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let done = work();
        self.phases.push(Phase { name, took: start.elapsed() });
        done
    }
}

/// Adds to a report what happened since the last lap.
pub(super) struct Stopwatch<'report> {
    report: &'report mut Report,
    since: Instant,
}

impl<'report> Stopwatch<'report> {
    pub(super) fn start(report: &'report mut Report) -> Self {
        Self { report, since: Instant::now() }
    }

    pub(super) fn clock(&mut self, shift: &TimeShift, exact_tsc: bool) {
        self.report.exact_tsc = exact_tsc;
        self.report.clock_behind = shift.behind();
    }

    pub(super) fn lap(&mut self, name: &'static str) {
        let now = Instant::now();
        self.report.phases.push(Phase { name, took: now - self.since });
        self.since = now;
    }
}
