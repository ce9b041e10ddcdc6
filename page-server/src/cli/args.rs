//! What can be typed.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::catalogue::Place;
use super::exit::EXIT_CODES;
use super::value;

/// Serve the memory of restored guests, page by page, as they touch it.
#[derive(Debug, Parser)]
#[command(name = "rekindle-pages", version, after_help = EXIT_CODES, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "there is one of these in a process")]
pub(super) enum Command {
    /// Serve images to Rekindle's and Firecracker's VMMs until told to end
    Serve(ServeArgs),
    /// Show what a server does, every second
    Top(TopArgs),
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Switch {
    On,
    Off,
}

#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    /// Where VMMs connect: a Unix socket, which is made, unless a service manager has passed one with this path
    /// (LISTEN_FDS). With =IMAGE, that image is served there and no other, so that a VMM that does not name its image cannot
    /// be given another of the same size. Repeatable
    #[arg(long = "socket", value_name = "PATH[=IMAGE]", value_parser = value::place)]
    pub(super) sockets: Vec<Place>,
    /// More of what is served, one in a line of this file: IMAGE, or PATH=IMAGE as for --socket. Read again on SIGHUP: what
    /// is new is served from then on, what is gone is served to those VMs only that have it
    #[arg(long, value_name = "FILE")]
    pub(super) images_from: Option<PathBuf>,
    /// Where the metrics are, for Prometheus and `top`: a Unix socket that speaks HTTP/1.1
    #[arg(long, value_name = "PATH")]
    pub(super) metrics: Option<PathBuf>,
    /// Whether an image's working set is delivered ahead of the guest
    #[arg(long, value_enum, default_value = "on")]
    pub(super) prefetch: Switch,
    /// How much is delivered for one fault at least: a power of two from 4K to 2M. A guest that goes on in order gets up to
    /// sixteen times that
    #[arg(long, value_name = "SIZE", default_value = "64K", value_parser = value::grain)]
    pub(super) grain: u64,
    /// How long to look for the next fault before sleeping, at most 10ms; `0s` for not at all
    #[arg(long, value_name = "TIME", default_value = "50us", value_parser = value::poll)]
    pub(super) busy_poll: Duration,
    /// How many VMs at once, at most
    #[arg(long, value_name = "N", default_value = "512", value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub(super) max_sessions: u32,
    /// How much decoded memory of packed images to keep, for all VMs together
    #[arg(long, value_name = "SIZE", default_value = "256M", value_parser = value::size)]
    pub(super) cache: u64,
    /// When told to end, how long to go on delivering what VMs still miss
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = value::time)]
    pub(super) drain_timeout: Duration,
    /// When told to end, leave Rekindle's VMs to the next server on the same path, which has to come within their
    /// --pages-timeout; VMs of other makes are given all their pages
    #[arg(long)]
    pub(super) handover: bool,
    /// Permissions of the sockets that are made here, in octal; whoever may write may connect, and read the images
    #[arg(long, value_name = "MODE", default_value = "0600", value_parser = value::mode)]
    pub(super) socket_mode: u32,
    /// Group of the sockets that are made here: a name in /etc/group, or a number
    #[arg(long, value_name = "GROUP")]
    pub(super) socket_group: Option<String>,
    /// Where the metrics are as well, over TCP: a port of 127.0.0.1, or ADDRESS:PORT for whoever can reach that address
    #[arg(long, value_name = "PORT", value_parser = value::listen)]
    pub(super) metrics_listen: Option<SocketAddr>,
    /// Write every fault to this file, as CSV
    #[arg(long, value_name = "FILE")]
    pub(super) trace: Option<PathBuf>,
    /// What to tell on stderr: off, error, warn, info, debug, trace, or filter directives
    #[arg(long, value_name = "LEVEL", default_value = "info", env = "REKINDLE_LOG", hide_env_values = true)]
    pub(super) log_level: String,
    /// What is served: image directories, raw memory files, or layers of them with a `+` between them (BASE+DIFF)
    #[arg(value_name = "IMAGE")]
    pub(super) images: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct TopArgs {
    /// The server's --metrics
    #[arg(long, value_name = "PATH")]
    pub(super) metrics: PathBuf,
    /// How often to look
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = value::interval)]
    pub(super) interval: Duration,
    /// Print one table of all that has happened so far, and end
    #[arg(long)]
    pub(super) once: bool,
}
