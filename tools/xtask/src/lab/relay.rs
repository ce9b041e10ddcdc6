//! Runs the lab's machine: copies its ports to our streams, and waits for the command's status or the time
//! limit.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::Streams;

/// The ports by which the lab talks to us: the command's two streams, and the reports.
pub const PORTS: [&str; 3] = ["out", "err", "ctl"];

/// A machine that can be started.
#[derive(Debug)]
pub struct Machine {
    /// Runs it in the foreground.
    pub command: Command,
    /// The other ends of [`PORTS`].
    pub ports: [Port; 3],
    /// Whether it draws a screen into a terminal of its own, which its standard error names and which must be read, or it
    /// waits for that after some 64 KiB.
    pub has_screen: bool,
}

/// Our end of a port.
#[derive(Debug)]
pub enum Port {
    /// The machine connects to it.
    Socket(UnixListener),
    /// The machine writes this file.
    File(PathBuf),
}

/// Of fcntl.h: a terminal that is opened does not become that of this process.
const O_NOCTTY: i32 = 0o400;

/// How often the machine is looked at.
const TICK: Duration = Duration::from_millis(20);
/// How long the machine may take to be gone after the command has ended.
const GRACE: Duration = Duration::from_secs(10);

/// Boots `machine`, relays what the command says, and returns its exit status. No machine is left when this
/// returns.
pub fn run(machine: Machine, streams: Streams, limit: Duration) -> Result<u8> {
    let started = Instant::now();
    let Machine { mut command, ports: [out, err, ctl], has_screen } = machine;
    let gone = Arc::new(AtomicBool::new(false));
    let out = relay(out, &gone, streams.out);
    let err = relay(err, &gone, streams.err);
    let until = Arc::clone(&gone);
    let reports = thread::spawn(move || follow(ctl, until, started));

    let mut child = command.spawn().context("cannot run setpriv, which would run the emulator")?;
    if let Some(said) = child.stderr.take_if(|_| has_screen) {
        thread::spawn(move || discard_screen(said));
    }
    let mut emulator = Emulator { child, gone };
    let deadline = started + limit;
    let mut ended = None;
    while !reports.is_finished() {
        if Instant::now() > deadline {
            bail!("the time limit of {} s is over", limit.as_secs());
        }
        if ended.is_none()
            && let Some(status) = emulator.child.try_wait().context("cannot wait for the emulator")?
        {
            ended = Some((Instant::now(), status));
            emulator.gone.store(true, Ordering::Release);
        }
        // Its ports end with it, which ends the reports; unless it never opened them.
        if let Some((at, status)) = ended
            && at.elapsed() > Duration::from_secs(1)
        {
            let mut said = String::new();
            if let Some(mut stderr) = emulator.child.stderr.take() {
                stderr.read_to_string(&mut said).context("cannot read the emulator's errors")?;
            }
            bail!("the emulator ended without a report, {status}: {}", said.trim());
        }
        thread::sleep(TICK);
    }
    let report = reports.join().expect("the thread that follows the reports does not panic");
    let status = report?;
    wait_until_gone(&mut emulator.child)?;
    emulator.gone.store(true, Ordering::Release);
    for stream in [out, err] {
        stream
            .join()
            .expect("the threads that copy streams do not panic")
            .context("cannot pass on output")?;
    }
    Ok(status)
}

/// Reads what a machine draws until it is gone. What goes wrong here shows as a machine that stands still.
fn discard_screen(said: impl Read) {
    for line in BufReader::new(said).lines().map_while(Result::ok) {
        if let Some(path) = screen(&line) {
            let terminal = File::options().read(true).custom_flags(O_NOCTTY).open(path);
            thread::spawn(move || terminal.and_then(|mut terminal| io::copy(&mut terminal, &mut io::sink())));
        }
    }
}

/// The terminal that a line such as `Bochs connected to screen "/dev/pts/0"` names.
fn screen(line: &str) -> Option<&str> {
    line.split_once("connected to screen \"")?.1.strip_suffix('"')
}

/// A socket for each port, in `dir` but addressed by a descriptor of it, whose path is short enough for a
/// socket. Made before the machine starts, so that it connects to whatever port it comes to first.
pub fn listen(dir: &Path) -> Result<[Port; 3]> {
    let handle = File::open(dir).with_context(|| format!("cannot open {}", dir.display()))?;
    let short = Path::new("/proc/self/fd").join(handle.as_raw_fd().to_string());
    let listen = |name| UnixListener::bind(short.join(name)).context("cannot listen for the lab's ports");
    let [out, err, ctl] = PORTS.map(listen);
    Ok([Port::Socket(out?), Port::Socket(err?), Port::Socket(ctl?)])
}

impl Port {
    /// What comes through it; of a file, all that is written until the machine is `gone`.
    fn open(self, gone: Arc<AtomicBool>) -> io::Result<Box<dyn Read>> {
        Ok(match self {
            Self::Socket(listener) => Box::new(listener.accept()?.0),
            Self::File(path) => Box::new(Growing { path, file: None, gone }),
        })
    }
}

/// Reads a file that another process makes and appends to. Its end is the end only when that process is gone.
struct Growing {
    path: PathBuf,
    file: Option<File>,
    gone: Arc<AtomicBool>,
}

impl Read for Growing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            // Asked before the file is read: what is written until then is found.
            let last = self.gone.load(Ordering::Acquire);
            if self.file.is_none() {
                self.file = match File::open(&self.path) {
                    Err(why) if why.kind() == io::ErrorKind::NotFound => None,
                    opened => Some(opened?),
                };
            }
            let n = match &mut self.file {
                Some(file) => file.read(buffer)?,
                None => 0,
            };
            if n > 0 || last {
                return Ok(n);
            }
            thread::sleep(TICK);
        }
    }
}

/// The machine's process, killed when this goes out of scope.
struct Emulator {
    child: Child,
    /// Set once it has ended: nothing more comes through its ports.
    gone: Arc<AtomicBool>,
}

impl Drop for Emulator {
    fn drop(&mut self) {
        // An error means that it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.gone.store(true, Ordering::Release);
    }
}

fn wait_until_gone(emulator: &mut Child) -> Result<()> {
    let asked = Instant::now();
    while emulator.try_wait().context("cannot wait for the emulator")?.is_none() {
        if asked.elapsed() > GRACE {
            emulator.kill().context("cannot kill the emulator")?;
        }
        thread::sleep(TICK);
    }
    Ok(())
}

/// Copies what comes from one port to one of our streams, as it comes.
fn relay(port: Port, gone: &Arc<AtomicBool>, mut to: Box<dyn Write + Send>) -> JoinHandle<io::Result<()>> {
    let gone = Arc::clone(gone);
    thread::spawn(move || {
        let mut from = port.open(gone)?;
        let mut buffer = vec![0; 64 << 10];
        loop {
            let n = from.read(&mut buffer)?;
            if n == 0 {
                return Ok(());
            }
            to.write_all(&buffer[..n])?;
            to.flush()?;
        }
    })
}

/// Follows the reports until the command's exit status, or the reason why there is none.
fn follow(port: Port, gone: Arc<AtomicBool>, started: Instant) -> Result<u8> {
    let stream = port.open(gone).context("cannot accept the lab's reports")?;
    for line in BufReader::new(stream).lines() {
        let line = line.context("cannot read the lab's reports")?;
        match line.split_once(' ') {
            Some(("ready", uptime)) => {
                eprintln!(
                    "lab: ready after {:.1} s ({uptime} s of its own)",
                    started.elapsed().as_secs_f64()
                );
            }
            Some(("kernel", what)) => eprintln!("lab: its kernel says: {what}"),
            Some(("exit", status)) => return status.parse().with_context(|| format!("cannot read `{line}`")),
            Some(("failed", why)) => bail!("{why}"),
            _ => bail!("it reports `{line}`"),
        }
    }
    bail!("it ended before the command did")
}

#[cfg(test)]
#[path = "relay_test.rs"]
mod relay_test;
