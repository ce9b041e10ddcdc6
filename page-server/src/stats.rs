//! What a server has done, in numbers that Prometheus reads, by image and by session. What sessions that have ended have
//! done is added up under the session `ended`, so that no sum ever falls.
//!
//! | metric | what it counts |
//! |---|---|
//! | `rekindle_pages_faults_total` | faults that a guest raised and that were answered |
//! | `rekindle_pages_fault_seconds` | from reading a fault to the page's being there |
//! | `rekindle_pages_demanded_bytes_total` | placed because of faults, neighbours included |
//! | `rekindle_pages_copied_bytes_total`, `.._zeroed_bytes_total` | placed with bytes; placed as zero pages |
//! | `rekindle_pages_prefetched_bytes_total` | of working sets, placed before the guest asked (hits, at most) |
//! | `rekindle_pages_prefetch_late_bytes_total` | of working sets, there already when their turn came (work for nothing) |
//! | `rekindle_pages_set_faults_total` | faults on pages of a working set that had not been delivered yet |
//! | `rekindle_pages_source_hits_total`, `.._misses_total` | pieces of an image that could be had without waiting, and those that other threads read |
//! | `rekindle_pages_source_read_seconds` | what reads took that may have waited |
//! | `rekindle_pages_source_errors_total`, `.._retries_total` | reads that failed; reads that were tried again |
//! | `rekindle_pages_sessions`, `.._sessions_total`, `.._refused_total`, `.._lost_total` | sessions now, ever, refused, ended by a page that could not be had |

use std::sync::Arc;

use prometheus::{Encoder, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder};

use crate::source::Counts;
use crate::source::measured::Sources;
use crate::times::{Latencies, Times};

#[cfg(test)]
#[path = "stats_test.rs"]
mod stats_test;

/// The labels that tell sessions and images apart.
const LABELS: [&str; 2] = ["session", "image"];
/// What is said for all sessions that have ended.
const ENDED: &str = "ended";

/// One session's numbers.
#[derive(Clone, Debug)]
pub struct Stats {
    image: String,
    pub(crate) faults: IntCounter,
    pub(crate) latency: Arc<Times>,
    pub(crate) demanded: IntCounter,
    pub(crate) copied: IntCounter,
    pub(crate) zeroed: IntCounter,
    pub(crate) prefetched: IntCounter,
    pub(crate) late: IntCounter,
    pub(crate) set_faults: IntCounter,
}

/// All sessions' numbers.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    counters: [IntCounterVec; 7],
    latencies: Latencies,
    sources: Sources,
    pub(crate) sessions: IntGauge,
    pub(crate) accepted: IntCounter,
    pub(crate) refused: IntCounter,
    pub(crate) lost: IntCounter,
}

/// The counters of [`Stats`], in the order of its fields but for the histogram.
const COUNTERS: [(&str, &str); 7] = [
    ("faults_total", "Faults answered."),
    ("demanded_bytes_total", "Bytes placed because of faults, neighbours included."),
    ("copied_bytes_total", "Bytes placed with data."),
    ("zeroed_bytes_total", "Bytes placed as zero pages."),
    ("prefetched_bytes_total", "Bytes of working sets placed before the guest asked for them."),
    ("prefetch_late_bytes_total", "Bytes of working sets that were there when their turn came."),
    ("set_faults_total", "Faults on pages of a working set that had not been delivered yet."),
];

impl Metrics {
    /// All zero.
    ///
    /// # Errors
    /// Never, unless two metrics have the same name.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new_custom(Some("rekindle_pages".to_owned()), None)?;
        let [faults, demanded, copied, zeroed, prefetched, late, set_faults] =
            COUNTERS.map(|(name, help)| {
                let counter = IntCounterVec::new(Opts::new(name, help), &LABELS)?;
                registry.register(Box::new(counter.clone()))?;
                Ok::<_, prometheus::Error>(counter)
            });
        let (latencies, sources) = (Latencies::new()?, Sources::new()?);
        registry.register(Box::new(latencies.clone()))?;
        registry.register(Box::new(sources.clone()))?;
        let sessions = IntGauge::new("sessions", "Sessions that go on.")?;
        registry.register(Box::new(sessions.clone()))?;
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        Ok(Self {
            accepted: counter("sessions_total", "Sessions that began.")?,
            refused: counter("refused_total", "Connections that became no session.")?,
            lost: counter("lost_total", "Sessions ended by a page that could not be had.")?,
            counters: [faults?, demanded?, copied?, zeroed?, prefetched?, late?, set_faults?],
            registry,
            latencies,
            sources,
            sessions,
        })
    }

    /// A session's numbers, which are among all from here on.
    #[must_use]
    pub fn of_session(&self, session: &str, image: &str) -> Stats {
        let [faults, demanded, copied, zeroed, prefetched, late, set_faults] =
            self.counters.each_ref().map(|counter| counter.with_label_values(&[session, image]));
        let (image, latency) = (image.to_owned(), self.latencies.of(session, image));
        Stats { image, faults, latency, demanded, copied, zeroed, prefetched, late, set_faults }
    }

    /// The session is over: its numbers are added to those that have ended, so that sums over all sessions never fall.
    pub fn forget(&self, session: &str, stats: &Stats) {
        let Stats { image, faults, latency: _, demanded, copied, zeroed, prefetched, late, set_faults } =
            stats;
        let ended = [faults, demanded, copied, zeroed, prefetched, late, set_faults].map(IntCounter::get);
        for (counter, count) in self.counters.iter().zip(ended) {
            counter.with_label_values(&[ENDED, image]).inc_by(count);
            // Fails only if it is not there.
            let _ = counter.remove_label_values(&[session, image]);
        }
        self.latencies.bequeath(session, image, ENDED);
    }

    /// From here on, `counts` are told as those of the source of `image`.
    pub fn watch(&self, image: &str, counts: &Arc<Counts>) {
        self.sources.watch(image.to_owned(), Arc::clone(counts));
    }

    /// All numbers, as Prometheus reads them (text format 0.0.4).
    #[must_use]
    pub fn text(&self) -> Vec<u8> {
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::warn!(%error, "the metrics cannot be written");
        }
        text
    }
}
