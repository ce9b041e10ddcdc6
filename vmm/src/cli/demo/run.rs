//! This program, run as a user runs it, with a clock on its guest's console.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use vmm::control::{Answer, Client, Request, SnapshotRequest};

use super::measure::{Snapshot, Start};

/// How long to wait for a VM's control socket.
const SOCKET_PATIENCE: Duration = Duration::from_secs(10);

/// How long any VM may take for all that is asked of it: many times what software emulation needs. A guest that is lost says
/// nothing any more, and that is to be said.
const PATIENCE: Duration = Duration::from_secs(120);

/// How often a VM that was told to end is looked at.
const TICK: Duration = Duration::from_millis(1);

/// How much is shown of what a child said on stderr, in bytes.
const STDERR_MAX: u64 = 4096;

/// The program to run.
pub(super) struct Rekindle {
    program: PathBuf,
}

/// A VM that runs; killed when it is dropped.
struct Running {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    started: Instant,
}

impl Rekindle {
    pub(super) fn this_program() -> Result<Self> {
        Ok(Self { program: std::env::current_exe().context("cannot find this program's own file")? })
    }

    /// Boots the built-in guest until it is ready.
    pub(super) fn boot(&self, memory: &str, fill: &str) -> Result<Start> {
        let mut vm = self.start(&["boot", "--memory", memory, "--cmdline", &format!("spark.fill={fill}")])?;
        let first_byte = vm.first_byte()?;
        let ready = vm.line_that_is("spark: ready")?;
        vm.end()?;
        Ok(Start { first_byte, ready })
    }

    /// Boots the built-in guest, and writes it to an image at the instant at which it becomes ready: what it says
    /// next, it says when it is restored.
    pub(super) fn snapshot(&self, memory: &str, fill: &str, image: &Path) -> Result<Snapshot> {
        let socket = image.with_extension("socket");
        let cmdline = format!("spark.fill={fill}");
        let socket_arg = socket.to_string_lossy();
        let mut vm =
            self.start(&["boot", "--memory", memory, "--cmdline", &cmdline, "--api-socket", &socket_arg])?;
        vm.line_that_is("spark: ready")?;
        let live = image.with_extension("live");
        let asked = Instant::now();
        let answer = Client::connect_within(&socket, SOCKET_PATIENCE)?
            .ask(&Request::Snapshot(SnapshotRequest { out: live, resume: true, reclaim_ms: 0 }))?;
        let took = asked.elapsed();
        vm.end()?;
        let Answer::Snapshot(summary) = answer else {
            bail!("the VM answered a snapshot with something else")
        };

        let out = image.to_string_lossy();
        let bake = ["bake", "--memory", memory, "--cmdline", &cmdline, "--ready", "port", "--out", &out];
        let status = Command::new(&self.program).args(bake).stdin(Stdio::null()).status();
        if !status.context("cannot run `rekindle bake`")?.success() {
            bail!("`rekindle bake` failed");
        }
        Ok(Snapshot {
            paused: Duration::from_micros(summary.paused_us),
            took,
            memory_bytes: summary.memory_bytes,
        })
    }

    /// Restores the image until its guest is ready, which is its first word.
    pub(super) fn restore(&self, image: &Path, mode: &str) -> Result<Start> {
        let mut vm = self.start(&["restore", &image.to_string_lossy(), "--memory-mode", mode])?;
        let first_byte = vm.first_byte()?;
        let ready = vm.line_that_is("spark: ready")?;
        vm.end()?;
        Ok(Start { first_byte, ready })
    }

    /// Restores the image and lets the guest compare its memory with what it had filled it with.
    pub(super) fn verify_in_guest(&self, image: &Path, mode: &str) -> Result<String> {
        let mut vm = self.start(&["restore", &image.to_string_lossy(), "--memory-mode", mode])?;
        vm.line_that_is("spark: ready")?;
        let answer = vm.ask("verify")?;
        vm.end()?;
        Ok(answer)
    }

    fn start(&self, args: &[&str]) -> Result<Running> {
        let mut command = Command::new(&self.program);
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Ctrl-C is for the demo, which then ends them.
        command.process_group(0);
        let started = Instant::now();
        let mut child =
            command.spawn().with_context(|| format!("cannot run `{}`", self.program.display()))?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("a child without its pipes");
        };
        Ok(Running { child, input, output: BufReader::new(output), started })
    }
}

impl Running {
    /// Waits for the guest's first byte, which stays to be read.
    fn first_byte(&mut self) -> Result<Duration> {
        self.wait_for_output()?;
        let there = self.output.fill_buf().context("cannot read the guest's console")?;
        if there.is_empty() {
            return Err(self.failed("the guest ended without a word"));
        }
        Ok(self.started.elapsed())
    }

    fn line(&mut self) -> Result<String> {
        let mut line = Vec::new();
        while line.last() != Some(&b'\n') {
            self.wait_for_output()?;
            let there = self.output.fill_buf().context("cannot read the guest's console")?;
            if there.is_empty() {
                return Err(self.failed("the guest ended before it had said what was awaited"));
            }
            let len = there.iter().position(|&byte| byte == b'\n').map_or(there.len(), |at| at + 1);
            line.extend_from_slice(&there[..len]);
            self.output.consume(len);
        }
        Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
    }

    /// Returns once a read does not wait: there is something, or the VM has closed its console.
    fn wait_for_output(&mut self) -> Result<()> {
        while self.output.buffer().is_empty() {
            let left = PATIENCE.saturating_sub(self.started.elapsed());
            let left = Timespec::try_from(left).context("a time that the kernel does not take")?;
            let mut fds = [PollFd::new(self.output.get_ref(), PollFlags::IN)];
            match poll(&mut fds, Some(&left)) {
                Ok(0) => {
                    // Its stderr is read to the end.
                    let _ = self.child.kill();
                    return Err(self.failed("the guest has said nothing for too long"));
                }
                Ok(_) => break,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno).context("cannot wait for the guest's console"),
            }
        }
        Ok(())
    }

    fn line_that_is(&mut self, awaited: &str) -> Result<Duration> {
        while self.line()? != awaited {}
        Ok(self.started.elapsed())
    }

    fn ask(&mut self, question: &str) -> Result<String> {
        writeln!(self.input, "{question}").context("cannot write to the guest's console")?;
        self.line()
    }

    /// What went wrong, with what the child said of it.
    fn failed(&mut self, what: &'static str) -> Error {
        let mut said = String::new();
        if let Some(stderr) = &mut self.child.stderr {
            // What cannot be read is not there to be shown.
            let _ = stderr.take(STDERR_MAX).read_to_string(&mut said);
        }
        Error::msg(said.trim_end().to_owned()).context(what)
    }

    /// Lets the guest power off.
    fn end(mut self) -> Result<()> {
        writeln!(self.input, "off").context("cannot write to the guest's console")?;
        while self.child.try_wait().context("cannot wait for a VM")?.is_none() {
            if self.started.elapsed() > PATIENCE {
                bail!("the guest was told to power off and has not done so");
            }
            std::thread::sleep(TICK);
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only for a child that has been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
