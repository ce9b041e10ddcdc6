//! A running `rekindle` with a guest in it, and its console in our hands.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::patience::SOON;
use crate::program::{self, Done, Launch};
use crate::scratch::Scratch;
use crate::stream::Stream;
use crate::verbs;

/// A VM. Dropped, it is killed.
pub struct Vm {
    child: Child,
    stdin: Option<ChildStdin>,
    /// The guest's console.
    pub stdout: Stream,
    /// What `rekindle` says.
    pub stderr: Stream,
    socket: PathBuf,
    /// Where the socket is.
    place: Option<Scratch>,
    ended: bool,
}

impl Vm {
    /// Boots the built-in guest, or whatever `args` name.
    #[track_caller]
    pub fn boot<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Self {
        Launch::new(["boot"]).args(args).vm()
    }

    /// Restores an image that was made here, with the disks and sockets that it records.
    #[track_caller]
    pub fn restore(image: impl AsRef<Path>) -> Self {
        Launch::new([OsStr::new("restore"), image.as_ref().as_os_str(), OsStr::new("--trust-paths")]).vm()
    }

    /// Starts `launch`, whose arguments end with those of a VM, and gives it a control socket.
    #[track_caller]
    pub(crate) fn launch(launch: Launch) -> Self {
        let place = Scratch::new();
        let socket = place.path("api");
        let args: [OsString; 2] = ["--api-socket".into(), socket.clone().into()];
        let mut child = launch.args(args).spawn();
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().map_or_else(Stream::none, Stream::read);
        let stderr = child.stderr.take().map_or_else(Stream::none, Stream::read);
        Self { child, stdin, stdout, stderr, socket, place: Some(place), ended: false }
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has not ended yet.
    pub fn is_alive(&mut self) -> bool {
        !self.ended && matches!(self.child.try_wait(), Ok(None))
    }

    /// The control socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Waits until the control socket is there.
    #[track_caller]
    pub fn serves(&self) {
        let served = crate::patience::until(SOON, || verbs::describe(self).map(drop));
        assert!(served.is_some(), "nobody answers on the control socket: {}", self.story());
    }

    /// Waits for `text` on the console, behind what was waited for before; gives all that came up to its end.
    #[track_caller]
    pub fn expect(&mut self, text: &str) -> String {
        self.expect_within(text, SOON)
    }

    /// The same for what takes longer.
    #[track_caller]
    pub fn expect_within(&mut self, text: &str, within: Duration) -> String {
        match self.stdout.wait_for(text, within) {
            Some(passed) => passed,
            None => panic!("`{text}` does not come: {}", self.story()),
        }
    }

    /// The next line of the console.
    #[track_caller]
    pub fn line(&mut self) -> String {
        match self.stdout.wait_line(SOON) {
            Some(line) => line,
            None => panic!("no further line comes: {}", self.story()),
        }
    }

    /// Types a line.
    #[track_caller]
    pub fn send(&mut self, line: &str) {
        self.send_bytes(format!("{line}\n").as_bytes());
    }

    /// Types bytes.
    #[track_caller]
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        let stdin = self.stdin.as_mut().expect("the console's input is ours");
        if let Err(e) = stdin.write_all(bytes) {
            panic!("cannot type: {e}: {}", self.story());
        }
    }

    /// Types a line to a VM that may end in this instant.
    pub fn try_send(&mut self, line: &str) {
        if let Some(stdin) = &mut self.stdin {
            let _ = stdin.write_all(format!("{line}\n").as_bytes());
        }
    }

    /// Takes the console's input, to type from another thread or to close it.
    pub fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.stdin.take()
    }

    /// Gives spark a command; its answer.
    #[track_caller]
    pub fn ask(&mut self, command: &str) -> String {
        self.ask_within(command, SOON)
    }

    /// The same for what takes longer.
    #[track_caller]
    pub fn ask_within(&mut self, command: &str, within: Duration) -> String {
        self.send(command);
        loop {
            let Some(line) = self.stdout.wait_line(within) else {
                panic!("no answer to `{command}`: {}", self.story());
            };
            if ["ok ", "err ", "bad "].iter().any(|start| line.starts_with(start)) {
                return line;
            }
        }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.pid()).ok().and_then(Pid::from_raw) {
            // It may have ended in this instant.
            let _ = kill_process(pid, signal);
        }
    }

    /// Kills it, as an operator or the kernel would: without a word, and without cleaning up.
    pub fn kill(mut self) {
        self.end();
    }

    /// Waits for its end; what it printed, all told.
    #[track_caller]
    pub fn wait_exit(&mut self) -> Done {
        self.wait_exit_within(SOON)
    }

    /// The same for what takes longer.
    #[track_caller]
    pub fn wait_exit_within(&mut self, within: Duration) -> Done {
        let status = program::wait(&mut self.child, within);
        let Some(status) = status else { panic!("does not end: {}", self.story()) };
        self.ended = true;
        self.stdin = None;
        let closed = self.stdout.wait_end(SOON) && self.stderr.wait_end(SOON);
        assert!(closed, "somebody still holds the console of a VM that has ended: {}", self.story());
        let done = Done { code: status.code(), stdout: self.stdout.text(), stderr: self.stderr.text() };
        program::no_panic(&done.stderr);
        // Whoever ends in an orderly way takes the socket along; a signal that cannot be caught leaves it.
        assert!(done.code.is_none() || !self.socket.exists(), "the control socket is left: {done:?}");
        done
    }

    /// Tells it to end; demands that it does, with code 0.
    #[track_caller]
    pub fn stop(mut self) {
        verbs::stop(&self).ok();
        let done = self.wait_exit();
        assert_eq!(done.code, Some(0), "{done:?}");
    }

    /// Both streams, for a message.
    pub fn story(&self) -> String {
        format!("\n-- console\n{}\n-- rekindle\n{}\n--", tail(&self.stdout.text()), tail(&self.stderr.text()))
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

impl Drop for Vm {
    fn drop(&mut self) {
        self.end();
        if !std::thread::panicking() {
            program::no_panic(&self.stderr.text());
            // What it wrote beside its socket would be a left-over of a VM.
            if let Some(place) = self.place.take() {
                let left = place.entries();
                assert!(left.iter().all(|name| name == "api"), "left beside the control socket: {left:?}");
            }
        }
    }
}

/// The end of a text that may be long.
fn tail(text: &str) -> &str {
    let start = text.len().saturating_sub(4000);
    let start = (start..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    &text[start..]
}
