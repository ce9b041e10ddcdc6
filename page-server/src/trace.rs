//! Every fault and everything delivered ahead, a line each, for later study.
//!
//! CSV with a header: microseconds since the trace began, what it was (`read` and `write` faults, `prefetch`, `drain`),
//! offset in the memory file, bytes delivered, and microseconds from reading the fault to the page's being there.

#[cfg(test)]
#[path = "trace_test.rs"]
mod trace_test;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The first line.
pub const HEADER: &str = "us,what,offset,bytes,took_us";

/// Why something was delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The guest asked.
    Fault { write: bool },
    /// The working set says so.
    Prefetch,
    /// The server is to end.
    Drain,
}

impl Cause {
    fn name(self) -> &'static str {
        match self {
            Self::Fault { write: false } => "read",
            Self::Fault { write: true } => "write",
            Self::Prefetch => "prefetch",
            Self::Drain => "drain",
        }
    }
}

/// A trace that is being written.
#[derive(Debug)]
pub struct Trace {
    since: Instant,
    out: Mutex<BufWriter<File>>,
}

impl Trace {
    /// Begins a trace.
    ///
    /// # Errors
    /// The file cannot be written to.
    pub fn new(file: File) -> io::Result<Self> {
        let mut out = BufWriter::new(file);
        writeln!(out, "{HEADER}")?;
        out.flush()?;
        Ok(Self { since: Instant::now(), out: Mutex::new(out) })
    }

    /// A trace that cannot be written is no reason to keep a page from a guest: it just ends.
    pub(crate) fn record(&self, cause: Cause, offset: u64, bytes: u64, took: Duration) {
        let (now, took) = (self.since.elapsed().as_micros(), took.as_micros());
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = writeln!(out, "{now},{},{offset},{bytes},{took}", cause.name());
    }

    /// Brings what was recorded to the file.
    pub(crate) fn flush(&self) {
        let _ = self.out.lock().unwrap_or_else(PoisonError::into_inner).flush();
    }
}
