//! Runs a program with its output on ours and in strings.

use std::io::{self, Read, Write};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context as _, Result};

use crate::process::shown;

/// How a program ended, and what it printed.
#[derive(Clone, Debug, Default)]
pub struct Ran {
    /// Whether it succeeded.
    pub ok: bool,
    /// Its standard output. Apart from the other stream, whose lines would come to stand in the middle of its own.
    pub out: String,
    /// Its standard error.
    pub err: String,
}

/// What a program printed on one stream, shared by whoever writes it down.
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

/// Runs `command` to its end.
pub fn heard(command: &mut Command) -> Result<Ran> {
    eprintln!("\n> {}", shown(command));
    let (out, err) = (Heard::default(), Heard::default());
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run `{}`", shown(command)))?;
    let to_out = child.stdout.take().map(|from| copy(from, out.tee(io::stdout())));
    let to_err = child.stderr.take().map(|from| copy(from, err.tee(io::stderr())));
    let status = child.wait().with_context(|| format!("cannot wait for `{}`", shown(command)))?;
    for stream in [to_out, to_err].into_iter().flatten() {
        stream.join().expect("copying a stream does not panic").context("cannot pass on output")?;
    }
    Ok(Ran { ok: status.success(), out: out.text(), err: err.text() })
}

fn copy(mut from: impl Read + Send + 'static, mut to: Tee) -> thread::JoinHandle<io::Result<u64>> {
    thread::spawn(move || io::copy(&mut from, &mut to))
}
