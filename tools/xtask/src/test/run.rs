//! Runs a program with its output on ours and in a string.

use std::io::{self, Read, Write};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context as _, Result};

use crate::process::shown;

/// What a program printed, on both streams, shared by whoever writes it down.
#[derive(Clone, Default)]
pub struct Heard(Arc<Mutex<Vec<u8>>>);

impl Heard {
    /// Everything so far.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    /// A writer to `to` that also lands here.
    pub fn tee(&self, to: impl Write + Send + 'static) -> Tee {
        Tee { to: Box::new(to), heard: self.clone() }
    }
}

/// Writes to two places.
pub struct Tee {
    to: Box<dyn Write + Send>,
    heard: Heard,
}

impl Write for Tee {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.to.write(bytes)?;
        self.heard.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// Runs `command` to its end; whether it succeeded, and what it printed.
pub fn heard(command: &mut Command) -> Result<(bool, String)> {
    eprintln!("\n> {}", shown(command));
    let heard = Heard::default();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run `{}`", shown(command)))?;
    let out = child.stdout.take().map(|from| copy(from, heard.tee(io::stdout())));
    let err = child.stderr.take().map(|from| copy(from, heard.tee(io::stderr())));
    let status = child.wait().with_context(|| format!("cannot wait for `{}`", shown(command)))?;
    for stream in [out, err].into_iter().flatten() {
        stream.join().expect("copying a stream does not panic").context("cannot pass on output")?;
    }
    Ok((status.success(), heard.text()))
}

fn copy(mut from: impl Read + Send + 'static, mut to: Tee) -> thread::JoinHandle<io::Result<u64>> {
    thread::spawn(move || io::copy(&mut from, &mut to))
}
