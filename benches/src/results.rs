//! What is measured: plain values, every sample kept.

use std::time::Duration;

use serde::Serialize;

use crate::conditions::Conditions;

#[cfg(test)]
#[path = "results_test.rs"]
mod results_test;

/// One run of the benchmark.
#[derive(Debug, Serialize)]
pub struct Results {
    /// Where and how it ran.
    pub conditions: Conditions,
    /// What came out.
    pub groups: Vec<Group>,
    /// What did not, and why.
    pub not_measured: Vec<String>,
}

/// Series that were taken together and can be compared.
#[derive(Debug, Serialize)]
pub struct Group {
    /// What was measured.
    pub title: &'static str,
    /// From when to when.
    pub boundary: &'static str,
    /// The series.
    pub series: Vec<Series>,
}

/// The samples of one quantity, in the order in which they were taken.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Series {
    /// What it is.
    pub name: String,
    /// Of all numbers below.
    pub unit: Unit,
    /// Where the samples lie.
    pub summary: Summary,
    /// Every sample.
    pub samples: Vec<f64>,
}

/// What samples are counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Microseconds.
    Us,
    /// Bytes.
    Bytes,
    /// Of a hundred.
    Percent,
}

/// Where samples lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// How many there are.
    pub n: usize,
    /// The least.
    pub min: f64,
    /// The least that at least half of all samples do not exceed.
    pub median: f64,
    /// The least that at least 99 of 100 samples do not exceed.
    pub p99: f64,
}

impl Series {
    /// Times.
    pub fn times(name: impl Into<String>, samples: impl IntoIterator<Item = Duration>) -> Self {
        Self::new(name.into(), Unit::Us, samples.into_iter().map(us).collect())
    }

    /// Sizes.
    pub fn sizes(name: impl Into<String>, samples: impl IntoIterator<Item = u64>) -> Self {
        Self::new(name.into(), Unit::Bytes, samples.into_iter().map(|bytes| bytes as f64).collect())
    }

    /// Shares of a hundred.
    pub fn shares(name: impl Into<String>, samples: Vec<f64>) -> Self {
        Self::new(name.into(), Unit::Percent, samples)
    }

    /// Samples that are microseconds already.
    pub fn us(name: impl Into<String>, samples: Vec<f64>) -> Self {
        Self::new(name.into(), Unit::Us, samples)
    }

    fn new(name: String, unit: Unit, samples: Vec<f64>) -> Self {
        Self { name, unit, summary: Summary::of(&samples), samples }
    }
}

impl Summary {
    fn of(samples: &[f64]) -> Self {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let percentile = |percent: usize| {
            let rank = (sorted.len() * percent).div_ceil(100).max(1);
            sorted.get(rank - 1).copied().unwrap_or_default()
        };
        Self { n: sorted.len(), min: percentile(0), median: percentile(50), p99: percentile(99) }
    }
}

/// A time in microseconds.
pub fn us(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1000.0
}
