//! The lab: a stock Linux with KVM, in software emulation, that runs one command of ours.
//!
//! For hosts without `/dev/kvm`, for stock Linux guests on hosts whose KVM emulates kernel mode, and for CPUs and kernels
//! that the host does not have. There is one with `kvm_amd`, in QEMU, where the command sees the outer file system
//! read-only, with fresh `/dev`, `/proc`, `/sys`, `/run` and `/tmp`; and one with `kvm_intel`, in Bochs, where it sees the
//! files that it is given. Times in there mean nothing.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};

use crate::debian::packages::{self, BOCHS, BUSYBOX, XZ};
use crate::guests::initramfs::Initramfs;
use crate::guests::{self, Guest, kernel};
use crate::place;

pub mod bochs;
pub mod carried;
pub mod emulator;
pub mod image;
pub mod qemu;
pub mod relay;
pub mod uncompressed;

/// Where the writable share is mounted in the lab.
const SHARE: &str = "/run/share";

/// What the serial console is written to, in the directory of a run.
const CONSOLE: &str = "console.log";

/// Whose virtualization the lab's CPU has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Cpu {
    /// SVM, emulated by QEMU
    #[default]
    Amd,
    /// VMX, emulated by Bochs: one CPU, no share, and of the outer file system only the files that are given
    Intel,
}

/// Which Linux the lab runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum HostKernel {
    /// The one that the project is developed on
    #[default]
    Usual,
    /// Of the oldest Debian that mirrors have; on AMD only
    Oldest,
    /// Of Debian's backports; on AMD only
    Newest,
}

/// Which lab, how large, and for how long.
#[derive(Args, Clone, Debug)]
#[group(id = "lab")]
pub struct Options {
    /// Whose virtualization the lab has.
    #[arg(long, value_enum, default_value_t)]
    pub cpu: Cpu,
    /// Which Linux runs in the lab.
    #[arg(long, value_enum, default_value_t)]
    pub host_kernel: HostKernel,
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
        Self {
            cpu: Cpu::Amd,
            host_kernel: HostKernel::Usual,
            timeout: 1800,
            memory: None,
            cpus: 1,
            share: None,
        }
    }
}

/// What to run in there.
#[derive(Clone, Debug)]
pub struct Job {
    /// The program and its arguments, looked up in the outer `PATH`.
    pub command: Vec<OsString>,
    /// Variables on top of those that are passed on anyway.
    pub env: Vec<(OsString, OsString)>,
    /// Files and directories that the command needs, for a lab that sees no others. The program itself, and arguments that
    /// are files, are always among them.
    pub files: Vec<PathBuf>,
}

impl Job {
    /// Runs `command` with the usual environment.
    pub fn new(command: Vec<OsString>) -> Self {
        Self { command, env: Vec::new(), files: Vec::new() }
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

/// What every lab of a kind is made of, fetched and unpacked.
#[derive(Debug)]
pub struct Lab {
    emulator: Emulator,
    kernel: kernel::Kernel,
}

#[derive(Debug)]
enum Emulator {
    Qemu {
        program: emulator::Emulator,
        /// What it is given of the kernel.
        image: PathBuf,
    },
    Bochs,
}

impl Lab {
    /// Gets what is not there yet.
    pub fn ensure(cpu: Cpu, host_kernel: HostKernel) -> Result<Self> {
        packages::ensure(&[BUSYBOX, XZ])?;
        let lab = match cpu {
            Cpu::Amd => {
                let program = emulator::ensure()?;
                let kernel = amd_kernel(host_kernel)?;
                let image = uncompressed::image(&kernel)?;
                Self { emulator: Emulator::Qemu { program, image }, kernel }
            }
            Cpu::Intel if host_kernel == HostKernel::Usual => {
                packages::ensure(&BOCHS)?;
                Self { emulator: Emulator::Bochs, kernel: kernel::ensure(&guests::CLOUD_6_1)? }
            }
            Cpu::Intel => bail!("the Intel lab has one kernel only"),
        };
        eprintln!("lab: {}", lab.describe());
        Ok(lab)
    }

    /// The CPU's virtualization, the kernel and the emulator, in one line.
    pub fn describe(&self) -> String {
        let kernel::Manifest { release, package, version, .. } = &self.kernel.manifest;
        let (cpu, emulator) = match &self.emulator {
            Emulator::Qemu { program, .. } => ("AMD SVM", format!("QEMU {}", program.version)),
            Emulator::Bochs => ("Intel VMX", "Bochs".to_owned()),
        };
        format!("{cpu}, Linux {release} ({package} {version}) on {emulator}")
    }

    /// Runs `job` in a fresh lab; its exit status, as a shell would give it. Others may run beside it.
    ///
    /// An error means that the lab failed, not the command.
    pub fn run(&self, options: &Options, job: &Job, streams: Streams) -> Result<u8> {
        let dir = run_directory()?;
        let machine = match &self.emulator {
            Emulator::Qemu { program, image } => self.prepare_qemu(program, image, options, job, &dir)?,
            Emulator::Bochs => self.prepare_bochs(options, job, &dir)?,
        };
        match relay::run(machine, streams, Duration::from_secs(options.timeout)) {
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
                eprint!("{}", tail(&dir.join(CONSOLE)));
                bail!("the lab failed: {why:#}; its console is above, all of it in {}", dir.display())
            }
        }
    }

    fn prepare_qemu(
        &self,
        program: &emulator::Emulator,
        image: &Path,
        options: &Options,
        job: &Job,
        dir: &Path,
    ) -> Result<relay::Machine> {
        let share = options.share.clone().unwrap_or_else(|| place::lab().join("share"));
        fs::create_dir_all(&share).with_context(|| format!("cannot create {}", share.display()))?;
        let share = share.canonicalize().with_context(|| format!("cannot find {}", share.display()))?;
        let machine = qemu::Machine {
            emulator: program.clone(),
            kernel: image.to_owned(),
            initrd: write_initrd(&image::build(&self.kernel, job)?, dir)?,
            share,
            console: dir.join(CONSOLE),
            memory_mib: options.memory.unwrap_or_else(|| default_memory(1)),
            cpus: options.cpus,
        };
        machine.prepare(dir)
    }

    fn prepare_bochs(&self, options: &Options, job: &Job, dir: &Path) -> Result<relay::Machine> {
        if options.cpus != 1 || options.share.is_some() {
            bail!("the Intel lab has one CPU and no share");
        }
        let archive = image::build_carrying(&self.kernel, job, bochs::ports())?;
        let machine = bochs::Machine {
            kernel: self.kernel.image(),
            initrd: write_initrd(&archive, dir)?,
            memory_mib: options.memory.unwrap_or(bochs::MEMORY_MIB),
        };
        machine.prepare(dir)
    }
}

/// The kernel of a lab with `kvm_amd`. Once mirrors drop the oldest release, the oldest is the usual one.
fn amd_kernel(which: HostKernel) -> Result<kernel::Kernel> {
    let guest: &Guest = match which {
        HostKernel::Usual => &guests::GENERIC_6_1,
        HostKernel::Newest => &guests::GENERIC_NEWEST,
        HostKernel::Oldest => match kernel::ensure(&guests::GENERIC_OLDEST) {
            Ok(kernel) => return Ok(kernel),
            Err(why) => {
                eprintln!("note: the oldest kernel cannot be had: {why:#}");
                &guests::GENERIC_6_1
            }
        },
    };
    kernel::ensure(guest)
}

fn write_initrd(archive: &Initramfs, dir: &Path) -> Result<PathBuf> {
    let path = dir.join("initramfs.cpio");
    let file = fs::File::create(&path).context("cannot create the lab's initramfs")?;
    archive.write(io::BufWriter::new(file)).context("cannot write the lab's initramfs")?;
    Ok(path)
}

/// Gets what is missing, and runs `job` in a fresh lab: see [`Lab::run`].
pub fn run(options: &Options, job: &Job, streams: Streams) -> Result<u8> {
    Lab::ensure(options.cpu, options.host_kernel)?.run(options, job, streams)
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
fn tail(console: &Path) -> String {
    let text = String::from_utf8_lossy(&fs::read(console).unwrap_or_default()).replace('\r', "");
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(60)..].iter().map(|line| format!("  | {line}\n")).collect()
}
