//! `cargo xtask`: the command line of the project's chores.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use xtask::{bench, check, demo, guests, lab, test, trace};

/// The project's chores.
#[derive(Parser)]
#[command(name = "cargo xtask", version, about)]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Builds rekindle and shows it: a guest boots, is written to an image, and comes back
    Demo {
        #[command(flatten)]
        lab: lab::Options,
        /// Arguments for `rekindle demo`
        #[arg(last = true)]
        args: Vec<OsString>,
    },
    /// Builds rekindle and measures it: boot against restore, snapshots, clones
    Bench {
        #[command(flatten)]
        lab: lab::Options,
        /// Arguments for the benchmark; `-- --help` lists them
        #[arg(last = true)]
        args: Vec<OsString>,
    },
    /// Runs every test there is, in the lab where this host's KVM does not do
    Test(test::Options),
    /// Runs every check there is of style, structure, licences and documentation, and the unit tests
    Check(check::Options),
    /// Runs a command on a stock Linux with KVM, in software emulation: no /dev/kvm or root needed here
    Lab {
        #[command(flatten)]
        options: lab::Options,
        /// A file or directory that the command needs, for a lab that does not see the outer file system; repeatable
        #[arg(long = "with", value_name = "PATH")]
        files: Vec<PathBuf>,
        /// The command and its arguments
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
    /// Draws what a page server delivered, as `--trace` wrote it: addresses over time, as SVG
    Trace(trace::Options),
    /// Downloads the stock kernels that the tests boot, and builds an initramfs for each test script
    Guests,
}

fn main() -> ExitCode {
    match run(Cli::parse().chore) {
        Ok(status) => ExitCode::from(status),
        Err(why) => {
            eprintln!("error: {why:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(chore: Chore) -> Result<u8> {
    match chore {
        Chore::Demo { lab, args } => demo::run(&lab, &args),
        Chore::Bench { lab, args } => bench::run(&lab, &args),
        Chore::Test(options) => test::run(&options).map(|ok| u8::from(!ok)),
        Chore::Check(options) => check::run(&options).map(|ok| u8::from(!ok)),
        Chore::Lab { options, files, command } => {
            lab::run(&options, &lab::Job { files, ..lab::Job::new(command) }, lab::Streams::default())
        }
        Chore::Trace(options) => trace::run(&options).map(|()| 0),
        Chore::Guests => guests::run().map(|()| 0),
    }
}

#[cfg(test)]
mod main_test;
