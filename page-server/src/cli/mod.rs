//! The command line: all parsing and printing of the program is in here.

mod args;
mod catalogue;
mod exit;
mod list;
mod serve;
mod top;
mod value;

use anyhow::Result;

pub(crate) use args::Cli;
pub(crate) use exit::{USAGE, report};

use args::Command;

/// Does what was asked.
pub(crate) fn run(cli: Cli) -> Result<()> {
    match cli.command {
        Command::Serve(args) => serve::run(args),
        Command::Top(args) => top::run(&args),
    }
}
