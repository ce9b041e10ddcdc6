//! How long things took: histograms that can be added up, so that those of sessions that have ended are kept.
//!
//! Prometheus' own histograms cannot be added up, and a session's must go with it, or a server would have one for each VM
//! that it ever had.

#[cfg(test)]
#[path = "times_test.rs"]
mod times_test;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Bucket, Histogram, LabelPair, Metric, MetricFamily, MetricType};

/// Buckets with an upper bound: 1 us to 4 s, each twice the one before.
const BOUNDS: usize = 23;

/// Durations, by bucket.
#[derive(Debug, Default)]
pub(crate) struct Times {
    /// The last is of what took longer than any bound.
    counts: [AtomicU64; BOUNDS + 1],
    nanos: AtomicU64,
}

impl Times {
    pub(crate) fn observe(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        // The bucket of 2^n us has what took more than 2^(n-1) us, and no more than its bound.
        let bucket = nanos.div_ceil(1000).max(1).next_power_of_two().trailing_zeros() as usize;
        self.counts[bucket.min(BOUNDS)].fetch_add(1, Ordering::Relaxed);
        self.nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    /// How many there were.
    #[cfg(test)]
    pub(crate) fn count(&self) -> u64 {
        self.counts.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    pub(crate) fn add(&self, other: &Self) {
        for (count, more) in self.counts.iter().zip(&other.counts) {
            count.fetch_add(more.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        self.nanos.fetch_add(other.nanos.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    pub(crate) fn metric(&self, labels: &[(&str, &str)]) -> Metric {
        let mut sum = 0;
        let mut buckets = Vec::with_capacity(BOUNDS);
        for (power, count) in self.counts.iter().enumerate() {
            sum += count.load(Ordering::Relaxed);
            if power < BOUNDS {
                let mut bucket = Bucket::default();
                bucket.set_upper_bound(1e-6 * f64::from(1_u32 << power));
                bucket.set_cumulative_count(sum);
                buckets.push(bucket);
            }
        }
        let mut histogram = Histogram::default();
        histogram.set_bucket(buckets);
        histogram.set_sample_count(sum);
        histogram.set_sample_sum(Duration::from_nanos(self.nanos.load(Ordering::Relaxed)).as_secs_f64());
        let mut metric = Metric::from_label(labels.iter().map(pair).collect());
        metric.set_histogram(histogram);
        metric
    }
}

/// A label, as Prometheus has it.
pub(crate) fn pair((name, value): &(&str, &str)) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name((*name).to_owned());
    pair.set_value((*value).to_owned());
    pair
}

/// Metrics of one name.
pub(crate) fn family(name: &str, help: &str, kind: MetricType, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}

/// Session and image.
type Key = (String, String);

/// The latencies of all sessions, by session and image.
#[derive(Clone, Debug)]
pub(crate) struct Latencies {
    desc: Desc,
    times: Arc<Mutex<BTreeMap<Key, Arc<Times>>>>,
}

const HELP: &str = "From reading a fault to the page's being there.";

impl Latencies {
    pub(crate) fn new() -> Result<Self, prometheus::Error> {
        let labels = ["image", "session"].map(str::to_owned).to_vec();
        let desc = Desc::new("fault_seconds".to_owned(), HELP.to_owned(), labels, Default::default())?;
        Ok(Self { desc, times: Arc::default() })
    }

    pub(crate) fn of(&self, session: &str, image: &str) -> Arc<Times> {
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(times.entry((session.to_owned(), image.to_owned())).or_default())
    }

    /// The session is over: its times are added to those of `heir`.
    pub(crate) fn bequeath(&self, session: &str, image: &str, heir: &str) {
        let ended = self.of(heir, image);
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = times.remove(&(session.to_owned(), image.to_owned())) {
            ended.add(&own);
        }
    }
}

impl Collector for Latencies {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        let metric = |((session, image), times): (&Key, &Arc<Times>)| {
            times.metric(&[("image", image), ("session", session)])
        };
        vec![family("fault_seconds", HELP, MetricType::HISTOGRAM, times.iter().map(metric).collect())]
    }
}
