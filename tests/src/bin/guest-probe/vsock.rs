//! Sockets to the host (AF_VSOCK): a server that sends back what it is sent, and callers of the host's ports.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::thread;

use crate::say;
use crate::sys::{HOST, vsock_accept, vsock_call, vsock_listen};
use crate::work::Numbers;

const MIB: usize = 1 << 20;

/// Sends back all that anybody sends to `port`. A line when it is there, and one at the end of each connection.
pub(crate) fn serve(port: u32) -> io::Result<()> {
    let listener = vsock_listen(port)?;
    say("serve ready")?;
    loop {
        let connection = vsock_accept(&listener)?;
        thread::spawn(move || {
            let (sent, how) = match send_back(connection) {
                (sent, Ok(())) => (sent, "in order".to_owned()),
                (sent, Err(error)) => (sent, error.to_string()),
            };
            say(&format!("serve ended {sent} {how}"))
        });
    }
}

fn send_back(mut connection: File) -> (usize, io::Result<()>) {
    let (mut sent, mut chunk) = (0, vec![0; 64 << 10]);
    loop {
        let read = match connection.read(&mut chunk) {
            Ok(0) => return (sent, Ok(())),
            Ok(read) => read,
            Err(error) => return (sent, Err(error)),
        };
        if let Err(error) = connection.write_all(&chunk[..read]) {
            return (sent, Err(error));
        }
        sent += read;
    }
}

/// Sends so many MiB of numbers to `port` of the host while it reads them back, on several connections at once.
pub(crate) fn call(port: u32, mib: usize, connections: u64) -> io::Result<()> {
    let callers: Vec<_> =
        (1..=connections).map(|seed| thread::spawn(move || one_call(port, mib, seed))).collect();
    let mut verdict = "right";
    for caller in callers {
        if !caller.join().map_err(|_| io::Error::other("a caller died"))?? {
            verdict = "WRONG";
        }
    }
    say(&format!("call {verdict}"))
}

fn one_call(port: u32, mib: usize, seed: u64) -> io::Result<bool> {
    let mut connection = vsock_call(HOST, port)?;
    let mut sender = connection.try_clone()?;
    let sending = thread::spawn(move || -> io::Result<()> {
        let (mut numbers, mut chunk) = (Numbers(seed), vec![0; MIB]);
        for _ in 0..mib {
            numbers.write(&mut chunk);
            sender.write_all(&chunk)?;
        }
        Ok(())
    });
    let (mut numbers, mut chunk, mut is_right) = (Numbers(seed), vec![0; MIB], true);
    for _ in 0..mib {
        connection.read_exact(&mut chunk)?;
        is_right &= numbers.matches(&chunk);
    }
    sending.join().map_err(|_| io::Error::other("a sender died"))??;
    Ok(is_right)
}

/// Connects to `port` of the host and says nothing until the connection ends; tells how.
pub(crate) fn hold(port: u32) -> io::Result<()> {
    let mut connection = vsock_call(HOST, port)?;
    say("hold connected")?;
    let mut byte = [0];
    loop {
        match connection.read(&mut byte) {
            Ok(0) => return say("hold ended in order"),
            Ok(_) => say(&format!("hold heard {}", byte[0]))?,
            Err(error) => return say(&format!("hold ended {error}")),
        }
    }
}
