//! Values and tools for tests, goldens and fuzz targets. Behind the feature `testing`; no program uses it.
//!
//! Fuzz targets and integration tests are glue: what they check is here, where it has unit tests.

pub mod oracle;
pub mod reseal;
pub mod samples;

#[cfg(test)]
mod oracle_test;
