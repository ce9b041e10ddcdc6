//! The command line: arguments into plain config, then the verb. All printing of the program is in here.
//!
//! Each verb has a file with a `run`; `args` holds what can be typed, `classify` what an error means to a script.

use anyhow::Result;

mod args;
mod bake;
mod boot;
mod classify;
mod console_tail;
mod demo;
mod devices;
mod doctor;
mod ended;
mod exit;
mod inspect;
mod limits;
mod narration;
mod output;
mod pack;
mod pages;
mod power;
mod restore;
mod session;
mod snapshot;
mod suggest;
mod terminal;
mod value;
mod verify;
mod written;

pub(crate) use args::Cli;
pub(crate) use classify::classify;
pub(crate) use exit::Exit;

use args::Command;

#[cfg(test)]
mod args_test;
#[cfg(test)]
mod console_tail_test;
#[cfg(test)]
mod exit_test;
#[cfg(test)]
mod limits_test;
#[cfg(test)]
mod pack_test;
#[cfg(test)]
mod snapshot_test;
#[cfg(test)]
mod terminal_test;
#[cfg(test)]
mod verbs_test;

/// Does what was asked.
pub(crate) fn run(cli: Cli) -> Result<()> {
    narration::start(cli.log_level.as_deref())?;
    match cli.command {
        Command::Boot(args) => boot::run(args),
        Command::Bake(args) => bake::run(args),
        Command::Snapshot(args) => snapshot::run(args),
        Command::Restore(args) => restore::run(args),
        Command::Pause(args) => power::pause(&args),
        Command::Resume(args) => power::resume(&args),
        Command::Stop(args) => power::stop(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Pack(args) => pack::pack(&args),
        Command::Unpack(args) => pack::unpack(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Demo(args) => demo::run(&args),
    }
}
