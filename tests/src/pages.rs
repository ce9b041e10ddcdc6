//! A running `rekindle-pages serve`, and what it says of itself.

use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Child;

use rustix::process::{Pid, Signal, kill_process};

use crate::patience::{SOON, scaled, until};
use crate::proc::Holdings;
use crate::program::{self, Done, Launch};
use crate::scratch::Scratch;
use crate::stream::Stream;

/// A page server. Dropped, it is killed.
pub struct PageServer {
    child: Child,
    /// What it says.
    pub stderr: Stream,
    socket: PathBuf,
    metrics: PathBuf,
    /// Where its metrics are, and its socket, unless that was given.
    place: Option<Scratch>,
    ended: bool,
}

impl PageServer {
    /// Serves images, by whatever names the program knows.
    #[track_caller]
    pub fn serve<A: AsRef<OsStr>>(images: impl IntoIterator<Item = A>) -> Self {
        let place = Scratch::new();
        let socket = place.path("pages");
        Self::start(place, socket, Launch::pages(["serve"]).args(images))
    }

    /// The same with more arguments.
    #[track_caller]
    pub fn serve_with<A: AsRef<OsStr>>(more: &[&str], images: impl IntoIterator<Item = A>) -> Self {
        let place = Scratch::new();
        let socket = place.path("pages");
        Self::start(place, socket, Launch::pages(["serve"]).args(more).args(images))
    }

    /// Serves at a path of the test's own.
    #[track_caller]
    pub fn serve_at<A: AsRef<OsStr>>(socket: &Path, images: impl IntoIterator<Item = A>) -> Self {
        Self::start(Scratch::new(), socket.to_owned(), Launch::pages(["serve"]).args(images))
    }

    /// The same, run as the test wants it: `launch` has the arguments of `serve` but for the sockets.
    #[track_caller]
    pub fn launch_at(socket: &Path, launch: Launch) -> Self {
        Self::start(Scratch::new(), socket.to_owned(), launch)
    }

    #[track_caller]
    fn start(place: Scratch, socket: PathBuf, launch: Launch) -> Self {
        let metrics = place.path("metrics");
        let own: [OsString; 4] =
            ["--socket".into(), socket.clone().into(), "--metrics".into(), metrics.clone().into()];
        let mut child = launch.args(own).spawn();
        let stderr = child.stderr.take().map_or_else(Stream::none, Stream::read);
        let mut server = Self { child, stderr, socket, metrics, place: Some(place), ended: false };
        server.says("listening on");
        server
    }

    /// Where VMMs connect.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Where its metrics are.
    pub fn metrics_socket(&self) -> &Path {
        &self.metrics
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it holds.
    pub fn holdings(&self) -> Holdings {
        Holdings::of(self.pid())
    }

    /// Waits until it holds as many descriptors and threads as `before`, or fewer.
    #[track_caller]
    pub fn holds_no_more_than(&self, before: Holdings) {
        let settled = until(SOON, || {
            let now = self.holdings();
            (now.descriptors <= before.descriptors && now.threads <= before.threads).then_some(())
        });
        assert!(settled.is_some(), "held {before:?}, holds {:?}: {}", self.holdings(), self.story());
    }

    /// Waits for `text` among what it says, behind what was waited for before.
    #[track_caller]
    pub fn says(&mut self, text: &str) -> String {
        match self.stderr.wait_for(text, SOON) {
            Some(passed) => passed,
            None => panic!("`{text}` is not said: {}", self.story()),
        }
    }

    /// Everything that Prometheus would be told.
    #[track_caller]
    pub fn metrics(&self) -> String {
        let answer = self.asked().unwrap_or_else(|e| panic!("no metrics: {e}: {}", self.story()));
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        answer
    }

    fn asked(&self) -> std::io::Result<String> {
        let mut stream = UnixStream::connect(&self.metrics)?;
        stream.set_read_timeout(Some(scaled(SOON)))?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: pages\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// The metric `rekindle_pages_NAME`, of all sessions together.
    #[track_caller]
    pub fn metric(&self, name: &str) -> u64 {
        let name = format!("rekindle_pages_{name}");
        let text = self.metrics();
        let values = text.lines().filter_map(|line| {
            let rest = line.strip_prefix(&name)?;
            (rest.starts_with([' ', '{'])).then(|| rest.rsplit_once(' ')?.1.parse::<f64>().ok())?
        });
        values.sum::<f64>() as u64
    }

    /// Waits until a metric is what `wanted` says.
    #[track_caller]
    pub fn metric_comes_to(&self, name: &str, wanted: impl Fn(u64) -> bool) {
        let come = until(SOON, || wanted(self.metric(name)).then_some(()));
        assert!(come.is_some(), "{name} is {}: {}", self.metric(name), self.story());
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.pid()).ok().and_then(Pid::from_raw) {
            // It may have ended in this instant.
            let _ = kill_process(pid, signal);
        }
    }

    /// Kills it, without a word.
    pub fn kill(mut self) {
        self.end();
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait_exit(&mut self) -> Done {
        let status = program::wait(&mut self.child, SOON);
        let Some(status) = status else { panic!("does not end: {}", self.story()) };
        self.ended = true;
        assert!(self.stderr.wait_end(SOON), "somebody holds the stderr of a server that has ended");
        let done = Done { code: status.code(), stdout: String::new(), stderr: self.stderr.text() };
        program::no_panic(&done.stderr);
        // Somebody else may listen there by now.
        let left = self.socket.exists() && UnixStream::connect(&self.socket).is_err();
        assert!(done.code.is_none() || !left, "the socket is left: {done:?}");
        assert!(done.code.is_none() || !self.metrics.exists(), "the metrics' socket is left: {done:?}");
        done
    }

    /// Tells it to end; demands that it does, with code 0.
    #[track_caller]
    pub fn stop(mut self) {
        self.signal(Signal::TERM);
        let done = self.wait_exit();
        assert_eq!(done.code, Some(0), "{done:?}");
    }

    /// What it has said, for a message.
    pub fn story(&self) -> String {
        format!("\n-- rekindle-pages\n{}\n--", self.stderr.text())
    }

    fn end(&mut self) {
        if !self.ended {
            // Fails only if it has ended of itself.
            let _ = self.child.kill();
            let _ = self.child.wait();
            self.ended = true;
        }
    }
}

impl Drop for PageServer {
    fn drop(&mut self) {
        self.end();
        if !std::thread::panicking() {
            program::no_panic(&self.stderr.text());
            if let Some(place) = self.place.take() {
                let left = place.entries();
                let known = |name: &String| name == "pages" || name == "metrics";
                assert!(left.iter().all(known), "left beside the sockets: {left:?}");
            }
        }
    }
}
