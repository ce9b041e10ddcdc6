//! The `rekindle` command: parse, dispatch, and turn what went wrong into an exit code.

use std::process::ExitCode;

mod cli;

fn main() -> ExitCode {
    // Whatever is written: a limit is an error that is told, and nothing is left behind.
    let _ = vmm::survive_file_size_limit();
    let args = match cli::Cli::parse_line(std::env::args_os()) {
        Ok(args) => args,
        // Help and version come out here as well, with code 0. A reader that has gone is no failure of ours.
        Err(stop) => {
            let _ = stop.print();
            return ExitCode::from(u8::try_from(stop.exit_code()).unwrap_or(cli::Exit::Usage as u8));
        }
    };
    match cli::run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => cli::classify(error).report(),
    }
}
