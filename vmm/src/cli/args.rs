//! What can be typed, and how it becomes config.

#![allow(rustdoc::broken_intra_doc_links, reason = "brackets in help texts are no links")]

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use vmm::config::{
    BakeConfig, BootConfig, CpuCount, Error, KernelConfig, MemoryConfig, MemoryMode, MemorySize,
    PagesTimeout, ReadyConfig, ReclaimLimit, RecordTime, ReportTarget, RestoreConfig, SerialConfig, Switch,
    Timeout, VmConfig,
};
use vmm::control::{self, Client};

use super::devices::{DeviceArgs, OverrideArgs};
use super::exit::EXIT_CODES;
use super::{suggest, value};

/// Boot a guest once, snapshot it, and bring it back in milliseconds, as often as you like.
#[derive(Debug, Parser)]
#[command(name = "rekindle", version, after_help = EXIT_CODES, max_term_width = 100)]
pub(crate) struct Cli {
    /// What to tell on stderr: off, error, warn, info, debug, trace, or filter directives such as
    /// `vmm::restore=debug` [default: the environment variable REKINDLE_LOG, else warn]
    #[arg(long, global = true, value_name = "LEVEL", display_order = 1000)]
    pub(super) log_level: Option<String>,

    #[command(subcommand)]
    pub(super) command: Command,
}

/// `rekindle restore` and nothing else. Help is an error here, so that it comes from the whole definition.
#[derive(Debug, Parser)]
#[command(disable_help_flag = true)]
struct RestoreAlone {
    #[arg(long)]
    log_level: Option<String>,
    #[command(flatten)]
    args: RestoreArgs,
}

impl Cli {
    /// Parses a command line, the program's name first.
    ///
    /// A restore is measured from `exec`, and to define the arguments of all verbs takes a tenth of a millisecond. So
    /// a restore is tried alone; whatever is wrong or unusual with it goes the whole way, which says so.
    pub(crate) fn parse_line(line: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let line: Vec<OsString> = line.into_iter().collect();
        if line.get(1).is_some_and(|verb| verb == "restore")
            && let Ok(RestoreAlone { log_level, args }) = RestoreAlone::try_parse_from(&line[1..])
        {
            return Ok(Self { log_level, command: Command::Restore(args) });
        }
        let verb = line.get(1).and_then(|verb| verb.to_str()).map(str::to_owned);
        Self::try_parse_from(line).map_err(|error| suggest::improve(error, verb.as_deref()))
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Boot a guest and run it until it ends
    Boot(BootArgs),
    /// Boot a guest, wait until it is ready, write it to an image, and end it
    Bake(BakeArgs),
    /// Write a running VM to an image
    Snapshot(SnapshotArgs),
    /// Bring a guest back from an image and run it until it ends
    Restore(RestoreArgs),
    /// Let the guest of a VM stand still
    Pause(SocketArgs),
    /// Let the guest of a paused VM run
    Resume(SocketArgs),
    /// End a VM without asking its guest
    Stop(SocketArgs),
    /// Show what an image is and what it needs
    Inspect(InspectArgs),
    /// Check every byte of an image against its checksums
    Verify(VerifyArgs),
    /// Write an image again with its memory compressed, to be kept or served
    Pack(PackArgs),
    /// Write a packed image again with its memory as it was
    Unpack(PackArgs),
    /// Show what this host can do, and what to change where it cannot
    Doctor(DoctorArgs),
    /// Boot the built-in guest, snapshot it, restore it, and show the times
    Demo(DemoArgs),
}

/// The machine and its guest, for `boot` and `bake`.
#[derive(Debug, Args)]
pub(super) struct VmArgs {
    /// Kernel to boot: an ELF kernel or a bzImage [default: the built-in guest]
    #[arg(long, value_name = "PATH")]
    kernel: Option<PathBuf>,
    /// Initial RAM disk for the kernel [default: none]
    #[arg(long, value_name = "PATH", requires = "kernel")]
    initrd: Option<PathBuf>,
    /// Kernel command line [default: one that puts the console on the serial port]
    #[arg(long, value_name = "STR", allow_hyphen_values = true)]
    cmdline: Option<String>,
    /// Guest memory: a whole number with K, M or G (powers of 1024), 16M to 1023G, a multiple of 4K
    #[arg(long, value_name = "SIZE", default_value_t, value_parser = value::text::<MemorySize>)]
    memory: MemorySize,
    /// Number of virtual CPUs, 1 to 32
    #[arg(long, value_name = "N", default_value_t, value_parser = value::text::<CpuCount>)]
    cpus: CpuCount,
    #[command(flatten)]
    devices: DeviceArgs,
}

impl VmArgs {
    fn into_config(self, serial: SerialConfig) -> Result<VmConfig, Error> {
        let Self { kernel, initrd, cmdline, memory, cpus, devices } = self;
        let kernel = KernelConfig::from_paths(kernel, initrd)?;
        Ok(VmConfig { kernel, cmdline, memory, cpus, serial, devices: devices.into_config()? })
    }
}

#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(super) struct BootArgs {
    #[command(flatten)]
    vm: VmArgs,
    /// The guest's console: stdio, null or file:PATH[,size=BYTES][,rate=BYTES] (created or emptied; what is over a
    /// limit is dropped). On a terminal, Ctrl-A x ends the VM
    /// [default: stdio]
    #[arg(long, value_name = "WHERE", value_parser = value::serial())]
    serial: Option<SerialConfig>,
    /// Unix socket to serve the control API on, removed at the end [default: no API]
    #[arg(long, value_name = "PATH")]
    api_socket: Option<PathBuf>,
}

impl TryFrom<BootArgs> for BootConfig {
    type Error = Error;

    fn try_from(args: BootArgs) -> Result<Self, Error> {
        let BootArgs { vm, serial, api_socket } = args;
        Ok(Self { vm: vm.into_config(serial.unwrap_or_default())?, api_socket })
    }
}

#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(super) struct BakeArgs {
    #[command(flatten)]
    vm: VmArgs,
    /// When the guest is ready: serial:REGEX once its console matches (^ and $ at line ends), port once it writes a
    /// byte to the readiness port, vsock:PORT once it connects to that port of the host's (CID 2)
    #[arg(long, value_name = "SIGNAL", value_parser = value::text::<ReadyConfig>)]
    ready: ReadyConfig,
    /// Image to write; must not exist
    #[arg(long, value_name = "IMAGE")]
    out: PathBuf,
    /// How long the guest may take to become ready: a whole number with ms, s or m, 1ms to 1440m
    #[arg(long, value_name = "TIME", default_value_t, value_parser = value::text::<Timeout>)]
    timeout: Timeout,
    /// Once it is ready, let it run on until it has given its free memory back, through its balloon, and for so long at
    /// most: a whole number with ms, s or m, 1ms to 1m [default: the image is of the moment at which it is ready]
    #[arg(long, value_name = "TIME", requires = "balloon", value_parser = value::text::<ReclaimLimit>)]
    reclaim: Option<ReclaimLimit>,
    /// The guest's console: stdio, null or file:PATH[,size=BYTES][,rate=BYTES] (created or emptied; what is over a
    /// limit is dropped) [default: null]
    #[arg(long, value_name = "WHERE", value_parser = value::serial())]
    serial: Option<SerialConfig>,
    /// Unix socket to serve the control API on meanwhile [default: no API]
    #[arg(long, value_name = "PATH")]
    api_socket: Option<PathBuf>,
}

impl TryFrom<BakeArgs> for BakeConfig {
    type Error = Error;

    /// A bake is part of a build, where nobody types: its console is not taken from the build's stdin unless asked.
    fn try_from(args: BakeArgs) -> Result<Self, Error> {
        let BakeArgs { vm, ready, out, timeout, reclaim, serial, api_socket } = args;
        let mut vm = vm.into_config(serial.unwrap_or(SerialConfig::Null))?;
        if let ReadyConfig::Vsock(port) = &ready {
            vm.devices = vm.devices.ready_at(*port)?;
        }
        Ok(Self { vm, ready, out, timeout, reclaim, api_socket })
    }
}

#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(super) struct SnapshotArgs {
    #[command(flatten)]
    pub(super) socket: SocketPath,
    /// Image to write; must not exist
    #[arg(long, value_name = "IMAGE")]
    pub(super) out: PathBuf,
    /// Let the guest run afterwards [default: it stays paused]
    #[arg(long)]
    pub(super) resume: bool,
    /// First have the guest give its free memory back, through its balloon, and wait for that so long at most: a whole
    /// number with ms, s or m, 1ms to 1m [default: not asked]
    #[arg(long, value_name = "TIME", value_parser = value::text::<ReclaimLimit>)]
    pub(super) reclaim: Option<ReclaimLimit>,
}

#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(super) struct RestoreArgs {
    /// Image to restore
    #[arg(value_name = "IMAGE")]
    image: PathBuf,
    /// How memory comes back: mmap reads pages from the image as the guest touches them, and never writes the image;
    /// lazy has them delivered, by a thread of this process or by a page server [default: mmap; lazy with --pages, and
    /// for a packed image]
    #[arg(long, value_name = "MODE", value_parser = value::text::<MemoryMode>)]
    memory_mode: Option<MemoryMode>,
    /// Unix socket of the page server that delivers memory; of the image, `state` has to be here
    #[arg(long, value_name = "SOCKET")]
    pages: Option<PathBuf>,
    /// How long a page may take, and a page server may be away, before the VM is given up: a whole number with ms, s or
    /// m, 100ms to 10m [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = value::text::<PagesTimeout>)]
    pages_timeout: Option<PagesTimeout>,
    /// Whether pages that the image says guests touch first are brought in beside the running guest: on or off
    #[arg(long, value_name = "WHETHER", default_value = "on", value_parser = value::text::<Switch>)]
    prefetch: Switch,
    /// Watch which pages the guest touches, for so long or until it ends, and add them to the image, for later restores
    /// to prefetch: a whole number with ms, s or m, 1ms to 10m [without a time: 5s]
    #[arg(
        long,
        value_name = "TIME",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "5s",
        value_parser = value::text::<RecordTime>
    )]
    record: Option<RecordTime>,
    /// Write every fault that this process delivers a page for to a file [default: none]
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// The guest's console: stdio, null or file:PATH[,size=BYTES][,rate=BYTES] (created or emptied; what is over a
    /// limit is dropped). On a terminal, Ctrl-A x ends the VM
    /// [default: stdio]
    #[arg(long, value_name = "WHERE", value_parser = value::serial())]
    serial: Option<SerialConfig>,
    /// Unix socket to serve the control API on, removed at the end [default: no API]
    #[arg(long, value_name = "PATH")]
    api_socket: Option<PathBuf>,
    /// Leave the guest paused until `rekindle resume` on the control API
    #[arg(long)]
    paused: bool,
    /// Write the time that each phase took, in microseconds, as JSON to a file, or to stdout with `-`, where the
    /// console of --serial stdio goes as well [default: no report]
    #[arg(long, value_name = "PATH|-", allow_hyphen_values = true, value_parser = value::report())]
    report: Option<ReportTarget>,
    #[command(flatten)]
    overrides: OverrideArgs,
}

impl TryFrom<RestoreArgs> for RestoreConfig {
    type Error = Error;

    fn try_from(args: RestoreArgs) -> Result<Self, Error> {
        let RestoreArgs { image, memory_mode, pages, pages_timeout, prefetch, record, trace, .. } = &args;
        let memory = MemoryConfig::new(*memory_mode, pages.clone(), *pages_timeout, trace.clone())?;
        let (image, prefetch, record) = (image.clone(), *prefetch, *record);
        let (serial, overrides) = (args.serial.unwrap_or_default(), args.overrides.into_config()?);
        let (report, api_socket, paused) = (args.report, args.api_socket, args.paused);
        Self { image, memory, prefetch, record, serial, overrides, report, api_socket, paused }.checked()
    }
}

/// Which VM is meant.
#[derive(Debug, Args)]
pub(super) struct SocketPath {
    /// The Unix socket that the VM was started with
    #[arg(long, value_name = "PATH")]
    pub(super) api_socket: PathBuf,
    /// How long to wait for the answer: a whole number with ms, s or m, 1ms to 1440m. The VM does not carry out later what
    /// was given up on [default: 30s; for a snapshot as long as it takes]
    #[arg(long, value_name = "TIME", value_parser = value::text::<Timeout>)]
    timeout: Option<Timeout>,
}

impl SocketPath {
    /// Connects to the VM.
    pub(super) fn connect(&self) -> Result<Client, control::Error> {
        match self.timeout {
            Some(timeout) => Client::connect_patiently(&self.api_socket, timeout.get()),
            None => Client::connect(&self.api_socket),
        }
    }
}

#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(super) struct SocketArgs {
    #[command(flatten)]
    pub(super) socket: SocketPath,
}

#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(super) struct InspectArgs {
    /// Image to look at
    #[arg(value_name = "IMAGE")]
    pub(super) image: PathBuf,
    /// Print one JSON document instead of a table
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(super) struct VerifyArgs {
    /// Image to check
    #[arg(value_name = "IMAGE")]
    pub(super) image: PathBuf,
    /// Print one JSON document instead of a line
    #[arg(long)]
    pub(super) json: bool,
}

/// For `pack` and `unpack`.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(super) struct PackArgs {
    /// Image to read
    #[arg(value_name = "IMAGE")]
    pub(super) image: PathBuf,
    /// Image to write; must not exist
    #[arg(long, value_name = "IMAGE")]
    pub(super) out: PathBuf,
}

#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(super) struct DoctorArgs {
    /// Print one JSON document instead of a list
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(super) struct DemoArgs {
    /// Print one JSON document instead of a table
    #[arg(long)]
    pub(super) json: bool,
    /// How often the guest is booted, and restored in each of the two ways
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(super) runs: u32,
}
