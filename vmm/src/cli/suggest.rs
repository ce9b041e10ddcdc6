//! Which option was meant by one that does not exist.
//!
//! clap goes by likeness of spelling alone, and finds `--ready` for `--ready-timeout`. An option's last word says what it
//! is, and other VMMs have other words for the same things.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, CommandFactory};

use super::args::Cli;

/// Words of other VMMs (QEMU, Firecracker, Cloud Hypervisor) and of people, and ours.
const WORDS: [(&str, &str); 14] = [
    ("append", "cmdline"),
    ("args", "cmdline"),
    ("boot-args", "cmdline"),
    ("drive", "disk"),
    ("lazy", "memory-mode"),
    ("mem", "memory"),
    ("mode", "memory-mode"),
    ("netdev", "net"),
    ("output", "out"),
    ("ram", "memory"),
    ("smp", "cpus"),
    ("sock", "api-socket"),
    ("socket", "api-socket"),
    ("wait", "timeout"),
];

/// Names the option of the verb that was meant, where clap's guess is none or a worse one.
pub(super) fn improve(mut error: clap::Error, verb: Option<&str>) -> clap::Error {
    if error.kind() != ErrorKind::UnknownArgument {
        return error;
    }
    let Some(ContextValue::String(typed)) = error.get(ContextKind::InvalidArg) else { return error };
    let definition = Cli::command();
    let Some(verb) = verb.and_then(|verb| definition.find_subcommand(verb)) else { return error };
    if let Some(meant) = meant(verb, typed) {
        error.insert(ContextKind::SuggestedArg, ContextValue::String(format!("--{meant}")));
        // "to pass it as a value, use --": never what was meant here.
        error.remove(ContextKind::Suggested);
    }
    error
}

fn meant(verb: &Command, typed: &str) -> Option<String> {
    let name = typed.trim_start_matches('-').split('=').next()?;
    let last = name.rsplit('-').next()?;
    let ours = |word: &str| WORDS.iter().find(|(theirs, _)| *theirs == word).map(|(_, ours)| *ours);
    let candidates = [ours(name), Some(last), ours(last)];
    let exists = |name: &str| verb.get_arguments().any(|arg| arg.get_long() == Some(name));
    candidates.into_iter().flatten().find(|name| exists(name)).map(str::to_owned)
}
