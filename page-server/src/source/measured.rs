//! How a source does: what could be had at once, what had to be waited for and how long, what failed.

#[cfg(test)]
#[path = "measured_test.rs"]
mod measured_test;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Counter, Metric, MetricFamily, MetricType};

use super::{Error, PageSource};
use crate::times::{Times, family, pair};

/// One source's numbers.
#[derive(Debug, Default)]
pub struct Counts {
    hits: AtomicU64,
    misses: AtomicU64,
    errors: AtomicU64,
    pub(super) retries: AtomicU64,
    seconds: Times,
}

/// A source whose reads are counted.
#[derive(Debug)]
pub struct Measured<S> {
    inner: S,
    counts: Arc<Counts>,
}

impl<S: PageSource> Measured<S> {
    /// `inner`, counted in `counts`.
    pub fn new(inner: S, counts: Arc<Counts>) -> Self {
        Self { inner, counts }
    }

    fn timed(&self, read: impl FnOnce() -> Result<(), Error>) -> Result<(), Error> {
        let start = Instant::now();
        let read = read();
        self.counts.seconds.observe(start.elapsed());
        self.counts.errors.fetch_add(u64::from(read.is_err()), Ordering::Relaxed);
        read
    }
}

impl<S: PageSource> PageSource for Measured<S> {
    fn len(&self) -> u64 {
        self.inner.len()
    }

    fn zeros(&self, offset: u64) -> u64 {
        self.inner.zeros(offset)
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        self.timed(|| self.inner.read(offset, buffer))
    }

    fn read_ahead(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        self.timed(|| self.inner.read_ahead(offset, buffer))
    }

    fn read_now(&self, offset: u64, buffer: &mut [u8]) -> Result<bool, Error> {
        let read = self.inner.read_now(offset, buffer);
        let counter = if matches!(read, Ok(true)) { &self.counts.hits } else { &self.counts.misses };
        counter.fetch_add(1, Ordering::Relaxed);
        read
    }
}

/// A counter's name, what it counts, and where.
type Column = (&'static str, &'static str, fn(&Counts) -> &AtomicU64);

const COLUMNS: [Column; 4] = [
    ("source_hits_total", "Pieces that could be had without waiting: cached, and compared before.", |c| {
        &c.hits
    }),
    ("source_misses_total", "Pieces that could not: read by another thread.", |c| &c.misses),
    ("source_errors_total", "Reads that failed.", |c| &c.errors),
    ("source_retries_total", "Reads that were tried again.", |c| &c.retries),
];
const SECONDS: (&str, &str) = ("source_read_seconds", "What reads took that may have waited.");

/// An image, and the numbers of each source that it has had: another file may have come to be there under its name.
type Watched = (String, Vec<Arc<Counts>>);

/// All sources' numbers, by image.
#[derive(Clone, Debug)]
pub(crate) struct Sources {
    descs: Vec<Desc>,
    all: Arc<Mutex<Vec<Watched>>>,
}

impl Sources {
    pub(crate) fn new() -> Result<Self, prometheus::Error> {
        let names = COLUMNS.iter().map(|(name, help, _)| (*name, *help)).chain([SECONDS]);
        let desc = |(name, help): (&str, &str)| {
            Desc::new(name.to_owned(), help.to_owned(), vec!["image".to_owned()], Default::default())
        };
        Ok(Self { descs: names.map(desc).collect::<Result<_, _>>()?, all: Arc::default() })
    }

    /// From here on, `counts` are told for `image`, with those that it had before.
    pub(crate) fn watch(&self, image: String, counts: Arc<Counts>) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        match all.iter_mut().find(|(watched, _)| *watched == image) {
            Some((_, known)) if known.iter().any(|known| Arc::ptr_eq(known, &counts)) => {}
            Some((_, known)) => known.push(counts),
            None => all.push((image, vec![counts])),
        }
    }
}

impl Collector for Sources {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let count = |image: &str, value: u64| {
            let mut counter = Counter::default();
            counter.set_value(value as f64);
            let mut metric = Metric::from_label(vec![pair(&("image", image))]);
            metric.set_counter(counter);
            metric
        };
        let column = |(name, help, of): &Column| {
            let sum = |sources: &[Arc<Counts>]| {
                sources.iter().map(|source| of(source).load(Ordering::Relaxed)).sum()
            };
            let metrics = all.iter().map(|(image, sources)| count(image, sum(sources)));
            family(name, help, MetricType::COUNTER, metrics.collect())
        };
        let seconds = all.iter().map(|(image, sources)| {
            let seconds = Times::default();
            sources.iter().for_each(|source| seconds.add(&source.seconds));
            seconds.metric(&[("image", image)])
        });
        let seconds = family(SECONDS.0, SECONDS.1, MetricType::HISTOGRAM, seconds.collect());
        COLUMNS.iter().map(column).chain([seconds]).collect()
    }
}
