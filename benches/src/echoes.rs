//! There and back: bytes over a socket to a program that returns them, and an ARP request over a TAP to the host's
//! kernel, which answers it. The built-in guest polls, with one round trip under way at a time.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result};

use crate::program::{Guest, Program, READY};
use crate::results::Group;
use crate::sampled;

const GUEST: Guest = Guest { memory: "64M", fill: "0" };

/// Round trips of a run.
const COUNT: u32 = 2000;

/// The port of the host's that returns what it gets.
const PORT: u32 = 5000;

/// How many bytes go over a socket at a time: the least, and what the guest has room for in a packet.
const SIZES: [u32; 2] = [1, 4096];

/// The host's address, of a network that is nobody's (RFC 5737), and what the guest calls it.
const HOST: &str = "192.0.2.1/24";
const HOST_NUMBER: u32 = 0xc000_0201;

/// What goes before a command that is to find the TAP `bench0`, of the host's address: a network namespace, which ends
/// with the command.
const WITH_TAP: [&str; 6] = [
    "unshare",
    "--net",
    "sh",
    "-c",
    "set -e; busybox tunctl -t bench0 >/dev/null; busybox ip addr add \"$0\" dev bench0; \
     busybox ip link set bench0 up; exec \"$@\"",
    HOST,
];

/// Measures `rounds` runs of each size over a socket.
///
/// # Errors
/// A guest cannot be started, or fails.
pub fn vsock(program: &Program, dir: &Path, rounds: usize) -> Result<Group> {
    let socket = dir.join("vsock");
    let listener = UnixListener::bind(format!("{}_{PORT}", socket.display())).context("cannot listen")?;
    // Ends with this process.
    thread::spawn(move || listener.incoming().flatten().for_each(echo));
    let option = format!("cid=3,uds={}", socket.display());
    let mut vm = program.boot(GUEST, &["--vsock".as_ref(), option.as_ref()])?;
    vm.line_that_is(READY)?;
    let kinds =
        SIZES.map(|bytes| (format!("vsock, {bytes} B"), format!("vsock bench {PORT} {bytes} {COUNT}")));
    Ok(Group {
        title: "Socket, there and back",
        boundary: "in the guest, polled: from before bytes are sent, through the Unix socket to a program, until all are \
                   back; the thread: its CPU time a round trip",
        series: sampled::measure(&mut vm, &kinds, rounds)?,
    })
}

/// Returns what comes, until nothing does. A connection that is reset has ended as well.
fn echo(mut stream: UnixStream) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..read]).is_err() {
            return;
        }
    }
}

/// Why [`tap`] cannot measure anything here.
#[must_use]
pub fn why_no_tap() -> Option<String> {
    let mut command = Command::new(WITH_TAP[0]);
    command.args(&WITH_TAP[1..]).arg("true").stdin(Stdio::null());
    match command.output() {
        Ok(done) if done.status.success() => None,
        Ok(done) => {
            let why = String::from_utf8_lossy(&done.stderr);
            Some(format!("it needs root, /dev/net/tun and busybox, to make a TAP ({})", why.trim()))
        }
        Err(why) => Some(format!("cannot run `{}`: {why}", WITH_TAP[0])),
    }
}

/// Measures `rounds` runs over a TAP.
///
/// # Errors
/// A guest cannot be started, or fails.
pub fn tap(program: &Program, rounds: usize) -> Result<Group> {
    let mut vm = program.under(&WITH_TAP).boot(GUEST, &["--net".as_ref(), "bench=tap:bench0".as_ref()])?;
    vm.line_that_is(READY)?;
    let kinds = [("TAP, ARP".to_owned(), format!("net bench {HOST_NUMBER} {COUNT}"))];
    Ok(Group {
        title: "TAP, there and back",
        boundary: "in the guest, polled: from before a request is sent until its answer is there; the thread: its CPU time \
                   a round trip, with the host's kernel, which answers in the call that sends",
        series: sampled::measure(&mut vm, &kinds, rounds)?,
    })
}
