//! The `rekindle-pages` command: parse, act, and turn what went wrong into an exit code.

use std::process::ExitCode;

use clap::Parser;

mod cli;

fn main() -> ExitCode {
    if let Err(error) = page_server::survive_file_size_limit() {
        return cli::report(&anyhow::Error::from(error).context("cannot ignore SIGXFSZ"));
    }
    let args = match cli::Cli::try_parse() {
        Ok(args) => args,
        // Help and version come out here as well, with code 0. A reader that has gone is no failure of ours.
        Err(stop) => {
            let _ = stop.print();
            return ExitCode::from(u8::try_from(stop.exit_code()).unwrap_or(cli::USAGE));
        }
    };
    match cli::run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => cli::report(&error),
    }
}
