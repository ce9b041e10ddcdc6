//! A run of requests that the built-in guest has timed, and what it cost the host: its worker threads.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::program::Vm;
use crate::results::Series;

#[cfg(test)]
#[path = "sampled_test.rs"]
mod sampled_test;

/// One run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// Requests.
    pub requests: u32,
    /// From before the first to after the last.
    pub took: Duration,
    /// Half of the requests took no longer.
    pub median: Duration,
    /// 99 of 100 took no longer.
    pub p99: Duration,
    /// What the devices' threads used of the CPU meanwhile.
    pub worker: Duration,
}

impl Run {
    /// Has the guest do `question`, which it answers with times.
    ///
    /// # Errors
    /// The guest answers otherwise, or the host does not tell of threads.
    pub fn of(vm: &mut Vm, question: &str) -> Result<Self> {
        let before = workers(vm.pid())?;
        let answer = vm.answer(question)?;
        // A device that is reset gets another thread, which then is this run's alone.
        let of_run = |(thread, time): (&OsString, &Duration)| {
            time.saturating_sub(before.get(thread).copied().unwrap_or_default())
        };
        let worker = workers(vm.pid())?.iter().map(of_run).sum();
        Ok(Self { worker, ..Self::parse(&answer).with_context(|| format!("`{answer}` tells no times"))? })
    }

    /// `N requests in NS ns, median NS p99 NS`.
    fn parse(answer: &str) -> Option<Self> {
        let words: Vec<&str> = answer.split(' ').collect();
        let [requests, "requests", "in", took, "ns,", "median", median, "p99", p99] = words[..] else {
            return None;
        };
        let ns = |text: &str| text.parse().ok().map(Duration::from_nanos);
        let (took, median, p99) = (ns(took)?, ns(median)?, ns(p99)?);
        Some(Self { requests: requests.parse().ok()?, took, median, p99, worker: Duration::ZERO })
    }
}

/// The threads that work on virtio devices, and what each has used of the CPU.
fn workers(pid: u32) -> Result<BTreeMap<OsString, Duration>> {
    let tasks = format!("/proc/{pid}/task");
    let mut workers = BTreeMap::new();
    for task in fs::read_dir(&tasks).with_context(|| format!("cannot list `{tasks}`"))? {
        let task = task.context("cannot list threads")?;
        let name = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        if name.starts_with("virtio") {
            // Time on the CPU, time in the queue for it, turns (Documentation/scheduler/sched-stats.rst).
            let times = fs::read_to_string(task.path().join("schedstat"));
            let times = times.context("cannot read a thread's times")?;
            let ns = times.split(' ').next().and_then(|ns| ns.parse().ok());
            let time = Duration::from_nanos(ns.context("a thread's times are no numbers")?);
            workers.insert(task.file_name(), time);
        }
    }
    Ok(workers)
}

/// Has the guest do `rounds` runs of each kind, a name and a question, in turns; what they say.
///
/// # Errors
/// As [`Run::of`].
pub fn measure(vm: &mut Vm, kinds: &[(String, String)], rounds: usize) -> Result<Vec<Series>> {
    let mut runs = vec![Vec::new(); kinds.len()];
    // Once over everything first: memory, page cache, rings.
    for round in 0..=rounds {
        for ((_, question), runs) in kinds.iter().zip(&mut runs) {
            let run = Run::of(vm, question)?;
            if round > 0 {
                runs.push(run);
            }
        }
    }
    Ok(kinds.iter().zip(&runs).flat_map(|((name, _), runs)| series(name, runs)).collect())
}

/// What runs called `name` say: of all the requests of a run, a share each; of single ones, the median and the p99.
fn series(name: &str, runs: &[Run]) -> [Series; 4] {
    let each = |of: fn(&Run) -> Duration| runs.iter().map(move |run| of(run) / run.requests.max(1));
    [
        Series::times(format!("{name}: a share of the run"), each(|run| run.took)),
        Series::times(format!("{name}: the device's thread"), each(|run| run.worker)),
        Series::times(format!("{name}: one request, median"), runs.iter().map(|run| run.median)),
        Series::times(format!("{name}: one request, p99"), runs.iter().map(|run| run.p99)),
    ]
}
