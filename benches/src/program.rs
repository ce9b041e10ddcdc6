//! The `rekindle` program, run as a script runs it, and a VM of it with a clock on its console.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// What the built-in guest says when it is ready: the first thing after a restore.
pub const READY: &str = "spark: ready";

/// A program to measure.
#[derive(Clone, Debug)]
pub struct Program {
    path: PathBuf,
    /// What it is run by, with the arguments that go before its path.
    wrapper: &'static [&'static str],
}

/// The built-in guest, as it is booted.
#[derive(Clone, Copy, Debug)]
pub struct Guest {
    /// `--memory`.
    pub memory: &'static str,
    /// How much it fills with a pattern at start.
    pub fill: &'static str,
}

impl Guest {
    fn arguments(self) -> [OsString; 4] {
        [
            "--memory".into(),
            self.memory.into(),
            "--cmdline".into(),
            format!("spark.fill={}", self.fill).into(),
        ]
    }
}

/// A VM that runs; killed and waited for when it is dropped, so that one measurement's end is not the next one's
/// disturbance.
#[derive(Debug)]
pub struct Vm {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    started: Instant,
}

impl Program {
    /// The program at `path`.
    pub fn new(path: PathBuf) -> Self {
        Self { path, wrapper: &[] }
    }

    /// Run by another program, which is given its path and arguments behind its own. It must `exec`.
    #[must_use]
    pub fn under(&self, wrapper: &'static [&'static str]) -> Self {
        Self { path: self.path.clone(), wrapper }
    }

    /// What it says its version is.
    pub fn version(&self) -> Result<String> {
        let out = self.command(["--version"]).output().with_context(|| self.cannot_run())?;
        Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned())
    }

    /// Boots `guest`; `options` come after what it needs.
    pub fn boot(&self, guest: Guest, options: &[&OsStr]) -> Result<Vm> {
        let mut args = vec![OsString::from("boot")];
        args.extend(guest.arguments());
        args.extend(options.iter().map(|option| option.to_os_string()));
        self.start(&args)
    }

    /// Restores the image.
    pub fn restore(&self, image: &Path, options: &[&OsStr]) -> Result<Vm> {
        let mut args = vec![OsStr::new("restore"), image.as_os_str()];
        args.extend(options);
        self.start(&args)
    }

    /// Writes an image of `guest` as it writes to the readiness port: what it says next is what it says first when it
    /// is restored.
    pub fn bake(&self, guest: Guest, out: &Path) -> Result<()> {
        let mut command = self.command(["bake", "--ready", "port", "--out"]);
        let status = command.arg(out).args(guest.arguments()).stdin(Stdio::null()).status();
        if !status.with_context(|| self.cannot_run())?.success() {
            bail!("`{} bake` failed", self.path.display());
        }
        Ok(())
    }

    /// Writes the image `out`, which is `image` packed.
    pub fn pack(&self, image: &Path, out: &Path) -> Result<()> {
        let mut command =
            self.command([OsStr::new("pack"), image.as_os_str(), OsStr::new("--out"), out.as_os_str()]);
        let done = command.stdin(Stdio::null()).stdout(Stdio::null()).status();
        if !done.with_context(|| self.cannot_run())?.success() {
            bail!("`{} pack` failed", self.path.display());
        }
        Ok(())
    }

    fn start(&self, args: &[impl AsRef<OsStr>]) -> Result<Vm> {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let started = Instant::now();
        let mut child = command.spawn().with_context(|| self.cannot_run())?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("a child without its pipes");
        };
        Ok(Vm { child, input, output: BufReader::new(output), started })
    }

    fn command(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        let mut words = self.wrapper.iter().map(OsStr::new).chain([self.path.as_os_str()]);
        let mut command = Command::new(words.next().unwrap_or(self.path.as_os_str()));
        command.args(words).args(args);
        command
    }

    fn cannot_run(&self) -> String {
        format!("cannot run `{}`", self.path.display())
    }
}

impl Vm {
    /// Waits for the guest's first byte, which stays to be read; the time since just before the process was spawned.
    pub fn first_byte(&mut self) -> Result<Duration> {
        if self.output.fill_buf().context("cannot read the guest's console")?.is_empty() {
            bail!("the guest ended without a word");
        }
        Ok(self.started.elapsed())
    }

    /// Waits for a line of the guest's; the time since just before the process was spawned.
    pub fn line_that_is(&mut self, awaited: &str) -> Result<Duration> {
        while self.line()? != awaited {}
        Ok(self.started.elapsed())
    }

    /// Types `question` and waits for the line that answers it: how long that took.
    pub fn ask(&mut self, question: &str) -> Result<Duration> {
        let asked = Instant::now();
        self.answer(question)?;
        Ok(asked.elapsed())
    }

    /// Types `question`; what answers it.
    pub fn answer(&mut self, question: &str) -> Result<String> {
        writeln!(self.input, "{question}").context("cannot write to the guest's console")?;
        let answer = self.line()?;
        match answer.strip_prefix("ok ") {
            Some(answer) => Ok(answer.to_owned()),
            None => bail!("the guest answered `{question}` with `{answer}`"),
        }
    }

    /// Since just before the process was spawned.
    pub fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.output.read_line(&mut line).context("cannot read the guest's console")? == 0 {
            bail!("the guest ended before it had said what was awaited");
        }
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        // Both fail only for a child that has been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
