//! What a server has done, in numbers that Prometheus reads: totals, and the same by session while it lasts.
//!
//! | metric | what it counts |
//! |---|---|
//! | `rekindle_pages_faults_total` | faults that a guest raised and that were answered |
//! | `rekindle_pages_fault_seconds` | from reading a fault to the page's being there; of sessions that go on |
//! | `rekindle_pages_demanded_bytes_total` | placed because of faults, neighbours included |
//! | `rekindle_pages_copied_bytes_total`, `.._zeroed_bytes_total` | placed with bytes; placed as zero pages |
//! | `rekindle_pages_prefetched_bytes_total` | of working sets, placed before the guest asked (hits, at most) |
//! | `rekindle_pages_prefetch_late_bytes_total` | of working sets, there already when their turn came (work for nothing) |
//! | `rekindle_pages_set_faults_total` | faults on pages of a working set that had not been delivered yet |
//! | `rekindle_pages_sessions`, `.._sessions_total`, `.._refused_total`, `.._lost_total` | sessions now, ever, refused, ended by a page that could not be had |

use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
    TextEncoder,
};

#[cfg(test)]
#[path = "stats_test.rs"]
mod stats_test;

/// The label that tells sessions apart.
const SESSION: &str = "session";

/// Upper bounds of the latency histogram's buckets, in seconds: 1 us to 4 s, each twice the one before.
fn buckets() -> Vec<f64> {
    (0..23).map(|power| 1e-6 * f64::from(1_u32 << power)).collect()
}

/// One session's numbers.
#[derive(Clone, Debug)]
pub struct Stats {
    pub(crate) faults: IntCounter,
    pub(crate) latency: Histogram,
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
    latency: HistogramVec,
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
                let counter = IntCounterVec::new(Opts::new(name, help), &[SESSION])?;
                registry.register(Box::new(counter.clone()))?;
                Ok::<_, prometheus::Error>(counter)
            });
        let latency = HistogramOpts::new("fault_seconds", "From reading a fault to the page's being there.");
        let latency = HistogramVec::new(latency.buckets(buckets()), &[SESSION])?;
        registry.register(Box::new(latency.clone()))?;
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
            latency,
            sessions,
        })
    }

    /// A session's numbers, which are among all from here on.
    #[must_use]
    pub fn of_session(&self, session: &str) -> Stats {
        let [faults, demanded, copied, zeroed, prefetched, late, set_faults] =
            self.counters.each_ref().map(|counter| counter.with_label_values(&[session]));
        let latency = self.latency.with_label_values(&[session]);
        Stats { faults, latency, demanded, copied, zeroed, prefetched, late, set_faults }
    }

    /// The session is over: its counters are added to those that have ended, so that sums over all sessions never fall.
    /// Times cannot be added, and go with it.
    pub fn forget(&self, session: &str, stats: &Stats) {
        let Stats { faults, latency: _, demanded, copied, zeroed, prefetched, late, set_faults } = stats;
        let ended = [faults, demanded, copied, zeroed, prefetched, late, set_faults].map(IntCounter::get);
        for (counter, count) in self.counters.iter().zip(ended) {
            counter.with_label_values(&["ended"]).inc_by(count);
            // Fails only if it is not there.
            let _ = counter.remove_label_values(&[session]);
        }
        let _ = self.latency.remove_label_values(&[session]);
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
