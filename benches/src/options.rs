//! The command line of the end-to-end harness.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

#[cfg(test)]
#[path = "options_test.rs"]
mod options_test;

/// Boot against restore on the built-in guest, and what else a user would wait for.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Options {
    /// How often each guest is started
    #[arg(short, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub n: u32,
    /// How often what takes longer is repeated: snapshots, memory, clones, runs of device requests
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub slow_n: u32,
    /// Measure these alone [default: all]
    #[arg(long, value_enum, value_delimiter = ',')]
    pub only: Vec<Part>,
    /// The program to measure [default: the `rekindle` that was built beside this benchmark]
    #[arg(long, value_name = "PATH")]
    pub program: Option<PathBuf>,
    /// The page server to measure [default: the `rekindle-pages` that was built beside this benchmark]
    #[arg(long, value_name = "PATH")]
    pub pages: Option<PathBuf>,
    /// A second program, started in turns with the first
    #[arg(long, value_name = "PATH")]
    pub against: Option<PathBuf>,
    /// Where images are written [default: a directory of the system's for temporary files]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Write everything, each sample included, to a file
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Print Markdown instead of plain text
    #[arg(long)]
    pub markdown: bool,
    /// Passed by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

/// A part of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Boot and restore to the first byte, and the phases of a restore
    Starts,
    /// Snapshots of running guests
    Snapshots,
    /// A restored guest goes over its memory
    Touches,
    /// The same by every way that memory can come, with and without working sets
    Lazily,
    /// One fault, by where its page comes from
    Faults,
    /// Many restores at once
    Clones,
    /// Requests to a disk
    Disks,
    /// To the host and back, over a socket and over a TAP
    Echoes,
}

impl Options {
    /// Whether `part` is to be measured.
    pub fn wants(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }
}
