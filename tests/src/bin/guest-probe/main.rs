//! What a stock guest cannot tell with a shell alone: clocks to the nanosecond, naps, work on every CPU, one byte to
//! a port, sockets to the host. A static program that the tests put into the guest's initramfs.
//!
//! Every answer is one line and one `write`, because others write to the same console.

mod numbers;
mod records;
mod sys;
mod vsock;
mod watch;
mod work;

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::process::ExitCode;
use std::time::Duration;

use rustix::thread::{CpuSet, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

/// The port by which a guest says that it is ready.
const READY_PORT: u16 = 0x5e0;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["clock"] => say(&clocks()),
        ["nap", ms] => ms.parse().map_err(io::Error::other).and_then(nap),
        ["watch"] => watch::run(),
        ["fill", mib] => mib.parse().map_err(io::Error::other).and_then(work::fill),
        ["load", file] => work::load(file),
        ["numbers"] => numbers::run(),
        ["reseed"] => File::open("/dev/urandom").and_then(|random| sys::reseed(&random)),
        ["serve", port] => number(port).and_then(vsock::serve),
        ["call", port, mib, connections] => vsock_call(port, mib, connections),
        ["hold", port] => number(port).and_then(vsock::hold),
        ["send", to] => send(to),
        ["records", file] => records::write(file),
        ["check", file] => records::check(file),
        ["ready"] => sys::write_port(READY_PORT, 1),
        _ => {
            let usage = "clock | nap MS | watch | fill MIB | load FILE | numbers | reseed | ready";
            Err(io::Error::other(format!(
                "{usage} | serve PORT | call PORT MIB CONNECTIONS | hold PORT | send HOST:PORT | records FILE | \
                 check FILE"
            )))
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("guest-probe {}: {why}", words.join(" "));
            ExitCode::FAILURE
        }
    }
}

fn number(text: &str) -> io::Result<u32> {
    text.parse().map_err(io::Error::other)
}

fn vsock_call(port: &str, mib: &str, connections: &str) -> io::Result<()> {
    vsock::call(number(port)?, number(mib)? as usize, number(connections)?.into())
}

/// Sends what it is given over TCP, in as few writes as there can be: busybox's `nc` writes a KiB at a time.
fn send(to: &str) -> io::Result<()> {
    let mut data = Vec::new();
    io::stdin().read_to_end(&mut data)?;
    TcpStream::connect(to)?.write_all(&data)
}

fn clocks() -> String {
    let (mono, boot) = (nanoseconds(ClockId::Monotonic), nanoseconds(ClockId::Boottime));
    format!("mono={mono} boot={boot} real={}", nanoseconds(ClockId::Realtime))
}

/// Sleeps on each CPU in turn; says how long each sleep took in us.
fn nap(ms: u64) -> io::Result<()> {
    let mut line = "nap".to_owned();
    for cpu in 0..cpus() {
        pin(cpu)?;
        let start = nanoseconds(ClockId::Monotonic);
        std::thread::sleep(Duration::from_millis(ms));
        line.push_str(&format!(" cpu{cpu}={}", (nanoseconds(ClockId::Monotonic) - start) / 1000));
    }
    say(&line)
}

fn nanoseconds(clock: ClockId) -> i64 {
    let time = clock_gettime(clock);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Keeps the calling thread on one CPU.
fn pin(cpu: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    Ok(sched_setaffinity(None, &set)?)
}

fn say(line: &str) -> io::Result<()> {
    io::stdout().lock().write_all(format!("{line}\n").as_bytes())
}
