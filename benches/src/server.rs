//! The `rekindle-pages` program, run as a script runs it, and what it says of itself.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

#[cfg(test)]
#[path = "server_test.rs"]
mod server_test;

/// How long a server may take to listen.
const PATIENCE: Duration = Duration::from_secs(10);

/// A page server that runs; killed and waited for when it is dropped.
#[derive(Debug)]
pub struct PageServer {
    child: Child,
    socket: PathBuf,
    metrics: PathBuf,
}

/// What a server has done so far, for all its sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Done {
    /// Bytes of working sets that were delivered before the guest asked.
    pub prefetched: f64,
    /// Bytes of working sets that were there when their turn came.
    pub late: f64,
    /// Faults, on pages of a working set and on others.
    pub faults: f64,
}

impl PageServer {
    /// Starts `program` with `images`; its sockets are in `dir`. Returns once it listens.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(program: &Path, dir: &Path, images: &[&Path]) -> Result<Self> {
        Self::start_with(program, dir, &[], images)
    }

    /// The same with more options.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_with(program: &Path, dir: &Path, options: &[&str], images: &[&Path]) -> Result<Self> {
        let (socket, metrics) = (dir.join("pages"), dir.join("pages-metrics"));
        let mut command = Command::new(program);
        command.arg("serve").args(["--log-level", "error"]).args(options);
        command.arg("--socket").arg(&socket).arg("--metrics").arg(&metrics).args(images);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        let child = child.with_context(|| format!("cannot run `{}`", program.display()))?;
        let mut server = Self { child, socket, metrics };
        let since = Instant::now();
        while !(server.socket.exists() && server.metrics.exists()) {
            if server.child.try_wait().context("cannot wait for a page server")?.is_some() {
                bail!("`{} serve` ended before it listened", program.display());
            }
            if since.elapsed() > PATIENCE {
                bail!("`{} serve` does not listen", program.display());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(server)
    }

    /// What `--pages` takes.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Where it tells what it has done.
    pub fn metrics(&self) -> &Path {
        &self.metrics
    }
}

impl Drop for PageServer {
    fn drop(&mut self) {
        // Both fail only for a child that has been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
        // One that is killed leaves its sockets; they are in a directory that is removed anyway.
        let _ = std::fs::remove_file(&self.socket);
        let _ = std::fs::remove_file(&self.metrics);
    }
}

impl Done {
    /// As the server with the metrics at `path` says now.
    ///
    /// # Errors
    /// It does not answer.
    pub fn now(path: &Path) -> Result<Self> {
        let failed = "cannot ask a page server for its metrics";
        let mut stream = UnixStream::connect(path).context(failed)?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").context(failed)?;
        let mut text = String::new();
        stream.read_to_string(&mut text).context(failed)?;
        Ok(Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let sum = |name: &str| -> f64 {
            let of_it = |line: &str| {
                let rest = line.strip_prefix("rekindle_pages_")?.strip_prefix(name)?;
                let value = rest.strip_prefix('{').map_or(Some(rest), |rest| Some(rest.split_once('}')?.1));
                value?.trim().parse::<f64>().ok()
            };
            text.lines().filter_map(of_it).sum()
        };
        Self {
            prefetched: sum("prefetched_bytes_total"),
            late: sum("prefetch_late_bytes_total"),
            faults: sum("faults_total"),
        }
    }

    /// What was done since `before`.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            prefetched: self.prefetched - before.prefetched,
            late: self.late - before.late,
            faults: self.faults - before.faults,
        }
    }
}
