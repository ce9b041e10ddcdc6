//! The lab: a stock Linux with `kvm_amd`, in QEMU's software emulation, that runs one command of ours.
//!
//! For hosts without `/dev/kvm`, and for stock Linux guests on hosts whose KVM emulates kernel mode. The
//! command sees the outer file system read-only, with fresh `/dev`, `/proc`, `/sys`, `/run` and `/tmp`; times
//! in there mean nothing.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::debian::packages::{self, BUSYBOX, XZ};
use crate::guests::{self, kernel};
use crate::place;

pub mod emulator;
pub mod image;
pub mod qemu;
pub mod relay;
pub mod uncompressed;

/// Where the writable share is mounted in the lab.
const SHARE: &str = "/run/share";

/// How large a lab, and for how long.
#[derive(Args, Clone, Debug)]
#[group(id = "lab")]
pub struct Options {
    /// Gives up, and kills the lab, after this many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 1800)]
    pub timeout: u64,
    /// Memory of the lab in MiB; by default half of what is free, from 2048 to 8192. Half of it is for
    /// `/tmp`.
    #[arg(long, value_name = "MIB")]
    pub memory: Option<u64>,
    /// CPUs of the lab. With more than one, QEMU now and then loses a guest that runs on KVM in there: of ten that
    /// were restored two at a time, about one had a triple fault. Several labs side by side use a host better.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub cpus: u32,
    /// A directory that is writable from the lab, as `$REKINDLE_LAB_SHARE`; by default `lab/share` in the
    /// build directory.
    #[arg(long, value_name = "DIR")]
    pub share: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self { timeout: 1800, memory: None, cpus: 1, share: None }
    }
}

/// What to run in there.
#[derive(Clone, Debug)]
pub struct Job {
    /// The program and its arguments, looked up in the outer `PATH`.
    pub command: Vec<OsString>,
    /// Variables on top of those that are passed on anyway.
    pub env: Vec<(OsString, OsString)>,
}

impl Job {
    /// Runs `command` with the usual environment.
    pub fn new(command: Vec<OsString>) -> Self {
        Self { command, env: Vec::new() }
    }
}

/// Where the command's output goes.
pub struct Streams {
    /// Its standard output.
    pub out: Box<dyn Write + Send>,
    /// Its standard error.
    pub err: Box<dyn Write + Send>,
}

impl Default for Streams {
    /// Our own.
    fn default() -> Self {
        Self { out: Box::new(io::stdout()), err: Box::new(io::stderr()) }
    }
}

/// What every lab is made of, fetched and unpacked.
#[derive(Debug)]
pub struct Lab {
    emulator: emulator::Emulator,
    kernel: kernel::Kernel,
    /// What QEMU is given of it.
    image: PathBuf,
}

impl Lab {
    /// Gets what is not there yet.
    pub fn ensure() -> Result<Self> {
        packages::ensure(&[BUSYBOX, XZ])?;
        let emulator = emulator::ensure()?;
        let kernel = kernel::ensure(&guests::GENERIC_6_1)?;
        eprintln!(
            "lab: Linux {} ({} {}) on QEMU {}",
            kernel.manifest.release, kernel.manifest.package, kernel.manifest.version, emulator.version
        );
        let image = uncompressed::image(&kernel)?;
        Ok(Self { emulator, kernel, image })
    }

    /// Runs `job` in a fresh lab; its exit status, as a shell would give it. Others may run beside it.
    ///
    /// An error means that the lab failed, not the command.
    pub fn run(&self, options: &Options, job: &Job, streams: Streams) -> Result<u8> {
        let share = options.share.clone().unwrap_or_else(|| place::lab().join("share"));
        fs::create_dir_all(&share).with_context(|| format!("cannot create {}", share.display()))?;
        let share = share.canonicalize().with_context(|| format!("cannot find {}", share.display()))?;
        let dir = run_directory()?;
        let initrd = dir.join("initramfs.cpio");
        let archive = image::build(&self.kernel, job)?;
        let file = fs::File::create(&initrd).context("cannot create the lab's initramfs")?;
        archive.write(io::BufWriter::new(file)).context("cannot write the lab's initramfs")?;

        let machine = qemu::Machine {
            emulator: self.emulator.clone(),
            kernel: self.image.clone(),
            initrd,
            share,
            console: dir.join("console.log"),
            memory_mib: options.memory.unwrap_or_else(|| default_memory(1)),
            cpus: options.cpus,
        };
        match relay::run(&machine, &dir, streams, Duration::from_secs(options.timeout)) {
            Ok(status) => {
                if status == 0 {
                    fs::remove_dir_all(&dir).context("cannot remove the lab's directory")?;
                } else {
                    let dir = dir.display();
                    eprintln!("lab: the command's exit status is {status}; the console is in {dir}");
                }
                Ok(status)
            }
            Err(why) => {
                eprint!("{}", tail(&machine.console));
                bail!("the lab failed: {why:#}; its console is above, all of it in {}", dir.display())
            }
        }
    }
}

/// Gets what is missing, and runs `job` in a fresh lab: see [`Lab::run`].
pub fn run(options: &Options, job: &Job, streams: Streams) -> Result<u8> {
    Lab::ensure()?.run(options, job, streams)
}

/// A directory of this run's own. Those of runs that are over go, but for the latest, whose console may be
/// wanted.
fn run_directory() -> Result<PathBuf> {
    let runs = place::lab().join("runs");
    fs::create_dir_all(&runs).with_context(|| format!("cannot create {}", runs.display()))?;
    let mut over = Vec::new();
    for entry in fs::read_dir(&runs).context("cannot list the lab's runs")?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process = name.split('-').next().unwrap_or_default();
        let at = entry.metadata().and_then(|meta| meta.modified());
        if let (false, Ok(at)) = (PathBuf::from("/proc").join(process).exists(), at) {
            over.push((at, entry.path()));
        }
    }
    over.sort();
    over.pop();
    for (_, path) in over {
        // Another lab may be at the same work.
        let _ = fs::remove_dir_all(path);
    }
    static RUNS: AtomicU64 = AtomicU64::new(0);
    let nth = RUNS.fetch_add(1, Ordering::Relaxed);
    let dir = runs.join(format!("{}-{nth}", std::process::id()));
    if dir.exists() {
        fs::remove_dir_all(&dir).context("cannot remove the directory of an older run")?;
    }
    fs::create_dir(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    Ok(dir)
}

/// What each of so many labs gets of half of the memory that is free here, in MiB, within bounds that make sense.
pub fn default_memory(labs: u64) -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    (kib.unwrap_or(0) / 2048 / labs.max(1)).clamp(2048, 8192)
}

/// The last lines of the console, which has carriage returns.
fn tail(console: &std::path::Path) -> String {
    let text = String::from_utf8_lossy(&fs::read(console).unwrap_or_default()).replace('\r', "");
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(60)..].iter().map(|line| format!("  | {line}\n")).collect()
}
