//! Runs the lab's machine: copies its ports to our streams, and waits for the command's status or the time
//! limit.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Child;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::Streams;
use super::qemu::{Machine, PORTS};

/// How often the machine is looked at.
const TICK: Duration = Duration::from_millis(20);
/// How long the machine may take to be gone after the command has ended.
const GRACE: Duration = Duration::from_secs(10);

/// Boots `machine`, relays what the command says, and returns its exit status. No machine is left when this
/// returns.
pub fn run(machine: &Machine, dir: &Path, streams: Streams, limit: Duration) -> Result<u8> {
    let started = Instant::now();
    // Listening before the machine starts, so that it connects to whatever port it comes to first.
    let [out, err, ctl] = listen(dir)?;
    let out = relay(out, streams.out);
    let err = relay(err, streams.err);
    let reports = thread::spawn(move || follow(&ctl, started));

    let mut command = machine.command(dir);
    let mut qemu = Killed(command.spawn().context("cannot run setpriv, which would run QEMU")?);
    let deadline = started + limit;
    let mut gone = None;
    while !reports.is_finished() {
        if Instant::now() > deadline {
            bail!("the time limit of {} s is over", limit.as_secs());
        }
        if gone.is_none()
            && let Some(status) = qemu.0.try_wait().context("cannot wait for QEMU")?
        {
            gone = Some((Instant::now(), status));
        }
        // Its sockets close with it, which ends the reports; unless it never opened them.
        if let Some((at, status)) = gone
            && at.elapsed() > Duration::from_secs(1)
        {
            let mut said = String::new();
            if let Some(mut stderr) = qemu.0.stderr.take() {
                stderr.read_to_string(&mut said).context("cannot read QEMU's errors")?;
            }
            bail!("QEMU ended without a report, {status}: {}", said.trim());
        }
        thread::sleep(TICK);
    }
    let report = reports.join().expect("the thread that follows the reports does not panic");
    let status = report?;
    wait_until_gone(&mut qemu.0)?;
    for stream in [out, err] {
        stream
            .join()
            .expect("the threads that copy streams do not panic")
            .context("cannot pass on output")?;
    }
    Ok(status)
}

/// A socket for each port, in `dir` but addressed by a descriptor of it, whose path is short enough for a
/// socket.
fn listen(dir: &Path) -> Result<[UnixListener; 3]> {
    let handle = File::open(dir).with_context(|| format!("cannot open {}", dir.display()))?;
    let short = Path::new("/proc/self/fd").join(handle.as_raw_fd().to_string());
    let listen = |name| UnixListener::bind(short.join(name)).context("cannot listen for the lab's ports");
    let [out, err, ctl] = PORTS.map(listen);
    Ok([out?, err?, ctl?])
}

/// QEMU, killed when this goes out of scope.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // An error means that it has ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wait_until_gone(qemu: &mut Child) -> Result<()> {
    let asked = Instant::now();
    while qemu.try_wait().context("cannot wait for QEMU")?.is_none() {
        if asked.elapsed() > GRACE {
            qemu.kill().context("cannot kill QEMU")?;
        }
        thread::sleep(TICK);
    }
    Ok(())
}

/// Copies what comes from one port to one of our streams, as it comes.
fn relay(port: UnixListener, mut to: Box<dyn Write + Send>) -> JoinHandle<io::Result<()>> {
    thread::spawn(move || {
        let (mut from, _) = port.accept()?;
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
fn follow(port: &UnixListener, started: Instant) -> Result<u8> {
    let (stream, _): (UnixStream, _) = port.accept().context("cannot accept the lab's reports")?;
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
